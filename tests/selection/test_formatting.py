"""Numbers as people read them."""

from __future__ import annotations

import pytest

from epsgrid.selection.formatting import Metric, count, duration, gain, interval, power, powers, score

PERCENT = Metric("accuracy", "max", "%")
PLAIN = Metric("perplexity", "min", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-16, "1e-16"),
        (0.001, "1e-3"),
        (0.0003, "3e-4"),
        (1.0, "1"),
        (2.5, "2.5"),
        (10.0, "10"),
        (1234.0, "1.23e3"),
        (1.234e-5, "1.23e-5"),
    ],
)
def test_powers(value: float, text: str) -> None:
    assert power(value) == text


def test_nothing_is_a_dash() -> None:
    assert (power(None), powers([]), score(None, None, PERCENT)) == ("–", "–", "–")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (86399.0, "1 d 00 h"),
        (-125.0, "−2 min 05 s"),
    ],
)
def test_durations_never_show_sixty(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_scores_and_their_spread_have_the_same_decimals() -> None:
    assert score(0.93125, 0.0001, PERCENT) == "93.12 ± 0.01 %"
    assert score(84.2814, 0.3, PLAIN) == "84.28 ± 0.30"
    assert score(12345.6, 7.8, PLAIN) == "12346 ± 8"
    assert score(0.0, 0.5, PLAIN) == "0.000 ± 0.500"


def test_a_difference_that_rounds_to_zero_has_no_sign() -> None:
    assert gain(-0.000001, PERCENT) == "0.00"
    assert gain(0.5, PLAIN) == "+0.5000"
    assert interval(-0.01, 0.02, PERCENT) == "−1.00 to +2.00 points"


def test_metrics_know_their_direction_and_unit() -> None:
    assert (PERCENT.sign, PLAIN.sign) == (1.0, -1.0)
    assert (PERCENT.label, PLAIN.label) == ("accuracy / %", "perplexity")


def test_counts() -> None:
    assert (count(0, "cell"), count(1, "cell")) == ("0 cells", "1 cell")
