"""Put `key=value` texts from the command line into a spec."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from typing import Any

from epsgrid.spec.document import Document, Mark, has_part
from epsgrid.spec.problems import FieldPath, Place, Problem, ProblemsError, dotted, shown
from epsgrid.spec.reading import read_value

PLUGIN_SECTIONS = ("task", "model", "optimizer")


def apply(document: Document, overrides: Sequence[str]) -> Document:
    """Return the document with the overrides put in, the last one winning, and plug-in sections written out.

    A key is dotted, and an index names an entry of a list: `sweep.seeds.0=5`. The value is YAML, as in the file:
    `optimizer.betas=[0.9, 0.98]`. A whole section may be replaced: `model=mlp`. What is wrong with an override is
    kept in the document's problems.
    """
    return reduce(_apply_one, overrides, expand(document))


def expand(document: Document) -> Document:
    """Write out the short form of plug-in sections: `model: mlp` is `model: {name: mlp}`."""
    for section in PLUGIN_SECTIONS:
        name = document.values.get(section)
        if isinstance(name, str):
            mark = Mark(document.place_of_key((section,)), document.place_of_value((section,)))
            inside: dict[FieldPath, Mark] = {("name",): Mark(mark.value, mark.value)}
            document = document.with_value((section,), {"name": name}, inside, mark)
    return document


def _apply_one(document: Document, override: str) -> Document:
    place = Place(f"-o {override}")
    try:
        keys, text = _split(override, place)
        value = read_value(text, place.source)
        path = _resolve(document.values, keys, place)
    except ProblemsError as error:
        return document.with_problems(*error.problems)
    mark = Mark(place, place)
    return expand(document.with_value(path, value.values, value.marks, mark).with_problems(*value.problems))


def _split(override: str, place: Place) -> tuple[list[str], str]:
    key, equals, text = override.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        what = "a dotted key is missing" if equals else "there is no value"
        raise ProblemsError(Problem(place, "", f"{what}; an override is key=value, such as training.epochs=2"))
    return keys, text


def _resolve(values: Any, keys: Sequence[str], place: Place) -> FieldPath:
    """Return the path that dotted keys mean: in a list they are indices."""
    path: FieldPath = ()
    for key in keys:
        if isinstance(values, list):
            path = (*path, _index(values, key, dotted(path), place))
        elif isinstance(values, dict):
            path = (*path, key)
        else:
            raise ProblemsError(Problem(place, dotted(path), f"is {shown(values)} and has no keys; set it as a whole"))
        values = values[path[-1]] if has_part(values, path[-1]) else {}
    return path


def _index(values: list[Any], key: str, field: str, place: Place) -> int:
    if not re.fullmatch("[0-9]{1,9}", key):
        raise ProblemsError(Problem(place, field, f"is a list: expected an index, counted from 0, got {key!r}"))
    if int(key) >= len(values):
        raise ProblemsError(Problem(place, field, f"there is no entry {key}: it has {len(values)}, counted from 0"))
    return int(key)
