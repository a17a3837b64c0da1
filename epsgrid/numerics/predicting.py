"""Predict √v̂ of a model that is too large to probe, from small ones: by the law of each layer.

`epsgrid.numerics.laws` fits them. A layer whose law is refused sets no bound; nor does one that is rounding noise at
some size.

Layers are matched by name. Where their number varies, as `layers.0` to `layers.7` do with the depth, a layer is
compared with those at the same relative position, from 0 for the first to 1 for the last, interpolated between two.

Gradients of hidden matrices fall with the width and those of the embedding do not (Everett et al., arXiv 2407.05872),
so one factor for all layers, such as 1/√width, is not enough.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.bounds import EpsilonBounds, Reliability, estimate_bounds
from epsgrid.numerics.laws import FEWEST_SIZES, STATISTICS, Law, fitted_laws
from epsgrid.numerics.magnitudes import OTHER, LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import power

_INDEX = re.compile(r"(?:^|(?<=\.))\d+(?=\.|$)")

_Members = Sequence[tuple[str, float]]
"""The layers of one size that a layer of the target is compared with, and their weights."""


@dataclass(frozen=True)
class Prediction:
    """What is predicted at a target that was not probed.

    Attributes:
        at: the target.
        sizes: that were probed, rising.
        bounds: predicted, with all layers; use them like measured ones. Their confidence is at most medium.
        laws: three for each layer that was measured at every size.
    """

    at: float
    sizes: tuple[float, ...]
    bounds: EpsilonBounds
    laws: tuple[Law, ...]

    @property
    def refused(self) -> tuple[Law, ...]:
        """The laws that do not fit."""
        return tuple(law for law in self.laws if law.refused)

    @property
    def held_out(self) -> tuple[float, float] | None:
        """Decades by which the largest probed size was missed, median and worst; None with fewer than four sizes."""
        errors = [abs(law.held_out) for law in self.laws if law.held_out is not None]
        return (median(errors), max(errors)) if errors else None

    def law(self, layer: str, statistic: str) -> Law:
        """Return the law of a layer's "low", "median" or "high"; KeyError where there is none."""
        for law in self.laws:
            if (law.layer, law.statistic) == (layer, statistic):
                return law
        raise KeyError(f"{layer}, {statistic}")

    def __str__(self) -> str:
        """Return the bounds, then what they rest on."""
        sizes = ", ".join(f"{size:g}" for size in self.sizes)
        layers = {law.layer for law in self.laws}
        lines = [f"predicted at {self.at:g} from {sizes}, {len(layers)} layers", str(self.bounds)]
        return "\n".join([*lines, *(str(law) for law in self.refused)])


