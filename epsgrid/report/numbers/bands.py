"""The numbers of the figure of bands: percentiles of √v̂ over time, of one layer or of all layers of a kind together.

`draw_bands` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.series import LayerSnapshot, Series
from epsgrid.report.numbers.binning import log_edges, pooled, quantile_of
from epsgrid.report.numbers.over_time import TimeUnit, kinds_of, time_of, time_unit, with_histograms

BAND_FRACTIONS = (0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98)
"""Percentiles of a band, symmetric about the median; the outermost are the published ones."""

_POOLED_BINS_PER_DECADE = 50


@dataclass(frozen=True)
class Band:
    """Percentiles of √v̂ over time, of one layer or of all layers of a kind together.

    Attributes:
        title: the layer, or the kind.
        layers: number of layers.
        entries: number of their entries.
        times: rising, in the figure's unit.
        magnitudes: for each of `BAND_FRACTIONS`, a value for each time, in √v̂ units.
    """

    title: str
    layers: int
    entries: int
    times: tuple[float, ...]
    magnitudes: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class BandNumbers:
    """Everything the figure of bands shows.

    Attributes:
        bands: one panel each; not empty.
        unit: of time.
        low: lower bound of epoch 1, √v̂ units; None where nothing was probed.
        high: upper bound, likewise.
        thresholds: (time, magnitude that the optimizer's ε weighs as much as); empty where there is none.
        epsilon: that ε; None where it is not known.
        optimizer: its name.
    """

    bands: tuple[Band, ...]
    unit: TimeUnit
    low: float | None
    high: float | None
    thresholds: tuple[tuple[float, float], ...]
    epsilon: float | None
    optimizer: str


def layer_band(series: Series, name: str) -> Band | None:
    """Return the percentiles of one layer at every snapshot; None where it never had a non-zero entry.

    Raises:
        ValueError: there is no layer of that name, or the series lacks one of `BAND_FRACTIONS`.
    """
    courses = [series.over_time(name, fraction) for fraction in BAND_FRACTIONS]
    unit = time_unit(series)
    times = {snapshot.step: time_of(snapshot, unit) for snapshot in series.snapshots}
    held = [(times[rows[0][0]], [value for _, value in rows]) for rows in zip(*courses, strict=True)]
    return _band(name, 1, series.entries[series.names.index(name)], held)


def pooled_band(series: Series, title: str, indices: Sequence[int]) -> Band | None:
    """Return the percentiles of several layers' entries together, at the snapshots that hold histograms.

    They are read from folded histograms, in which neighbouring bins differ by a fifth; None where nothing is held.
    """
    edges, unit, held = log_edges(_POOLED_BINS_PER_DECADE), time_unit(series), []
    for snapshot in with_histograms(series):
        counts = pooled((_histogram(snapshot.layers[index]) for index in indices), edges)
        values = [quantile_of(counts, edges, fraction) for fraction in BAND_FRACTIONS]
        known = [value for value in values if value is not None]
        if known:
            held.append((time_of(snapshot, unit), known))
    return _band(title, len(indices), sum(series.entries[index] for index in indices), held)


def band_numbers(
    series: Series,
    bounds: EpsilonBounds | None,
    *,
    optimizer: str,
    epsilon: float | None = None,
    layer: str | None = None,
) -> BandNumbers | None:
    """Return the numbers of the figure of bands; None where nothing was kept that it could show.

    Args:
        series: what was kept.
        bounds: of epoch 1; None where nothing was probed.
        optimizer: its name.
        epsilon: the trial's ε; None for a probe, whose ε means nothing.
        layer: show this one alone; None shows each kind of layer.

    Raises:
        ValueError: there is no layer of that name.
    """
    if layer is not None:
        found = [layer_band(series, layer)]
    else:
        found = [pooled_band(series, kind, indices) for kind, indices in kinds_of(series).items()]
    bands = tuple(band for band in found if band is not None)
    if not bands:
        return None
    unit = time_unit(series)
    known = [(time_of(s, unit), s.threshold) for s in series.snapshots if s.threshold is not None and s.threshold > 0]
    return BandNumbers(
        bands=bands,
        unit=unit,
        low=bounds.low.magnitude if bounds else None,
        high=bounds.high.magnitude if bounds else None,
        thresholds=tuple(known) if epsilon is not None else (),
        epsilon=epsilon,
        optimizer=optimizer,
    )


def _band(title: str, layers: int, entries: int, held: Sequence[tuple[float, Sequence[float]]]) -> Band | None:
    if not held:
        return None
    times, values = zip(*held, strict=True)
    return Band(title, layers, entries, times, tuple(zip(*values, strict=True)))


def _histogram(layer: LayerSnapshot | None) -> LogHistogram | None:
    return None if layer is None else layer.histogram
