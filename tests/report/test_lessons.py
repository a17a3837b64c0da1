"""What several experiments teach together: tallies of rules, ratios to the median, optimizers without ε."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from epsgrid.report.across import across, across_tables
from epsgrid.report.claims import Run
from epsgrid.report.lessons import RuleTally, rule_tallies
from epsgrid.report.table import Table
from tests.report.simulate import Outcome, measured, peaked, simulate

SMALL = {"rates": (1e-4, 1e-3, 1e-2)}


def runs(root: Path, **truths: Callable[[float, float | None, int], Outcome]) -> tuple[Run, ...]:
    for name, truth in truths.items():
        simulate(root / name, truth, **SMALL)  # type: ignore[arg-type]
    return across([root / name for name in truths]).runs


def of(rule: str, tallies: tuple[RuleTally, ...]) -> RuleTally:
    return next(row for row in tallies if row.rule == rule)


def table(title: str, root: Path, *names: str) -> Table:
    return next(table for table in across_tables(across([root / name for name in names])) if table.title == title)


def test_losses_of_a_rule_are_counted_in_margins(tmp_path: Path) -> None:
    """The best ε is 1e-3 in one run and the default in the other; a decade costs three points, three margins."""
    tallies = rule_tallies(runs(tmp_path, inside=peaked(best=1e-3), outside=peaked(best=1e-8)))
    default, bounds = of("default ε", tallies), of("trusted bounds", tallies)
    assert (default.runs, default.no_cost, default.costs, default.open) == (2, 1, 1, 0)
    assert (default.worst_run, default.failed) == ("inside", ("inside",))
    assert default.worst == pytest.approx(15, abs=0.1) and default.median == pytest.approx(7.5, abs=0.1)
    assert bounds.failed == ("outside",) and bounds.worst == pytest.approx(12, abs=0.1)
    assert "narrowed grid" not in [row.rule for row in tallies]
    single, several = table("What rules of thumb lose", tmp_path, "inside", "outside").points
    assert single.startswith("Of single ε the least is lost by: ") and several.startswith("Of ranges of ε the least")
    assert "which costs nothing in 1 of 2 runs" in single


def test_windows_count_in_part_and_order_is_by_safety(tmp_path: Path) -> None:
    tallies = rule_tallies(runs(tmp_path, one=peaked(best=1e-5), two=peaked(best=1e-5)))
    windows = of("a window as wide elsewhere", tallies)
    assert windows.runs == 2 and 0 < windows.no_cost < 2
    assert windows.no_cost + windows.costs + windows.open == pytest.approx(2)
    shares = [row.no_cost / row.runs for row in tallies]
    assert shares == sorted(shares, reverse=True)


def test_what_is_not_finished_has_no_say(tmp_path: Path) -> None:
    simulate(tmp_path / "open", lambda rate, epsilon, seed: "pending" if epsilon == 1e-8 else (0.9, 0.9), **SMALL)  # type: ignore[arg-type]
    assert rule_tallies(across([tmp_path / "open"]).runs) == ()


def test_the_best_is_found_relative_to_the_median(tmp_path: Path) -> None:
    """Two probes whose magnitudes are two decades apart, and optima that are, too: the ratio is one constant."""
    v = np.geomspace(1e-6, 4e-5, 5000) ** 2
    far = [measured("0.weight", (5000,), v.astype(np.float32))]
    v = np.geomspace(1e-4, 4e-3, 5000) ** 2
    near = [measured("0.weight", (5000,), v.astype(np.float32))]
    simulate(tmp_path / "near", peaked(best=1e-3), layers=near, **SMALL)  # type: ignore[arg-type]
    simulate(tmp_path / "far", peaked(best=1e-5), layers=far, narrowed=(1e-6, 1e-5, 1e-4), **SMALL)  # type: ignore[arg-type]
    found = table("ε relative to the median gradient magnitude", tmp_path, "near", "far")
    good = {row[0]: row[2] for row in found.rows}
    assert good["1"] == "2" and all(number == "0" for ratio, number in good.items() if ratio != "1")
    where = table("Where the best ε lies", tmp_path, "near", "far")
    assert {row[0]: row[1] for row in where.rows} == {"near": "1e-3", "far": "1e-5"}
    assert len({row[3] for row in where.rows}) == 1, where.rows
    (steps,) = {row[where.columns.index("of the steps")] for row in where.rows}
    assert 1.9 < float(steps) < 1.9 + 1.6, "one entry's, and those over which the entries lie"


def test_an_optimizer_without_epsilon_is_compared_with_the_same_setting(tmp_path: Path) -> None:
    simulate(tmp_path / "tuned", peaked(best=1e-3, height=0.9), **SMALL)  # type: ignore[arg-type]
    simulate(tmp_path / "plain", peaked(height=0.87), reference=True, probe=False, optimizer="sgdm", **SMALL)  # type: ignore[arg-type]
    (row,) = table("Without ε", tmp_path, "tuned", "plain").rows
    assert row[:2] == ("plain", "1")
    assert float(row[2].replace("−", "-").split()[0]) == pytest.approx(-3, abs=0.3)
    assert row[3:6] == ("0", "1", "0")
    assert float(row[6].replace("−", "-").split()[0]) == pytest.approx(12, abs=0.3)
    assert row[7:] == ("1", "0", "0")


def test_an_optimizer_without_epsilon_at_its_highest_rate_is_not_called_worse(tmp_path: Path) -> None:
    simulate(tmp_path / "tuned", peaked(best=1e-3, height=0.9), **SMALL)  # type: ignore[arg-type]
    low, plain = (1e-5, 1e-4), {"reference": True, "probe": False, "optimizer": "sgdm"}
    simulate(tmp_path / "plain", peaked(height=0.87), rates=low, **plain)  # type: ignore[arg-type]
    (row,) = table("Without ε", tmp_path, "tuned", "plain").rows
    assert float(row[2].replace("−", "-").split()[0]) == pytest.approx(-4, abs=0.3)
    assert row[3:6] == ("0", "0", "1"), "a higher rate may be four points better"
    simulate(tmp_path / "plain", peaked(height=0.96), rates=low, **plain)  # type: ignore[arg-type]
    (row,) = table("Without ε", tmp_path, "tuned", "plain").rows
    assert row[3:6] == ("1", "0", "0"), "a higher rate would not make it less good"