def predict(
    measured: Mapping[float, EpsilonBounds | Sequence[EpsilonBounds]],
    at: float,
    *,
    model: Any = None,
    placement: Placement | None = None,
    batch_sizes: bool = False,
) -> Prediction:
    """Predict the bounds of a model from those of smaller ones.

    Args:
        measured: by size, such as the width or the batch size: the bounds of a probe, an observer or a checkpoint, or
            several of different seeds. At least three sizes; from four on the laws are tested.
        at: the size to predict for, > 0.
        model: a torch.nn.Module of that size, on torch's meta device if it is large. The predicted layers have the
            names and shapes of its parameters; without it, those of the largest probed size.
        placement: where ε enters the optimizer there; left out, as in the measured bounds.
        batch_sizes: whether the sizes are batch sizes, over which √v̂ goes from noise to signal.

    Returns:
        The prediction; damping and groups of parameters go by its `bounds`, whose layers have the histograms of the
        largest probed size, shifted as their median is predicted to.

    Raises:
        NoBoundsError: fewer than three sizes, bounds of different optimizers or tails, or no layer whose law fits.
    """
    by_size = {
        float(size): (given,) if isinstance(given, EpsilonBounds) else tuple(given) for size, given in measured.items()
    }
    sizes = tuple(sorted(by_size))
    if len(sizes) < FEWEST_SIZES or sizes[0] <= 0 or not 0 < at < math.inf:
        raise NoBoundsError(
            f"a prediction needs bounds of at least {FEWEST_SIZES} sizes above 0, and a target above 0;"
            f" got sizes {', '.join(f'{size:g}' for size in sizes) or 'none'} and target {at:g}"
        )
    probes = [by_size[size] for size in sizes]
    every = [bounds for each in probes for bounds in each]
    placements = {placement or _placement(bounds) for bounds in every}
    if len(placements) > 1 or len({bounds.tail_fraction for bounds in every}) > 1:
        raise NoBoundsError("the bounds are of different optimizers or tail fractions; measure all sizes alike")
    template = {layer.name: layer for layer in probes[-1][0].layers}
    shapes = {name: layer.shape for name, layer in template.items()}
    if model is not None:
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    families, own = [_families([layer.name for layer in each[0].layers]) for each in probes], _families(shapes)
    places = {name: place for name in shapes if (place := _place(name, own, families))}
    tail = every[0].tail_fraction
    shares: dict[str, float] = {}
    for judged in (each.reliability for each in every if each.reliability):
        shares |= {name: max(share, shares.get(name, 0.0)) for name, share in judged.noise.items()}
    noise = {
        name: share
        for name, place in places.items()
        if (share := max(shares.get(layer, 0.0) for members in place for layer, _ in members))
    }
    # One of a kind that stands apart, as the head beside hidden layers, may have another law; its name has no index.
    kinds = {name: f"{template[place[-1][0][0]].kind}{_INDEX.search(name) is None}" for name, place in places.items()}
    logs = [[_logs(bounds) for bounds in each] for each in probes]
    points = {
        (name, statistic): found
        for name, place in places.items()
        if noise.get(name, 0.0) < tail
        for statistic in STATISTICS
        if (found := _points(logs, place, statistic))
    }
    laws = tuple(fitted_laws(sizes, points, kinds, at, batch_sizes=batch_sizes))
    layers = []
    for name, shape in shapes.items():
        nearest = max(places[name][-1], key=lambda member: member[1])[0] if name in places else name
        own_laws = [law for law in laws if law.layer == name]
        layers.append(_predicted(name, shape, template.get(nearest), own_laws))
    if not any(layer.status is LayerStatus.MEASURED for layer in layers):
        reasons = "; ".join(str(law) for law in laws if law.refused) or "no layer was measured at every size"
        raise NoBoundsError(
            f"no layer follows a law over {', '.join(f'{s:g}' for s in sizes)}; more sizes or seeds may show one:"
            f" {reasons[:500]}"
        )
    bounds = estimate_bounds(layers, placements.pop(), tail)
    is_checked = all(each.reliability and each.reliability.noise_checked for each in every)
    reliability = replace(_reliability(sizes, at, bounds, laws), noise=noise, noise_checked=is_checked)
    return Prediction(float(at), sizes, replace(bounds, reliability=reliability), laws)


def _placement(bounds: EpsilonBounds) -> Placement:
    """Return the power law between ε and magnitude, which one end of the bounds tells."""
    factor = bounds.low.epsilon / bounds.low.magnitude**bounds.step
    return Placement("", "", exponent=bounds.step, factor=float(f"{factor:.9g}"))


