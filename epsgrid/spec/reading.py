"""Read YAML text into plain values with their places.

The library's parser is used, its construction of values is not: it keeps the last of two equal keys without a word and
follows YAML 1.1 in what a bare word is. Anchors, aliases and merge keys work as usual, within limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from epsgrid.spec import scalars
from epsgrid.spec.document import Document, Mark
from epsgrid.spec.problems import FieldPath, Place, Problem, ProblemsError, dotted, shown

MAX_DEPTH = 50
MAX_REPEATS = 10_000


def read(text: str, source: str) -> Document:
    """Read a whole spec.

    Args:
        text: YAML.
        source: the file's name, for messages.

    Raises:
        ProblemsError: not YAML, not one mapping, nested or repeated beyond measure. Repeated keys and unreadable values
            are kept in the document's problems instead, so that they can be told with all others.
    """

    def place(mark: yaml.Mark) -> Place:
        return Place(source, mark.line + 1, mark.column + 1)

    document = _read(text, source, place)
    if document.values is None:
        raise ProblemsError(Problem(Place(source), "", "the spec is empty; it needs experiment, task, model, …"))
    if not isinstance(document.values, dict):
        message = f"a spec is a mapping of keys to values, got {shown(document.values)}"
        raise ProblemsError(Problem(document.place_of_value(()), "", message))
    return document


def read_value(text: str, source: str) -> Document:
    """Read one value, such as the right-hand side of an override; its places are all `source`.

    Raises:
        ProblemsError: as `read`, except that any value will do.
    """
    return _read(text, source, lambda mark: Place(source))


def _read(text: str, source: str, place: Callable[[yaml.Mark], Place]) -> Document:
    root = _compose(text, source, place)
    builder = _Builder(source, place)
    values = None if root is None else builder.value(root, ())
    return Document(source, values, builder.marks, tuple(builder.problems))


def _compose(text: str, source: str, place: Callable[[yaml.Mark], Place]) -> yaml.Node | None:
    """Return the root of the only YAML document in a text."""
    try:
        nodes = yaml.compose_all(text, Loader=_Loader)
        first, second = next(nodes, None), next(nodes, None)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Place(source) if mark is None else place(mark)
        raise ProblemsError(Problem(where, "", f"not valid YAML: {_said(error)}")) from error
    except yaml.reader.ReaderError as error:
        where = place(_mark_at(text, error.position))
        message = f"not valid YAML: the character {chr(error.character)!r} is not allowed"
        raise ProblemsError(Problem(where, "", message)) from error
    except (ValueError, OverflowError) as error:  # from an escape such as "\Uffffffff"
        raise ProblemsError(Problem(Place(source), "", f"not valid YAML: {error}")) from error
    if second is not None:
        raise ProblemsError(
            Problem(place(second.start_mark), "", "a second YAML document begins here; a spec is one document")
        )
    return first


def _said(error: yaml.MarkedYAMLError) -> str:
    hint = "; indent with spaces" if "'\\t'" in str(error.problem) else ""
    hint = "; put the text in quotes" if "cannot start any token" in str(error.problem) and not hint else hint
    return " ".join(str(part) for part in (error.context, error.problem) if part) + hint


def _mark_at(text: str, position: int) -> yaml.Mark:
    before = text[:position]
    line, column = before.count("\n"), position - (before.rfind("\n") + 1)
    return yaml.Mark("", position, line, column, None, 0)


class _Loader(yaml.SafeLoader):
    """Knows our bare words only, and stops at a depth nobody needs."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - so the library declares it
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _rule in scalars.RULES:
    _Loader.add_implicit_resolver(_rule.tag, _rule.pattern, None)
_Loader.add_implicit_resolver(scalars.MERGE_TAG, scalars.MERGE, None)

_Entries = dict[str, tuple[yaml.Node, yaml.Node]]


