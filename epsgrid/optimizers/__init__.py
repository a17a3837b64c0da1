"""ONE FILE PER OPTIMIZER: its options, how it is built, and where ε enters its update.

A file `optimizers/NAME.py` documents its update rule and where ε enters it, and defines what `OptimizerPlugin` lists.
An optimizer whose ε gets into what `second_moment` returns defines PROBING_EPSILON too; see `probing_epsilon`. A file
with `DEFAULT_EPSILON = None` has no ε, and needs neither `placement` nor `second_moment`. Files import torch inside
functions only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from epsgrid import plugins
from epsgrid.errors import NoBoundsError
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import NoScaling, Scaling
from epsgrid.spec.options import OptimizerOptions

if TYPE_CHECKING:
    import torch

UNSUPPORTED = {
    "adafactor": "it keeps row and column sums instead of a second moment per weight, so it has no √v̂ of a weight",
    "asgd": "it averages weights and divides by no second moment, so it has no epsilon",
    "lbfgs": "it takes curvature from differences of gradients and divides by no second moment, so it has no epsilon",
    "lion": "it takes the sign of a momentum and divides by nothing, so it has no epsilon",
    "muon": "it orthogonalizes the momentum of whole matrices, and its epsilon only guards a norm",
    "rprop": "it uses signs of gradients only and divides by nothing, so it has no epsilon",
    "shampoo": "it preconditions with matrix roots, so there is no √v̂ of a weight to compare its epsilon with",
    "sparseadam": "it updates only rows that have a gradient; give the model dense gradients and use adam",
}
"""Why some optimizers that people ask for have no ε of the kind this project finds, by name in lower case."""

_PROBING_EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class SecondMoment:
    """The adaptive denominator of one parameter tensor, before ε.

    Attributes:
        values: v, elementwise ≥ 0, the shape of the parameter, and possibly the optimizer's own tensor. Where the
            denominator is no root but kept as it is, its exact square, in float64.
        decay: β₂ in [0, 1) where the rule corrects the bias of v before ε enters; 0 where it does not.
        step: t ≥ 1, the steps that v has seen; a scalar tensor where the optimizer keeps it on a device.
    """

    values: torch.Tensor
    decay: float = 0.0
    step: float | torch.Tensor = 1.0

    @property
    def scale(self) -> float:
        """The factor with v̂ = v · scale: 1/(1 − β₂ᵗ); waits for the device where the step lies there."""
        return 1 / (1 - self.decay ** float(self.step)) if self.decay else 1.0


class OptimizerPlugin(Protocol):
    """The contents of a file of this folder.

    Attributes:
        Options: hyperparameters besides learning rate and ε, with their defaults.
        DEFAULT_EPSILON: the ε that its authors, or torch, give it; None for a reference without, as SGD.
        SCALING: what moves with the batch size, or why no rule is derived for it.
    """

    Options: type[OptimizerOptions]
    DEFAULT_EPSILON: float | None
    SCALING: Scaling | NoScaling

    def placement(self, options: Any, step: float) -> Placement:
        """Return how ε enters this optimizer's denominator, with conversions from and to √v̂ units.

        With some optimizers the weight of ε changes with `step`, which is at least 1 and may be infinite; bounds are
        converted at the step where they were measured.
        """

    def build(
        self, parameters: Iterable[torch.nn.Parameter], options: Any, learning_rate: float, epsilon: float | None
    ) -> torch.optim.Optimizer:
        """Build the optimizer; `epsilon` is None exactly where `DEFAULT_EPSILON` is.

        Its step raises SpecError where a gradient is sparse.
        """

    def second_moment(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> SecondMoment | None:
        """Return the tensor v whose root ε is compared with, and what turns it into v̂; None before the first gradient.

        v is free of ε: an entry that never had a gradient is zero there, whatever ε. `state` is one parameter's entry
        of `optimizer.state`, `group` its parameter group.
        """


def load(name: str) -> OptimizerPlugin:
    """Return the optimizer plug-in called `name`."""
    plugin: OptimizerPlugin = plugins.load("optimizers", name)
    return plugin


def require_epsilon(name: str) -> OptimizerPlugin:
    """Return the optimizer plug-in called `name`, or say that a probe of it makes no sense.

    Raises:
        NoBoundsError: the optimizer has no ε to bound.
    """
    plugin = load(name)
    if plugin.DEFAULT_EPSILON is None:
        raise NoBoundsError(
            f"optimizer {name!r} has no epsilon: there is nothing to probe;"
            " `epsgrid sweep` trains it as the epsilon-free reference"
        )
    return plugin


def probing_epsilon(plugin: OptimizerPlugin) -> float:
    """Return the ε to build an optimizer with while its second moment is measured.

    With frozen weights v does not depend on ε, so any will do but zero, with which 0/0 would poison the weights. An
    optimizer that stores ε in what is measured names one that can be taken out again without loss.
    """
    return float(getattr(plugin, "PROBING_EPSILON", _PROBING_EPSILON))
