"""Turn frozen dataclasses into JSON and back, checking each field against its annotation.

Numbers: a finite float is a JSON number in its shortest exact form. JSON has no NaN and no infinity, and a diverged
trial has both, so a field annotated `float` stores them as the strings "nan", "inf" and "-inf" and reads them back as
floats. Inside free-form values (annotated `Any`) they are stored by the same rule, and stay words when read.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from epsgrid.errors import CorruptRecordError

T = TypeVar("T")
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_document(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance as JSON values, in the order of the class."""
    return {field.name: _encode(getattr(record, field.name)) for field in dataclasses.fields(record)}


def from_document(record_type: type[T], document: Any, source: str) -> T:
    """Return the dataclass that a JSON object describes.

    Args:
        record_type: a dataclass whose annotations are among: bool, int, float, str, Any, `X | None`, Literal,
            `tuple[X, ...]`, `dict[str, X]` and other such dataclasses.
        document: what was read.
        source: the place that an error names.

    Raises:
        CorruptRecordError: a field is missing, unknown or of another type; the message names place and field.
    """
    if not isinstance(document, Mapping):
        raise CorruptRecordError(f"{source}: expected an object, got {_shown(document)}")
    hints = _hints(typing.cast(Any, record_type))
    names = [field.name for field in dataclasses.fields(record_type)]  # type: ignore[arg-type]
    if unknown := [key for key in document if key not in names]:
        raise CorruptRecordError(f"{source}: unknown field {', '.join(map(repr, unknown))}; known: {', '.join(names)}")
    if missing := [name for name in names if name not in document]:
        raise CorruptRecordError(f"{source}: missing field {', '.join(map(repr, missing))}")
    return record_type(**{name: _decode(hints[name], document[name], f"{source}: {name}") for name in names})


@functools.cache
def _hints(record_type: Any) -> dict[str, Any]:
    """Return the resolved annotations of a record; resolving them for each of thousands of records would be slow."""
    return typing.get_type_hints(record_type)


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_document(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return value


def _decode(hint: Any, value: Any, place: str) -> Any:
    """Return `value` as what the annotation `hint` asks for, or name the place where it is something else."""
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return from_document(typing.cast(type[Any], hint), value, place)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _decode_optional(arguments, value, place)
    if origin is Literal:
        return _checked(value in arguments, value, " or ".join(map(repr, arguments)), place)
    if origin is tuple:
        _checked(isinstance(value, list), value, "a list", place)
        return tuple(_decode(arguments[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _checked(isinstance(value, Mapping), value, "an object", place)
        return {key: _decode(arguments[1], item, f"{place}.{key}") for key, item in value.items()}
    return _decode_plain(hint, value, place)


def _decode_optional(arguments: tuple[Any, ...], value: Any, place: str) -> Any:
    (wanted,) = (argument for argument in arguments if argument is not type(None))
    return None if value is None else _decode(wanted, value, place)


def _decode_plain(hint: Any, value: Any, place: str) -> Any:
    if hint is float:
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(_checked(is_number, value, 'a number, "nan", "inf" or "-inf"', place))
    if hint is int:
        return _checked(isinstance(value, int) and not isinstance(value, bool), value, "a whole number", place)
    assert hint in (str, bool), f"{place}: no rule for {hint}"
    return _checked(isinstance(value, hint), value, "a text" if hint is str else "true or false", place)


def _checked(is_right: bool, value: Any, expected: str, place: str) -> Any:
    if not is_right:
        raise CorruptRecordError(f"{place}: expected {expected}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
