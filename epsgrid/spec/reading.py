"""Read YAML text into plain values with their places in the text.

PyYAML parses the text; the values are made here, because PyYAML keeps the last of two equal keys without a word and
follows YAML 1.1, where `1e-8` is text, `no` is false, `010` is 8, `1_000` is 1000 and `1:30` is 90. Here a number is a
decimal number, with or without exponent; true and false are spelled so; everything else is text. Aliases are refused: a
spec is short enough to be written out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from epsgrid.codec import shown
from epsgrid.errors import SpecError

_MAX_DEPTH = 50

FieldPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
TEXT_TAG, LIST_TAG = f"{_TAG}str", f"{_TAG}seq"
_TAGS = {yaml.ScalarNode: TEXT_TAG, yaml.SequenceNode: LIST_TAG, yaml.MappingNode: f"{_TAG}map"}

_WHOLE = r"(?:0|[1-9][0-9]*)"
_DECIMAL = rf"[-+]?(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_WORDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", lambda word: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda word: word.lower() == "true"),
    "int": (rf"[-+]?{_WHOLE}", int),
    "float": (
        rf"{_DECIMAL}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        lambda word: float(re.sub(r"\.([in])", r"\1", word.lower())),
    ),
}
"""Bare words that are not text: by kind, a pattern of the whole word and a function that returns its value."""


def add_bare_words(yaml_class: type[yaml.resolver.BaseResolver]) -> None:
    """Make a loader or dumper of PyYAML take the same bare words as a spec for numbers, truth values and null."""
    for kind, (pattern, _) in _WORDS.items():
        yaml_class.add_implicit_resolver(_TAG + kind, re.compile(rf"(?:{pattern})\Z"), None)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - so the library declares it

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            message = f"*{event.anchor} stands for another value, and a spec has no such references; write it out"
            raise yaml.MarkedYAMLError(problem=message, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


add_bare_words(_Loader)


@dataclass(frozen=True)
class Place:
    """A place: a file or an override as it was typed, with line and column, counted from 1, where there are several."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, in which dotted field ("" for the whole), and how to correct it."""

    place: Place
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), self.field, self.message) if part)


