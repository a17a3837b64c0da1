"""From plain values to the typed model; what does not fit is told in the spec's own words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model
from pydantic_core import ErrorDetails

from epsgrid import plugins
from epsgrid.errors import UnknownNameError
from epsgrid.spec.document import Document
from epsgrid.spec.model import ModelOptions, OptimizerOptions, PluginOptions, Spec, TaskOptions
from epsgrid.spec.problems import FieldPath, Problem, ProblemsError, dotted, shown
from epsgrid.spec.scalars import why_not_a_number

_OPTIONS: dict[str, type[PluginOptions]] = {"task": TaskOptions, "model": ModelOptions, "optimizer": OptimizerOptions}
_LEARNING_RATE = "the sweep varies the learning rate: see sweep.learning_rates"
_EPSILON = "the sweep varies ε: see sweep.grid, and sweep.default_epsilon for the one to compare with"
_VARIED = {"lr": _LEARNING_RATE, "learning_rate": _LEARNING_RATE, "eps": _EPSILON, "epsilon": _EPSILON}


def check(document: Document) -> Spec:
    """Return the spec that a document states, defaults filled in.

    The options of the task, model and optimizer are checked by the classes their plug-ins bring.

    Raises:
        ProblemsError: anything is wrong; all of it is told at once.
    """
    problems = [*document.problems, *_executor_problems(document)]
    options: dict[str, Any] = {}
    for section in _OPTIONS:
        try:
            options[section] = _options_class(document, section)
        except ProblemsError as error:
            problems += error.problems
            options[section] = Any
    checker = _spliced(options)
    try:
        # As JSON and strictly: a list will do for a tuple, but text is no number and a number no text.
        checked = checker.model_validate_json(json.dumps(document.values), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [_problem(document, checker, detail) for detail in details if not _is_echo(detail)]
    if problems:
        raise ProblemsError(*problems)
    return Spec(**{name: getattr(checked, name) for name in Spec.model_fields})


def _spliced(options: Mapping[str, Any]) -> type[Spec]:
    """Return the spec's class with the plug-ins' own option classes in it, so that errors have the right paths."""
    fields: dict[str, Any] = {section: (options_class, ...) for section, options_class in options.items()}
    return create_model("Spec", __base__=Spec, **fields)


def _options_class(document: Document, section: str) -> Any:
    """Return the class that checks a plug-in section; Any where the section is missing, which is told elsewhere."""
    family, values = f"{section}s", document.values.get(section)
    if section not in document.values:
        return Any
    if not isinstance(values, dict):
        message = f"expected a name, or a mapping with one, got {shown(values)}; {_one_of(family)}"
        raise ProblemsError(Problem(document.place_of_value((section,)), section, message))
    path = (section, "name")
    if not isinstance(values.get("name"), str):
        came = f"expected text, got {shown(values['name'])}" if "name" in values else "required key is missing"
        raise ProblemsError(Problem(document.place_of_value(path), dotted(path), f"{came}; {_one_of(family)}"))
    try:
        return _options_of(family, values["name"], _OPTIONS[section])
    except UnknownNameError as error:
        raise ProblemsError(Problem(document.place_of_value(path), dotted(path), str(error))) from error


def _options_of(family: str, name: str, base: type[PluginOptions]) -> type[PluginOptions]:
    options = getattr(plugins.load(family, name), "Options", None)
    if not (isinstance(options, type) and issubclass(options, base)):
        raise UnknownNameError(f"{name!r} has no class Options({base.__name__}), so it is no plug-in of {family}")
    return options


def _executor_problems(document: Document) -> Iterator[Problem]:
    execution = document.values.get("execution")
    name = execution.get("executor") if isinstance(execution, dict) else None
    if isinstance(name, str):
        path = ("execution", "executor")
        try:
            plugins.check("executors", name)
        except UnknownNameError as error:
            yield Problem(document.place_of_value(path), dotted(path), str(error))


def _one_of(family: str) -> str:
    return f"one of: {', '.join(plugins.names(family))}"


def _problem(document: Document, checker: type[Spec], detail: ErrorDetails) -> Problem:
    """Return what the model's library found, in our words and at its place."""
    path = document.existing(detail["loc"])
    if detail["type"] == "missing":
        path = (*path, detail["loc"][-1])
        what = "entry of the list" if isinstance(path[-1], int) else "key"
        return Problem(document.place_of_key(path), dotted(path), f"required {what} is missing")
    if detail["type"] == "extra_forbidden":
        return Problem(document.place_of_key(path), dotted(path), _unknown_key(checker, path))
    write = _WORDS.get(detail["type"], _other)
    return Problem(document.place_of_value(path), dotted(path), write(detail))


