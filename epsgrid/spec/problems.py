"""What can be wrong with a spec, and where: one line per problem, all of them at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from epsgrid.errors import SpecError

FieldPath = tuple[str | int, ...]
_SHOWN = 60


@dataclass(frozen=True)
class Place:
    """Where something stands: in a file, or in an override.

    Attributes:
        source: the file, or the override as it was typed.
        line: counted from 1; None where a line says nothing.
        column: counted from 1, likewise.
    """

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: where it stands.
        field: the dotted field; empty where it concerns the whole.
        message: what was expected, what came, how to mend it.
    """

    place: Place
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), self.field, self.message) if part)


class ProblemsError(SpecError):
    """Everything that is wrong with a spec; the message has one line per problem.

    The lines are in the order of the file, those of overrides last; what is said twice is told once.
    """

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        ordered = sorted(problems, key=lambda problem: (problem.place.line or 0, problem.place.column or 0))
        ordered.sort(key=lambda problem: problem.place.source.startswith("-o "))
        super().__init__("\n".join(dict.fromkeys(map(str, ordered))))


def dotted(path: FieldPath) -> str:
    """Return a field's name as it is written in messages and overrides.

    >>> dotted(("sweep", "seeds", 0))
    'sweep.seeds.0'
    """
    return ".".join(map(str, path))


def shown(value: Any) -> str:
    """Return a value as a spec would have it, shortened; text is in quotes.

    >>> shown([1e-8, None, "no"])
    "[1e-08, null, 'no']"
    """
    text = _flow(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _flow(value: Any) -> str:
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    return json.dumps(value)