class _Builder:
    """Turns nodes into plain values; keeps their places and what is wrong with them."""

    def __init__(self, source: str, place: Callable[[yaml.Mark], Place]) -> None:
        self.source, self.place = source, place
        self.marks: dict[FieldPath, Mark] = {}
        self.problems: list[Problem] = []
        self._open: list[yaml.Node] = []
        self._seen: set[int] = set()
        self._repeats = 0

    def value(self, node: yaml.Node, path: FieldPath, key: yaml.Node | None = None) -> Any:
        with self._inside(node):
            self._mark(node, path, key)
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            if isinstance(node, yaml.SequenceNode):
                self._check_tag(node, path, scalars.LIST_TAG)
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode), node
            entries = self._entries(node, path)
            return {name: self.value(item, (*path, name), key) for name, (key, item) in entries.items()}

    def _mark(self, node: yaml.Node, path: FieldPath, key: yaml.Node | None) -> None:
        at_key = self.place((key or node).start_mark)
        is_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
        self.marks[path] = Mark(at_key, at_key if is_block else self.place(node.start_mark))

    def _scalar(self, node: yaml.ScalarNode, path: FieldPath) -> scalars.Scalar:
        rule = next((rule for rule in scalars.RULES if rule.tag == node.tag), None)
        if rule is None:
            self._check_tag(node, path, scalars.TEXT_TAG)
            return self._text(node, path)
        try:
            return rule.read(node.value)
        except ValueError as error:
            self._tell(node, path, f"cannot read {shown(node.value)}: {error}")
            return None

    def _text(self, node: yaml.Node, path: FieldPath) -> str:
        text = str(node.value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._tell(node, path, f"half of a surrogate pair is no text: {node.value!a}")
            return "?"
        return text

    def _entries(self, node: yaml.MappingNode, path: FieldPath) -> _Entries:
        """Return a mapping's keys and values, merged ones last."""
        self._check_tag(node, path, scalars.MAPPING_TAG)
        entries: _Entries = {}
        merges: list[tuple[yaml.Node, yaml.Node]] = []
        for key, item in node.value:
            if key.tag == scalars.MERGE_TAG:
                merges.append((key, item))
            elif key.tag != scalars.TEXT_TAG:
                self._tell(key, path, "a key must be a plain name; put a number or a word like null in quotes")
            elif (name := self._text(key, path)) in entries:
                first = self.place(entries[name][0].start_mark)
                self._tell(key, (*path, name), f"repeated key; it stands first at {first}")
            else:
                entries[name] = (key, item)
        for key, _ in merges[1:]:
            self._tell(key, path, "repeated key <<; give one list: <<: [*first, *second]")
        for _, item in merges[:1]:
            entries = {**self._merged(item, path), **entries}
        return entries

    def _merged(self, node: yaml.Node, path: FieldPath) -> _Entries:
        with self._inside(node):
            if isinstance(node, yaml.MappingNode):
                return self._entries(node, path)
            if isinstance(node, yaml.SequenceNode):
                merged: _Entries = {}
                for item in node.value:
                    merged = {**self._merged(item, path), **merged}
                return merged
        self._tell(node, path, "<<: takes a mapping or a list of mappings")
        return {}

    @contextmanager
    def _inside(self, node: yaml.Node) -> Iterator[None]:
        """Refuse what contains itself, is too deep, or multiplies by aliases; such a spec is not read further."""
        self._repeats += id(node) in self._seen
        self._seen.add(id(node))
        problem = ""
        if any(node is outer for outer in self._open):
            problem = "it contains itself by way of an alias"
        elif len(self._open) >= MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} deep"
        elif self._repeats > MAX_REPEATS:
            problem = f"aliases repeat more than {MAX_REPEATS:,} values"
        if problem:
            raise ProblemsError(Problem(self.place(node.start_mark), "", problem))
        self._open.append(node)
        yield
        self._open.pop()

    def _check_tag(self, node: yaml.Node, path: FieldPath, expected: str) -> None:
        if node.tag != expected:
            self._tell(node, path, f"the tag {shown(node.tag)} means nothing in a spec; remove it")

    def _tell(self, node: yaml.Node, path: FieldPath, message: str) -> None:
        self.problems.append(Problem(self.place(node.start_mark), dotted(path), message))
