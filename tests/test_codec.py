import json
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from epsgrid import codec
from epsgrid.errors import CorruptRecordError


@dataclass(frozen=True)
class Inner:
    value: float


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    is_new: bool
    kind: Literal["a", "b"]
    inner: Inner | None
    items: tuple[Inner, ...]
    named: dict[str, tuple[float, ...]]
    free: dict[str, Any]


SAMPLE = Outer("x", 3, True, "b", Inner(0.1), (Inner(1.0), Inner(2.5)), {"n": (1e-8, 1e-7)}, {"deep": [1, {"a": None}]})


def _stored(record: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(codec.to_document(record), allow_nan=False))
    return document


def test_a_dataclass_comes_back_equal() -> None:
    assert codec.from_document(Outer, _stored(SAMPLE), "here") == SAMPLE
    assert isinstance(codec.from_document(Inner, {"value": 3}, "here").value, float)
    with pytest.raises(CorruptRecordError, match=r"here: expected an object, got \[\]"):
        codec.from_document(Inner, [], "here")


def test_numbers_that_json_has_not_are_stored_as_words_and_whole_ones_read_as_floats() -> None:
    for value, text in ((math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")):
        assert _stored(Inner(value)) == {"value": text}
        assert repr(codec.from_document(Inner, {"value": text}, "here").value) == repr(value)
    assert repr(codec.from_document(Inner, {"value": 3}, "here").value) == "3.0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 3}, "here: name: expected a text, got 3"),
        ({"count": 1.5}, "here: count: expected a whole number, got 1.5"),
        ({"is_new": 1}, "here: is_new: expected true or false, got 1"),
        ({"kind": "c"}, "here: kind: expected 'a' or 'b', got 'c'"),
        ({"inner": 3}, "here: inner: expected an object, got 3"),
        ({"inner": {"value": "much"}}, r"here: inner\.value: expected a number, .*, got 'much'"),
        ({"items": {}}, r"here: items: expected a list, got \{\}"),
        ({"items": [{"value": 1.0}, {}]}, r"here: items\[1\]: missing field 'value'"),
        ({"named": {"n": [1, "x"]}}, r"here: named\.n\[1\]: expected a number"),
        ({"colour": "red"}, "here: unknown field 'colour'; known: name, count"),
        ({"name": ["x" * 100]}, r"got \['x{50,}…"),
    ],
)
def test_a_field_that_is_not_as_annotated_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CorruptRecordError, match=words):
        codec.from_document(Outer, {**_stored(SAMPLE), **change}, "here")


@dataclass(frozen=True)
class Shrunk:
    """A record that lost a field, and has one that is not stored and one that is stored where it is set."""

    FORMER_FIELDS: ClassVar[tuple[str, ...]] = ("colour",)

    value: float
    rule: str = field(default="", metadata=codec.UNLESS_DEFAULT)
    cached: tuple[int, ...] = field(default=(), metadata=codec.NEVER)


def test_fields_that_are_not_always_stored() -> None:
    assert _stored(Shrunk(1.0, cached=(1,))) == {"value": 1.0}
    assert _stored(Shrunk(1.0, "sqrt")) == {"value": 1.0, "rule": "sqrt"}
    assert codec.from_document(Shrunk, {"value": 1.0, "rule": "sqrt", "colour": 3}, "here") == Shrunk(1.0, "sqrt")
    with pytest.raises(CorruptRecordError, match="here: unknown field 'cached'; known: value, rule"):
        codec.from_document(Shrunk, {"value": 1.0, "cached": [1]}, "here")
    with pytest.raises(CorruptRecordError, match=r"here: missing field 'value'$"):
        codec.from_document(Shrunk, {"rule": "sqrt"}, "here")
    with pytest.raises(CorruptRecordError, match=r"here: expected an object, got \[\]"):
        codec.from_document(Inner, [], "here")
