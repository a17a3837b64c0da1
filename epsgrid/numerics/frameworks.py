"""Where other frameworks and codes put the ε of optimizers that bear the same names.

Each entry was read in the source named beside it. What PyTorch does is in the files of `epsgrid.optimizers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from epsgrid.numerics.placement import Placement


@dataclass(frozen=True)
class Variant:
    """An optimizer of another framework.

    Attributes:
        source: the file that its rule was read in.
        default_epsilon: ε where the user says nothing.
        default_beta2: decay of v likewise; nan where v is a sum.
        place: returns the placement, given β₂ and the step t ≥ 1, which may be infinite.
    """

    source: str
    default_epsilon: float
    default_beta2: float
    place: Callable[[float, float], Placement]


def _outside(beta2: float, step: float) -> Placement:
    return Placement.outside()


def _inside(beta2: float, step: float) -> Placement:
    return Placement.inside()


def _in_place(beta2: float, step: float) -> Placement:
    return Placement.in_place(beta2)


def _inside_uncorrected(beta2: float, step: float) -> Placement:
    size = Placement.uncorrected(beta2, step).per_gradient
    where = "inside the root, no bias correction"
    return Placement(where, "√(v + ε)", exponent=2, compared_with="√v", per_gradient=size)


def _inside_sum(beta2: float, step: float) -> Placement:
    return Placement("inside the root", "√(Σg² + ε)", exponent=2, compared_with="√Σg²", per_gradient=math.sqrt(step))


def _outside_maximum(beta2: float, step: float) -> Placement:
    return Placement("outside the maximum", "u + ε", compared_with="u")


def _inside_maximum(beta2: float, step: float) -> Placement:
    return Placement("inside the maximum", "u = max(β₂·u, |g| + ε)", compared_with="u")


_KERAS, _OPTAX = "keras/src/optimizers", "optax/_src/transform.py"

FRAMEWORKS: dict[str, Variant] = {
    "fairseq-adam": Variant("fairseq/optim/adam.py", 1e-8, 0.999, Placement.before_correction),
    "keras-adadelta": Variant(f"{_KERAS}/adadelta.py", 1e-7, 0.95, _inside_uncorrected),
    "keras-adagrad": Variant(f"{_KERAS}/adagrad.py", 1e-7, math.nan, _inside_sum),
    "keras-adam": Variant(f"{_KERAS}/adam.py", 1e-7, 0.999, Placement.before_correction),
    "keras-adamax": Variant(f"{_KERAS}/adamax.py", 1e-7, 0.999, _outside_maximum),
    "keras-lamb": Variant(f"{_KERAS}/lamb.py", 1e-7, 0.999, _outside),
    "keras-nadam": Variant(f"{_KERAS}/nadam.py", 1e-7, 0.999, _outside),
    "keras-rmsprop": Variant(f"{_KERAS}/rmsprop.py", 1e-7, 0.9, _inside_uncorrected),
    "optax-adabelief": Variant(_OPTAX, 1e-16, 0.999, _outside),
    "optax-adabelief-eps-root": Variant(_OPTAX, 1e-16, 0.999, _in_place),
    "optax-adadelta": Variant(_OPTAX, 1e-6, 0.9, _inside_uncorrected),
    "optax-adagrad": Variant(_OPTAX, 1e-7, math.nan, _inside_sum),
    "optax-adam": Variant(_OPTAX, 1e-8, 0.999, _outside),
    "optax-adam-eps-root": Variant(_OPTAX, 0.0, 0.999, _inside),
    "optax-adamax": Variant(_OPTAX, 1e-8, 0.999, _inside_maximum),
    "optax-radam": Variant(_OPTAX, 1e-8, 0.999, _outside),
    "optax-rmsprop": Variant(_OPTAX, 1e-8, 0.9, _inside_uncorrected),
    "tf-keras-adam": Variant("tf_keras/optimizers/adam.py", 1e-7, 0.999, Placement.before_correction),
}
"""By name, `FRAMEWORK-OPTIMIZER`; `-eps-root` is optax's second ε, with the other one left at zero."""
