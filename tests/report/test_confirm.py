"""What is told of winners on fresh seeds, against known truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from epsgrid.report.compare import compare
from epsgrid.report.rows import Comparison, Confirmation
from epsgrid.report.text.searches import confirmed_tables
from epsgrid.selection.load import load_experiment
from epsgrid.spec.trial import Trial
from epsgrid.store.records import ConfirmRecord
from tests.report.simulate import Outcome, Truth, peaked, result, simulate, trial_id

ACCURACY = ("accuracy", "max", "%")
WINNERS = {1e-3: ("narrowed", "conventional"), 1e-8: ("default",)}


def confirm(
    root: Path,
    truth: Truth,
    seeds: Sequence[int] = (10000, 10001, 10002),
    winners: dict[float, tuple[str, ...]] | None = None,
    **changes: object,
) -> Comparison:
    """Simulate a sweep, then winners on fresh seeds whose outcomes come from the same truth."""
    stored = simulate(root, truth, rates=(1e-3,), **changes)  # type: ignore[arg-type]
    cells = tuple(
        Trial(trial_id(1e-3, epsilon, seed), 1e-3, epsilon, seed, names)
        for epsilon, names in (winners or WINNERS).items()
        for seed in seeds
    )
    chosen = {name: 8 for names in (winners or WINNERS).values() for name in names}
    record = ConfirmRecord("adam", tuple(seeds), cells, "validation", (0, 1, 2), chosen, "00")
    record.write(stored.folder.confirm_json)
    for cell in cells:
        outcome = truth(1e-3, cell.epsilon, cell.seed)
        if not isinstance(outcome, str) or outcome == "diverged":
            result(cell, outcome, metric=ACCURACY).write(stored.folder.trial(cell.id).result_json)
    return compare(load_experiment(stored.folder))


def found(comparison: Comparison) -> Confirmation:
    assert comparison.confirmed is not None
    return comparison.confirmed


def lucky(rate: float, epsilon: float | None, seed: int) -> Outcome:
    """Every ε is as good as any other; the seeds that choose favour 1e-3 by ten points, on both splits."""
    noise = 0.001 * np.random.default_rng([seed, round(-100 * np.log10(epsilon or 1))]).standard_normal()
    score = 0.8 + noise + (0.1 if epsilon == 1e-3 and seed < 10 else 0.0)
    return score, score


def test_a_lucky_cell_loses_its_lead(tmp_path: Path) -> None:
    comparison = confirm(tmp_path, lucky)
    assert comparison.verdict.answer == "yes"
    assert comparison.gain_over_default.low is not None and comparison.gain_over_default.low > 0.09
    gap = found(comparison).gain_over_default
    assert gap.low is not None and gap.high is not None and gap.low < 0 < gap.high
    winner = found(comparison).rows[0]
    assert winner.when_chosen is not None and winner.cell.test is not None
    assert (winner.when_chosen.mean, winner.cell.test.mean) == pytest.approx((0.9, 0.8), abs=0.002)


def test_a_true_winner_keeps_its_lead(tmp_path: Path) -> None:
    comparison = confirm(tmp_path, peaked())
    narrowed, default = (row.cell.test_by_seed() for row in (found(comparison).rows[0], found(comparison).rows[-1]))
    assert list(narrowed) == [10000, 10001, 10002]
    expected = stats.ttest_rel(list(narrowed.values()), list(default.values())).confidence_interval(0.95)
    gap = found(comparison).gain_over_default
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high))
    assert found(comparison).regret.same_cell


def test_the_tables_say_what_was_confirmed(tmp_path: Path) -> None:
    settings, differences = confirmed_tables(confirm(tmp_path, lucky))
    assert settings.title == "Confirmed on 3 fresh seeds"
    assert settings.rows[0][:6] == ("narrowed", "1e-3", "1e-3", "8 cells", "89.99 ± 0.05 %", "79.95 ± 0.10 %")
    assert [row[0] for row in settings.rows] == ["narrowed", "conventional", "default ε"]
    assert differences.rows[1][-1] == "no clear difference"


def test_what_is_missing_or_diverged_is_told(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        if seed >= 10000 and epsilon == 1e-8:
            return "diverged" if seed == 10000 else "pending"
        return peaked()(rate, epsilon, seed)

    confirmation = found(confirm(tmp_path, truth))
    assert confirmation.notes == (
        "2 of 6 trials on fresh seeds have no result; `epsgrid sweep --confirm 3` trains them",
    )
    assert confirmation.gain_over_default.unknown is not None
    assert "diverged on 1 of 3 seeds" in confirmation.gain_over_default.unknown


def test_before_any_has_finished_nothing_is_claimed(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "pending" if seed >= 10000 else peaked()(rate, epsilon, seed)

    confirmation = found(confirm(tmp_path, truth))
    assert confirmation.gain_over_default.unknown == "narrowed: no trial on a fresh seed has finished"
    assert all(row.interval is None for row in confirmation.rows)


def test_seeds_that_a_grid_used_since_are_left_out(tmp_path: Path) -> None:
    comparison = confirm(tmp_path, peaked(), seeds=(2, 10000, 10001))
    assert found(comparison).seeds == (10000, 10001)
    assert found(comparison).notes[0] == "left out, for a grid has used them since and they are not fresh: seeds 2"
    assert all(row.cell.tally.trials == 2 for row in found(comparison).rows)


def test_another_winner_since_is_told(tmp_path: Path) -> None:
    comparison = confirm(tmp_path, peaked(), winners={1e-2: ("narrowed",), 1e-8: ("default",)})
    assert [row.is_current for row in found(comparison).rows] == [False, True]
    assert "the best of narrowed is another setting now than the one confirmed here" in found(comparison).notes[0]
    assert found(comparison).regret.unknown == "the best of conventional was not trained on fresh seeds"


def test_without_a_record_there_is_nothing(tmp_path: Path) -> None:
    comparison = compare(simulate(tmp_path))
    assert comparison.confirmed is None and confirmed_tables(comparison) == ()
