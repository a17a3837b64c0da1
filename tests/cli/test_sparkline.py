"""Sparklines against plain counting, and their common axis."""

from __future__ import annotations

import numpy as np
import pytest

from epsgrid.cli.sparkline import _LEVELS, _TICK, Axis, shares
from tests.report.kept import counted


def levels(line: str) -> np.ndarray:
    """The height of each character: 0 for a blank, 1 to 8 for blocks."""
    return np.array([(" " + _LEVELS).index(character) for character in line])


def test_a_line_is_the_histogram_of_the_entries() -> None:
    """Against NumPy's own histogram on the same edges; bins of the histogram are ten times finer than characters."""
    roots = 10 ** np.random.default_rng(0).normal(-3, 0.5, 20_000)
    axis = Axis(-6, 0, 24)
    expected, _ = np.histogram(np.log10(roots), bins=np.linspace(-6, 0, 25))
    drawn = levels(axis.line(counted(roots)))
    assert np.abs(drawn - np.ceil(8 * expected / expected.max())).max() <= 1
    assert drawn.max() == 8
    assert (drawn[expected > 20] > 0).all()


def test_several_histograms_are_drawn_together_zeros_are_blank_and_what_lies_beyond_stands_at_the_ends() -> None:
    low, high = (10 ** np.random.default_rng(0).normal(mean, 0.2, 1000) for mean in (-4, -2))
    axis = Axis(-6, 0, 24)
    assert axis.line(counted(low), counted(high), None) == axis.line(counted(np.concatenate([low, high])))
    axis = Axis(-6, 0, 12)
    assert axis.line(counted(np.zeros(5))) == axis.line(None) == axis.line() == " " * 12
    drawn = levels(axis.line(counted(np.array([1e-9, 1e-9, 1e3]))))
    assert drawn.tolist() == [8, *[0] * 10, 4]


def test_the_axis_holds_all_entries_and_magnitudes_in_whole_decades_but_a_few_denormals() -> None:
    axis = Axis.of([counted(np.array([3e-5, 2e-4])), None], 20, magnitudes=[0.5])
    assert (axis.first, axis.last) == (-5, 0)
    roots = np.full(100_000, 1e-3)
    roots[:10] = 1e-22
    assert Axis.of([counted(roots)], 20).first >= -4
    assert len(Axis.of([], 20).header()) == 20


@pytest.mark.parametrize("width", [8, 16, 24, 40, 56])
@pytest.mark.parametrize(("first", "last"), [(-3, -2), (-7, 0), (-24, 21), (-1, 2)])
def test_marks_begin_where_their_decade_does(width: int, first: int, last: int) -> None:
    header = Axis(first, last, width).header()
    assert len(header) == width
    for place in [place for place, character in enumerate(header) if character == _TICK]:
        decade = int(header[place:].split("1e")[1].split()[0].split(_TICK)[0])
        assert place == int((decade - first) / (last - first) * width + 1e-9)
    marks = header.replace(_TICK, " ").split()
    assert all(mark.startswith("1e") and first <= int(mark[2:]) < last for mark in marks)
    assert marks or width < 10


def test_a_span_reaches_from_one_magnitude_to_the_other() -> None:
    assert Axis(-4, 0, 8).span(1e-3, 0.5) == "  ├────┤"
    assert Axis(-4, 0, 8).span(1e-3, 1.1e-3) == "  │     "
    assert Axis(-4, 0, 8).span(1e-9, 1e9) == "├──────┤"


def test_shares_keep_first_and_last() -> None:
    falling = [1 - place / 99 for place in range(100)]
    line = shares(falling, 10)
    assert len(line) == 10
    assert (line[0], line[-1]) == (_LEVELS[-1], _LEVELS[0])
    assert levels(line).tolist() == sorted(levels(line), reverse=True)
    assert shares([0.2, 0.9], 1) == shares([0.9], 1)
