"""Where ε enters an optimizer's update, and the ε that a gradient magnitude becomes there.

Bounds are measured as magnitudes b in units of √v̂, the denominator of Adam, or of the quantity in its place. b is what
an entry's denominator becomes where its gradients vanish. Optimizers add ε at different places, so the ε that weighs
as much as b differs; in every published rule we know the relation is a power law, ε = factor · b^exponent:

    outside the root       √v̂ + ε                b = ε                     ε = b
    before the correction  (√v + ε)/√(1 − β₂ᵗ)   b = ε / √(1 − β₂ᵗ)        ε = b · √(1 − β₂ᵗ)
    inside the root        √(v̂ + ε)              b = √ε                    ε = b²
    added to v in place    v ← v + ε             b = √(ε / (1 − β₂))       ε = b² · (1 − β₂)
    in place and outside   the same, √v̂ + ε      b = √(ε / (1 − β₂)) + ε   ε ≈ b² · (1 − β₂)
    inside, v from one     √(v + ε), v₀ = 1      b = √(ε + αᵗ)             ε = b² − αᵗ

ε added in place weighs the same at every step: what step i adds has decayed to ε · β₂^(t−i), the sum over i is
ε · (1 − β₂ᵗ) / (1 − β₂), and the bias correction divides exactly by 1 − β₂ᵗ. Where the relation does depend on t it is
stated for one t; t = ∞ is allowed and means the long run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from epsgrid.codec import UNLESS_DEFAULT
from epsgrid.numerics.precision import power

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_Number = TypeVar("_Number", "float", "npt.NDArray[np.float64]")
_SUPERSCRIPT = {1: "", 2: "²"}


@dataclass(frozen=True)
class Placement:
    """How ε enters a denominator; converts between ε and the magnitude b it is compared with.

    >>> Placement("inside the root, no bias correction", "√(v + ε)", exponent=2).epsilon_from_magnitude(1e-3)
    1e-06

    Attributes:
        where: the place, such as "outside the root".
        symbol: the denominator as it is written in the update rule.
        exponent: power of b in ε = factor · b^exponent; 1 or 2.
        factor: factor in the same, > 0.
        outer: weight of the same ε outside the root as well: b = √(ε / factor) + outer · ε; only with exponent 2.
        start: the rest αᵗ, under the root, of the value that v starts at, where that is not zero; it weighs as much
            there as an ε: b = √(ε / factor + start); only with exponent 2 and without `outer`.
        compared_with: the quantity that b is a magnitude of.
        factor_symbol: `factor` as a formula; empty where it is 1.
        per_gradient: the value of `compared_with` if every gradient so far was 1 in magnitude: 1 for √v̂, √(1 − β₂ᵗ)
            for √v, √t for a sum. Optimizers with different denominators are compared by it.
    """

    where: str
    symbol: str
    exponent: int = 1
    factor: float = 1.0
    outer: float = 0.0
    compared_with: str = "√v̂"
    factor_symbol: str = ""
    per_gradient: float = 1.0
    start: float = field(default=0.0, metadata=UNLESS_DEFAULT)

    def __post_init__(self) -> None:
        assert self.exponent in _SUPERSCRIPT, self.exponent
        assert not self.outer or self.exponent == 2, self.outer
        assert not self.start or (self.exponent == 2 and not self.outer), self.start
        assert 0 < self.factor < math.inf, self.factor

    @classmethod
    def outside(cls) -> Placement:
        """Return the placement of Adam: the root of v̂, plus ε."""
        return cls("outside the root", "√v̂ + ε")

    @classmethod
    def inside(cls) -> Placement:
        """Return the placement under the root of v̂, such as optax's `eps_root`."""
        return cls("inside the root", "√(v̂ + ε)", exponent=2)

    @classmethod
    def uncorrected(cls, beta2: float, step: float) -> Placement:
        """Return the placement of RMSprop: as Adam's, but v is not corrected for starting at zero, so ε meets √v.

        `beta2` is the decay of v, in [0, 1), and `step` ≥ 1 that at which √v is compared with √v̂; it may be infinite.
        """
        size = _root_of_correction(beta2, step)
        return cls("outside the root, no bias correction", "√v + ε", compared_with="√v", per_gradient=size)

    @classmethod
    def inside_uncorrected(cls, beta2: float, step: float) -> Placement:
        """Return the placement under the root of a v that is not corrected; arguments as `uncorrected`."""
        plain = cls.uncorrected(beta2, step)
        return replace(plain, where=plain.where.replace("outside", "inside"), symbol="√(v + ε)", exponent=2)

    @classmethod
    def inside_from_one(cls, beta2: float, step: float) -> Placement:
        """Return the placement under the root of a v that starts at one and is not corrected, as in TensorFlow 1."""
        where = "inside the root, v starts at one"
        return replace(cls.inside_uncorrected(beta2, step), where=where, start=beta2**step)

    @classmethod
    def before_correction(cls, beta2: float, step: float) -> Placement:
        """Return the placement of RAdam, Keras' Adam ("ε-hat") and fairseq's: ε is magnified by the correction.

        >>> [round(Placement.before_correction(0.999, t).magnitude_from_epsilon(1), 2) for t in (1, 391, math.inf)]
        [31.62, 1.76, 1.0]
        """
        return cls(
            "outside the root, before bias correction",
            "(√v + ε) / √(1 − β₂ᵗ)",
            factor=_root_of_correction(beta2, step),
            factor_symbol="√(1 − β₂ᵗ)",
        )

    @classmethod
    def in_place(cls, beta2: float, outer: float = 0.0) -> Placement:
        """Return the placement of AdaBelief, AdaMomentum and EAdam: ε is added to the stored v at every step.

        `outer` is the weight of the same ε outside the root, which AdaBelief has too.
        """
        if not 0 <= beta2 < 1:
            raise ValueError(f"beta2 must lie in [0, 1), got {beta2!r}")
        where, symbol = "added to v in place", "√v̂, v ← v + ε"
        if outer:
            where, symbol = f"{where} and outside the root", "√v̂ + ε, v ← v + ε"
        return cls(where, symbol, exponent=2, factor=1 - beta2, outer=outer, factor_symbol="(1 − β₂)")

    @property
    def description(self) -> str:
        """The place and the denominator: 'outside the root: √v̂ + ε'."""
        return f"{self.where}: {self.symbol}"

    @property
    def conversion(self) -> str:
        """How a magnitude b becomes an ε, in numbers: 'ε = 0.001 · b²'."""
        return self._equation("" if self.factor == 1 else f"{self.factor:.4g}")

    @property
    def formula(self) -> str:
        """How a magnitude b becomes an ε, in symbols: 'ε = (1 − β₂) · b²'."""
        return self._equation(self.factor_symbol)

    def _equation(self, factor: str) -> str:
        equals = "≈" if self.outer else "="
        start = f" − {power(self.start, 4)}" if self.start else ""
        return f"ε {equals} {factor}{' · ' if factor else ''}b{_SUPERSCRIPT[self.exponent]}{start}"

    def epsilon_from_magnitude(self, magnitude: float) -> float:
        """Return the ε to give this optimizer so that it weighs as much as `magnitude` ≥ 0.

        It is negative where the value that v starts at weighs more than that.
        """
        if not self.outer:
            return self.factor * (magnitude**self.exponent - self.start)
        # With x = √ε: outer·x² + c·x = b, solved without cancellation.
        c = 1 / math.sqrt(self.factor)
        return float((2 * magnitude / (c + math.sqrt(c**2 + 4 * self.outer * magnitude))) ** 2)

    def magnitude_from_epsilon(self, epsilon: float) -> float:
        """Return the magnitude that this optimizer's `epsilon` ≥ 0 weighs as much as."""
        return float((epsilon / self.factor + self.start) ** (1 / self.exponent)) + self.outer * epsilon

    def damping(self, magnitude: _Number, epsilon: float) -> _Number:
        """Return by which factor `epsilon` ≥ 0 shortens the step of an entry of `magnitude` > 0; an array's at once.

        >>> Placement.outside().damping(1e-8, 1e-8), round(Placement.inside().damping(1e-4, 1e-8), 4)
        (0.5, 0.7071)
        """
        if self.exponent == 1:
            return magnitude / (magnitude + self.magnitude_from_epsilon(epsilon))
        root: _Number = (magnitude**2 + epsilon / self.factor) ** 0.5
        return magnitude / (root + self.outer * epsilon)

    def decade_of(self, epsilon: float) -> int:
        """Return the exponent of the decade in which an ε > 0 lies; halfway goes to the even one.

        Where ε is a square, that is the decade of the magnitude it weighs as much as. In this unit grids step and their
        widths are counted, whatever the optimizer. Raises ValueError where `epsilon` is not positive and finite.

        >>> Placement.outside().decade_of(3e-8), Placement.in_place(0.999).decade_of(1e-19)
        (-8, -8)
        """
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise ValueError(f"only a positive finite number has a decade, got {epsilon!r}")
        return round(math.log10(epsilon if self.exponent == 1 else self.magnitude_from_epsilon(epsilon)))

    def epsilon_of_decade(self, decade: int) -> float:
        """Return the ε, a power of ten, to give this optimizer for a decade of `decade_of`; for ε = b² every other one.

        >>> [Placement.in_place(0.999).epsilon_of_decade(decade) for decade in (-8, -7)]
        [1e-19, 1e-17]
        """
        if self.exponent > 1:
            decade = round(math.log10(self.epsilon_from_magnitude(10.0**decade)))
        return float(f"1e{decade}")