class ProblemsError(SpecError):
    """All problems of a spec, a line each: in the order of the file, then those of overrides."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        ordered = sorted(problems, key=lambda problem: (problem.place.line or 0, problem.place.column or 0))
        ordered.sort(key=lambda problem: problem.place.source.startswith("-o "))
        super().__init__("\n".join(dict.fromkeys(map(str, ordered))))


@dataclass
class Document:
    """A spec between reading and checking: plain JSON values, the places of key and value by path, problems so far."""

    source: str
    values: Any
    marks: dict[FieldPath, tuple[Place, Place]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place_of_value(self, path: FieldPath) -> Place:
        """Return where a value is; for one that is missing, the key under which it should be."""
        return self.marks[path][1] if path in self.marks else self.place_of_key(path)

    def place_of_key(self, path: FieldPath) -> Place:
        """Return where a key is; for one that is missing, the nearest key around it."""
        around = (self.marks.get(path[:length]) for length in range(len(path), 0, -1))
        return next((mark[0] for mark in around if mark is not None), Place(self.source))


def read(text: str, source: str) -> Document:
    """Read a whole spec.

    Raises ProblemsError where it is not YAML, not one mapping, or nested too deep. Repeated keys and unreadable values
    are kept in the document's problems instead, to be reported with all others.
    """
    document = _read(text, source, lambda mark: Place(source, mark.line + 1, mark.column + 1))
    if document.values is None:
        raise ProblemsError(Problem(Place(source), "", "the spec is empty; it needs experiment, task, model, …"))
    if not isinstance(document.values, dict):
        message = f"a spec is a mapping of keys to values, got {shown(document.values)}"
        raise ProblemsError(Problem(document.place_of_value(()), "", message))
    return document


def read_value(text: str, source: str) -> Document:
    """Read one value of any kind, such as the right-hand side of an override; errors as `read`, all at `source`."""
    return _read(text, source, lambda mark: Place(source))


def _read(text: str, source: str, place: Callable[[yaml.Mark], Place]) -> Document:
    def refused(where: Place, message: str) -> ProblemsError:
        return ProblemsError(Problem(where, "", message))

    try:
        nodes = yaml.compose_all(text, Loader=_Loader)
        root, second = next(nodes, None), next(nodes, None)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(part) for part in (error.context, error.problem) if part)
        hint = "; put the text in quotes" if "cannot start any token" in said else ""
        hint = "; indent with spaces" if "'\\t'" in said else hint
        raise refused(Place(source) if mark is None else place(mark), f"not valid YAML: {said}{hint}") from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = yaml.Mark("", error.position, before.count("\n"), len(before) - before.rfind("\n") - 1, None, 0)
        message = f"not valid YAML: the character {chr(error.character)!r} is not allowed"
        raise refused(place(mark), message) from error
    except (ValueError, OverflowError) as error:  # from an escape such as "\Uffffffff"
        raise refused(Place(source), f"not valid YAML: {error}") from error
    except RecursionError as error:
        raise refused(Place(source), f"nested more than {_MAX_DEPTH} deep") from error
    if second is not None:
        raise refused(place(second.start_mark), "a second YAML document begins here; a spec is one document")
    builder = _Builder(Document(source, None), place)
    builder.document.values = None if root is None else builder.value(root, (), root)
    return builder.document


class _Builder:
    """Turns nodes into plain values; keeps their places and problems in a document."""

    def __init__(self, document: Document, place: Callable[[yaml.Mark], Place]) -> None:
        self.document, self._place = document, place

    def value(self, node: yaml.Node, path: FieldPath, key: yaml.Node) -> Any:
        if len(path) > _MAX_DEPTH:
            raise ProblemsError(Problem(self._place(node.start_mark), "", f"nested more than {_MAX_DEPTH} deep"))
        at_key = self._place(key.start_mark)
        is_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
        self.document.marks[path] = (at_key, at_key if is_block else self._place(node.start_mark))
        kind = node.tag.removeprefix(_TAG)
        is_word = isinstance(node, yaml.ScalarNode) and kind in _WORDS
        if not is_word and node.tag != _TAGS[type(node)]:
            self._report(node, path, f"the tag {shown(node.tag)} means nothing in a spec; remove it")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index), item) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if not is_word:
            return str(node.value)
        pattern, convert = _WORDS[kind]
        try:
            if not re.fullmatch(pattern, node.value):  # such as `!!int 0x10`
                raise ValueError(f"not a plain {kind}")
            return convert(node.value)
        except ValueError as error:
            return self._report(node, path, f"cannot read {shown(node.value)}: {error}")

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in node.value:
            there = (*path, str(key.value))
            if key.tag != TEXT_TAG:
                self._report(key, path, "a key must be a plain name; put a number or a word like null in quotes")
            elif key.value in found:
                self._report(key, there, f"repeated key; it stands first at {self.document.marks[there][0]}")
            else:
                found[key.value] = self.value(item, there, key)
        return found

    def _report(self, node: yaml.Node, path: FieldPath, message: str) -> None:
        self.document.problems.append(Problem(self._place(node.start_mark), dotted(path), message))


def dotted(path: FieldPath) -> str:
    """Return a field's name as it is written in messages and overrides.

    >>> dotted(("sweep", "seeds", 0))
    'sweep.seeds.0'
    """
    return ".".join(map(str, path))


def why_not_a_number(text: str) -> str:
    """Return how to write a text as the number it was probably meant to be; empty where we cannot tell.

    >>> why_not_a_number("1_000")
    'a number has no underscores: write 1000'
    """
    if re.fullmatch(_DECIMAL, text):
        return "it is in quotes: remove them"
    bare = text.replace("_", "")
    return f"a number has no underscores: write {bare}" if re.fullmatch(_DECIMAL, bare) else ""
