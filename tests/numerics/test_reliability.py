"""The confidence in bounds: each rule on its own, at its limits, and the variants and trajectories it looks at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.errors import CorruptRecordError
from epsgrid.numerics.bounds import EpsilonBounds, Reliability, Variant, VariantKind, estimate_bounds
from epsgrid.numerics.counting import measure
from epsgrid.numerics.magnitudes import Bound, LayerStatistics, LayerStatus, decade_of
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import power
from epsgrid.numerics.reliability import ROUNDING_NOISE, judge, without
from epsgrid.numerics.trajectory import Trajectory, has_settled, settled_after, trajectory_of
from tests.numerics.test_series import random_layers, series_of

OUTSIDE = Placement.outside()


def layer(name: str, low: float, high: float, nonzero: int = 1000, kind: str = "dense") -> LayerStatistics:
    return LayerStatistics(name, (nonzero,), nonzero, nonzero, low, high, None, LayerStatus.MEASURED, kind)


FOUR = (layer("a", 2e-7, 1e-4), layer("b", 1e-6, 2e-3), layer("c", 3e-7, 1e-3), layer("d", 1e-6, 1e-3))
"""Bounds 1e-7 and 1e-3, set by a and b, far from where rounding turns."""


def bounds_from(*layers: LayerStatistics) -> EpsilonBounds:
    return estimate_bounds(layers or FOUR, OUTSIDE)


def variant(kind: VariantKind, label: str, low: float = 1e-7, high: float = 1e-3) -> Variant:
    return Variant(kind, label, *(Bound(value, value, decade_of(value), ("a",), 9) for value in (low, high)))


STILL = Trajectory(tuple(range(1, 41)), (1e-7,) * 40, (1e-3,) * 40)


def all_alike(bounds: EpsilonBounds) -> tuple[Variant, ...]:
    """Other seeds, tails and weights that give the very same bounds."""
    labels: list[tuple[VariantKind, str]] = [("seed", "seed 1"), ("tail", "1 %"), ("tail", "5 %")]
    return tuple(Variant(kind, label, bounds.low, bounds.high) for kind, label in [*labels, ("weights", "moving")])


def judged(
    bounds: EpsilonBounds | None = None,
    variants: Sequence[Variant] | None = None,
    trajectory: Trajectory | None = STILL,
    noise: Mapping[str, float] | None = None,
    noise_checked: bool = True,
    steps: int = 40,
) -> Reliability:
    bounds = bounds or bounds_from()
    variants = all_alike(bounds) if variants is None else variants
    return judge(bounds, OUTSIDE, variants, trajectory, noise or {}, noise_checked, steps)


def moving(low: Sequence[float] = (), high: Sequence[float] = (), steps: int = 40) -> Trajectory:
    """A trajectory that ends with the values given, one a step, and is still before."""
    lows, highs = ([end] * (steps - len(values)) + list(values) for end, values in ((1e-7, low), (1e-3, high)))
    return Trajectory(tuple(range(1, steps + 1)), tuple(lows), tuple(highs))


def test_high_confidence_says_what_it_rests_on() -> None:
    found = judged()
    assert found.verdict == "high"
    assert found.reasons == (
        "the probe took 40 steps",
        "no layer's gradient is only rounding noise",
        "both bounds keep their decade from step 1 of 40 on",
        "2 seeds agree on both decades",
        "weights moving give the same decades",
        "tails of 1 % and 5 % give the same decades",
        "the lower bound is set by a alone, 1,000 non-zero entries",
        "the upper bound is set by b alone, 1,000 non-zero entries",
    )
    assert (found.variants, found.course) == (all_alike(bounds_from()), STILL)
    assert (found.noise, found.noise_checked) == ({}, True)


def test_what_was_not_checked_is_reported_and_lowers_nothing() -> None:
    found = judged(variants=(), trajectory=None, noise_checked=False)
    assert found.verdict == "high"
    assert found.reasons[-5:] == (
        "layers were not checked for gradients that are only rounding noise",
        "it was not checked how the bounds settle over the steps",
        "only one seed was tried: other initial weights and batches may give other bounds",
        "moving and frozen weights were not compared",
        "tails other than 2 % were not tried",
    )


def test_lower_confidence_gives_the_reasons_against_it_the_worst_first() -> None:
    found = judged(variants=[variant("seed", "seed 1", low=1e-5), variant("tail", "1 %", high=1e-2)], steps=9)
    assert found.verdict == "low"
    assert found.reasons == (
        "the probe took 9 steps, fewer than 10: v has averaged hardly any gradients",
        "with seed 1 the lower bound would be 1e-5, 2 decades higher",
        "with tails of 1 % the upper bound would be 1e-2, one decade higher",
        "moving and frozen weights were not compared",
    )


@pytest.mark.parametrize(
    ("kind", "phrase", "far"),
    [
        ("seed", "with seed 1", "low"),
        ("tail", "with tails of seed 1", "medium"),
        ("weights", "with weights seed 1", "medium"),
    ],
)
def test_a_choice_that_moves_an_end_is_told_with_the_end_and_by_how_much(
    kind: VariantKind, phrase: str, far: str
) -> None:
    near = judged(variants=[variant(kind, "seed 1", low=1e-8)])
    assert near.verdict == "medium"
    assert near.reasons[0] == f"{phrase} the lower bound would be 1e-8, one decade lower"
    farther = judged(variants=[variant(kind, "seed 0"), variant(kind, "seed 1", high=1e-1)])
    assert farther.verdict == far
    assert farther.reasons[0] == f"{phrase} the upper bound would be 0.1, 2 decades higher"


@pytest.mark.parametrize("kind", ["betas", "kind"])
def test_other_betas_and_single_kinds_are_no_reason(kind: VariantKind) -> None:
    found = judged(variants=[*all_alike(bounds_from()), variant(kind, "other", low=1e-12)])
    assert found.verdict == "high"
    assert found.of_kind(kind)[0].label == "other"


@pytest.mark.parametrize("names", [("x",), ("x", "y")])
def test_layers_that_are_not_finite_are_named(names: tuple[str, ...]) -> None:
    broken = [replace(measure(name, torch.tensor([1.0, math.nan]))) for name in names]
    found = judged(bounds_from(*FOUR, *broken))
    assert found.verdict == "low"
    verbs = "holds NaN or infinite entries and sets" if len(names) == 1 else "hold NaN or infinite entries and set"
    assert found.reasons[0] == f"{' and '.join(names)} {verbs} no bound"


NOISE = "the lower bound is set by rounding noise, in"
SMALL = "the upper bound is set by s alone,"
LARGER = "; without layers of fewer than 50 entries it would be"
FIVE = [f"n{k}" for k in range(5)]


@pytest.mark.parametrize(
    ("added", "noise", "verdict", "reason"),
    [
        ([("n", 2e-12, 1e-9)], ["n"], "low", f"{NOISE} n; without it the bound would be 1e-7, 5 decades higher"),
        ([("n", 1e-7, 1e-5)], ["n"], "high", f"{NOISE} n, but keeps its decade without it"),
        ([], "abcd", "low", f"{NOISE} a; without it there are no bounds"),
        ([(n, 1e-6, 1e-5) for n in FIVE], FIVE, "high", "rounding noise, in n0, n1, n2 and 2 more, sets neither bound"),
        ([("s", 1e-5, 2e-2, 10)], [], "medium", f"{SMALL} 10 non-zero entries{LARGER} 1e-3, one decade lower"),
        ([("s", 1e-5, 2e-2, 49)], [], "medium", f"{SMALL} 49 non-zero entries{LARGER} 1e-3"),
        ([("s", 1e-5, 2e-2, 50)], [], "high", f"{SMALL} 50 non-zero entries"),
        (
            [("s", 1e-5, 2.5e-3, 1)],
            [],
            "high",
            f"{SMALL} 1 non-zero entry, but keeps its decade without layers",
        ),
        (
            [("s", 1e-9, 1e-5, 5), ("t", 1e-9, 1e-5, 7)],
            [],
            "medium",
            f"the lower bound is set by s and t, 5 non-zero entries{LARGER} 1e-7, 2 decades higher",
        ),
    ],
)
def test_noise_and_small_layers_that_set_an_end(
    added: list[Any], noise: Sequence[str], verdict: str, reason: str
) -> None:
    found = judged(bounds_from(*FOUR, *(layer(*each) for each in added)), noise=dict.fromkeys(noise, 0.5))
    assert found.verdict == verdict
    assert any(each.startswith(reason) for each in found.reasons), found.reasons


def test_noise_is_left_out_by_layers_unless_a_variant_left_out_entries() -> None:
    (left_out,) = judged(bounds_from(*FOUR, layer("n", 2e-12, 1e-9)), noise={"n": 1.0}).of_kind("without")
    assert (left_out.label, left_out.low.layers, left_out.low.epsilon) == (ROUNDING_NOISE, ("a",), 2e-7)
    given = variant("without", ROUNDING_NOISE, low=1e-6)
    found = judged(variants=[*all_alike(bounds_from()), given], noise={"a": 0.3})
    assert found.of_kind("without") == (given,)
    assert "the bound would be 1e-6, one decade higher" in found.reasons[0]


@pytest.mark.parametrize(("steps", "verdict"), [(1, "low"), (9, "low"), (10, "high")])
def test_ten_steps_are_needed(steps: int, verdict: str) -> None:
    found = judged(steps=steps)
    assert found.verdict == verdict
    assert found.reasons[0].startswith("the probe took 1 step, fewer than 10") == (steps == 1)


def test_small_layers_depend_on_the_tail_and_may_be_all() -> None:
    found = judged(bounds_from(*(replace(of, nonzero=49) for of in FOUR)))
    assert found.verdict == "medium"
    assert found.reasons == ("all layers have fewer than 50 non-zero entries: each bound is one entry's",)
    for entries, verdict in ((20, "high"), (19, "medium")):
        bounds = estimate_bounds((*FOUR, layer("s", 1e-5, 2e-2, entries)), OUTSIDE, 0.05)
        assert judged(bounds).verdict == verdict


@pytest.mark.parametrize(("count", "verdict"), [(1, "medium"), (2, "medium"), (3, "high")])
def test_three_layers_are_needed(count: int, verdict: str) -> None:
    found = judged(bounds_from(*FOUR[:count], LayerStatistics.unmeasured("x", (3,), LayerStatus.FROZEN)), variants=())
    assert found.verdict == verdict
    assert (f"only {count} layer{'s' * (count > 1)} measured, fewer than 3" in found.reasons) == (verdict == "medium")


@pytest.mark.parametrize(
    ("epsilon", "other"),
    [(3.2e-3, "1e-3"), (3.1e-3, "1e-2"), (2.9e-3, "1e-2"), (3.5e-3, "1e-3"), (2.7e-3, None), (3.6e-3, None)],
)
def test_an_end_near_where_rounding_turns(epsilon: float, other: str | None) -> None:
    found = judged(bounds_from(*FOUR, layer("e", 1e-5, epsilon)), variants=())
    distance = abs(math.log10(epsilon) + 2.5)
    assert (distance < 0.05) == (other is not None)
    assert found.verdict == ("medium" if other else "high")
    near = f"the upper bound, {power(epsilon)}, lies {distance:.2f} decades from where rounding turns to {other}"
    assert (near in found.reasons) == (other is not None)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "reason"),
    [
        ([2e-8, 1e-7], [], "medium", "the lower bound has not settled: at step 39 of 40 it was 1e-8, one decade lower"),
        ([], [1e-1, *[1e-3] * 3], "low", "the upper bound has not settled: at step 37 of 40 it was 0.1, 2 decades"),
        ([1e-9, 1e-9, 1e-8, 1e-7], [], "low", "the lower bound has not settled: at step 38 of 40 it was 1e-9, 2 dec"),
        ([1e-8, *[1e-7] * 20], [], "medium", "the lower bound has not settled: at step 20 of 40 it was 1e-8"),
        ([1e-8, *[1e-7] * 21], [], "high", "both bounds keep their decade from step 20 of 40 on"),
        ([], [1.3e-3], "medium", "the upper bound still drifts up, by 0.11 decades from step 20 to 40"),
        ([], [1e-3 / 1.3], "medium", "the upper bound still drifts down, by 0.11 decades from step 20 to 40"),
        ([], [1.24e-3], "high", "both bounds keep their decade from step 1 of 40 on"),
    ],
)
def test_settling_in_the_second_half(low: list[float], high: list[float], verdict: str, reason: str) -> None:
    """At half time itself, step 20 of 40, the decade must be the final one."""
    found = judged(trajectory=moving(low, high))
    assert found.verdict == verdict
    assert any(each.startswith(reason) for each in found.reasons), found.reasons


@pytest.mark.parametrize(
    "trajectory", [None, Trajectory((40,), (1e-7,), (1e-3,)), Trajectory((30, 40), (1e-9,) * 2, (1.0,) * 2)]
)
def test_without_a_first_half_settling_is_not_checked(trajectory: Trajectory | None) -> None:
    found = judged(trajectory=trajectory)
    assert found.verdict == "high"
    assert found.reasons[-1] == "it was not checked how the bounds settle over the steps"


decades = st.integers(-9, -7).map(lambda exponent: 10.0**exponent)
trajectories = st.lists(st.tuples(st.integers(1, 5), decades, decades), min_size=1, max_size=40).map(
    lambda rows: Trajectory(
        tuple(int(step) for step in np.cumsum([row[0] for row in rows])),
        tuple(row[1] for row in rows),
        tuple(row[2] for row in rows),
    )
)


@given(trajectories)
def test_settled_after_is_the_first_step_with_the_final_decades_ever_after(trajectory: Trajectory) -> None:
    ends = list(zip(trajectory.low, trajectory.high, strict=True))
    expected = next(step for n, step in enumerate(trajectory.steps) if all(end == ends[-1] for end in ends[n:]))
    assert settled_after(trajectory) == expected


@given(trajectories)
def test_settled_is_alike_since_a_quarter_of_the_time(trajectory: Trajectory) -> None:
    last = trajectory.steps[-1]
    before = [n for n, step in enumerate(trajectory.steps) if step <= last / 4]
    alike = (
        bool(before) and len(set(zip(trajectory.low[before[-1] :], trajectory.high[before[-1] :], strict=True))) == 1
    )
    assert has_settled(trajectory) == (last >= 32 and alike)


def test_a_drift_between_a_quarter_and_half_of_the_time_counts() -> None:
    assert has_settled(moving(low=[10.0**-6.91] * 25))
    assert not has_settled(moving(low=[10.0**-6.89] * 25))


@pytest.mark.parametrize(("drift", "settled"), [(0.09, True), (0.11, False), (-0.09, True), (-0.11, False)])
def test_an_end_that_drifts_has_not_settled(drift: float, settled: bool) -> None:
    assert has_settled(moving(low=[10.0 ** (-7 + drift)])) == settled
    assert has_settled(moving(high=[10.0 ** (-3 + drift)])) == settled


def test_a_trajectory_is_the_bounds_over_time_as_epsilons() -> None:
    series = series_of(random_layers(3))
    rows = series.ends_over_time()
    squares = trajectory_of(series, lambda _: Placement.inside())
    assert squares.steps == (10, 20, 30)
    assert squares.low == tuple(ends.low**2 for ends in rows)
    assert squares.high == tuple(ends.high**2 for ends in rows)
    changing = trajectory_of(series, lambda step: Placement.before_correction(0.999, step))
    assert changing.low == pytest.approx([math.sqrt(1 - 0.999**step) * low for step, low, *_ in rows])
    some = trajectory_of(series, lambda _: OUTSIDE, 0.05, leave_out=["1"])
    expected = [ends[:3] for ends in series.ends_over_time(0.05, leave_out=["1"])]
    assert [*zip(some.steps, some.low, some.high, strict=True)] == expected


def test_layers_can_be_left_out() -> None:
    arrays = [torch.from_numpy(v) for v in random_layers(1)[0] if v is not None]
    layers = [*(measure(str(n), v) for n, v in enumerate(arrays)), measure("zeros", torch.zeros(3))]
    found = without(layers, Placement.inside(), ["1", "zeros"], "the middle")
    exact = estimate_bounds([layers[0], layers[2]], Placement.inside())
    assert found == Variant("without", "the middle", exact.low, exact.high)
    assert without(layers, OUTSIDE, ["zeros", "unheard of"], "nothing measured") is None
    assert without(layers, OUTSIDE, ["0", "1", "2"], "all") is None


def test_a_reliability_survives_json_with_its_bounds() -> None:
    for found in (
        judged(bounds_from(*FOUR, layer("28.bias", 1e-12, 2e-2, 10)), noise={"28.bias": 0.5}),
        judged(trajectory=None),
    ):
        bounds = replace(bounds_from(), reliability=found)
        assert EpsilonBounds.from_json(json.loads(json.dumps(bounds.to_json(), allow_nan=False))) == bounds


@pytest.mark.parametrize(("word", "verdict"), [("firm", "high"), ("soft", "medium"), ("not to be trusted", "low")])
def test_the_words_of_earlier_versions_are_read(word: str, verdict: str) -> None:
    document = replace(bounds_from(), reliability=judged()).to_json()
    document["reliability"]["verdict"] = word
    found = EpsilonBounds.from_json(document).reliability
    assert found is not None and found == replace(judged(), verdict=verdict)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "splendid"}, "bounds: reliability.verdict: expected 'high' or 'medium' or 'low'"),
        (
            {"course": {"steps": [1], "low": [], "high": []}},
            "bounds: reliability.course: steps, low and high differ",
        ),
    ],
    ids=str,
)
def test_a_damaged_reliability_is_refused(change: dict[str, Any], message: str) -> None:
    document = replace(bounds_from(), reliability=judged()).to_json()
    document["reliability"].update(change)
    with pytest.raises(CorruptRecordError, match=message):
        EpsilonBounds.from_json(document)
