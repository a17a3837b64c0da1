from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from epsgrid.errors import SpecError
from epsgrid.spec.reading import _MAX_DEPTH, Place, read

_KEYS = st.text("abcxyz_", min_size=1, max_size=4)
_LEAVES = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text("ab c", max_size=5),
)
_TREES = st.dictionaries(
    _KEYS,
    st.recursive(
        _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=8
    ),
    min_size=1,
)


@given(_TREES)
def test_reads_what_the_library_writes(tree: dict[str, object]) -> None:
    assert read(yaml.safe_dump(tree), "spec.yaml").values == tree


def test_places_are_those_of_the_text() -> None:
    document = read("a: 1\nb:\n  c: [2, 30]\n", "spec.yaml")
    assert document.place_of_key(("b", "c")) == Place("spec.yaml", 3, 3)
    assert document.place_of_value(("b", "c", 1)) == Place("spec.yaml", 3, 10)
    assert document.place_of_value(("b",)) == Place("spec.yaml", 2, 1), "a block begins at its key"
    assert document.place_of_value(("b", "d")) == Place("spec.yaml", 2, 1), "what is missing is looked for around it"


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
OTHERS = {"0": 0, "12": 12, "-3": -3, "+7": 7, "true": True, "False": False, "~": None, "": None, "null": None}


def word(text: str) -> Any:
    return read(f"a: {text}", "s").values["a"]


@pytest.mark.parametrize(("text", "value"), [*FLOATS.items(), *OTHERS.items()])
def test_words_with_a_meaning(text: str, value: object) -> None:
    assert word(text) == value and type(word(text)) is type(value)
    assert not text or word(f"[{text}, 1]")[0] == value
    assert math.isnan(word(".nan"))


@pytest.mark.parametrize(
    "text", ["no", "on", "yes", "off", "y", "NO", "010", "1_000", "1:30", "0x1f", "2026-11-22", "1e", "e5", ".", "="]
)
def test_what_yaml_1_1_takes_for_something_else_is_text(text: str) -> None:
    assert word(text) == text


def test_quoted_numbers_stay_text() -> None:
    assert read("a: '1e-8'\nb: \"12\"\nc: !!str 5", "s").values == {"a": "1e-8", "b": "12", "c": "5"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "s:3:1: a: repeated key; it stands first at s:1:1"),
        ("a: {1: 2}", "s:1:5: a: a key must be a plain name"),
        ("a: !!python/name:os.system ''", "s:1:4: a: the tag 'tag:yaml.org,2002:python/name:os.system' means nothing"),
        ("a: !!set {b}", "s:1:4: a: the tag 'tag:yaml.org,2002:set' means nothing"),
        ("a: !!int 0x10", "s:1:4: a: cannot read '0x10': not a plain int"),
        (f"a: {'9' * 5000}", "s:1:4: a: cannot read '9+…: Exceeds the limit"),
    ],
)
def test_what_can_be_told_with_other_problems_is_kept(text: str, told: str) -> None:
    (problem,) = read(text, "s").problems
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(str(problem))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "^s: the spec is empty; it needs experiment"),
        ("- a\n- b", r"^s:1:1: a spec is a mapping of keys to values, got \['a', 'b'\]"),
        ("a: 1\n---\nb: 2", "^s:3:1: a second YAML document begins here"),
        ("a: [1, 2", "^s:1:9: not valid YAML: while parsing a flow sequence expected ',' or ']'"),
        ("a:\n\t- 1", "^s:2:1: not valid YAML: .*; indent with spaces"),
        ("a: @b", "^s:1:4: not valid YAML: .*; put the text in quotes"),
        ("a: &a 1\nb: *a", "^s:2:4: not valid YAML: .a stands for another value, .*; write it out"),
        ("a: 1\nb: \x00", r"^s:2:4: not valid YAML: the character '\\x00' is not allowed"),
        ('a: "\\Uffffffff"', r"^s: not valid YAML: "),
        (
            "a: " + "[" * (_MAX_DEPTH + 1) + "]" * (_MAX_DEPTH + 1),
            f"^s:1:{_MAX_DEPTH + 4}: nested more than",
        ),
        pytest.param("a: " + "[" * 2_000, f"^s: nested more than {_MAX_DEPTH} deep", id="very deep"),
    ],
)
def test_what_ends_the_reading(text: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        read(text, "s")


@given(st.text())
@example("%YAML 3.0\n---\na: 1")
@example("a: !<tag:yaml.org,2002:null> 5")
@example("? a\n: b")
@example("\ufeffa: 1")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        document = read(text, "s")
    except SpecError:
        return
    assert isinstance(document.values, dict)
