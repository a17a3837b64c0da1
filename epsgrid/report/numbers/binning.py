"""Put histograms of any bin width and bias correction on common edges, so that they can be added up and drawn.

A common grid has equally many bins in each decade of √v̂. An entry stands where its bin does: a histogram's bins are
spread evenly, on the log axis, over those of the grid that they cover. No entry is lost.
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
    """Return the edges of a grid over all of `LEAST` to `GREATEST`, log10 of √v̂, rising."""
    return np.arange(LEAST * bins_per_decade, GREATEST * bins_per_decade + 1) / bins_per_decade


def counts_between(histogram: LogHistogram | None, edges: Counts) -> Counts:
    """Return how many non-zero finite entries lie between edges; what lies beyond goes to the first and last bin.

    Args:
        histogram: None stands for a layer without entries.
        edges: log10 of √v̂, rising.

    Returns:
        A count for each bin, a fraction where the histogram's own bins reach over an edge; their sum is that of the
        non-zero entries.
    """
    if histogram is None:
        return np.zeros(len(edges) - 1)
    own = histogram.edges()
    logs = np.log10(np.concatenate([[own[1] / 2], own[1:]]))  # bin 1 reaches down to zero: draw half an octave
    cumulative = np.concatenate([[0], np.cumsum(histogram.counts[1:])])
    inner = np.interp(edges, logs, cumulative)
    counts: Counts = np.diff(inner)
    counts[0] += inner[0] + histogram.below_range
    counts[-1] += cumulative[-1] - inner[-1] + histogram.above_range
    return counts


def pooled(histograms: Iterable[LogHistogram | None], edges: Counts) -> Counts:
    """Return the counts of several histograms together; zeros where there are none."""
    total = np.zeros(len(edges) - 1)
    for histogram in histograms:
        total += counts_between(histogram, edges)
    return total


def quantile_of(counts: Counts, edges: Counts, fraction: float) -> float | None:
    """Return the magnitude below which a fraction of binned entries lies, in √v̂ units; None without entries.

    Within a bin the entries are spread evenly on the log axis, so the answer is off by less than the width of the bins
    that were counted with.
    """
    cumulative = np.concatenate([[0.0], np.cumsum(counts)])
    if not cumulative[-1]:
        return None
    last = int(np.searchsorted(cumulative, cumulative[-1]))  # beyond it there are no entries
    return float(10 ** np.interp(fraction * cumulative[-1], cumulative[: last + 1], edges[: last + 1]))
