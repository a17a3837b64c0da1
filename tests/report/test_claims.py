"""Each answer to each claim, from experiments of known truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epsgrid.numerics.placement import Placement
from epsgrid.report.claims import _STATEMENTS, Run, claims
from epsgrid.report.compare import whole
from epsgrid.report.rows import ClaimRow, MovedRow
from epsgrid.report.text.render import claims_table, tally_table
from epsgrid.report.trust import ReliabilityRow
from tests.report.simulate import Outcome, Truth, measured, peaked, simulate

DECADES = tuple(float(f"1e{k}") for k in range(-10, 2))
PERPLEXITY = ("perplexity", "min", "")


def run(root: Path, truth: Truth | None = None, name: str | None = None, **changes: object) -> Run:
    """A simulated experiment; its layers lie around 1e-3, between 1e-4 and 1e-2."""
    settings = {"rates": (1e-4, 1e-3, 1e-2), "conventional": DECADES, **changes}
    stored = simulate(root, truth, **settings)  # type: ignore[arg-type]
    return replace(whole(stored)[1], name=name or "simulated")


def found(name: str, *runs: Run) -> ClaimRow:
    (row,) = (row for row in claims(runs) if row.claim == name)
    return row


def curve(score: Callable[[float], float], noise: float = 0.001) -> Truth:
    """The same score on both splits, a function of log10 ε, with noise of seed and ε; worse but at lr 1e-3."""

    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        decade = np.log10(epsilon or 1.0)
        value = score(decade) + noise * np.random.default_rng([seed, round(50 + decade)]).standard_normal()
        worse = 1.0 if rate == 1e-3 else 0.5 if value < 1 else 2.0
        return value * worse, value * worse

    return truth


def test_the_range_follows_the_answer_about_narrowing(tmp_path: Path) -> None:
    assert found("range", run(tmp_path / "a")).answer == "reproduced"
    low = run(tmp_path / "low")
    trust = ReliabilityRow("low", ("few steps",), (), None, None, {}, False)
    row = found("range", replace(low, comparison=replace(low.comparison, reliability=trust)))
    assert (row.answer, "the confidence in the bounds is low" in row.numbers) == ("undecided", True)
    edge = found("range", run(tmp_path / "edge", rates=(1e-3, 1e-2)))
    assert (edge.answer, "lowest tried" in edge.numbers) == ("undecided", True)
    assert found("range", run(tmp_path / "b", peaked(best=1e-8))).answer == "not reproduced"
    row = found("range", run(tmp_path / "c", seeds=(0,)))
    assert (row.answer, "one seed cannot tell" in row.numbers) == ("undecided", True)


def test_twice_as_narrow_is_counted_in_decades(tmp_path: Path) -> None:
    row = found("narrower", run(tmp_path / "a"))
    assert row.answer == "reproduced" and row.numbers.startswith("12 decades against 3: 4 times narrower")
    assert found("narrower", run(tmp_path / "b", conventional=DECADES[:5])).answer == "not reproduced"
    assert found("narrower", run(tmp_path / "c", conventional=None)).answer == "undecided"


def flat_top(decade: float) -> float:
    """As good as it gets from ε = 1 on, where no entry adapts; worse below."""
    return 0.9 if decade >= 0 else 0.9 + 0.03 * decade


def reference(root: Path, score: float, **changes: object) -> Run:
    return run(root, curve(lambda _: score), "sgdm", reference=True, probe=False, optimizer="sgdm", **changes)


@pytest.mark.parametrize(("sgdm", "answer"), [(0.9, "reproduced"), (0.8, "not reproduced")])
def test_like_sgd_needs_few_adapting_entries_and_an_equal_metric(tmp_path: Path, sgdm: float, answer: str) -> None:
    tuned = run(tmp_path / "a", curve(flat_top))
    row = found("sgd", tuned, reference(tmp_path / "b", sgdm))
    assert (row.answer, row.run) == (answer, "simulated")
    assert row.numbers.startswith("0 % of the entries adapt, by the probe, at the best setting, lr 1e-3, ε")
    assert "margin ±1.00 points" in row.numbers


def test_like_sgd_compares_all_seeds(tmp_path: Path) -> None:
    """Two seeds that differ by as much as the margin tell nothing, and the fresh ones of the contenders do."""
    noise = {0: 0.02, 1: -0.02}

    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        value = curve(flat_top)(rate, epsilon, seed)
        return (value[0], value[1] + noise.get(seed, 0.0)) if isinstance(value, tuple) else value

    tuned = run(tmp_path / "a", truth, seeds=(0, 1))
    other = reference(tmp_path / "b", 0.9, seeds=tuple(range(12)))
    assert found("sgd", tuned, other).answer == "undecided"
    contenders = run(tmp_path / "c", truth, seeds=tuple(range(12))).evidence.cells
    more = replace(tuned, evidence=replace(tuned.evidence, contenders=contenders))
    assert found("sgd", more, other).answer == "reproduced"


def test_like_sgd_is_undecided_without_a_reference_of_the_same_setting(tmp_path: Path) -> None:
    tuned = run(tmp_path / "a", curve(flat_top))
    assert "no run of sgdm on the same task" in found("sgd", tuned).numbers
    other = replace(reference(tmp_path / "b", 0.9), setting="of another model")
    assert found("sgd", tuned, other).answer == "undecided"


def test_like_sgd_is_not_judged_by_another_optimizer_without_epsilon(tmp_path: Path) -> None:
    tuned, same = run(tmp_path / "a", curve(flat_top)), curve(lambda _: 0.9)
    other = run(tmp_path / "b", same, "atan2", reference=True, probe=False, optimizer="adam_atan2")
    assert "no run of sgdm on the same task" in found("sgd", tuned, other).numbers
    row = found("sgd", tuned, other, reference(tmp_path / "c", 0.8))
    assert row.answer == "not reproduced" and "sgdm (sgdm)" in row.numbers, row.numbers


def test_like_sgd_is_refuted_where_adapting_entries_win(tmp_path: Path) -> None:
    row = found("sgd", run(tmp_path / "a"))
    assert row.answer == "not reproduced" and "ε at which hardly any entry adapts lose" in row.numbers
    equal = found("sgd", run(tmp_path / "b", curve(lambda decade: 0.9 - 0.0001 * abs(decade + 3), noise=0.01)))
    assert (equal.answer, "may be as good" in equal.numbers) == ("undecided", True)
    close = found("sgd", run(tmp_path / "c", curve(lambda decade: 0.9 - 0.0001 * abs(decade + 3), noise=0.001)))
    assert (close.answer, "as good within the margin" in close.numbers) == ("reproduced", True)


@pytest.mark.parametrize(("best", "answer"), [(-8, "reproduced"), (-1, "not reproduced")])
def test_full_adaptability_compares_small_epsilon_with_the_rest(tmp_path: Path, best: int, answer: str) -> None:
    truth = curve(lambda decade: 80 + 5 * abs(decade - best), noise=0.1)
    row = found("adaptable", run(tmp_path / "peak", truth, metric=PERPLEXITY))
    assert row.answer == answer
    assert "ε at which less than 95 % of the non-zero entries adapt lose" in row.numbers
    plateau = run(tmp_path / "plateau", curve(lambda _: 80, noise=1.0), metric=PERPLEXITY)
    assert found("adaptable", plateau).answer == "undecided"


def test_full_adaptability_is_of_the_entries_that_are_not_zero(tmp_path: Path) -> None:
    """As in an embedding: of a word that was never read, no ε makes anything adapt."""
    v = np.concatenate([np.zeros(900), np.geomspace(1e-4, 1e-2, 100) ** 2]).astype(np.float32)
    truth = curve(lambda decade: 80 + 5 * abs(decade + 8), noise=0.1)
    row = found("adaptable", run(tmp_path, truth, metric=PERPLEXITY, layers=[measured("embedding", (1000,), v)]))
    assert row.answer == "reproduced"


def test_claims_about_a_kind_of_task_are_not_asked_of_another(tmp_path: Path) -> None:
    names = [row.claim for row in claims([run(tmp_path / "a"), run(tmp_path / "b", metric=PERPLEXITY)])]
    assert (names.count("sgd"), names.count("adaptable"), names.count("range")) == (1, 1, 2)


@pytest.mark.parametrize(("moved", "answer"), [(0.6, "reproduced"), (2.5, "not reproduced")])
def test_epoch_1_is_representative_while_bounds_move_little(tmp_path: Path, moved: float, answer: str) -> None:
    before = run(tmp_path)
    worst = MovedRow(moved, "lr 1e-3, ε 1e-3, seed 0", 9.0, 5)
    row = found("epoch-1", replace(before, comparison=replace(before.comparison, most_moved=worst)))
    assert row.answer == answer and f"moved {moved} decades" in row.numbers
    assert "over 9 epochs" in row.numbers and "the worst of 5 trainings" in row.numbers
    assert found("epoch-1", before).answer == "undecided"


def step(width: float) -> Callable[[float], float]:
    """A step at ε = 10^-2.5 from 0.9 to 0.1, from 10 to 90 % over so many decades."""
    return lambda decade: 0.1 + 0.8 / (1 + np.exp((decade + 2.5) * 2 * np.log(9) / width))


@pytest.mark.parametrize(("width", "answer"), [(1.0, "reproduced"), (4.0, "not reproduced")])
def test_abrupt_is_a_narrow_step(tmp_path: Path, width: float, answer: str) -> None:
    row = found("abrupt", run(tmp_path, curve(step(width))))
    assert row.answer == answer
    fitted = float(row.numbers.split("within ")[1].split()[0])
    assert fitted == pytest.approx(width, rel=0.1 if width > 1 else 0.6)  # sharper than the ε lie apart


def test_a_step_of_an_epsilon_inside_the_root_is_half_as_wide(tmp_path: Path) -> None:
    row = found("abrupt", run(tmp_path, curve(step(3.0)), placement=Placement.inside()))
    fitted = float(row.numbers.split("within ")[1].split()[0])
    assert (row.answer, fitted) == ("reproduced", pytest.approx(1.5, abs=0.1))


def test_abrupt_looks_at_the_larger_side_of_a_peak(tmp_path: Path) -> None:
    def peak(decade: float) -> float:
        return step(0.8)(decade) - 0.05 * max(-4 - decade, 0.0) ** 0.5

    row = found("abrupt", run(tmp_path, curve(peak)))
    assert row.numbers.startswith(("above the best ε", "whole curve"))
    assert row.answer == "reproduced"


def test_abrupt_is_undecided_where_no_step_can_be_seen(tmp_path: Path) -> None:
    assert "the curve is flat" in found("abrupt", run(tmp_path / "a", curve(lambda _: 0.9, noise=0.02))).numbers
    few = found("abrupt", run(tmp_path / "b", narrowed=None, conventional=DECADES[:5]))
    assert (few.answer, "too few to fit a step" in few.numbers) == ("undecided", True)
    waves = found("abrupt", run(tmp_path / "c", curve(lambda decade: 0.5 + 0.3 * np.sin(3 * decade))))
    assert (waves.answer, "no single step describes the curve" in waves.numbers) == ("undecided", True)


def test_nothing_is_concluded_from_learning_rates_of_which_none_trains(tmp_path: Path) -> None:
    """At a large ε the model stays at chance, and a lower or a higher learning rate may train it."""

    def dead(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return (0.1, 0.1) if epsilon is not None and epsilon > 2e-3 else curve(lambda _: 0.9)(rate, epsilon, seed)

    tuned = run(tmp_path / "a", dead)
    beyond = "no learning rate tried at ε 1e-2 makes a difference"
    abrupt, alike = found("abrupt", tuned), found("sgd", tuned)
    assert abrupt.answer == alike.answer == "undecided"
    assert beyond in abrupt.numbers and "but no learning rate tried at ε" in alike.numbers
    assert found("sgd", tuned, reference(tmp_path / "b", 0.9)).answer == "reproduced"
    assert found("sgd", tuned, reference(tmp_path / "c", 0.8)).answer == "not reproduced"


def test_nothing_is_concluded_where_every_learning_rate_diverges_on_some_seed(tmp_path: Path) -> None:
    def falls(rate: float, epsilon: float | None, seed: int) -> Outcome:
        if epsilon is not None and epsilon > 2e-3:
            return "diverged" if seed == 0 else (0.1, 0.1)
        return curve(lambda _: 0.9)(rate, epsilon, seed)

    row = found("abrupt", run(tmp_path, falls))
    assert (row.answer, "every learning rate tried at ε 1e-2 diverged" in row.numbers) == ("undecided", True)


def test_nothing_is_concluded_at_an_end_of_the_learning_rates(tmp_path: Path) -> None:
    tuned = run(tmp_path / "a", curve(flat_top))
    edge = reference(tmp_path / "b", 0.8, rates=(1e-3, 1e-2))
    row = found("sgd", tuned, edge)
    assert (row.answer, "of the optimizer (1e-3) is the lowest tried" in row.numbers) == ("undecided", True)
    row = found("abrupt", run(tmp_path / "c", curve(step(1.0)), rates=(1e-3, 1e-2)))
    assert (row.answer, "is the lowest tried" in row.numbers) == ("undecided", True)
    truth = curve(lambda decade: 80 + 5 * abs(decade + 8), noise=0.1)
    row = found("adaptable", run(tmp_path / "d", truth, metric=PERPLEXITY, rates=(1e-3, 1e-2)))
    assert (row.answer, "is the lowest tried" in row.numbers) == ("undecided", True)


def on_task(found: Run, task: str) -> Run:
    return replace(found, comparison=replace(found.comparison, task=task))


@pytest.mark.parametrize(("best", "answer"), [(1e-8, "reproduced"), (1e-3, "not reproduced"), (1e-5, "undecided")])
def test_the_optimum_varies_where_even_rivals_lie_apart(tmp_path: Path, best: float, answer: str) -> None:
    one = on_task(run(tmp_path / "a", peaked(best=1e-3, noise=0.001)), "images")
    noise = 0.03 if answer == "undecided" else 0.001
    other = on_task(run(tmp_path / "b", curve(lambda d: 0.9 - 0.03 * abs(d - np.log10(best)), noise)), "text")
    row = found("varies", one, other)
    assert row.answer == answer
    assert "images (adam): ε 1e-3" in row.numbers


def test_the_optimum_of_one_task_alone_varies_from_nothing(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a"), run(tmp_path / "b", peaked(best=1e-8))
    assert "needs two tasks" in found("varies", one, other).numbers
    assert "varies" not in [row.claim for row in claims([one])]


def test_the_tables_count_and_list(tmp_path: Path) -> None:
    rows = claims([run(tmp_path / "a", name="first"), run(tmp_path / "b", peaked(best=1e-8), name="second")])
    listed, counted = claims_table(rows), tally_table(rows)
    assert listed is not None and counted is not None
    assert listed.rows[0][:3] == (_STATEMENTS["range"], "reproduced", "first")
    assert counted.rows[0] == (_STATEMENTS["range"], "1", "1", "0")
    alone = claims_table(rows[:1])
    assert alone is not None and alone.columns == ("claim", "found", "numbers")
    assert claims_table(()) is None and tally_table(()) is None
