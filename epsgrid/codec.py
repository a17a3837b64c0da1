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
import types
import typing
from collections.abc import Callable, Mapping
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
    try:
        return typing.cast(T, _record_decoder(typing.cast(Any, record_type))(document))
    except _MismatchError as mismatch:
        raise CorruptRecordError(f"{source}: {mismatch}") from None


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


class _MismatchError(Exception):
    """A value is not what its annotation asks for; each container it lies in puts its own place in front."""

    def __init__(self, what: str) -> None:
        self.places: list[str] = []
        self.what = what

    def __str__(self) -> str:
        path = "".join(reversed(self.places)).removeprefix(".")
        return f"{path}: {self.what}" if path else self.what


_Decoder = Callable[[Any], Any]


@functools.cache
def _decoder(hint: Any) -> _Decoder:
    """Return the function that decodes values of an annotation; cached, for thousands of records are read."""
    if hint is Any:
        return lambda value: value
    if hasattr(hint, "from_json"):
        return _own_form_decoder(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        values = [member.value for member in hint]
        return lambda value: hint(_checked(value in values, value, " or ".join(map(repr, values))))
    if dataclasses.is_dataclass(hint):
        return _record_decoder(typing.cast(Any, hint))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (wanted,) = (_decoder(argument) for argument in arguments if argument is not type(None))
        return lambda value: None if value is None else wanted(value)
    if origin is Literal:
        expected = " or ".join(map(repr, arguments))
        return lambda value: _checked(value in arguments, value, expected)
    if origin is tuple:
        return _tuple_decoder(_decoder(arguments[0]))
    if origin is dict:
        decode_value = _decoder(arguments[1])
        return lambda value: _decode_items(
            lambda key: decode_value, _checked(isinstance(value, Mapping), value, "an object")
        )
    return _PLAIN[hint]


def _own_form_decoder(hint: Any) -> _Decoder:
    def decode(value: Any) -> Any:
        try:
            return hint.from_json(value)
        except CorruptRecordError as error:
            raise _MismatchError(str(error)) from error

    return decode


@functools.cache
def _record_decoder(record_type: Any) -> _Decoder:
    hints = typing.get_type_hints(record_type)
    fields = [field for field in dataclasses.fields(record_type) if field.metadata != NEVER]
    decoders = {field.name: _decoder(hints[field.name]) for field in fields}
    needed = {field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING}
    former = frozenset(getattr(record_type, "FORMER_FIELDS", ()))

    def decode(document: Any) -> Any:
        _checked(isinstance(document, Mapping), document, "an object")
        if former and not former.isdisjoint(document):
            document = {key: value for key, value in document.items() if key not in former}
        if document.keys() != decoders.keys() and not needed <= document.keys() <= decoders.keys():
            if unknown := [key for key in document if key not in decoders]:
                raise _MismatchError(f"unknown field {', '.join(map(repr, unknown))}; known: {', '.join(decoders)}")
            missing = [repr(name) for name in decoders if name in needed and name not in document]
            raise _MismatchError(f"missing field {', '.join(missing)}")
        fields = _decode_items(decoders.__getitem__, document)
        try:
            return record_type(**fields)
        except (AssertionError, ValueError) as error:  # its fields do not fit together
            raise _MismatchError(str(error)) from error

    return decode


def _decode_items(decoder_of: Callable[[str], _Decoder], document: Mapping[str, Any]) -> dict[str, Any]:
    decoded, key = {}, ""
    try:
        for key, value in document.items():
            decoded[key] = decoder_of(key)(value)
    except _MismatchError as mismatch:
        mismatch.places.append(f".{key}")
        raise
    return decoded


def _tuple_decoder(decode_item: _Decoder) -> _Decoder:
    def decode(value: Any) -> Any:
        _checked(isinstance(value, list), value, "a list")
        decoded: list[Any] = []
        try:
            for item in value:
                decoded.append(decode_item(item))  # noqa: PERF401 - their number says where it failed
        except _MismatchError as mismatch:
            mismatch.places.append(f"[{len(decoded)}]")
            raise
        return tuple(decoded)

    return decode


def _decode_float(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, str) and value in _NON_FINITE:
        return _NON_FINITE[value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(_checked(is_number, value, 'a number, "nan", "inf" or "-inf"'))


_PLAIN: dict[Any, _Decoder] = {
    float: _decode_float,
    int: lambda value: _checked(isinstance(value, int) and not isinstance(value, bool), value, "a whole number"),
    str: lambda value: _checked(isinstance(value, str), value, "a text"),
    bool: lambda value: _checked(isinstance(value, bool), value, "true or false"),
}


def _checked(is_right: bool, value: Any, expected: str) -> Any:
    if not is_right:
        raise _MismatchError(f"expected {expected}, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """Return a JSON value as YAML would write it, shortened; text is in quotes.

    >>> shown([1e-8, None, "no"])
    "[1e-08, null, 'no']"
    """

    def flow(value: Any) -> str:
        if isinstance(value, str):
            return repr(value)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(flow, value))}]"
        return json.dumps(value)

    text = flow(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
