"""Load a spec: a file, a text or a stored one; put overrides into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epsgrid.codec import shown
from epsgrid.spec.checking import check
from epsgrid.spec.model import Spec
from epsgrid.spec.reading import Document, FieldPath, Place, Problem, ProblemsError, dotted, read, read_value


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Load a spec from a YAML file; overrides are `key=value` texts as in `parse_spec`. Torch is not imported for it.

    Raises SpecError where it cannot be read or used, with a line for each problem: line, column and dotted field.
    """
    try:
        return parse_spec(Path(path).read_text("utf-8-sig"), str(path), overrides)
    except OSError as error:
        problem = f"cannot read the spec: {error.strerror or error}"
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"not UTF-8 (byte 0x{error.object[error.start]:02x} in line {line}); save it as UTF-8"
    raise ProblemsError(Problem(Place(str(path)), "", problem))


def parse_spec(text: str, source: str = "<spec>", overrides: Sequence[str] = ()) -> Spec:
    """Return the spec of a YAML text; `source` is its name in messages.

    Overrides are `key=value` texts, the last one winning. A key is dotted, and an index names an entry of a list:
    `sweep.seeds.0=5`. The value is YAML, as in the file: `optimizer.betas=[0.9, 0.98]`. A whole section may be
    replaced: `model=mlp`. Raises as `load_spec`.
    """
    document = read(text, source)
    _expand(document)
    for override in overrides:
        place = Place(f"-o {override}")
        try:
            _override(document, override, place)
        except ProblemsError as error:
            document.problems += error.problems
        _expand(document)
    return check(document)


def spec_from_json(values: Mapping[str, Any], source: str) -> Spec:
    """Return the spec that was stored as `spec.model_dump(mode="json")` in a file, `source`.

    Raises SpecError where the values are no spec, or its plug-ins are not there.
    """
    values = dict(values)
    for section, gone in (("execution", "keep_checkpoints"), ("probe", "beta2")):  # keys that earlier versions stored
        if isinstance(stored := values.get(section), Mapping):
            values[section] = {key: value for key, value in stored.items() if key != gone}
    if isinstance(stored := values.get("sweep"), Mapping):
        values["sweep"] = {"bounds": "published", **stored}  # the only ones that earlier versions had
    return check(Document(source, values))


_SHORT = {("task",): "name", ("model",): "name", ("optimizer",): "name", ("training", "schedule"): "kind"}
"""The groups of settings that may be a text alone, and the key that it stands for."""


def _expand(document: Document) -> None:
    """Write out short forms: `model: mlp` is `model: {name: mlp}`."""
    for (*outer, last), key in _SHORT.items():
        group = document.values
        for name in outer:
            group = group.get(name) if isinstance(group, dict) else None
        if isinstance(group, dict) and isinstance(text := group.get(last), str):
            path = (*outer, last)
            group[last] = {key: text}
            place = document.place_of_value(path)
            document.marks[*path, key] = (place, place)


def _override(document: Document, override: str, place: Place) -> None:
    """Put one override into a document."""

    def refused(message: str) -> ProblemsError:
        return ProblemsError(Problem(place, dotted(path), message))

    path: FieldPath = ()
    key, equals, text = override.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        what = "a dotted key is missing" if equals else "there is no value"
        raise refused(f"{what}; an override is key=value, such as training.epochs=2")
    value = read_value(text, place.source)
    document.problems += value.problems
    inside = outer = document.values
    for part in keys:
        step: str | int = part
        outer = inside
        if isinstance(outer, list):
            if not (part.isascii() and part.isdecimal()):
                raise refused(f"is a list: expected an index, counted from 0, got {part!r}")
            if len(part) > len(str(len(outer))) or int(part) >= len(outer):
                raise refused(f"there is no entry {part}: it has {len(outer)}, counted from 0")
            step = int(part)
            inside = outer[step]
        elif isinstance(outer, dict):
            inside = outer.setdefault(part, {})
        else:
            raise refused(f"is {shown(outer)} and has no keys; set it as a whole")
        path = (*path, step)
        document.marks.setdefault(path, (place, place))
    outer[path[-1]] = value.values
    # Values inside the new one have the place of the override.
    document.marks = {there: mark for there, mark in document.marks.items() if there[: len(path)] != path}
    document.marks[path] = (place, place)
