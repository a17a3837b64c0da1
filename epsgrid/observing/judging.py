"""Estimate the ε range from what an optimizer holds, with rounding noise and without, and judge how far to trust it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.bounds import ROUNDING_NOISE, EpsilonBounds, Reliability, Variant, VariantKind
from epsgrid.numerics.counting import measure
from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.numerics.reliability import judge
from epsgrid.numerics.series import FRACTIONS, Series
from epsgrid.numerics.trajectory import Trajectory, trajectory_of
from epsgrid.observing.adapters import Adapter
from epsgrid.observing.reading import Reading, bounds_by_placement, measure_reading
from epsgrid.observing.rounding import RoundingNoise

_OTHER_TAILS = (0.01, 0.05)


@dataclass(frozen=True)
class Estimation:
    """What bounds are estimated from, at one moment.

    Attributes:
        readings: of all layers.
        adapter: of the optimizer.
        series: the percentiles over the steps.
        steps: taken so far, by `who`: "the probe" or "the optimizer".
        tail_fraction: share of the non-zero entries beyond each order statistic.
        noise: the entries that are only rounding noise.
        left_out: names of layers that have no say in the bounds.
    """

    readings: Sequence[Reading]
    adapter: Adapter
    series: Series
    steps: int
    tail_fraction: float
    noise: RoundingNoise = field(default_factory=lambda: RoundingNoise(checked=False))
    left_out: frozenset[str] = frozenset()
    who: str = "the probe"

    def bounds(self, others: Sequence[Variant] = (), without_noise: Sequence[Variant] = ()) -> EpsilonBounds:
        """Return the ε range, and beside it that without rounding noise, each judged by itself.

        `others` are bounds under other choices, `without_noise` the same without the layers that have noise. Raises
        NoBoundsError where no layer was measured.
        """
        tail = self.tail_fraction
        bounds, rests = self._bounds(tail), self._measured(tail, noise=False)
        pairs = zip(bounds.layers, rests, strict=True)
        noise = {layer.name: 1 - rest.nonzero / layer.nonzero for layer, rest in pairs if rest.nonzero < layer.nonzero}
        bare = self._variant("without", ROUNDING_NOISE, tail, noise=False) if noise else []
        published = replace(bounds, reliability=self._judge(bounds, noise, (*others, *bare)))
        if not bare:
            return published
        trusted = replace(bounds, low=bare[0].low, high=bare[0].high, layers=tuple(rests))
        if trusted.decades == bounds.decades:
            return published
        judged = self._judge(trusted, noise, without_noise, with_noise=bounds)
        return published.beside(replace(trusted, reliability=judged))

    def variant(self, kind: VariantKind, name: str, leave_out: Collection[str] = ()) -> list[Variant]:
        """Return the bounds without some layers, to compare with others; none where none is set."""
        kept = replace(self, readings=[each for each in self.readings if each.layer.name not in leave_out])
        return kept._variant(kind, name, self.tail_fraction)

    def _variant(self, kind: VariantKind, name: str, tail: float, *, noise: bool = True) -> list[Variant]:
        """Return the bounds at a tail as a variant; none where no layer sets one."""
        try:
            bounds = self._bounds(tail, noise=noise)
        except NoBoundsError:
            return []
        return [Variant(kind, name, bounds.low, bounds.high)]

    def trajectory(self, leave_out: Sequence[str] = ()) -> Trajectory:
        """Return the bounds over the steps, without some layers; the tail must be one that a series follows."""
        group = next((each.layer.group for each in self.readings if each.layer.group is not None), {})
        placement = partial(self.adapter.placement, group)
        return trajectory_of(self.series, placement, self.tail_fraction, leave_out=(*leave_out, *self.left_out))

    def _judge(
        self,
        bounds: EpsilonBounds,
        noise: Mapping[str, float],
        others: Sequence[Variant],
        with_noise: EpsilonBounds | None = None,
    ) -> Reliability:
        """Judge bounds; `with_noise` are those with rounding noise, where they and `others` are those without."""
        tail, has_noise, variants = self.tail_fraction, with_noise is None, list(others)
        for other in _OTHER_TAILS:
            if other != tail:
                variants += self._variant("tail", f"{100 * other:g} %", other, noise=has_noise)
        trajectory = self.trajectory(() if has_noise else tuple(noise)) if tail in FRACTIONS else None
        if trajectory is not None and self.steps not in trajectory.steps[-1:]:
            low, high = bounds.low.epsilon, bounds.high.epsilon
            trajectory = Trajectory((*trajectory.steps, self.steps), (*trajectory.low, low), (*trajectory.high, high))
        placement = next(each.placement for each in self.readings if each.placement is not None)
        checked = self.noise.checked
        judged = judge(bounds, placement, variants, trajectory, noise, checked, self.steps, with_noise, self.who)
        if self.noise.reason:
            why = f"rounding noise could not be told from gradients: {self.noise.reason}"
            judged = replace(judged, reasons=(*judged.reasons, why))
        return judged

    def _measured(self, tail: float, *, noise: bool = True) -> list[LayerStatistics]:
        """Return the layers' statistics, with the entries that are noise or over the others alone."""
        measured = []
        for reading in self.readings:
            layer, mask = measure_reading(reading, tail), self.noise.masks.get(reading.layer.parameter)
            if not noise and mask is not None and reading.values is not None:
                entries = reading.values[~mask.to(reading.values.device)]
                rest = measure(layer.name, entries, reading.scale, tail)
                layer = replace(rest, shape=layer.shape, kind=layer.kind)
            measured.append(layer.left_out() if reading.layer.name in self.left_out else layer)
        return measured

    def _bounds(self, tail: float, *, noise: bool = True) -> EpsilonBounds:
        placements = [reading.placement for reading in self.readings]
        return bounds_by_placement(self._measured(tail, noise=noise), placements, tail)