def _families(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that differ in their first index alone, rising, by what they have in common."""
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: [int(index) for index in _INDEX.findall(name)]):
        found.setdefault(_INDEX.sub("*", name, count=1), []).append(name)
    return found


def _place(
    name: str, own: Mapping[str, list[str]], families: Sequence[Mapping[str, list[str]]]
) -> tuple[_Members, ...] | None:
    """Return what a layer of the target is compared with at each size; None where a size has nothing like it."""
    family = _INDEX.sub("*", name, count=1)
    members = [each.get(family, []) for each in families]
    if all(each == own[family] for each in members):
        return tuple([(name, 1.0)] for _ in members)
    if not all(members):
        return None
    position, found = own[family].index(name) / max(len(own[family]) - 1, 1), []
    for each in members:
        first = min(math.floor(position * (len(each) - 1)), max(len(each) - 2, 0))
        weight = position * (len(each) - 1) - first
        found.append(
            [(layer, share) for layer, share in zip(each[first:], (1 - weight, weight), strict=False) if share]
        )
    return tuple(found)


def _logs(bounds: EpsilonBounds) -> dict[tuple[str, str], float]:
    """Return log10 of the statistics of the layers that were measured."""
    found = {}
    for layer in bounds.layers:
        if layer.status is LayerStatus.MEASURED:
            middle = layer.histogram.median if layer.histogram else None
            for statistic, value in zip(STATISTICS, (layer.low, middle, layer.high), strict=True):
                if value:
                    found[layer.name, statistic] = math.log10(value)
    return found


def _points(
    logs: Sequence[Sequence[Mapping[tuple[str, str], float]]], place: Sequence[_Members], statistic: str
) -> list[list[float]]:
    """Return a statistic, as log10, of each seed at each size; empty where a size has none."""
    found = [
        [
            math.fsum(share * of_seed[layer, statistic] for layer, share in members)
            for of_seed in of_size
            if all((layer, statistic) in of_seed for layer, _ in members)
        ]
        for of_size, members in zip(logs, place, strict=True)
    ]
    return found if all(found) else []


def _predicted(
    name: str, shape: tuple[int, ...], nearest: LayerStatistics | None, laws: Sequence[Law]
) -> LayerStatistics:
    """Return a layer as it is predicted from one of the largest probed size; left out where a law is missing."""
    if nearest is None or len(laws) < len(STATISTICS) or any(law.refused for law in laws):
        status = nearest.status if nearest else LayerStatus.LEFT_OUT
        status = LayerStatus.LEFT_OUT if status is LayerStatus.MEASURED else status
        return LayerStatistics.unmeasured(name, shape, status, nearest.kind if nearest else OTHER)
    entries, histogram = math.prod(shape), nearest.histogram
    low, middle, high = (law.predicted for law in laws)
    assert histogram is not None and histogram.median
    # v̂ = v · scale: every √v̂ is multiplied by the same number. Shares stay, and counts go with the entries.
    counts = np.ceil(histogram.counts * (entries / nearest.entries)).astype(np.int64)
    histogram = replace(histogram, counts=counts, scale=histogram.scale * (middle / histogram.median) ** 2)
    return replace(
        nearest,
        name=name,
        shape=shape,
        entries=entries,
        nonzero=histogram.nonzero,
        low=low,
        high=high,
        histogram=histogram,
    )


def _reliability(sizes: Sequence[float], at: float, bounds: EpsilonBounds, laws: Sequence[Law]) -> Reliability:
    """Judge a prediction: medium at best, low where an end may lie more than a decade off, or a refused layer there."""
    by_place = {(law.layer, law.statistic): law for law in laws}
    widths = [by_place[end.layers[0], name].decades for name, end in (("low", bounds.low), ("high", bounds.high))]
    refused = {law.layer for law in laws if law.refused}
    outside = [law for law in laws if not bounds.low.magnitude <= law.predicted <= bounds.high.magnitude]
    beyond = sorted({law.layer for law in outside if law.layer in refused})
    reasons = []
    if beyond:
        reasons.append(f"{', '.join(beyond[:3])} would set a bound, and follows no law")
    low, high = widths
    reasons.append(
        f"predicted at {at:g} from {', '.join(f'{size:g}' for size in sizes)}, not measured: the lower end within"
        f" a factor of {power(float(f'{10**low:.2g}'))}, the upper within {power(float(f'{10**high:.2g}'))}"
    )
    if len(sizes) == FEWEST_SIZES:
        reasons.append("three sizes leave none to test the laws with; add a fourth")
    is_low = beyond or max(widths) > 1 or len(sizes) == FEWEST_SIZES
    return Reliability("low" if is_low else "medium", tuple(reasons))
