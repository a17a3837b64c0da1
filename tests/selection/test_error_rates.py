"""How often answers are wrong, by simulation with known truth: the script's, small and seeded."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scipy import stats

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_statistics.py"
REPEATS = 80


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_statistics", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def at_most(share: float) -> float:
    """The rate that a share stays below in all but one of a thousand simulations."""
    return float(stats.binom.ppf(0.999, REPEATS, share)) / REPEATS


def rates(script: ModuleType, curve: str, seeds: int, *, sequential: bool = False) -> dict[str, float]:
    """How often each answer is given with a margin of two spreads."""
    case = next(case for case in script.cases([2.0], [seeds], narrow=sequential) if case.name.startswith(curve))
    found = script.Tally()
    for chunk in range(8):
        found.extend(script.simulate(case, REPEATS, sequential, chunk))
    assert len(found.default) == REPEATS
    answers = [*found.default, *([] if sequential else found.narrowing)]
    return {answer: answers.count(answer) / REPEATS for answer in ("keep", "change", "no cost", "costs")}


def test_a_flat_curve_is_mostly_decided_and_seldom_called_a_loss(script: ModuleType) -> None:
    found = rates(script, "flat, falling", 3)
    assert found["change"] <= at_most(0.05) and found["costs"] <= at_most(0.05)
    assert found["no cost"] >= 0.6 and found["keep"] >= 0.5


def test_a_lone_better_setting_is_seldom_overlooked(script: ModuleType) -> None:
    found = rates(script, "1e-10 (outside)", 5)
    assert found["keep"] <= at_most(0.05) and found["no cost"] <= at_most(0.05)
    assert found["change"] >= 0.6 and found["costs"] >= 0.6


def test_fresh_seeds_decide_nearly_always(script: ModuleType) -> None:
    found = rates(script, "1e-5", 3, sequential=True)
    assert found["keep"] <= at_most(0.05)
    assert found["keep"] + found["change"] >= 0.9
