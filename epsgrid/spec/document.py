"""A spec between reading and checking: plain values, and where each of them stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from epsgrid.spec.problems import FieldPath, Place, Problem


@dataclass(frozen=True)
class Mark:
    """Where a field's key and its value stand; for an entry of a list both are the entry's place."""

    key: Place
    value: Place


@dataclass(frozen=True)
class Document:
    """Values that may be anything, their places, and what was already found to be wrong.

    Attributes:
        source: the file's name, for what has no place of its own.
        values: plain JSON values; a mapping where all is well.
        marks: places by path; absent for values that no text stands behind.
        problems: found so far.
    """

    source: str
    values: Any
    marks: Mapping[FieldPath, Mark] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def place_of_value(self, path: FieldPath) -> Place:
        """Return where a value stands; for what is not there, the key it should stand under."""
        mark = self.marks.get(path)
        return self.place_of_key(path) if mark is None else mark.value

    def place_of_key(self, path: FieldPath) -> Place:
        """Return where a key stands; for what is not there, the nearest key around it."""
        around = (self.marks.get(path[:length]) for length in range(len(path), 0, -1))
        return next((mark.key for mark in around if mark is not None), Place(self.source))

    def existing(self, path: FieldPath) -> FieldPath:
        """Return the longest beginning of a path that has a value."""
        value = self.values
        for depth, part in enumerate(path):
            if not has_part(value, part):
                return path[:depth]
            value = value[part]
        return path

    def with_value(self, path: FieldPath, value: Any, marks: Mapping[FieldPath, Mark], mark: Mark) -> Document:
        """Return the document with one value put in or replaced.

        Args:
            path: where; all but its last part must exist or lead into mappings yet to be made.
            value: what.
            marks: places inside `value`, by path from `path` on.
            mark: place of the value itself and of mappings made for it.
        """
        kept = {there: old for there, old in self.marks.items() if there[: len(path)] != path}
        made = {path[:length]: mark for length in range(1, len(path) + 1) if path[:length] not in kept}
        inside = {(*path, *there): new for there, new in marks.items()}
        return replace(self, values=_put(self.values, path, value), marks={**kept, **made, **inside})

    def with_problems(self, *problems: Problem) -> Document:
        """Return the document with more problems told."""
        return replace(self, problems=(*self.problems, *problems))


def has_part(value: Any, part: str | int) -> bool:
    """Return whether a value is a mapping with this key, or a list with this index."""
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)


def _put(values: Any, path: FieldPath, value: Any) -> Any:
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(values, list):
        assert isinstance(part, int), path
        return [_put(item, rest, value) if index == part else item for index, item in enumerate(values)]
    assert isinstance(values, dict), path
    return {**values, part: _put(values.get(part, {}), rest, value)}
