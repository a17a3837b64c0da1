"""Every answer, what it says, and what does not change it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsgrid.errors import SpecError
from epsgrid.numerics.bounds import estimate_bounds
from epsgrid.numerics.placement import Placement
from epsgrid.selection.answers import Answer, Answers, answer
from epsgrid.selection.cells import Cell
from epsgrid.selection.evidence import Evidence
from epsgrid.selection.extending import rates_beyond
from epsgrid.selection.formatting import Metric
from epsgrid.selection.trained import margin_of
from epsgrid.store.records import AddedRate
from tests.report.simulate import measured
from tests.selection.simulate import (
    ACCURACY,
    BOTH,
    DEFAULT,
    FLAT,
    INSIDE,
    OUTSIDE,
    Score,
    cell,
    evidence,
    noisy,
    sweep,
)

PERPLEXITY = Metric("perplexity", "min", "")
DIVERGED: list[Score] = ["diverged"] * 4


def says(found: Answer, words: str, answered: str) -> None:
    assert found.answer == answered, found.text
    assert re.search(words, found.text), found.text


def changed(change: Callable[[Cell], list[Score] | None], truth: dict[float, float] = FLAT) -> Evidence:
    """A sweep in which some settings have other scores."""
    cells = sweep(truth)
    return evidence(
        [
            own if (scores := change(own)) is None else cell(own.learning_rate, own.epsilon or 0.0, scores)
            for own in cells.values()
        ]
    )


def test_a_flat_curve_keeps_the_default_and_narrowing_costs_nothing() -> None:
    found = answer(evidence(sweep(FLAT)))
    says(
        found.of("default"),
        r"^Keep ε = 1e-8: at its best, lr 1e-2, ε 1e-8, it loses (at most 0\.\d+ points|nothing)",
        "keep",
    )
    says(found.of("default"), r"against lr 1e-2, ε 1e-\S+ \(margin 1\.00 points, 4 seeds\)", "keep")
    says(found.of("narrowing"), "^Narrowing cost nothing that matters: at its best, lr 1e-2, ε 1e-[45]", "no cost")
    says(found.of("equivalent"), r"^As good as the best within 1\.00 points: ε 1e-10 to 1e-4\.$", "decided")
    assert (found.margin, found.seeds) == (0.01, 4)
    assert found.sd == pytest.approx(0.0007, abs=0.0003)
    assert [row.standing for row in found.epsilons] == ["as good"] * 4
    assert not any(each.more_seeds for each in found.answers)


def test_a_better_setting_inside_changes_the_default() -> None:
    found = answer(evidence(sweep({**FLAT, 1e-5: 0.93})))
    words = r"^Change ε = 1e-8: at its best, lr 1e-2, ε 1e-8, it loses 2\.88 points \(2\.80 to 2\.96 points\) against"
    says(found.of("default"), words + " lr 1e-2, ε 1e-5", "change")
    says(found.of("narrowing"), "it loses nothing against", "no cost")
    says(
        found.of("equivalent"), r"^As good as the best .*: ε 1e-5\. Worse than the best: ε 1e-10, 1e-8, 1e-4", "decided"
    )
    loss = found.of("default").loss
    assert loss is not None and loss.low < loss.mean < loss.high


def test_a_better_setting_outside_is_what_narrowing_costs() -> None:
    found = answer(evidence(sweep({**FLAT, 1e-10: 0.93})))
    says(found.of("narrowing"), r"^Narrowing has a cost: at its best, .* it loses 2\.99 points", "costs")


def test_open_says_both_ends_and_how_many_more_seeds_decide() -> None:
    found = answer(evidence(sweep(FLAT), margin_asked=0.01))
    words = r"^Open: lr 1e-2, ε 1e-8 may be up to 0\.\d+ points better or 0\.\d+ points worse than lr 1e-2, ε 1e-\S+ \("
    says(found.of("default"), words, "open")
    says(found.of("default"), "It would take more than 50 more seeds to decide; a larger `report.margin`", "open")
    assert found.of("default").more_seeds
    found = answer(evidence(sweep({**FLAT, DEFAULT: 0.895}, noise=10.0), margin_asked=0.5))
    words = (
        r"About \d+ more seeds? of these two would decide it, \d+ min \d\d s of training: `epsgrid sweep --until-dec"
    )
    says(found.of("default"), words, "open")


def test_one_seed_is_open() -> None:
    found = answer(evidence(sweep({**FLAT, DEFAULT: 0.88}, seeds=1)))
    words = r"^Open: with the only seed, lr 1e-2, ε 1e-8 is 1\.94 points worse than lr .*train more seeds\.$"
    says(found.of("default"), words, "open")
    says(found.of("equivalent"), "One seed cannot tell a difference from chance", "open")
    says(found.of("luck"), "One seed cannot tell", "open")
    assert found.sd is None and not found.of("default").more_seeds


def test_divergence_decides_where_one_side_always_diverged_at_lower_rates_too() -> None:
    lower = (3e-4, 1e-4, 3e-5, 1e-5)

    def found_with(diverged: set[float], added: tuple[float, ...], at: float) -> Answers:
        before = changed(lambda own: DIVERGED if own.epsilon in diverged else None)
        more = [cell(rate, at, DIVERGED) for rate in added]
        return answer(replace(before, cells=[*before.cells, *more], added=[AddedRate(at, rate) for rate in added]))

    words = r"Change ε = 1e-8: all its settings diverged on some seed, lr 1e-2, .* none of 4\.$"
    says(found_with({DEFAULT}, lower, DEFAULT).of("default"), f"^{words}", "change")
    for tried in ((), lower[:3]):
        found = found_with({DEFAULT}, tried, DEFAULT)
        says(found.of("default"), rf"^Open: lower .* \(`epsgrid sweep --extend-rates`\)\. As far as .*{words}", "open")
        assert not found.of("default").more_seeds
    assert {row.epsilon: row.standing for row in found.epsilons}[DEFAULT] == "diverged"
    says(found.of("equivalent"), r"Diverged at all learning rates tried: ε 1e-8\.", "decided")
    words = r"Keep ε = 1e-8: all others diverged on some seed, lr 1e-2, ε 1e-8 on none of 4\.$"
    others = {1e-10, 1e-5, 1e-4}
    says(found_with(others, lower, 1e-4).of("default"), f"^{words}", "keep")
    says(found_with(others, lower, 1e-5).of("default"), f"^Open: .*{words}", "open")
    found = answer(changed(lambda own: DIVERGED))
    says(found.of("default"), "^Open: every setting diverged on some seed; try lower learning rates", "open")
    assert found.margin is None
    one = [cell(own.learning_rate, own.epsilon or 0.0, ["diverged" if own.epsilon == DEFAULT else 0.9])
           for own in sweep(FLAT).values()]  # fmt: skip
    says(answer(evidence(one)).of("default"), "only one seed was trained", "open")


def test_a_setting_that_diverged_on_one_seed_is_no_best() -> None:
    better: list[Score] = [0.95, 0.95, 0.95, "diverged"]
    found = answer(changed(lambda own: better if own.epsilon == 1e-10 and own.learning_rate == 1e-2 else None))
    says(found.of("narrowing"), "against lr 1e-2, ε 1e-8", "no cost")


def test_missing_results_make_an_answer_provisional() -> None:
    def pending(own: Cell) -> list[Score] | None:
        return [*noisy(0.9, 3, 3), "pending"] if own.epsilon == 1e-10 and own.learning_rate == 1e-2 else None

    found = answer(changed(pending))
    words = r"^Not finished: 1 of 48 trainings have no result\. So far, with 3 seeds: Keep"
    says(found.of("default"), words, "not finished")
    says(found.of("equivalent"), "As good as the best", "not finished")
    assert found.of("luck").answer in ("not finished", "not asked")
    nothing = answer(evidence([cell(1e-2, epsilon, ["pending"] * 3) for epsilon in FLAT], metric=None))
    says(nothing.of("default"), r"^Not finished: 12 of 12 trainings have no result\.$", "not finished")
    says(nothing.of("equivalent"), "No seed has been trained at every setting yet", "not finished")
    failed = answer(changed(lambda own: [0.9, 0.9, 0.9, "failed"] if own.epsilon == 1e-10 else None))
    says(failed.of("default"), "3 of 48 trainings have no result", "not finished")


def test_pruned_trainings_are_left_out() -> None:
    found = answer(changed(lambda own: ["pruned"] * 4 if own.learning_rate == 1e-1 else None))
    assert found.of("default").answer in ("keep", "open") and "no result" not in found.of("default").text
    found = answer(changed(lambda own: ["pruned"] * 4 if own.epsilon == DEFAULT else None))
    says(found.of("default"), "were all pruned or diverged", "open")


@pytest.mark.parametrize(("side", "rate"), [("lowest", 1e-3), ("highest", 1e-1)])
def test_a_best_learning_rate_at_an_end_leaves_open_what_it_could_turn(side: str, rate: float) -> None:
    def rising(own: Cell) -> list[Score] | None:
        if own.epsilon != DEFAULT:
            return None
        return noisy(0.92 if own.learning_rate == rate else 0.90, 3)

    found = answer(changed(rising, {**FLAT, 1e-5: 0.95}))
    words = rf"^Open: the best learning rate of ε 1e-8 \({'1e-3' if rate < 0.01 else '0.1'}\) is the {side} tried, so"
    says(
        found.of("default"),
        words + r" a better one .*`epsgrid sweep --extend-rates`\)\. As far as tried: Change",
        "open",
    )
    assert not found.of("default").more_seeds, "more seeds do not train another learning rate"
    found = answer(changed(rising))
    words = rf"^Keep ε = 1e-8: .*The best learning rate of ε 1e-8 .* is the {side} tried, which cannot turn this answer"
    says(found.of("default"), words, "keep")
    assert {row.epsilon: row.edge for row in found.epsilons}[DEFAULT] == side


def test_an_end_that_is_best_by_chance_does_not_matter() -> None:
    def level(own: Cell) -> list[Score] | None:
        return noisy(0.9003 if own.learning_rate == 1e-1 else 0.9, 5) if own.epsilon == DEFAULT else None

    found = answer(changed(level, {**FLAT, 1e-5: 0.95}))
    says(found.of("default"), "^Change ε", "change")


def test_learning_rates_of_which_none_trains_say_nothing_of_others() -> None:
    """As of a CNN whose steps are too large at a large ε: at chance, whatever the learning rate, and at none better."""

    def dead(own: Cell) -> list[Score] | None:
        return noisy(0.1, round(3 + 100 * own.learning_rate)) if own.epsilon in OUTSIDE else None

    found = answer(one := changed(dead))
    words = "Open: no learning rate tried at ε 1e-{} makes a difference, so a better one .*As far as tried: {}"
    says(found.of("default"), words.format(8, "Change ε = 1e-8"), "open")
    says(found.of("narrowing"), words.format("(8|10)", "Narrowing cost nothing that matters"), "open")
    assert not found.of("default").more_seeds
    assert {(row.standing, row.edge) for row in found.epsilons if row.epsilon in OUTSIDE} == {("open", "flat")}
    added = rates_beyond(one, BOTH, [1e-3, 1e-2, 1e-1])
    assert {(each.epsilon, each.learning_rate) for each in added} >= {(1e-8, 1e-4), (1e-8, 1.0)}

    def trains_below(own: Cell) -> list[Score] | None:
        return noisy(0.5, 3) if own.epsilon in OUTSIDE and own.learning_rate == 1e-2 else dead(own)

    found = answer(changed(trains_below))
    says(found.of("default"), "^Change ε = 1e-8", "change")
    says(found.of("narrowing"), "^Narrowing cost nothing that matters", "no cost")


def test_what_may_be_as_good_as_the_best_gets_a_further_rate_where_it_rises() -> None:
    rising = {1e-4: (0.90, 0.92, 0.9405), 1e-10: (0.80, 0.82, 0.85)}  # near the best, and far from it

    def scores(own: Cell) -> list[Score] | None:
        levels = rising.get(own.epsilon or 0.0)
        return levels and noisy(levels[[1e-3, 1e-2, 1e-1].index(own.learning_rate)], round(1 / own.learning_rate))

    one = changed(scores, {**FLAT, 1e-5: 0.95})
    standings = {row.epsilon: (row.standing, row.edge) for row in answer(one).epsilons}
    assert standings[1e-4] == standings[1e-10] == ("open", "highest")
    assert {(each.epsilon, each.learning_rate) for each in rates_beyond(one, BOTH, [1e-3, 1e-2, 1e-1])} == {(1e-4, 1.0)}


def test_only_one_learning_rate_leaves_it_open() -> None:
    found = answer(evidence(sweep({**FLAT, 1e-5: 0.95}, rates={1e-2: 0.0})))
    says(found.of("default"), r"^Open: only one learning rate was tried at ε 1e-8 \(1e-2\), so a better one", "open")
    says(
        found.of("equivalent"),
        r"^Open: only one learning rate was tried at ε 1e-5 \(1e-2\).* As far as tried: As",
        "open",
    )


def test_spreads_that_differ_lead_to_pairs() -> None:
    def wild(own: Cell) -> list[Score] | None:
        return [0.95, 0.70, 0.99, 0.60] if own.epsilon == DEFAULT and own.learning_rate == 1e-2 else None

    found = answer(changed(wild))
    says(found.of("default"), "compared in pairs because the settings do not spread alike", "open")
    loss = found.of("default").loss
    assert loss is not None and not loss.pooled


def test_questions_that_make_no_sense_are_not_asked() -> None:
    conventional = [replace(own, grids=("conventional",)) for own in sweep(FLAT).values()]
    says(answer(evidence(conventional)).of("narrowing"), r"--grid both` trains both", "not asked")
    says(answer(evidence(conventional)).of("luck"), "Only a sweep of both grids", "not asked")
    narrowed = [replace(own, grids=BOTH) for own in conventional]
    says(answer(evidence(narrowed)).of("narrowing"), "covers the whole conventional", "not asked")
    base = [own for own in conventional if own.epsilon == DEFAULT]
    says(answer(evidence(base)).of("default"), "Only the default ε = 1e-8 was trained", "not asked")
    says(answer(evidence(base)).of("equivalent"), "Fewer than two ε", "not asked")
    says(answer(evidence([replace(own, epsilon=None) for own in base])).of("default"), "has no ε", "not asked")


def test_what_was_not_trained_or_probed_is_not_measured() -> None:
    found = answer(evidence([own for own in sweep(FLAT).values() if own.epsilon != DEFAULT]))
    says(found.of("default"), "The default ε = 1e-8 was not trained; `epsgrid sweep` trains it", "not measured")
    says(found.of("kind"), "`epsgrid probe` does it", "not measured")
    says(found.of("trust"), "`epsgrid probe` does it", "not measured")


def test_the_kind_of_optimizer_is_that_of_the_probed_entries() -> None:
    bounds = estimate_bounds([measured("w", (1000,), np.full(1000, 1e-12, dtype=np.float32))], Placement.outside())
    found = answer(evidence(sweep(FLAT), bounds=bounds, placement=Placement.outside()))
    words = r"At lr 1e-2, ε 1e-8, 100 % of the entries with a gradient adapt and steps are 99 % of those at ε → 0: "
    says(found.of("kind"), words + "adaptive", "adaptive")
    found = answer(evidence(sweep({**FLAT, 1e-4: 0.95}), bounds=bounds, placement=Placement.outside()))
    words = r"ε 1e-4, 0 % of .*: momentum SGD with learning rate lr/ε = 100; compare `optimizer: sgdm` at that rate"
    says(found.of("kind"), words, "momentum SGD")


def test_other_windows_and_rules_are_compared_with_the_narrowed_grid() -> None:
    truth = {float(f"1e{k}"): 0.9 - 0.05 * max(k + 4, 0) for k in range(-10, 0)}
    found = answer(evidence(sweep(truth), estimates=[("median", 1e-5), ("mean", 1e-5), ("mode", 1e-2)]))
    names = [row.name for row in found.rules]
    assert names[:5] == ["narrowed grid", "default ε", "estimate: median", "estimate: mean", "estimate: mode"]
    assert names[5:] == ["a window as wide elsewhere"] * 8
    says(
        found.of("luck"),
        r"^Of 8 other windows as wide as the narrowed grid, 6 lost less than the margin as well, 2 lost",
        "6 of 8 as good",
    )
    mode = next(row for row in found.rules if row.name == "estimate: mode")
    assert mode.loss.low > 0.05


def test_contenders_are_judged_with_all_their_seeds() -> None:
    cells = sweep(FLAT, seeds=3)
    more = [cell(1e-2, epsilon, noisy(0.9, place, 9)) for place, epsilon in enumerate((DEFAULT, 1e-5))]
    found = answer(evidence(cells, contenders=more, level=0.98))
    says(found.of("default"), r"against lr 1e-2, ε 1e-5 \(margin 1\.00 points, 9 seeds\)", "keep")
    assert (found.level, found.seeds) == (0.98, 3)
    waiting = [
        replace(own, trials=(*own.trials, replace(own.trials[0], id="x", seed=9, state="running"))) for own in more
    ]
    says(answer(evidence(cells, contenders=waiting)).of("default"), "1 of 49 trainings have no result", "not finished")


@pytest.mark.parametrize(
    ("asked", "metric", "scale", "margin"),
    [
        (None, ACCURACY, 0.9, 0.01),
        (0.5, ACCURACY, 0.9, 0.005),
        (None, Metric("bleu", "max", ""), 30.0, 0.5),
        (None, PERPLEXITY, 120.0, 2.4),
        ("5 %", PERPLEXITY, 120.0, 6.0),
        ("5%", PERPLEXITY, -120.0, 6.0),
        (3.0, PERPLEXITY, 120.0, 3.0),
    ],
)
def test_the_margin_is_in_the_unit_in_which_the_metric_is_shown(
    asked: float | str | None, metric: Metric, scale: float, margin: float
) -> None:
    assert margin_of(asked, metric, scale) == pytest.approx(margin)


@pytest.mark.parametrize("asked", ["2 %", 100.0])
def test_a_margin_in_the_wrong_unit_is_refused(asked: float | str) -> None:
    with pytest.raises(SpecError, match=r"report\.margin: .*accuracy is shown in percent; write 1 for a margin of one"):
        answer(evidence(sweep(FLAT), margin_asked=asked))


def outcomes(found: Answers) -> list[tuple[str, str]]:
    """All answers and standings."""
    return [(each.question, each.answer) for each in found.answers] + [(r.cell, r.standing) for r in found.epsilons]


truths = st.fixed_dictionaries({epsilon: st.sampled_from([0.88, 0.895, 0.9, 0.91]) for epsilon in (*OUTSIDE, *INSIDE)})


@settings(max_examples=15, deadline=None)
@given(truths, st.randoms(use_true_random=False))
def test_neither_the_unit_nor_the_order_nor_the_direction_changes_an_answer(truth: dict[float, float], random) -> None:  # type: ignore[no-untyped-def]
    cells = list(sweep(truth, seeds=3).values())
    found = outcomes(answer(evidence(cells)))

    def scored(own: Cell, factor: float) -> Cell:
        scores: list[Score] = [factor * trial.test for trial in own.trials if trial.test is not None]
        return cell(own.learning_rate, own.epsilon or 0.0, scores)

    tenfold = [scored(own, 10.0) for own in cells]
    assert outcomes(answer(evidence(tenfold, metric=Metric("score", "max", ""), margin_asked=0.1))) == found
    error = [scored(own, -1.0) for own in cells]
    assert outcomes(answer(evidence(error, metric=Metric("error", "min", ""), margin_asked=0.01))) == found
    random.shuffle(cells)
    assert outcomes(answer(evidence(cells))) == found


def test_amounts_are_finite() -> None:
    for row in answer(evidence(sweep(FLAT))).rules:
        assert all(map(math.isfinite, (row.loss.mean, row.loss.low, row.loss.high)))
