"""Histograms on edges of one's own: nothing is lost, and layers of different scales add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from epsgrid.report.figures.binning import counts_between, log_edges, pooled, quantile_of
from tests.report.kept import counted


def test_no_entry_is_lost() -> None:
    roots = 10 ** np.random.default_rng(0).normal(-5, 3, 10_000)
    histogram = replace(counted(roots), below_range=7, above_range=3)
    edges = np.linspace(-6, -4, 5)  # most entries lie beyond
    assert counts_between(histogram, edges).sum() == pytest.approx(histogram.nonzero)
    assert counts_between(None, edges).tolist() == [0] * 4


@pytest.mark.parametrize("mantissa_bits", [1, 5])
def test_counts_are_those_of_numpy_up_to_the_bins_at_the_edges(mantissa_bits: int) -> None:
    roots = 10 ** np.random.default_rng(1).normal(-3, 0.5, 50_000)
    edges = np.linspace(-6, 0, 13)
    expected, _ = np.histogram(np.log10(roots), bins=edges)
    found = counts_between(counted(roots, mantissa_bits), edges)
    assert np.abs(found - expected).max() < 50_000 * (0.02 if mantissa_bits == 1 else 0.002)


def test_layers_of_different_bias_corrections_are_pooled_by_magnitude() -> None:
    roots = 10 ** np.random.default_rng(2).normal(-3, 0.3, 4000)
    corrected = replace(counted(roots / 2), scale=4.0)  # v̂ = 4 v
    edges = log_edges(10)
    assert pooled([corrected, None], edges) == pytest.approx(counts_between(counted(roots), edges), abs=1)
    assert pooled([counted(roots), corrected], edges).sum() == pytest.approx(8000)


@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.25, 0.5, 0.98, 1.0])
def test_quantiles_are_those_of_the_entries(fraction: float) -> None:
    """Within the width of a stored bin, which is a fifth of the magnitude."""
    roots = 10 ** np.random.default_rng(3).normal(-3, 0.7, 20_000)
    edges = log_edges(50)
    found = quantile_of(counts_between(counted(roots, 1), edges), edges, fraction)
    assert found == pytest.approx(np.quantile(roots, fraction), rel=0.22)
