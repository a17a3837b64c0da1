"""The ε range of an optimizer, from the gradient magnitudes of its layers.

This is the published estimate: in each parameter tensor drop the exact zeros, sort the n others, take the entries at
the indices int(0.02·n) and int(0.98·n); the least of the former over all tensors and the greatest of the latter bound
ε, each rounded to a power of ten. Where ε is a square, ε = b², the magnitude b is rounded, and a step is two decades of
ε.

Entries whose gradient is only rounding noise can set a bound, decades below all gradients. So there are two ranges:
"published" is the estimate above, noise included; "trusted" leaves these entries out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from epsgrid.codec import UNLESS_DEFAULT, from_document, to_document
from epsgrid.errors import NoBoundsError
from epsgrid.numerics import notebook
from epsgrid.numerics.groups import EpsilonGroup, GroupsBy, epsilon_groups
from epsgrid.numerics.histogram import density, fields_of
from epsgrid.numerics.magnitudes import TAIL_FRACTION, Bound, LayerStatistics, LayerStatus, bounds_of
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import count, power, shortened
from epsgrid.numerics.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VERSION = 1
ROUNDING_NOISE = "rounding noise"
"""Label of the "without" variant in which entries or layers that are only rounding noise are left out."""
_LAYERS_IN_A_MESSAGE = 8

Verdict = Literal["high", "medium", "low"]
_EARLIER_VERDICTS = {"firm": "high", "soft": "medium", "not to be trusted": "low"}
"""The words that files of earlier versions hold."""


BoundsChoice = Literal["trusted", "published"]

VariantKind = Literal["tail", "seed", "weights", "without", "kind", "betas"]
"""Files of earlier versions hold the last two."""


@dataclass(frozen=True)
class Variant:
    """The bounds where one choice is made differently: a tail, a seed, moving weights, layers or entries left out.

    `label` names the choice, such as "5 %", "seed 1", "moving at lr 0.001" or "rounding noise".
    """

    kind: VariantKind
    label: str
    low: Bound
    high: Bound


@dataclass(frozen=True)
class Reliability:
    """How far the bounds can be trusted; `epsgrid.numerics.reliability` has the rules.

    Attributes:
        verdict: the confidence in the bounds.
        reasons: a sentence each; for high confidence they say what it rests on.
        variants: the bounds under other choices.
        course: the bounds over the probe's steps; None where they were not recorded.
        noise: share of the non-zero entries that are only rounding noise, by name of layer; no layer without any.
        noise_checked: whether the layers were checked for rounding noise.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    variants: tuple[Variant, ...] = ()
    course: Trajectory | None = None
    noise: dict[str, float] = field(default_factory=dict)
    noise_checked: bool = False

    def of_kind(self, kind: VariantKind) -> tuple[Variant, ...]:
        """Return the variants in which one sort of choice is made differently."""
        return tuple(variant for variant in self.variants if variant.kind == kind)


@dataclass(frozen=True)
class Origin:
    """The optimizer whose state was read: its class or plug-in, where it adds ε, and the steps it had taken."""

    optimizer: str
    placement: Placement
    steps: int


