"""Turn frozen dataclasses into JSON and back, checking each field against its annotation.

A type with a JSON form of its own has the methods `to_json` and `from_json`; that form is used wherever the type is a
field. `from_json` raises CorruptRecordError for what it cannot read.

Numbers: a finite float is a JSON number in its shortest exact form. JSON has no NaN and no infinity, and a diverged
trial has both, so a field annotated `float` stores them as the strings "nan", "inf" and "-inf" and reads them back as
floats. Inside free-form values (annotated `Any`) they are stored by the same rule, and stay words when they are read.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, TypeVar

from epsgrid.errors import CorruptRecordError

NEVER = types.MappingProxyType({"stored": "never"})
"""Metadata of a dataclass field that is not stored; it needs a default."""
UNLESS_DEFAULT = types.MappingProxyType({"stored": "unless default"})
"""Metadata of a dataclass field that is left out where it has its default."""

T = TypeVar("T")
_MAX_SHOWN = 60
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_document(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance as JSON values, in the order of the class."""
    values = ((field, getattr(record, field.name)) for field in dataclasses.fields(record))
    return {
        field.name: _encode(value)
        for field, value in values
        if not field.metadata or (field.metadata == UNLESS_DEFAULT and value != field.default)
    }


def from_document(record_type: type[T], document: Any, source: str) -> T:
    """Return the dataclass that a JSON object describes.

    Args:
        record_type: a dataclass whose annotations are among: bool, int, float, str, Any, `X | None`, Literal,
            `tuple[X, ...]`, `dict[str, X]`, a StrEnum, a type with `to_json` and `from_json`, and other such
            dataclasses.
        document: what was read.
        source: the place that an error names.

    A field that has a default may be missing, as it is in records that were stored before the field existed. Fields
    that existed once, named by a class attribute `FORMER_FIELDS`, are ignored.

    Raises:
        CorruptRecordError: a field is missing, unknown or of another type; the message names place and field.
    """
    return typing.cast(T, _decode_record(record_type, document, f"{source}: "))


def _encode(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, StrEnum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_document(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return value


@functools.cache
def _facts(hint: Any) -> tuple[bool, bool, Any, tuple[Any, ...]]:
    own = hasattr(hint, "from_json"), dataclasses.is_dataclass(hint)
    return *own, typing.get_origin(hint), typing.get_args(hint)


def _decode(hint: Any, value: Any, place: str) -> Any:
    """Return a JSON value as its annotation asks for; an error begins with the place."""
    if hint is float:
        if type(value) is float:
            return value
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(_checked(is_number, value, 'a number, "nan", "inf" or "-inf"', place))
    if hint in _PLAIN:
        is_right = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
        return _checked(is_right, value, _PLAIN[hint], place)
    if hint is Any:
        return value
    has_own_form, is_record, origin, arguments = _facts(hint)
    if has_own_form:
        try:
            return hint.from_json(value)
        except CorruptRecordError as error:
            raise CorruptRecordError(f"{place}: {error}") from error
    if is_record:
        return _decode_record(hint, value, place)
    if origin in (types.UnionType, typing.Union):
        (wanted,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _decode(wanted, value, place)
    if origin is tuple:
        _checked(isinstance(value, list), value, "a list", place)
        return tuple(_decode(arguments[0], item, f"{place}[{number}]") for number, item in enumerate(value))
    if origin is dict:
        _checked(isinstance(value, Mapping), value, "an object", place)
        return {key: _decode(arguments[1], item, _inside(place, key)) for key, item in value.items()}
    values = arguments if origin is Literal else [member.value for member in hint]
    _checked(value in values, value, " or ".join(map(repr, values)), place)
    return value if origin is Literal else hint(value)


_PLAIN = {int: "a whole number", str: "a text", bool: "true or false"}


def _inside(place: str, key: str) -> str:
    """Return the place of an entry of the object at a place, such as "bounds.json: low.layers"."""
    return f"{place}{key}" if place.endswith(": ") else f"{place}.{key}"


@functools.cache
def _fields(record_type: Any) -> tuple[dict[str, Any], frozenset[str], frozenset[str]]:
    """Return the annotations of a dataclass's stored fields, those it cannot do without, and those it once had."""
    hints = typing.get_type_hints(record_type)
    fields = [field for field in dataclasses.fields(record_type) if field.metadata != NEVER]
    needed = frozenset(field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING)
    former = frozenset(getattr(record_type, "FORMER_FIELDS", ()))
    return {field.name: hints[field.name] for field in fields}, needed, former


def _decode_record(record_type: Any, document: Any, place: str) -> Any:
    hints, needed, former = _fields(record_type)
    _checked(isinstance(document, Mapping), document, "an object", place)
    given = {key: value for key, value in document.items() if key not in former} if former else document
    if unknown := [key for key in given if key not in hints]:
        raise _error(place, f"unknown field {', '.join(map(repr, unknown))}; known: {', '.join(hints)}")
    if missing := [repr(name) for name in hints if name in needed and name not in given]:
        raise _error(place, f"missing field {', '.join(missing)}")
    fields = {name: _decode(hints[name], value, _inside(place, name)) for name, value in given.items()}
    try:
        return record_type(**fields)
    except (AssertionError, ValueError) as error:  # its fields do not fit together
        raise _error(place, str(error)) from error


def _checked(is_right: bool, value: Any, expected: str, place: str) -> Any:
    if not is_right:
        raise _error(place, f"expected {expected}, got {shown(value)}")
    return value


def _error(place: str, what: str) -> CorruptRecordError:
    return CorruptRecordError(f"{place.removesuffix(': ')}: {what}")


def shown(value: Any) -> str:
    """Return a JSON value as YAML would write it, shortened; text is in quotes.

    >>> shown([1e-8, None, "no"])
    "[1e-8, null, 'no']"
    """

    def flow(value: Any) -> str:
        if isinstance(value, str):
            return repr(value)
        if isinstance(value, float):
            return re.sub(r"e\+?(-?)0*", r"e\1", json.dumps(value))
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(flow, value))}]"
        return json.dumps(value)

    text = flow(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
