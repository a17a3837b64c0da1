"""Put histograms of any bin width and bias correction on common edges, so that they can be added up and drawn.

Common edges divide every decade of √v̂ equally; see `LogHistogram.entries_above` for bins that cross an edge.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.histogram import LogHistogram

LEAST, GREATEST = -24, 21
"""Decades that hold the root of every float32, √1.4e-45 to √3.4e38, times any bias correction."""

Counts = npt.NDArray[np.float64]


def log_edges(bins_per_decade: int) -> Counts:
    """Return rising edges from `LEAST` to `GREATEST`, log10 of √v̂."""
    return np.arange(LEAST * bins_per_decade, GREATEST * bins_per_decade + 1) / bins_per_decade


def counts_between(histogram: LogHistogram | None, edges: Counts) -> Counts:
    """Return how many non-zero finite entries lie in each bin, fractions where a bin of the histogram crosses an edge.

    Args:
        histogram: None for a layer without entries.
        edges: log10 of √v̂, rising; entries beyond them count in the first and last bin.
    """
    if histogram is None:
        return np.zeros(len(edges) - 1)
    above = histogram.entries_above(10.0**edges)
    above[0], above[-1] = histogram.nonzero, 0.0
    return above[:-1] - above[1:]


def pooled(histograms: Iterable[LogHistogram | None], edges: Counts) -> Counts:
    """Return the counts of several histograms together; zeros where there are none."""
    return sum((counts_between(histogram, edges) for histogram in histograms), np.zeros(len(edges) - 1))


def quantile_of(counts: Counts, edges: Counts, fraction: float) -> float | None:
    """Return the magnitude below which a fraction of binned entries lies, in √v̂ units; None without entries.

    Within a bin entries are spread evenly on the log axis, so the answer is off by less than the width of the bins
    of the histograms that were counted.
    """
    cumulative = np.concatenate([[0.0], np.cumsum(counts)])
    if not cumulative[-1]:
        return None
    last = int(np.searchsorted(cumulative, cumulative[-1]))  # beyond it there are no entries
    return float(10 ** np.interp(fraction * cumulative[-1], cumulative[: last + 1], edges[: last + 1]))