class OutOfRangeError(ValueError):
    """No double is the ε that was asked for."""


def convert(epsilon: float, source: Placement, target: Placement) -> float:
    """Return the ε that stands in the same proportion to the gradients in one optimizer as `epsilon` > 0 in another.

    >>> f"{convert(1e-8, Placement.outside(), Placement.in_place(0.999)):.3g}"
    '1e-19'

    Raises:
        OutOfRangeError: the converted ε lies outside the range of double precision.
        ValueError: `epsilon` is not positive and finite, or a denominator that grows with every step is stated for
            infinitely many.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon must be positive and finite, got {epsilon!r}")
    for placement in (source, target):
        if math.isinf(placement.per_gradient):
            raise ValueError(f"{placement.compared_with} grows with every step: say at which step to convert")
    if source == target:  # where v starts at one, a small ε is lost in that
        return epsilon
    gradient = source.magnitude_from_epsilon(epsilon) / source.per_gradient
    try:
        found = target.epsilon_from_magnitude(gradient * target.per_gradient)
    except OverflowError:
        found = math.inf
    if found <= 0 < target.start:
        raise OutOfRangeError(
            f"epsilon {power(epsilon, 6)}, {source.description}, has no counterpart {target.description}: the rest"
            f" there of the one that v starts at, {power(target.start)}, weighs more than any such ε;"
            " convert at a later step"
        )
    if not 0 < found < math.inf:
        raise OutOfRangeError(
            f"epsilon {power(epsilon, 6)}, {source.description}, has no counterpart {target.description}:"
            " it would lie outside the range of double precision, 5e-324 to 1.8e+308"
        )
    return found


def _root_of_correction(beta2: float, step: float) -> float:
    """Return √(1 − β₂ᵗ), which is what √v is at step t under gradients of magnitude 1."""
    if not 0 <= beta2 < 1:
        raise ValueError(f"beta2 must lie in [0, 1), got {beta2!r}")
    if not step >= 1:
        raise ValueError(f"step must be at least 1, got {step!r}")
    return math.sqrt(1 - beta2**step)


def _inside_sum(beta2: float, step: float) -> Placement:
    return Placement("inside the root", "√(Σg² + ε)", exponent=2, compared_with="√Σg²", per_gradient=math.sqrt(step))


FRAMEWORKS: dict[str, tuple[float, Callable[[float, float], Placement]]] = {
    "fairseq-adam": (0.999, Placement.before_correction),  # fairseq/optim/adam.py
    "fbgemm-rowwise-adagrad": (  # fbgemm_gpu/codegen/genscript/optimizers.py; torchrec's is the same
        math.nan,
        lambda beta2, step: Placement(
            "outside the root, one sum a row",
            "√Σ(mean of g²) + ε",
            compared_with="√Σ(mean of g²)",
            per_gradient=math.sqrt(step),
        ),
    ),
    "keras-adadelta": (0.95, Placement.inside_uncorrected),  # here and below keras/src/optimizers/
    "keras-adagrad": (math.nan, _inside_sum),
    "keras-adam": (0.999, Placement.before_correction),
    "keras-adamax": (0.999, lambda beta2, step: Placement("outside the maximum", "u + ε", compared_with="u")),
    "keras-lamb": (0.999, lambda beta2, step: Placement.outside()),
    "keras-nadam": (0.999, lambda beta2, step: Placement.outside()),
    "keras-rmsprop": (0.9, Placement.inside_uncorrected),
    "optax-adabelief": (0.999, lambda beta2, step: Placement.outside()),  # here and below optax/_src/transform.py
    "optax-adabelief-eps-root": (0.999, lambda beta2, step: Placement.in_place(beta2)),
    "optax-adadelta": (0.9, Placement.inside_uncorrected),
    "optax-adagrad": (math.nan, _inside_sum),
    "optax-adam": (0.999, lambda beta2, step: Placement.outside()),
    "optax-adam-eps-root": (0.999, lambda beta2, step: Placement.inside()),
    "optax-adamax": (
        0.999,
        lambda beta2, step: Placement("inside the maximum", "u = max(β₂·u, |g| + ε)", compared_with="u"),
    ),
    "optax-radam": (0.999, lambda beta2, step: Placement.outside()),
    "optax-rmsprop": (0.9, Placement.inside_uncorrected),
    "tf-keras-adam": (0.999, Placement.before_correction),  # tf_keras/optimizers/adam.py
    "tf1-adam": (0.999, Placement.before_correction),  # here and below tensorflow/python/training/
    "tf1-rmsprop": (0.9, Placement.inside_from_one),
    "timm-rmsproptf": (0.9, Placement.inside_from_one),  # timm/optim/rmsprop_tf.py
}
"""The default β₂ (nan where v is a sum) and the placement, given β₂ and the step t ≥ 1, which may be infinite.

By name, `FRAMEWORK-OPTIMIZER`, each as in the source beside it; `-eps-root` is optax's second ε, with the other one
left at zero. The rules of torch are in the files of `epsgrid.optimizers`.
"""
