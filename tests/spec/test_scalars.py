from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.spec.scalars import read_word, why_not_a_number

FLOATS = {
    "1e-8": 1e-8,
    "1.0e-8": 1e-8,
    "1E2": 100.0,
    "+1e3": 1000.0,
    ".5e-3": 5e-4,
    "1.": 1.0,
    "-0.5": -0.5,
    "1e05": 1e5,
    ".inf": math.inf,
    "-.INF": -math.inf,
    "1e999": math.inf,
}


@pytest.mark.parametrize("word", FLOATS)
def test_floats(word: str) -> None:
    value = read_word(word)
    assert value == FLOATS[word]
    assert isinstance(value, float)


def test_not_a_number_is_one() -> None:
    assert math.isnan(read_word(".nan"))


@pytest.mark.parametrize(("word", "value"), [("0", 0), ("12", 12), ("-3", -3), ("+7", 7)])
def test_integers(word: str, value: int) -> None:
    assert read_word(word) == value
    assert isinstance(read_word(word), int)


@pytest.mark.parametrize(("word", "value"), [("true", True), ("False", False), ("~", None), ("", None), ("null", None)])
def test_words_with_a_meaning(word: str, value: bool | None) -> None:
    assert read_word(word) is value


@pytest.mark.parametrize(
    "word",
    ["no", "on", "yes", "off", "y", "NO", "010", "1_000", "1:30", "0x1f", "2026-11-22", "1e", "e5", ".", "=", "1\n"],
)
def test_what_yaml_1_1_takes_for_something_else_is_text(word: str) -> None:
    assert read_word(word) == word


@given(st.floats(allow_nan=False))
def test_every_float_reads_back_as_python_and_yaml_write_it(value: float) -> None:
    written = yaml.safe_dump(value).splitlines()[0]
    assert read_word(written) == value
    if math.isfinite(value):
        assert read_word(repr(value)) == value


@given(st.integers())
def test_every_integer_reads_back(value: int) -> None:
    assert read_word(str(value)) == value


@given(st.floats(min_value=1e-300, max_value=1e300), st.sampled_from(["{:e}", "{:.3E}", "{:g}", "{:+.2e}", "{:f}"]))
def test_every_way_to_write_a_number_is_read_as_python_reads_it(value: float, form: str) -> None:
    written = form.format(value)
    number = read_word(written)
    assert not isinstance(number, str)
    assert number == float(written)


@given(st.text(st.characters(exclude_characters=".")) | st.from_regex(r"[-+0-9.eE_:]{1,12}", fullmatch=True))
def test_a_word_is_a_number_only_where_python_agrees(word: str) -> None:
    value = read_word(word)
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert type(value)(word) == value


def test_a_number_of_too_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="too many digits"):
        read_word("1" * 401)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1e-8", "it is in quotes: remove them"),
        ("010", "a number has no leading zeros: write 10"),
        ("-007.5", "a number has no leading zeros: write -7.5"),
        ("1_000", "a number has no underscores: write 1000"),
        ("0x10", "numbers are decimal"),
        ("1:30", "numbers are decimal; there is no 1:30 for 90"),
        ("0,1", "the decimal sign is a point"),
        ("many", ""),
    ],
)
def test_why_a_text_is_no_number(text: str, reason: str) -> None:
    assert why_not_a_number(text) == reason