@dataclass(frozen=True)
class EpsilonBounds:
    """The ε range of an optimizer on a task, and the statistics it was estimated from.

    Attributes:
        low, high: the ends.
        tail_fraction: share of the non-zero entries beyond each order statistic, 0.02 as published.
        layers: every layer, also those that were skipped.
        reliability: how far the range can be trusted, and why; None where that was not judged.
        step: decades of ε in a decade of magnitude: 2 where ε is a square.
        without_noise: the range without entries that are only rounding noise, judged by itself, without layers of its
            own; None where that moves no end to another decade, or leaves nothing.
        origin: where they come from; None within a probe's record, which says so itself.
    """

    low: Bound
    high: Bound
    tail_fraction: float
    layers: tuple[LayerStatistics, ...]
    reliability: Reliability | None = None
    step: int = field(default=1, metadata=UNLESS_DEFAULT)
    without_noise: EpsilonBounds | None = field(default=None, metadata=UNLESS_DEFAULT)
    origin: Origin | None = field(default=None, metadata=UNLESS_DEFAULT)

    def __str__(self) -> str:
        """Return three lines: the range with the confidence in it, and the layers that set either end."""

        def range_of(bounds: EpsilonBounds) -> str:
            return f"{power(bounds.low.decade)} to {power(bounds.high.decade)}"

        first = f"ε from {range_of(self)}"
        if self.without_noise is not None:
            first += f" as published, {range_of(self.without_noise)} without rounding noise"
        if self.reliability is not None:
            first += f": {self.reliability.verdict} confidence"
            first += "" if self.reliability.verdict == "high" else f", {self.reliability.reasons[0]}"
        lines = [first]
        for name, bound in (("low", self.low), ("high", self.high)):
            entries = count(bound.entries, "non-zero entry")
            lines.append(f"{name}: √v̂ {power(float(f'{bound.magnitude:.2g}'))} in {bound.set_by}, {entries}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            (name, power(bound.decade), power(float(f"{bound.magnitude:.2g}")), bound.set_by, f"{bound.entries:,}")
            for name, bound in (("low", self.low), ("high", self.high))
        ]
        ends = notebook.table(("end", "ε", "√v̂", "set by", "non-zero entries"), rows)
        return notebook.paragraph(str(self).partition("\n")[0]) + ends + notebook.bars(*self._density())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw √v̂ of all layers together, with the bounds where they weigh as much, and return matplotlib's axes."""
        ax = notebook.plot(*self._density(), ax)
        ax.axvspan(self.low.magnitude, self.high.magnitude, color="#56b4e9", alpha=0.22, lw=0, zorder=0)
        for name, bound, colour in (("lower", self.low, "#0072b2"), ("upper", self.high, "#b24e00")):
            ax.axvline(bound.magnitude, color=colour, lw=1.1, label=f"{name} bound: ε = {power(bound.decade)}")
        ax.legend(frameon=False)
        return ax

    def to_frame(self) -> Any:
        """Return a row for each layer as a pandas.DataFrame; ExecutionError where pandas is not installed.

        The columns are the layer's name, kind, shape, entries, nonzero and status, and low, median and high in √v̂
        units.
        """
        fields = ("name", "kind", "shape", "entries", "nonzero", "low", "high")
        return notebook.frame(
            [
                {name: getattr(layer, name) for name in fields}
                | {"median": layer.histogram and layer.histogram.median, "status": str(layer.status)}
                for layer in self.layers
            ]
        )

    def _density(self) -> tuple[notebook.Numbers, notebook.Numbers]:
        return density(layer.histogram for layer in self.layers if layer.histogram is not None)

    def chosen(self, choice: BoundsChoice) -> EpsilonBounds:
        """Return one of the ranges, with all layers; both are the same where no rounding noise moves an end."""
        if choice == "published" or self.without_noise is None:
            return self
        return replace(self.without_noise, layers=self.layers, without_noise=None, origin=self.origin)

    def beside(self, without_noise: EpsilonBounds) -> EpsilonBounds:
        """Return these bounds with those without rounding noise, where an end of these has another decade."""
        is_same = without_noise.decades == self.decades
        return self if is_same else replace(self, without_noise=replace(without_noise, layers=()))

    @property
    def skipped(self) -> tuple[LayerStatistics, ...]:
        """The layers that do not count for the bounds; their status says why."""
        return tuple(layer for layer in self.layers if layer.status is not LayerStatus.MEASURED)

    @property
    def decades(self) -> tuple[float, ...]:
        """The powers of ten from the lower to the upper end, both included, rising by `step`."""
        first, last = (round(math.log10(bound.decade)) for bound in (self.low, self.high))
        return tuple(float(f"1e{exponent}") for exponent in (*range(first, last, self.step), last))

    def epsilon_groups(self, epsilon: float = 1e-8, by: GroupsBy = "kind") -> tuple[EpsilonGroup, ...]:
        """Propose an ε for each kind of layer, or each layer, and say what it would change.

        `epsilon` > 0 is the one of all layers now, in the optimizer's own units. Print a group to read it.
        """
        # Every placement is a power law, so one end of the bounds tells it.
        factor = self.low.epsilon / self.low.magnitude**self.step
        placement = Placement("", "", exponent=self.step, factor=factor)
        noise = self.reliability.noise if self.reliability else None
        return epsilon_groups(self.layers, placement, epsilon, by, noise)

    def param_groups(self, model: Any, epsilon: float = 1e-8, by: GroupsBy = "kind") -> list[dict[str, Any]]:
        """Return parameter groups of a torch.nn.Module for an optimizer, each with the "eps" of `epsilon_groups`.

        Parameters that were not measured are in a last group with `epsilon`. Raises NoBoundsError where the model has
        none of the layers. Use it as in `torch.optim.Adam(bounds.param_groups(model), lr=1e-3)`.
        """
        groups = [(group.name, group.epsilon, set(group.layers)) for group in self.epsilon_groups(epsilon, by)]
        parameters = dict(model.named_parameters())
        measured = {name for _, _, names in groups for name in names}
        if not measured & parameters.keys():
            known = shortened([layer.name for layer in self.layers], _LAYERS_IN_A_MESSAGE)
            raise NoBoundsError(f"no parameter of this model was measured; measured were {known}")
        groups.append(("not measured", epsilon, parameters.keys() - measured))
        found = []
        for name, own, names in groups:
            if members := [parameter for key, parameter in parameters.items() if key in names]:
                found.append({"params": members, "eps": own, "name": name})
        return found

    def measured_on(self, optimizer: str, placements: Iterable[Placement | None], steps: int | None) -> EpsilonBounds:
        """Return the bounds with their origin; of several placements the first that is one."""
        placement = next((each for each in placements if each is not None), Placement.outside())
        return replace(self, origin=Origin(optimizer, placement, steps or 0))

    def converted(self, placement: Placement) -> EpsilonBounds:
        """Return the bounds in the ε of an optimizer with the same second moment that adds it elsewhere."""
        if self.origin is None or placement == self.origin.placement:
            return self

        def at(bound: Bound) -> Bound:
            epsilon = placement.epsilon_from_magnitude(bound.magnitude)
            return replace(bound, epsilon=epsilon, decade=placement.epsilon_of_decade(placement.decade_of(epsilon)))

        low, high, bare, found = at(self.low), at(self.high), self.without_noise, self.reliability
        if bare is not None:
            bare = replace(bare, low=at(bare.low), high=at(bare.high), step=placement.exponent, reliability=None)
        if found is not None:  # what it compares with is in the other ε
            reasons = (*found.reasons, f"converted from the ε of {self.origin.optimizer}")
            found = replace(found, reasons=reasons, variants=(), course=None)
        return replace(self, low=low, high=high, step=placement.exponent, without_noise=bare, reliability=found)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bounds, and what they rest on, to a JSON file that `sweep.bounds` of a spec can name."""
        Path(path).write_text(json.dumps(self.to_json(), ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"version": VERSION, **to_document(self)}

    @classmethod
    def from_json(cls, document: Any) -> EpsilonBounds:
        """Return the bounds that `to_json` wrote; StoreError or CorruptRecordError if they are too new, or damaged."""
        fields = fields_of(document, "set of bounds", VERSION)
        reliability = fields.get("reliability")
        if isinstance(reliability, dict) and reliability.get("verdict") in _EARLIER_VERDICTS:
            fields["reliability"] = {**reliability, "verdict": _EARLIER_VERDICTS[reliability["verdict"]]}
        bounds = from_document(cls, fields, "bounds")
        if bounds.without_noise is None and bounds.reliability is not None:  # earlier versions stored it as a variant
            found = (each for each in bounds.reliability.of_kind("without") if each.label == ROUNDING_NOISE)
            if (variant := next(found, None)) is not None:
                bounds = bounds.beside(replace(bounds, low=variant.low, high=variant.high))
        return bounds


def estimate_bounds(
    layers: Sequence[LayerStatistics], placement: Placement, tail_fraction: float = TAIL_FRACTION
) -> EpsilonBounds:
    """Estimate the ε range from the layers' order statistics, measured with `tail_fraction`.

    Layers that are not measured set no bound; where none is, NoBoundsError says why.
    """
    ends = bounds_of(layers, placement)
    if ends is not None:
        return EpsilonBounds(*ends, tail_fraction, tuple(layers), step=placement.exponent)
    if not layers:
        raise NoBoundsError("no bounds: the optimizer holds no parameters; give it those of the model")
    if all(layer.status is LayerStatus.LEFT_OUT for layer in layers):
        raise NoBoundsError("no bounds: leave_out leaves no layer that could set them; keep at least one")
    shown = [f"{layer.name}: {layer.status}" for layer in layers[:_LAYERS_IN_A_MESSAGE]]
    if len(layers) > len(shown):
        shown.append(f"and {len(layers) - len(shown)} more")
    raise NoBoundsError(
        f"no bounds: none of the {len(layers)} layers has finite non-zero second moments ({'; '.join(shown)}); "
        "check that the loss is finite and depends on parameters that require gradients"
    )
