"""An ε of its own for each kind of layer, or each layer: the largest that does not shorten its steps.

One ε is a compromise where layers differ in √v̂ by decades. Each group gets the largest power of ten with which its
damping (see `epsgrid.numerics.damping`) is at least 0.95: its steps are those of ε → 0, and entries that hardly move
are held back as far as that allows. Layers without histogram, or mostly of rounding noise, keep the ε they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.damping import Damping, largest_harmless, total_damping
from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import count, percent, power

MOSTLY_NOISE = 0.5
"""Share of rounding noise from which on a layer counts as nothing else."""

GroupsBy = Literal["kind", "layer"]


@dataclass(frozen=True)
class EpsilonGroup:
    """Layers that get the same ε.

    Attributes:
        name: the kind or the name of the layer, or "other layers" for those that keep their ε.
        layers: names of the layers.
        epsilon: proposed, the optimizer's own.
        before, after: damping at the ε they have and at the one proposed; None where nothing was measured.
    """

    name: str
    layers: tuple[str, ...]
    epsilon: float
    before: Damping | None
    after: Damping | None

    def __str__(self) -> str:
        """Return what the proposed ε changes."""
        layers = f"{self.name}, {count(len(self.layers), 'layer')}"
        if self.before is None or self.after is None:
            return f"{layers}: ε stays {power(self.epsilon)}"
        shares = (percent(each.mean) for each in (self.before, self.after))
        return f"{layers}, {self.after.moving:,} entries: ε {power(self.epsilon)}: steps {' → '.join(shares)}"


def epsilon_groups(
    layers: Sequence[LayerStatistics],
    placement: Placement,
    epsilon: float,
    by: GroupsBy = "kind",
    noise: Mapping[str, float] | None = None,
) -> tuple[EpsilonGroup, ...]:
    """Return groups of layers with the ε proposed for each, those that keep theirs last.

    `epsilon` > 0 is the one they have now, `noise` the share of rounding noise of each layer that has any.
    """
    held: dict[str, list[LayerStatistics]] = {}
    kept: list[str] = []
    for layer in layers:
        is_noise = (noise or {}).get(layer.name, 0.0) >= MOSTLY_NOISE
        if layer.histogram is None or not layer.histogram.nonzero or is_noise:
            kept.append(layer.name)
        else:
            held.setdefault(layer.kind if by == "kind" else layer.name, []).append(layer)
    found = []
    for name, members in held.items():
        histograms = [layer.histogram for layer in members if layer.histogram is not None]
        proposed = largest_harmless(histograms, placement) or epsilon
        before, after = (total_damping(histograms, placement, value) for value in (epsilon, proposed))
        found.append(EpsilonGroup(name, tuple(layer.name for layer in members), proposed, before, after))
    if kept:
        found.append(EpsilonGroup("other layers", tuple(kept), epsilon, None, None))
    return tuple(found)
