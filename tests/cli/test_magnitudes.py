"""Histograms as lines of text, against plain counting."""

import numpy as np

from epsgrid.cli.magnitudes import _LEVELS, _sparklines
from tests.report.kept import counted


def levels(line: str) -> np.ndarray:
    """The height of each character: 0 for a blank, 1 to 8 for blocks."""
    return np.array([(" " + _LEVELS).index(character) for character in line])


def test_a_line_is_the_histogram_of_the_entries() -> None:
    """Against NumPy's own histogram on the same edges; bins of the histogram are ten times finer than characters."""
    roots = 10 ** np.random.default_rng(0).normal(-3, 0.5, 20_000)
    low, high = np.floor(np.log10(np.quantile(roots, 0.001))), np.ceil(np.log10(roots.max()))
    header, (line, blank) = _sparklines([[counted(roots)], [None]], 24)
    expected, _ = np.histogram(np.log10(roots), bins=np.linspace(low, high, 25))
    drawn = levels(line)
    assert np.abs(drawn - np.ceil(8 * expected / expected.max())).max() <= 1
    assert drawn.max() == 8
    assert (drawn[expected > 20] > 0).all()
    assert header.split() == [f"1e{low:.0f}", f"1e{high:.0f}"] and len(header) == len(line) == 24
    assert blank == " " * 24


def test_histograms_share_an_axis_that_leaves_out_a_few_denormals_and_zeros() -> None:
    roots = np.full(100_000, 2e-3)
    roots[:10], roots[10:1000] = 1e-22, 0
    header, (first, second, zeros) = _sparklines(
        [[counted(roots)], [counted(np.array([0.5]))], [counted(np.zeros(5))]], 12
    )
    assert header.split() == ["1e-3", "1e0"]
    assert levels(first).tolist() == [1, 8, *[0] * 10]
    assert levels(second).tolist() == [*[0] * 10, 8, 0] and not zeros.strip()
