"""The card on top: the answer and the facts that a reader acts on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.report.compare import compare
from epsgrid.report.html.experiment_page import answer_sentence, summary
from epsgrid.report.rows import Comparison
from epsgrid.report.trust import ReliabilityRow
from tests.report.simulate import Outcome, peaked, simulate

SMALL = {"rates": (1e-3, 1e-2), "seeds": (0, 1)}


def compared(tmp_path: Path, **changes: object) -> Comparison:
    return compare(simulate(tmp_path, **{**SMALL, **changes}))  # type: ignore[arg-type]


def exact(rate: float, epsilon: float | None, seed: int) -> Outcome:
    score = 0.9 - 0.03 * abs(-3 - round(math.log10(epsilon or 1))) - (0.1 if rate > 1e-3 else 0.0)
    return score, score - 0.01 * seed


def test_a_finished_experiment_says_all(tmp_path: Path) -> None:
    comparison = compared(tmp_path, truth=exact)
    assert answer_sentence(comparison) == "The best ε lies inside the measured bounds."
    for verdict, end in (("high", "high"), ("medium", "medium: seeds differ"), ("low", "low: seeds differ")):
        trust = ReliabilityRow(verdict, ("seeds differ", "few steps"), (), None, None, (), False)
        sure = dict(summary(replace(comparison, reliability=trust)))["How sure"]
        assert sure.endswith(f"; the confidence in the bounds is {end}")
    assert tuple(summary(comparison)) == (
        ("Which ε range", "1e-4 to 1e-2, 3 decades; the conventional grid has 8"),
        ("What to use now", "lr 1e-3, ε 1e-3: accuracy 89.50 ± 0.71 % on test"),
        ("How sure", "best inside − best outside: +1.51 to +10.49 points on test (95 %, 2 seeds)"),
        ("Against the default ε", "+15.00 points on test (95 %: +10.51 to +19.49 points)"),
        (
            "What it cost",
            "probe 3.0 s + narrowed grid 2 min 00 s, 12 trials; saved 3 min 17 s (20 trials) against the conventional "
            "search",
        ),
    )


@pytest.mark.parametrize(
    ("changes", "question", "says"),
    [
        ({"sweep": False}, "What to use now", "Sweep ε 1e-4 to 1e-2 with `epsgrid sweep`"),
        ({"sweep": False, "probe": False}, "What to use now", "Run `epsgrid probe` to measure the range of ε"),
        ({"truth": lambda *p: "pending"}, "What to use now", "the range to search is ε 1e-4 to 1e-2"),
        ({"truth": lambda *p: "diverged"}, "How sure", "every trial diverged"),
        ({"seeds": (0,)}, "How sure", "one seed has no spread"),
        ({"seeds": (0,)}, "Against the default ε", "on test, one seed"),
        ({"truth": peaked(best=1e-8)}, "What to use now", "ε 1e-8"),
        ({"conventional": (1e-3,)}, "What it cost", "lost 1 min 23 s (8 trials)"),
        ({"narrowed": None}, "What it cost", "conventional grid"),
        (
            {"truth": lambda r, e, s: "pending" if e == 1e-3 else (0.5, 0.5)},
            "What it cost",
            "1 min 20 s so far, 12 trials",
        ),
        ({"reference": True, "probe": False, "optimizer": "sgdm"}, "How sure", "sgdm has no ε"),
        ({"reference": True, "probe": False, "optimizer": "sgdm"}, "What to use now", "lr 1e-3"),
    ],
)
def test_whatever_is_stored_the_facts_are_plain(
    tmp_path: Path, changes: dict[str, object], question: str, says: str
) -> None:
    facts = dict(summary(compared(tmp_path, **changes)))
    assert says in facts[question]
    assert "None" not in "".join(facts.values())


def test_the_best_setting_is_that_of_all_grids_and_a_diverged_seed_counts_against_it(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        if epsilon == 1e-1:
            return (0.99, 0.99) if seed else "diverged"
        return (0.8, 0.8) if epsilon == 1e-8 else (0.7, 0.7)

    facts = dict(summary(compared(tmp_path, truth=truth)))
    assert facts["What to use now"].startswith("lr 1e-3, ε 1e-8: accuracy 80.00")
