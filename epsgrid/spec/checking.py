"""From plain values to the typed model; pydantic finds what is wrong, and the messages here name place and field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model
from pydantic_core import ErrorDetails

from epsgrid import plugins
from epsgrid.codec import shown
from epsgrid.errors import UnknownNameError
from epsgrid.spec.model import Spec
from epsgrid.spec.options import CallableOptions, ModelOptions, OptimizerOptions, PluginOptions, TaskOptions
from epsgrid.spec.reading import Document, FieldPath, Problem, ProblemsError, dotted, why_not_a_number

_OPTIONS: dict[str, type[PluginOptions]] = {"task": TaskOptions, "model": ModelOptions, "optimizer": OptimizerOptions}
_LEARNING_RATE = "the sweep varies the learning rate: see sweep.learning_rates"
_EPSILON = "the sweep varies ε: see sweep.grid, and sweep.default_epsilon for the one to compare with"
_VARIED = {"lr": _LEARNING_RATE, "learning_rate": _LEARNING_RATE, "eps": _EPSILON, "epsilon": _EPSILON}


def check(document: Document) -> Spec:
    """Return the spec of a document, defaults filled in.

    The options of the task, model and optimizer are checked by the classes of their plug-ins. Raises ProblemsError
    where anything is wrong; all problems are reported at once.
    """
    problems = list(document.problems)

    def report(path: FieldPath, message: str) -> None:
        problems.append(Problem(document.place_of_value(path), dotted(path), message))

    # The plug-ins' own option classes take the place of the general ones, so that errors have the right paths.
    fields: dict[str, Any] = dict.fromkeys(_OPTIONS, (Any, ...))
    for section in _OPTIONS:
        if section == "model" and getattr(fields["task"][0], "trains_itself", False):
            if document.values.get(section) is not None:
                report((section,), f"task {document.values['task']['name']!r} trains a model of its own; remove this")
            fields[section] = (None, None)
        elif (options := _options_of(document, section, report)) is not None:
            fields[section] = (options, ...)
            if issubclass(options, TaskOptions):
                source = Path(document.source)
                options.settle(document.values, source.parent if source.is_file() else Path())
    execution = document.values.get("execution")
    if isinstance(execution, dict) and isinstance(execution.get("executor"), str):
        try:
            plugins.check("executors", execution["executor"])
        except UnknownNameError as error:
            report(("execution", "executor"), str(error))
    optimizer, sweep = document.values.get("optimizer"), document.values.get("sweep")
    if fields["optimizer"][0] is not Any and isinstance(optimizer, dict) and isinstance(sweep, dict):
        plugin = plugins.load("optimizers", optimizer["name"])
        if getattr(plugin, "DEFAULT_EPSILON", 1e-8) is None and sweep.get("epsilons"):
            report(("sweep", "epsilons"), f"{optimizer['name']!r} has no ε; remove the list")
        if default := getattr(plugin, "DEFAULT_EPSILON", None):
            sweep.setdefault("default_epsilon", default)
    checker = create_model("Spec", __base__=Spec, **fields)
    try:
        # As JSON and strictly: a list will do for a tuple, but text is no number and a number no text.
        checked = checker.model_validate_json(json.dumps(document.values), strict=True)
    except ValidationError as error:
        problems += [
            _problem(document, checker, detail)
            for detail in error.errors(include_url=False)
            # A list can be too short only because its bad entries, reported on their own, were not counted; and a
            # default that depends on other fields waits for these to be right.
            if detail["type"] != "default_factory_not_called"
            and (detail["type"] != "too_short" or len(detail["input"]) < detail["ctx"]["min_length"])
        ]
    if problems:
        raise ProblemsError(*problems)
    return Spec(**{name: getattr(checked, name) for name in Spec.model_fields})


def _options_of(
    document: Document, section: str, report: Callable[[FieldPath, str], None]
) -> type[PluginOptions] | None:
    """Return the options class of the plug-in that a section names; None where it names none, which is reported."""
    values, path, base = document.values.get(section), (section, "name"), _OPTIONS[section]
    one_of = f"one of: {', '.join(plugins.names(f'{section}s'))}"
    if section not in document.values:
        return None  # reported as any missing key
    if not isinstance(values, dict):
        report((section,), f"expected a name, or a mapping with one, got {shown(values)}; {one_of}")
        return None
    if not isinstance(values.get("name"), str):
        came = f"expected text, got {shown(values['name'])}" if "name" in values else "required key is missing"
        report(path, f"{came}; {one_of}")
        return None
    if ":" in values["name"]:
        for folder in (Path(document.source).parent, Path()):
            plugins.look_in(str(folder.resolve()))
    try:
        plugin = plugins.load(f"{section}s", values["name"])
    except UnknownNameError as error:
        report(path, str(error))
        return None
    options = getattr(plugin, "Options", None)
    if isinstance(options, type) and issubclass(options, base):
        return options
    if section == "model" and callable(plugin):
        return CallableOptions
    report(path, f"{values['name']!r} has no class Options({base.__name__}), so it is no {section}")
    return None


def _problem(document: Document, checker: type[Spec], detail: ErrorDetails) -> Problem:
    """Return an error of pydantic as a problem at its place."""
    path: FieldPath = ()
    value = document.values
    for part in detail["loc"]:  # which also names the branches of unions
        is_index = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not is_index and not (isinstance(value, dict) and part in value):
            break
        path, value = (*path, part), value[part]
    if detail["type"] == "missing":
        path = (*path, detail["loc"][-1])
        what = "entry of the list" if isinstance(path[-1], int) else "key"
        return Problem(document.place_of_key(path), dotted(path), f"required {what} is missing")
    if detail["type"] == "extra_forbidden":
        return Problem(document.place_of_key(path), dotted(path), _unknown_key(checker, path))
    return Problem(document.place_of_value(path), dotted(path), _message(detail))


def _unknown_key(checker: type[Spec], path: FieldPath) -> str:
    key, allowed = str(path[-1]), tuple(_model_at(checker, path[:-1]).model_fields)
    if path[0] == "optimizer" and key in _VARIED:
        return f"unknown key; {_VARIED[key]} (allowed: {', '.join(allowed)})"
    elsewhere = (f"{name}.{key}" for name in checker.model_fields if key in _model_at(checker, (name,)).model_fields)
    close = plugins.nearest(key, allowed) or next(elsewhere, None)
    hint = f"; did you mean {close!r}?" if close else ""
    return f"unknown key{hint} (allowed: {', '.join(allowed)})"


def _model_at(model: type[BaseModel], path: FieldPath) -> type[BaseModel]:
    """Return the class of the group of settings that a path leads to; a class without fields where there is none."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None:  # an index stays within the field it belongs to
            model = next(_models_in(field.annotation), BaseModel)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _message(detail: ErrorDetails) -> str:
    """Return an error of pydantic in the terms of a spec."""
    kind, came = detail["type"], detail["input"]
    got = f"got {shown(came)}"
    if kind in ("int_type", "int_from_float", "int_parsing", "float_type", "float_parsing"):
        hint = why_not_a_number(came) if isinstance(came, str) else ""
        what = "a whole number" if kind.startswith("int") else "a number"
        return f"expected {what}, {got}" + (f"; {hint}" if hint else "")
    if kind == "literal_error":
        what = detail["ctx"]["expected"]
        close = plugins.nearest(str(came), re.findall("'([^']*)'", what))
        return f"expected {what}, {got}" + (f"; did you mean {close!r}?" if close else "")
    if kind == "string_type":
        return f"expected text, {got}" + ("" if isinstance(came, dict | list) else "; put it in quotes")
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    expected = {
        "too_short": "at least {min_length} in the list",
        "too_long": "at most {max_length} in the list",
        "bool_type": "true or false",
        "model_type": "a mapping of keys to values",
        "tuple_type": "a list",
    }
    if kind in expected:
        return f"expected {expected[kind].format(**detail.get('ctx', {}))}, {got}"
    return f"{re.sub('^(Input|String) should', 'should', detail['msg'])} ({got})"
