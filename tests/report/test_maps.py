"""The numbers of the map of learning rates and ε, and of the cost ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from epsgrid.report.drawing.ledger import unit_for
from epsgrid.report.drawing.map import inside, words_of
from epsgrid.report.numbers.ledger import LedgerNumbers, ledger_numbers
from epsgrid.report.numbers.maps import MapNumbers, map_numbers

from epsgrid.report.compare import compare
from tests.report.simulate import Outcome, peaked, simulate


def the_map(tmp_path: Path, **changes: object) -> MapNumbers | None:
    stored = simulate(tmp_path, **changes)  # type: ignore[arg-type]
    return map_numbers(stored, compare(stored))


def ledger(tmp_path: Path, **changes: object) -> LedgerNumbers | None:
    return ledger_numbers(compare(simulate(tmp_path, **changes)))  # type: ignore[arg-type]


def diverging(rate: float, epsilon: float | None, seed: int) -> Outcome:
    if epsilon == 1e-8 and rate == 1e-2:
        return "diverged"
    if epsilon == 1e-7 and rate == 1e-2:
        return "diverged" if seed == 0 else "failed" if seed == 1 else (0.5, 0.4)
    return (0.9, 0.8) if (rate, epsilon) == (1e-3, 1e-3) else (0.6 + seed / 100, 0.5)


def test_a_tile_for_each_cell_with_a_result(tmp_path: Path) -> None:
    numbers = the_map(tmp_path, truth=diverging)
    assert numbers is not None
    assert numbers.rates == (1e-3, 1e-2)
    assert numbers.epsilons == pytest.approx([10.0**k for k in range(-8, 0)])
    tiles = {(cell.learning_rate, cell.epsilon): cell for cell in numbers.cells}
    assert len(tiles) == 16
    whole, gone, mixed = tiles[1e-3, 1e-8], tiles[1e-2, 1e-8], tiles[1e-2, 1e-7]
    assert whole.score is not None and whole.score.mean == pytest.approx((0.6 + 0.61 + 0.62) / 3)
    assert (gone.score, gone.diverged, gone.all_diverged) == (None, 3, True)
    assert (mixed.done, mixed.diverged, mixed.seeds, mixed.all_diverged) == (1, 1, 3, False)
    assert "narrowed" in tiles[1e-3, 1e-3].best_of and "conventional" in tiles[1e-3, 1e-3].best_of


def test_a_tile_is_told_in_words(tmp_path: Path) -> None:
    numbers = the_map(tmp_path, truth=diverging)
    assert numbers is not None
    words = {(cell.learning_rate, cell.epsilon): words_of(cell, numbers) for cell in numbers.cells}
    assert words[1e-2, 1e-8] == "lr 1e-2, ε 1e-8: 3 of 3 seeds diverged"
    assert words[1e-2, 1e-7] == "lr 1e-2, ε 1e-7: 50.00 %; 1 of 3 seeds diverged; 1 seed without a result"
    assert words[1e-3, 1e-8] == "lr 1e-3, ε 1e-8: 61.00 ± 1.00 %"


def test_the_outline_holds_the_decades_of_the_bounds(tmp_path: Path) -> None:
    numbers = the_map(tmp_path)
    assert numbers is not None and numbers.band == (1e-4, 1e-2)
    columns = inside(numbers)
    assert columns is not None
    assert numbers.epsilons[columns[0] : columns[1] + 1] == pytest.approx([1e-4, 1e-3, 1e-2])


@pytest.mark.parametrize(
    "changes",
    [
        {"rates": (1e-3,)},
        {"conventional": None, "narrowed": (1e-8,), "probe": False},
        {"reference": True, "probe": False},
        {"truth": lambda rate, epsilon, seed: "pending"},
        {"sweep": False},
    ],
)
def test_there_is_no_map_of_one_row_or_column_or_nothing(tmp_path: Path, changes: dict[str, object]) -> None:
    assert the_map(tmp_path, **changes) is None


def test_the_ledger_adds_up(tmp_path: Path) -> None:
    """10 s each: 2 rates × 8 ε × 3 seeds against a probe of 3 s and 2 × 3 × 3 trials."""
    numbers = ledger(tmp_path)
    assert numbers is not None
    conventional, narrowed = numbers.bars
    assert [(part.name, part.seconds, part.trials) for part in conventional.parts] == [("conventional grid", 480.0, 48)]
    assert [(part.name, part.seconds, part.trials) for part in narrowed.parts] == [
        ("probe", 3.0, None),
        ("narrowed grid", 180.0, 18),
    ]
    assert numbers.saved_seconds == conventional.seconds - narrowed.seconds == 297.0


def test_what_is_still_to_come_is_counted(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "pending" if epsilon == 1e-8 else "failed" if epsilon == 1e-4 else peaked()(rate, epsilon, seed)

    numbers = ledger(tmp_path, truth=truth)
    assert numbers is not None and numbers.saved_seconds is None
    assert [bar.missing for bar in numbers.bars] == [12, 6]


@pytest.mark.parametrize(
    "changes",
    [{"sweep": False}, {"narrowed": None, "probe": False}, {"truth": lambda *point: "pending", "probe": False}],
)
def test_there_is_no_ledger_with_one_cost_or_none(tmp_path: Path, changes: dict[str, object]) -> None:
    assert ledger(tmp_path, **changes) is None


def test_a_scale_has_the_unit_that_reads_best() -> None:
    assert [unit_for(seconds)[1] for seconds in (0.1, 119, 121, 7199, 7201, 172_801)] == [
        "seconds",
        "seconds",
        "minutes",
        "minutes",
        "hours",
        "days",
    ]
