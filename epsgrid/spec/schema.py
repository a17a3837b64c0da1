"""The JSON schema of a spec, for editors; the reference of all keys; the text of a first spec.

All three take what they say from the option classes: types and ranges, defaults, and the text below each field.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import GenerateJsonSchema

from epsgrid import plugins
from epsgrid.errors import SpecError
from epsgrid.spec.model import Spec

_Node = Mapping[str, Any]
"""A JSON schema, or a part of one."""

_FAMILIES = ("task", "model", "optimizer")
_WIDTH = 79
_KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}

_INTRODUCTION = """
A spec is a YAML file that says what to probe, sweep and report. `epsgrid init` writes one to start from, `epsgrid show
spec.yaml` prints one with every default filled in, and `-o training.epochs=2` changes a key for one call. Unknown keys
and values out of range are refused. In place of `{name: mlp}` it is enough to write `mlp`; a `name` may also be
`package.module:NAME`, a task, model or optimizer of your own.
"""


class _Own(BaseModel):
    """A plug-in of the user's own, with options of its own."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Field(pattern=":")]


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def spec_schema() -> dict[str, Any]:
    """Return the JSON schema of a spec; which options a task, a model or an optimizer has goes by its name."""
    sections: dict[str, Any] = {}
    for family in _FAMILIES:
        names, field = plugins.names(f"{family}s"), Spec.model_fields[family]
        choices: list[Any] = [Literal[names], Annotated[str, Field(pattern=":")], _Own]
        for name in names:
            its_name: Any = (Literal[name], ...)
            options = plugins.load(f"{family}s", name).Options
            choices.append(create_model(f"{family}.{name}", __base__=options, name=its_name))
        if not field.is_required():
            choices.append(None)
        sections[family] = (Union[tuple(choices)], field)  # noqa: UP007 - not known before
    document = _document(create_model("Spec", __base__=Spec, **sections))
    schedule = document["$defs"]["Training"]["properties"]["schedule"]  # also by its kind alone
    schedule["anyOf"] = [document["$defs"]["Schedule"]["properties"]["kind"], {"$ref": schedule.pop("$ref")}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def reference() -> str:
    """Return what a spec may say, in Markdown: every key with type, range, default and meaning."""
    document = _document(Spec)
    parts = ["# Spec reference", _wrapped(_INTRODUCTION)]
    for name, node in document["properties"].items():
        group = _group(document, node)
        if name in _FAMILIES:
            parts += [f"## {name}", _wrapped(node["description"]), *_plugin_parts(name)]
        elif group is None:
            parts += [f"## {name}", "\n".join(_entry(document, name, node, is_required=True))]
        else:
            parts += [f"## {name}", *map(_wrapped, group["description"].split("\n\n"))]
            parts.append("\n".join(_entries(document, group)))
    return "\n\n".join(parts) + "\n"


def first_spec(task: str, experiment: str) -> str:
    """Return the text of a spec for a task: what has to be said, and the defaults of the rest as comments.

    A task's file says by `START` what suits it better than the defaults, as in {"model": "lstm"}, where None leaves a
    section out. Raises UnknownNameError where there is no such task, SpecError where what it names is none.
    """
    plugin = plugins.load("tasks", task)
    if not hasattr(plugin, "Options"):
        raise SpecError(f"{task!r} has no class Options(TaskOptions), so it is no task")
    start: dict[str, Any] = {"model": "mlp", "optimizer": "adam", "training": {"epochs": 10}}
    start |= getattr(plugin, "START", {})
    document = _document(Spec)
    lines = [
        *_comment(
            "What epsgrid shall probe, sweep and report. A key behind a # is at its default: take the # away to change"
            " it. `epsgrid show --reference` has all keys, those of probe, observe and execution too."
        ),
        "",
        f"experiment: {experiment}",
    ]
    for section in (*_FAMILIES, "training", "sweep", "report"):
        given = start.get(section, {})
        if section == "task":
            given = {"name": task, **given}
        elif isinstance(given, str):
            given = {"name": given}
        if given is None:
            continue
        if section in _FAMILIES:
            options = _document(plugins.load(f"{section}s", given["name"]).Options)
            about, fields = _summary(section, given["name"]), list(_first_lines(options, options, given))
        else:
            group = _group(document, document["properties"][section])
            assert group is not None
            about, fields = group["description"], list(_first_lines(document, group, given))
        is_set = any(not line.startswith("  #") for line in fields)
        lines += ["", *_comment(about.partition("\n\n")[0]), f"{section}:" if is_set else f"#{section}:", *fields]
    return "\n".join(lines) + "\n"


def _first_lines(document: _Node, group: _Node, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a section of a first spec: each key below its comment, one at its default behind a #."""
    for name, node in _settable(group):
        if name == "name":
            yield f"  name: {given['name']}"
            continue
        yield from (f"  {line}" for line in _comment(_meaning(document, node).partition(". ")[0].rstrip(".")))
        if name in given or name in group.get("required", ()):
            yield f"  {name}: {_value(given[name] if name in given else node['examples'][0])}"
        elif "default" in node:
            yield f"  #{name}: {_value(node['default'])}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _plugin_parts(family: str) -> Iterator[str]:
    """Yield the names of a family and their options; those with the same options stand together."""
    alike: dict[str, list[str]] = {}
    for name in plugins.names(f"{family}s"):
        document = _document(plugins.load(f"{family}s", name).Options)
        alike.setdefault("\n".join(_entries(document, document)), []).append(name)
    for text, names in alike.items():
        yield f"### {family}: {', '.join(names)}"
        yield "\n".join(_wrapped(f"`{name}`: {_summary(family, name)}") + "\\" for name in names).removesuffix("\\")
        yield text or "It has no options."


def _document(options: type[BaseModel]) -> dict[str, Any]:
    return options.model_json_schema(schema_generator=_Untitled)


def _summary(family: str, name: str) -> str:
    return (inspect.getdoc(plugins.load(f"{family}s", name)) or "").partition("\n")[0]


def _settable(group: _Node) -> list[tuple[str, _Node]]:
    """Return the keys that have more than one value; others are kept for specs of earlier versions."""
    return [
        (name, node) for name, node in group["properties"].items() if "const" not in node and node.get("type") != "null"
    ]


def _entries(document: _Node, group: _Node) -> Iterator[str]:
    for name, node in _settable(group):
        if name != "name":
            yield from _entry(document, name, node, is_required=name in group.get("required", ()))


def _entry(document: _Node, name: str, node: _Node, *, is_required: bool) -> Iterator[str]:
    """Yield the lines of a key, and behind it those of the keys that it groups."""
    group = _group(document, node)
    about = [_kind(document, node)] if group is None else []
    if is_required:
        about.append("required")
    elif "default" in node and (group is None or node["default"] is None):
        about.append(f"default {_value(node['default'])}")
    note = f" ({'; '.join(about)})" if about else ""
    meaning = _meaning(document, node)
    yield textwrap.indent(_wrapped(f"* `{name}`{note}{': ' if meaning else ''}{meaning}"), "  ")[2:]
    if group is not None:
        yield from (textwrap.indent(line, "  ") for line in _entries(document, group))


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH - 2, break_long_words=False, break_on_hyphens=False)


def _group(document: _Node, node: _Node) -> _Node | None:
    """Return the schema of the group of keys that a key stands for; None where it has a plain value."""
    for choice in node.get("anyOf", [node]):
        if "$ref" in choice:
            group: _Node = document["$defs"][choice["$ref"].rpartition("/")[2]]
            return group
    return None


def _meaning(document: _Node, node: _Node) -> str:
    group = _group(document, node) or {}
    return " ".join(" ".join(filter(None, (group.get("description"), node.get("description")))).split())


def _kind(document: _Node, node: _Node) -> str:
    """Return the type of a plain value, its range and its choices, in words."""
    if "anyOf" in node:
        return " or ".join(_kind(document, choice) for choice in node["anyOf"])
    if "enum" in node or "const" in node:
        return " or ".join(map(_value, node.get("enum", [node.get("const")])))
    if node["type"] == "array":
        if "prefixItems" in node:
            return f"[{', '.join(_kind(document, each) for each in node['prefixItems'])}]"
        return f"list of {_kind(document, node['items'])}"
    if node["type"] == "object":
        return f"mapping of names to {_kind(document, node['additionalProperties'])}"
    low, high = node.get("minimum", node.get("exclusiveMinimum")), node.get("maximum", node.get("exclusiveMaximum"))
    kind = _KINDS[node["type"]]
    up = "≤" if "maximum" in node else "<"
    if low is not None and high is not None:
        return f"{_value(low)} {'≤' if 'minimum' in node else '<'} {kind} {up} {_value(high)}"
    if low is not None:
        return f"{kind} {'≥' if 'minimum' in node else '>'} {_value(low)}"
    return kind if high is None else f"{kind} {up} {_value(high)}"


def _value(value: object) -> str:
    """Write a value as in a spec, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and (value == 0 or 0.1 <= value < 1000):
        return f"{value:g}"
    if isinstance(value, float):
        mantissa, exponent = f"{value:e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return value if isinstance(value, str) else json.dumps(value)
