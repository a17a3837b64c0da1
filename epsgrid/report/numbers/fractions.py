"""The numbers of the figure of adaptable shares against ε: how abruptly a larger ε turns Adam into SGD with momentum.

`draw_fractions` draws them. They come from the probe's histograms, before any training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.report.numbers.binning import counts_between, log_edges
from epsgrid.report.rows import Comparison
from epsgrid.selection.load import StoredExperiment

BINS_PER_DECADE = 10
_MARGIN_DECADES = 1
_ALL_BUT = 1e-4
"""Share of the entries that may change sides outside the picture."""


@dataclass(frozen=True)
class FractionCurve:
    """Of the entries of some layers, the share with √v̂ above each ε of the figure, in [0, 1]; zeros lie below."""

    title: str
    entries: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class FractionMark:
    """A swept ε and the share of all entries that still adapts there; no grid: the default ε."""

    epsilon: float
    share: float
    grids: tuple[str, ...]


@dataclass(frozen=True)
class FractionNumbers:
    """Everything the figure shows; ε are the optimizer's own.

    Attributes:
        epsilons: rising, ten per decade.
        total: all entries together.
        kinds: the layers of each kind; empty where there is one kind alone, or kinds are not known.
        marks: swept ε inside the picture, rising.
        band: first and last decade of the bounds.
        fall: ε below which 90 % of the entries that adapt at all still do, and ε above which 10 % do.
        optimizer: its name.
    """

    epsilons: tuple[float, ...]
    total: FractionCurve
    kinds: tuple[FractionCurve, ...]
    marks: tuple[FractionMark, ...]
    band: tuple[float, float]
    fall: tuple[float, float]
    optimizer: str


def fraction_numbers(stored: StoredExperiment, comparison: Comparison) -> FractionNumbers | None:
    """Return the numbers of the figure; None where nothing was probed, or no layer's entries were counted."""
    bounds, probe = stored.bounds, stored.probe
    layers = [layer for layer in bounds.layers if layer.histogram] if bounds else []
    if bounds is None or probe is None or not any(layer.nonzero for layer in layers):
        return None
    edges = log_edges(BINS_PER_DECADE)
    total = _shares(layers, edges)
    epsilon_of = probe.placement.epsilon_from_magnitude
    swept = [(row.epsilon, row.share) for row in comparison.adaptive]
    shown = _shown(edges, total, [probe.placement.magnitude_from_epsilon(epsilon) for epsilon, _ in swept])
    kinds = dict.fromkeys(layer.kind for layer in layers)
    return FractionNumbers(
        epsilons=tuple(epsilon_of(float(10**edge)) for edge in edges[shown]),
        total=_curve("all layers", layers, shown, edges),
        kinds=tuple(_curve(kind, [own for own in layers if own.kind == kind], shown, edges) for kind in kinds)
        if len(kinds) > 1
        else (),
        marks=tuple(FractionMark(epsilon, share, comparison.sweeping(epsilon)) for epsilon, share in swept),
        band=(bounds.low.decade, bounds.high.decade),
        fall=(epsilon_of(_falls_to(0.9, total, edges)), epsilon_of(_falls_to(0.1, total, edges))),
        optimizer=comparison.optimizer,
    )


def _shares(layers: Sequence[LayerStatistics], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the share of the layers' finite entries above each edge, zeros among those below."""
    counts = np.sum([counts_between(layer.histogram, edges) for layer in layers], axis=0)
    above = np.concatenate([np.cumsum(counts[::-1])[::-1], [0.0]])
    finite = sum(layer.histogram.total - layer.histogram.nonfinite for layer in layers if layer.histogram)
    shares: npt.NDArray[np.float64] = above / finite
    return shares


def _curve(
    title: str, layers: Sequence[LayerStatistics], shown: slice, edges: npt.NDArray[np.float64]
) -> FractionCurve:
    shares = _shares(layers, edges)[shown]
    return FractionCurve(title, sum(layer.entries for layer in layers), tuple(shares.tolist()))


def _shown(edges: npt.NDArray[np.float64], total: npt.NDArray[np.float64], magnitudes: Sequence[float]) -> slice:
    """Return the edges to show: whole decades round all but a few entries, and round the swept ε."""
    changing = np.flatnonzero((total < total[0] - _ALL_BUT) & (total > _ALL_BUT))
    logs = [*np.log10(magnitudes), *edges[changing[[0, -1]]]] if len(changing) else [*np.log10(magnitudes)]
    if not logs:
        return slice(None)
    low, high = np.floor(min(logs)) - _MARGIN_DECADES, np.ceil(max(logs)) + _MARGIN_DECADES
    inside = np.flatnonzero((edges >= low - 1e-9) & (edges <= high + 1e-9))
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _falls_to(part: float, total: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> float:
    """Return the magnitude above which a part of the non-zero entries lies."""
    return float(10 ** np.interp(-part * total[0], -total, edges))
