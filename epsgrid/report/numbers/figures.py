"""The numbers of each figure, without drawing them; `draw_histograms` and `draw_curves` draw them.

The first figure is the published one: how the gradient magnitudes √v̂ of each layer are spread, with the bounds and the
swept ε where they weigh as much. The second shows the metric against ε for each learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.report.numbers.binning import GREATEST, LEAST, counts_between, log_edges
from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import NARROWED, Cell, Spread
from epsgrid.selection.formatting import Metric, power
from epsgrid.selection.load import StoredExperiment

BINS_PER_DECADE = 10
_HIDDEN_TAIL = 0.001
"""Share of a layer's smallest entries that may lie left of the picture: a few denormals would stretch it by decades."""


@dataclass(frozen=True)
class LayerDensity:
    """One row of the histogram figure.

    Attributes:
        name: of the layer.
        density: share of its non-zero entries per decade of √v̂, one per bin; empty where there is nothing to show.
        entries: number of entries.
        zero_share: share of its entries that are exactly zero, in [0, 1].
        low: lower order statistic, √v̂ units; None unless measured.
        high: upper order statistic, likewise.
        status: whether the layer counts for the bounds.
        sets_low: whether it sets the lower bound.
        sets_high: whether it sets the upper bound.
    """

    name: str
    density: tuple[float, ...]
    entries: int
    zero_share: float
    low: float | None
    high: float | None
    status: str
    sets_low: bool
    sets_high: bool


@dataclass(frozen=True)
class EpsilonMark:
    """Where a swept ε lies among the magnitudes, and which grids sweep it; no grid: the default ε."""

    epsilon: float
    magnitude: float
    grids: tuple[str, ...]


@dataclass(frozen=True)
class HistogramNumbers:
    """Everything the histogram figure shows.

    Attributes:
        edges: bin edges, log10 of √v̂, one more than a density has values.
        pooled: density of all layers' entries together.
        layers: one row per layer, in the model's order.
        low: lower bound, √v̂ units.
        high: upper bound, √v̂ units.
        marks: swept ε, rising.
        tail_fraction: share beyond `low` and `high` of each layer.
        placement: where ε enters, in words.
        optimizer: its name.
    """

    edges: tuple[float, ...]
    pooled: tuple[float, ...]
    layers: tuple[LayerDensity, ...]
    low: float
    high: float
    marks: tuple[EpsilonMark, ...]
    tail_fraction: float
    placement: str
    optimizer: str


@dataclass(frozen=True)
class Point:
    """One cell of a curve.

    Attributes:
        x: ε, or the learning rate of an optimizer without ε.
        score: mean and spread on the split that selects; None where no seed is done.
        test: likewise, on the test split.
        seeds: seeds asked for.
        done: seeds with a score.
        diverged: seeds that diverged.
        best_of: the grids, or "default", that chose this cell.
    """

    x: float
    score: Spread | None
    test: Spread | None
    seeds: int
    done: int
    diverged: int
    best_of: tuple[str, ...]


