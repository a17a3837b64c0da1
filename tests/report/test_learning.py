"""The numbers of the learning curves: means over seeds, epoch by epoch, of the chosen settings alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from epsgrid.errors import CorruptRecordError
from epsgrid.report.figures.learning import _LearningNumbers, learning_numbers
from epsgrid.selection.load import StoredExperiment
from epsgrid.store.records import EpochRecord, Scores, append_epoch
from tests.report.simulate import Outcome, compare, simulate

SMALL = {"rates": (1e-3,), "seeds": (0, 1, 2), "narrowed": (1e-3, 1e-2), "conventional": (1e-8, 1e-3, 1e-1)}
Course = Callable[[float, int, int], tuple[float, float]]
"""(training loss, accuracy) from ε, seed and epoch."""


def rising(epsilon: float, seed: int, epoch: int) -> tuple[float, float]:
    return 2.0 / epoch + seed, 0.5 + 0.1 * epoch - 0.01 * seed - (0.2 if epsilon < 1e-5 else 0.0)


def with_epochs(
    stored: StoredExperiment, course: Course = rising, *, split: str = "validation", epochs: int = 4
) -> StoredExperiment:
    assert stored.grid is not None
    for cell in stored.grid.cells:
        for epoch in range(1, epochs + 1):
            loss, accuracy = course(cell.epsilon or 0.0, cell.seed, epoch)
            if math.isinf(loss):
                break
            scores = {"validation": None, "test": None, split: Scores(loss, accuracy)}
            record = EpochRecord(epoch, loss, scores["validation"], scores["test"], cell.learning_rate, 1.0)
            append_epoch(stored.folder.trial(cell.id).metrics_jsonl, record)
    return stored


def numbers_of(stored: StoredExperiment) -> _LearningNumbers:
    numbers = learning_numbers(stored, compare(stored))
    assert numbers is not None
    return numbers


def best_at(best: float) -> Callable[[float, float | None, int], Outcome]:
    return lambda rate, epsilon, seed: (0.9, 0.9) if epsilon == best else (0.5, 0.5)


def test_means_and_deviations_are_numpys(tmp_path: Path) -> None:
    numbers = numbers_of(with_epochs(simulate(tmp_path, best_at(1e-3), **SMALL)))  # type: ignore[arg-type]
    tuned, default = numbers.curves
    assert (tuned.names, tuned.cell, tuned.seeds) == (("narrowed", "conventional"), "lr 1e-3, ε 1e-3", 3)
    assert (default.names, default.cell) == (("default",), "lr 1e-3, ε 1e-8")
    for curve, epsilon in ((tuned, 1e-3), (default, 1e-8)):
        for epoch, (score, loss) in enumerate(zip(curve.scores, curve.losses, strict=True), 1):
            losses, scores = np.array([rising(epsilon, seed, epoch) for seed in (0, 1, 2)]).T
            assert score is not None and loss is not None
            assert (score.mean, score.sd) == pytest.approx((scores.mean(), scores.std(ddof=1)))
            assert (loss.mean, loss.sd) == pytest.approx((losses.mean(), losses.std(ddof=1)))
        assert len(curve.scores) == 4


def test_a_seed_that_ended_early_or_is_not_finite_is_left_out_from_there(tmp_path: Path) -> None:
    def course(epsilon: float, seed: int, epoch: int) -> tuple[float, float]:
        if seed == 1 and epoch > 2:
            return math.inf, 0.0
        return (math.nan, math.nan) if seed == 2 and epoch == 4 else rising(epsilon, seed, epoch)

    curve = numbers_of(with_epochs(simulate(tmp_path, best_at(1e-3), **SMALL), course)).curves[0]  # type: ignore[arg-type]
    assert [spread.n if spread else 0 for spread in curve.scores] == [3, 3, 2, 1]
    assert curve.scores[-1] is not None and curve.scores[-1].sd is None


def test_only_the_chosen_settings_are_read(tmp_path: Path) -> None:
    stored = with_epochs(simulate(tmp_path, best_at(1e-3), **SMALL))  # type: ignore[arg-type]
    assert stored.grid is not None
    other = next(cell for cell in stored.grid.cells if cell.epsilon == 1e-1)
    chosen = next(cell for cell in stored.grid.cells if cell.epsilon == 1e-3)
    stored.folder.trial(other.id).metrics_jsonl.write_text("not a record\n")
    numbers_of(stored)
    stored.folder.trial(chosen.id).metrics_jsonl.write_text("not a record\n")
    with pytest.raises(CorruptRecordError, match=r"metrics\.jsonl:1"):
        numbers_of(stored)


def test_without_epochs_or_winners_there_is_nothing(tmp_path: Path) -> None:
    stored = simulate(tmp_path / "a", best_at(1e-3), **SMALL)  # type: ignore[arg-type]
    assert learning_numbers(stored, compare(stored)) is None
    stored = with_epochs(simulate(tmp_path / "b", lambda *point: "diverged", **SMALL))  # type: ignore[arg-type]
    assert learning_numbers(stored, compare(stored)) is None
