"""The JSON schema takes what a spec may be and nothing else; the reference and first specs are made of the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from epsgrid import plugins
from epsgrid.spec.checking import _models_in
from epsgrid.spec.loading import load_spec, parse_spec
from epsgrid.spec.model import Spec
from epsgrid.spec.reading import read
from epsgrid.spec.schema import first_spec, reference, spec_schema

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "experiments").rglob("*.yaml"))
DEMO = (ROOT / "experiments" / "demo.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = spec_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def values(text: str) -> Any:
    return json.loads(json.dumps(read(text, "spec").values))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.relative_to(ROOT / "experiments").as_posix())
def test_every_spec_is_valid(path: Path, validator: Any) -> None:
    validator.validate(values(path.read_text(encoding="utf-8")))
    validator.validate(load_spec(path).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("task: digits", "task: digit"),
        ("name: mlp", "name: mpl"),
        ("hidden:", "hiden:"),
        ("hidden: [256]", "hidden: [0]"),
        ("optimizer: adam", "optimizer: {name: adam, beta: [0.9, 0.99]}"),
        ("optimizer: adam", "optimizer: {name: adam, betas: [0.9]}"),
        ("epochs: 6", "epoch: 6"),
        ("epochs: 6", "epochs: six"),
        ("grid: both", "grid: narow"),
        ("learning_rates:", "lrs:"),
        ("experiment: demo", "experiment: a demo"),
    ],
)
def test_a_typo_is_not(right: str, wrong: str, validator: Any) -> None:
    assert DEMO.count(right) == 1
    assert validator.is_valid(values(DEMO))
    assert not validator.is_valid(values(DEMO.replace(right, wrong)))


@pytest.mark.parametrize(
    ("schedule", "is_one"), [("cosine", True), ("{kind: cosine, final: 0.1}", True), ("cosin", False)]
)
def test_a_schedule_may_be_its_kind_alone(schedule: str, is_one: bool, validator: Any) -> None:
    assert validator.is_valid(values(DEMO.replace("epochs: 6", f"epochs: 6\n  schedule: {schedule}"))) is is_one


def test_a_plug_in_of_the_users_own_has_its_own_options(validator: Any) -> None:
    for task in ("my_module:Task", "{name: my_module:Task, whatever: 3}"):
        assert validator.is_valid(values(DEMO.replace("task: digits", f"task: {task}")))


@pytest.mark.parametrize("task", plugins.names("tasks"))
def test_a_first_spec_can_be_used_and_shows_the_defaults(task: str, validator: Any) -> None:
    text = first_spec(task, "first")
    spec = parse_spec(text)
    assert (spec.experiment, spec.task.name) == ("first", task)
    validator.validate(values(text))
    defaults = re.sub(r"^( *)#(?=\w)", r"\1", text, flags=re.MULTILINE)
    assert defaults.count("\n  seeds:") == defaults.count("\nreport:") == 1
    assert parse_spec(defaults) == spec


def groups(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            yield from groups(inner)


def test_every_key_is_described() -> None:
    options = [
        plugins.load(family, name).Options
        for family in ("tasks", "models", "optimizers")
        for name in plugins.names(family)
    ]
    missing = {
        f"{group.__module__}.{group.__qualname__}.{name}"
        for root in (Spec, *options)
        for group in groups(root)
        for name, field in group.model_fields.items()
        if not field.description and not list(_models_in(field.annotation)) and not is_settled(group, name)
    }
    assert not missing


def is_settled(group: type[BaseModel], name: str) -> bool:
    """Return whether a key has but one value, which earlier versions wrote."""
    node = group.model_json_schema()["properties"][name]
    return "const" in node or node.get("type") == "null"


def test_the_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
    assert written == reference(), "docs/spec.md is out of date: `epsgrid show --reference > docs/spec.md` writes it"


def test_none_of_it_needs_torch() -> None:
    code = (
        "import sys; from epsgrid.spec.schema import *; spec_schema(), reference(), first_spec('digits', 'x');"
        " assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
