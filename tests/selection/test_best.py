"""What each way to search finds, loses and costs, against known truth and the obvious computation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from epsgrid.report.rows import Comparison
from epsgrid.report.text.render import tables
from epsgrid.selection.best import BestRow
from epsgrid.selection.cells import busy
from tests.report.simulate import compare, peaked, simulate


def row(comparison: Comparison, name: str) -> BestRow:
    found = comparison.best_of(name)
    assert found is not None
    return found


def told(comparison: Comparison, title: str) -> dict[str, tuple[str, ...]]:
    """A table's rows by their first column."""
    table = next(table for table in tables(comparison) if table.title == title)
    return {row[0]: row[1:] for row in table.rows}


def test_the_interval_is_of_the_mean_on_test(tmp_path: Path) -> None:
    found = row(compare(simulate(tmp_path)), "narrowed")
    assert found.choice.cell is not None and found.interval is not None
    scores = list(found.choice.cell.test_by_seed().values())
    expected = stats.ttest_1samp(scores, 0.0).confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    comparison = compare(simulate(tmp_path, seeds=(0,)))
    assert told(comparison, "Best setting of each grid")["narrowed"][-2:] == ("–", "1")


def test_each_search_is_charged_for_what_it_needs_alone(tmp_path: Path) -> None:
    comparison = compare(simulate(tmp_path))
    costs = {found.name: found.cost for found in comparison.best}
    spent = {name: (cost.trials, cost.device_seconds, cost.probe_seconds) for name, cost in costs.items()}
    assert spent == {
        "narrowed": (18, 180.0, 3.0),
        "conventional": (48, 480.0, 0.0),
        "default": (6, 60.0, 0.0),
    }
    saved = {name: (cost.saved_trials, cost.saved_seconds) for name, cost in costs.items()}
    assert saved["narrowed"] == (30, pytest.approx(297.0))
    assert saved["conventional"] == (0, 0.0)
    assert saved["default"] == (42, 420.0)


@pytest.mark.parametrize(
    ("changes", "trials", "seconds"),
    [
        ({"conventional": (1e-4, 1e-3)}, -6, -63.0),  # a saving may be negative
        ({"truth": lambda r, e, s: "pending" if e == 1e-8 else peaked()(r, e, s)}, 30, None),
        ({"truth": lambda r, e, s: "failed" if e == 1e-2 else (0.5, 0.5), "conventional": (1e-8, 1e-3)}, -6, None),
        ({"conventional": None}, None, None),
        ({"probe": False}, 30, None),
    ],
)
def test_what_the_narrowed_grid_saves(
    tmp_path: Path, changes: dict[str, Any], trials: int | None, seconds: float | None
) -> None:
    cost = row(compare(simulate(tmp_path, **changes)), "narrowed").cost
    assert (cost.saved_trials, cost.saved_seconds) == (trials, seconds)


def test_wall_time_is_while_any_trial_was_running(tmp_path: Path) -> None:
    """In the simulation trials take 10 s, and those of a seed start together, 10 s after those of the one before."""
    cost = row(compare(simulate(tmp_path, seeds=(0, 1, 2))), "conventional").cost
    assert (cost.device_seconds, cost.wall_seconds) == (480.0, 30.0)


def test_busy_time_equals_counting_seconds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        runs = [(float(start), float(length)) for start, length in rng.integers(0, 30, (6, 2))]
        seconds = {second for start, length in runs for second in range(int(start), int(start + length))}
        assert busy(runs) == len(seconds)
    assert busy([]) == 0.0
    assert busy([(0.0, 5.0), (None, 1.0)]) is None


def test_the_reference_is_charged_alone(tmp_path: Path) -> None:
    comparison = compare(simulate(tmp_path, reference=True, probe=False, optimizer="sgdm"))
    assert told(comparison, "Cost")["reference"][1:5] == ("6", "0", "0", "1 min 00 s")
