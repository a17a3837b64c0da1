"""Which settings get fresh seeds, when results are looked at, and at which level."""

from __future__ import annotations

import numpy as np
import pytest

from epsgrid.numerics.statistics import LEVEL
from epsgrid.selection.answers import answer
from epsgrid.selection.cells import Cell
from epsgrid.selection.deciding import MAX_FRESH_SEEDS, contenders, is_open, level_of, looks
from tests.selection.simulate import DEFAULT, FLAT, cell, evidence, noisy, sweep


def keys(cells: tuple[Cell, ...]) -> set[tuple[float, float | None]]:
    return {(own.learning_rate, own.epsilon) for own in cells}


def test_results_are_looked_at_after_none_a_quarter_half_and_all_of_the_fresh_seeds() -> None:
    assert looks(MAX_FRESH_SEEDS) == (0, 3, 6, 12)
    assert looks(20) == (0, 5, 10, 20)
    assert [looks(most) for most in (1, 2, 3)] == [(0, 1), (0, 1, 2), (0, 1, 2, 3)]


@pytest.mark.parametrize(("count", "constant"), [(2, 1.875), (3, 1.992), (4, 2.067), (5, 2.122)])
def test_the_level_of_equal_blocks_is_pococks(count: int, constant: float) -> None:
    """Jennison and Turnbull, Group Sequential Methods (2000), table 2.1, α = 0.1 on two sides."""
    from scipy.stats import norm

    assert level_of(tuple(range(1, count + 1))) == pytest.approx(norm.cdf(constant), abs=2e-4)


def test_looks_at_the_level_are_together_wrong_as_often_as_one() -> None:
    planned = (3, 6, 9, 15)
    sums = np.cumsum(np.random.default_rng(0).normal(size=(200_000, planned[-1])), axis=1)
    scores = sums[:, np.array(planned) - 1] / np.sqrt(planned)
    from scipy.stats import norm

    missed = (scores > norm.ppf(level_of(planned))).any(axis=1).mean()
    assert missed == pytest.approx(1 - LEVEL, abs=0.002)
    assert level_of((5,)) == LEVEL


def test_nothing_is_trained_where_all_is_decided() -> None:
    decided = evidence(sweep(FLAT))
    assert not is_open(answer(decided))
    assert contenders(decided) == ()


def test_contenders_are_those_that_may_be_better_and_the_best_of_the_others() -> None:
    truth = {**FLAT, 1e-10: 0.85, DEFAULT: 0.898}
    found = evidence(sweep(truth, noise=10.0), margin_asked=0.3)
    assert is_open(answer(found))
    chosen = keys(contenders(found))
    assert chosen == {(1e-2, DEFAULT), (1e-2, 1e-4)}


def test_all_that_may_be_better_by_the_margin_are_contenders_until_they_fall_out() -> None:
    cells = sweep({**FLAT, 1e-10: 0.85, DEFAULT: 0.89}, noise=20.0)
    found = evidence(cells, margin_asked=0.1)
    first = keys(contenders(found))
    assert {(1e-2, DEFAULT), (1e-2, 1e-5), (1e-2, 1e-4)} <= first
    for fresh in (3, 6):
        more = [
            cell(*key, [*_scores(cells[key]), *noisy(0.9, place, fresh, 20.0)], grids=cells[key].grids)
            for place, key in enumerate(sorted({(1e-2, DEFAULT), (1e-2, 1e-4)}))
        ]
        after = keys(contenders(evidence(cells, contenders=more, margin_asked=0.1)))
        assert after <= {(1e-2, DEFAULT), (1e-2, 1e-4)}, "those without the seeds of the last look stay out"


def _scores(own: Cell) -> list[float]:
    return [trial.test for trial in own.trials if trial.test is not None]


def test_an_end_of_the_learning_rates_that_may_matter_is_trained_with_the_best_inside() -> None:
    cells = sweep({**FLAT, 1e-5: 0.97}, rates={1e-3: -0.02, 1e-2: 0.0, 1e-1: 0.01}, noise=10.0)
    found = evidence(cells, margin_asked=0.8)
    assert "is the highest tried, so a better one may lie beyond" in answer(found).of("default").text
    assert is_open(answer(found))
    assert {(1e-2, DEFAULT), (1e-1, DEFAULT)} <= keys(contenders(found))


def test_one_seed_and_no_result_have_no_contenders() -> None:
    assert contenders(evidence(sweep(FLAT, seeds=1))) == ()
    assert contenders(evidence([cell(1e-2, epsilon, ["pending"]) for epsilon in FLAT], metric=None)) == ()
    assert contenders(evidence([cell(1e-2, epsilon, ["diverged"] * 3) for epsilon in FLAT])) == ()