@dataclass(frozen=True)
class Curve:
    """The points of one learning rate, rising; `label` says which."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class CurveNumbers:
    """Everything the figure of the metric shows.

    Attributes:
        curves: one per learning rate, rising; a single one over learning rates where there is no ε.
        metric: what the points are.
        selection: the split that selects.
        has_epsilon: whether x is ε.
        band: first and last decade of the bounds; None without bounds or ε.
        default_epsilon: None where there is no ε.
        optimizer: its name.
    """

    curves: tuple[Curve, ...]
    metric: Metric
    selection: str
    has_epsilon: bool
    band: tuple[float, float] | None
    default_epsilon: float | None
    optimizer: str


def histogram_numbers(stored: StoredExperiment, comparison: Comparison) -> HistogramNumbers | None:
    """Return the numbers of the histogram figure; None where no probe was stored."""
    bounds = stored.bounds
    if bounds is None or stored.probe is None:
        return None
    edges = log_edges(BINS_PER_DECADE)
    counts = [counts_between(layer.histogram, edges) for layer in bounds.layers]
    marks = _marks(stored, bounds, comparison)
    first, last = _visible(bounds, [mark.magnitude for mark in marks])
    shown = slice((first - LEAST) * BINS_PER_DECADE, (last - LEAST) * BINS_PER_DECADE)
    rows = zip(bounds.layers, counts, strict=True)
    return HistogramNumbers(
        edges=tuple(edges[shown.start : shown.stop + 1].tolist()),
        pooled=_density(np.sum(counts, axis=0), shown),
        layers=tuple(_layer(layer, _density(count, shown), bounds) for layer, count in rows),
        low=bounds.low.magnitude,
        high=bounds.high.magnitude,
        marks=marks,
        tail_fraction=bounds.tail_fraction,
        placement=stored.probe.placement.description,
        optimizer=comparison.optimizer,
    )


def curve_numbers(stored: StoredExperiment, comparison: Comparison) -> CurveNumbers | None:
    """Return the numbers of the figure of the metric; None while no trial has a result."""
    metric, cells = comparison.metric, [cell for cell in comparison.cells if cell.tally.done or cell.tally.diverged]
    if metric is None or stored.grid is None or not cells:
        return None
    has_epsilon = any(cell.epsilon is not None for cell in cells)
    bounds = comparison.bounds
    return CurveNumbers(
        curves=_curves(cells, comparison) if has_epsilon else (_reference_curve(cells, comparison),),
        metric=metric,
        selection=comparison.selection,
        has_epsilon=has_epsilon,
        band=(bounds.low.decade, bounds.high.decade) if bounds and has_epsilon else None,
        default_epsilon=stored.grid.default_epsilon if has_epsilon else None,
        optimizer=comparison.optimizer,
    )


def _density(counts: npt.NDArray[np.float64], shown: slice) -> tuple[float, ...]:
    """Return the share of all entries per decade, in the bins shown; nothing where these hold no entry."""
    return tuple((counts[shown] / counts.sum() * BINS_PER_DECADE).tolist()) if counts[shown].any() else ()


def _layer(layer: LayerStatistics, density: tuple[float, ...], bounds: EpsilonBounds) -> LayerDensity:
    zeros = layer.histogram.zeros if layer.histogram else 0
    return LayerDensity(
        name=layer.name,
        density=density,
        entries=layer.entries,
        zero_share=zeros / layer.entries if layer.entries else 0.0,
        low=layer.low,
        high=layer.high,
        status=layer.status.value,
        sets_low=layer.name in bounds.low.layers,
        sets_high=layer.name in bounds.high.layers,
    )


def _marks(stored: StoredExperiment, bounds: EpsilonBounds, comparison: Comparison) -> tuple[EpsilonMark, ...]:
    """Return the swept ε, or before a sweep the decades that a narrowed grid will have, and the default ε."""
    assert stored.probe is not None
    placement = stored.probe.placement
    grids = {epsilon: comparison.sweeping(epsilon) for row in comparison.grids for epsilon in row.epsilons}
    if not grids:
        grids = dict.fromkeys(bounds.decades, (NARROWED,))
    if stored.grid is not None:
        grids.setdefault(stored.grid.default_epsilon, ())
    return tuple(
        EpsilonMark(epsilon, placement.magnitude_from_epsilon(epsilon), grids[epsilon]) for epsilon in sorted(grids)
    )


def _visible(bounds: EpsilonBounds, magnitudes: Sequence[float]) -> tuple[int, int]:
    """Return the first and last decade to show: of nearly all entries, the bounds and the swept ε."""
    histograms = [layer.histogram for layer in bounds.layers if layer.histogram]
    ends = [end for h in histograms for end in (h.quantile(_HIDDEN_TAIL), h.quantile(1.0)) if end]
    logs = [math.log10(value) for value in (*ends, *magnitudes, bounds.low.magnitude, bounds.high.magnitude)]
    return max(math.floor(min(logs) - 0.1), LEAST), min(math.ceil(max(logs) + 0.1), GREATEST)


def _curves(cells: Sequence[Cell], comparison: Comparison) -> tuple[Curve, ...]:
    rates = sorted({cell.learning_rate for cell in cells})
    return tuple(
        Curve(
            f"lr {power(rate)}",
            tuple(
                _point(cell, cell.epsilon, comparison)
                for cell in cells
                if cell.learning_rate == rate and cell.epsilon is not None
            ),
        )
        for rate in rates
    )


def _reference_curve(cells: Sequence[Cell], comparison: Comparison) -> Curve:
    return Curve(comparison.optimizer, tuple(_point(cell, cell.learning_rate, comparison) for cell in cells))


def _point(cell: Cell, x: float, comparison: Comparison) -> Point:
    chosen_by = tuple(row.name for row in comparison.best if row.choice.cell is cell)
    tally = cell.tally
    return Point(x, cell.score, cell.test, tally.trials, tally.done, tally.diverged, chosen_by)