def _is_echo(detail: ErrorDetails) -> bool:
    """Return whether a list is only too short because its bad entries, told on their own, were not counted."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def _unknown_key(checker: type[Spec], path: FieldPath) -> str:
    key, allowed = str(path[-1]), tuple(_model_at(checker, path[:-1]).model_fields)
    if path[0] == "optimizer" and key in _VARIED:
        return f"unknown key; {_VARIED[key]} (allowed: {', '.join(allowed)})"
    close = plugins.nearest(key, allowed) or _same_key_elsewhere(checker, key)
    hint = f"; did you mean {close!r}?" if close else ""
    return f"unknown key{hint} (allowed: {', '.join(allowed)})"


def _same_key_elsewhere(checker: type[Spec], key: str) -> str | None:
    """Return the dotted field of this name in another section."""
    sections = [name for name in checker.model_fields if key in _model_at(checker, (name,)).model_fields]
    return f"{sections[0]}.{key}" if sections else None


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


def _number(detail: ErrorDetails) -> str:
    expected = "a whole number" if detail["type"].startswith("int") else "a number"
    came = detail["input"]
    hint = why_not_a_number(came) if isinstance(came, str) else ""
    return f"expected {expected}, got {shown(came)}" + (f"; {hint}" if hint else "")


def _text(detail: ErrorDetails) -> str:
    hint = "" if isinstance(detail["input"], dict | list) else "; put it in quotes"
    return f"expected text, got {shown(detail['input'])}{hint}"


def _choice(detail: ErrorDetails) -> str:
    expected = detail["ctx"]["expected"]
    close = plugins.nearest(str(detail["input"]), re.findall("'([^']*)'", expected))
    return f"expected {expected}, got {shown(detail['input'])}" + (f"; did you mean {close!r}?" if close else "")


def _own_words(detail: ErrorDetails) -> str:
    return str(detail["ctx"]["error"])


def _other(detail: ErrorDetails) -> str:
    message = re.sub("^(Input|String) should", "should", detail["msg"])
    return f"{message} (got {shown(detail['input'])})"


_WORDS: dict[str, Callable[[ErrorDetails], str]] = {
    "int_type": _number,
    "int_from_float": _number,
    "int_parsing": _number,
    "float_type": _number,
    "float_parsing": _number,
    "bool_type": lambda detail: f"expected true or false, got {shown(detail['input'])}",
    "string_type": _text,
    "literal_error": _choice,
    "value_error": _own_words,
    "assertion_error": _own_words,
    "model_type": lambda detail: f"expected a mapping of keys to values, got {shown(detail['input'])}",
    "too_short": lambda detail: (
        f"expected at least {detail['ctx']['min_length']} in the list, got {shown(detail['input'])}"
    ),
    "too_long": lambda detail: (
        f"expected at most {detail['ctx']['max_length']} in the list, got {shown(detail['input'])}"
    ),
    "tuple_type": lambda detail: f"expected a list, got {shown(detail['input'])}",
    "list_type": lambda detail: f"expected a list, got {shown(detail['input'])}",
}
