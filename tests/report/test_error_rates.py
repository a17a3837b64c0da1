"""How often intervals and verdicts are wrong, by simulation with known truth: the script's, small and seeded."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from scipy import stats

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_statistics.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_statistics", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def at_most(share: float, repeats: int) -> float:
    """The rate that a share stays below in all but one of a thousand simulations."""
    return float(stats.binom.ppf(0.999, repeats, share)) / repeats


@pytest.mark.parametrize("seeds", [3, 5])
def test_reported_intervals_of_normal_scores_cover_as_they_promise(script: ModuleType, seeds: int) -> None:
    missed = 1 - script.coverage("normal", seeds, 1000)
    assert 1 - at_most(0.95, 1000) <= missed <= at_most(0.05, 1000)


def test_a_flat_curve_seldom_gets_an_answer(script: ModuleType) -> None:
    """Nominally 5 % of the flat curves would get one; that cells are chosen first changes it little."""
    found = script.verdicts(None, 0.0, 3, 150)
    assert found["yes"] + found["no"] <= at_most(0.05, 150)


@pytest.mark.parametrize(("best", "right", "wrong"), [(-3, "yes", "no"), (-8, "no", "yes")])
def test_a_clear_truth_is_found_and_never_reversed(script: ModuleType, best: int, right: str, wrong: str) -> None:
    found = script.verdicts(best, 2.0, 5, 60)
    assert found[right] >= 0.9
    assert found[wrong] == 0


def test_a_small_advantage_needs_more_seeds(script: ModuleType) -> None:
    few, more = (script.verdicts(-8, 1.0, seeds, 80)["no"] for seeds in (2, 5))
    assert few < 0.5 < more
