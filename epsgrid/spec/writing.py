"""Print the effective spec as YAML that reads back as the same spec."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from epsgrid.spec.model import Spec
from epsgrid.spec.reading import LIST_TAG, TEXT_TAG, add_bare_words

_WIDTH = 100
_KEY = re.compile(r"( *)([A-Za-z_][A-Za-z0-9_]*):(?: |$)")


def spec_to_yaml(spec: Spec, comments: Mapping[str, str] | None = None, heading: Sequence[str] = ()) -> str:
    """Return the spec with every default filled in, as YAML, in the order of its fields.

    Numbers are written so that any YAML reader takes them for numbers (`1.0e-08`), and texts that a reader could take
    for something else are in quotes. Parsing the result gives an equal spec.

    Args:
        spec: the spec.
        comments: a comment to write above a field, by its dotted name; fields inside of lists have none.
        heading: paragraphs of a comment at the top.
    """
    text = yaml.dump(spec.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    top = [line for paragraph in heading for line in _comment(paragraph, "")]
    return "".join(f"{line}\n" for line in (*top, *_commented(text.split("\n")[:-1], comments or {})))


def _commented(lines: Sequence[str], comments: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a YAML mapping, each comment above the line that begins its field."""
    above: list[tuple[int, str]] = []
    for line in lines:
        found = _KEY.match(line)
        if found:
            indent = found.group(1)
            above = [(depth, key) for depth, key in above if depth < len(indent)]
            above.append((len(indent), found.group(2)))
            yield from _comment(comments.get(".".join(key for _, key in above), ""), indent)
        yield line


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(text, _WIDTH - len(indent), break_long_words=False)]


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or our own rules would not read as text; writes short lists on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    on_one_line = not any(isinstance(item, dict | list) for item in items)
    return dumper.represent_sequence(LIST_TAG, items, flow_style=on_one_line)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # The library writes a next-line character (U+0085) unescaped, and then reads it back as a space.
    return dumper.represent_scalar(TEXT_TAG, text, style=None if text.isprintable() else '"')


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)
add_bare_words(_Dumper)
