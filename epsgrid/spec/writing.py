"""Print the effective spec as YAML that reads back as the same spec."""

from __future__ import annotations

from typing import Any

import yaml

from epsgrid.spec.model import Spec
from epsgrid.spec.reading import LIST_TAG, TEXT_TAG, add_bare_words


def spec_to_yaml(spec: Spec) -> str:
    """Return the spec with every default filled in, as YAML, in the order of its fields.

    Numbers are written so that any YAML reader takes them for numbers (`1.0e-08`), and texts that a reader could take
    for something else are in quotes. Parsing the result gives an equal spec.
    """
    return yaml.dump(spec.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


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
