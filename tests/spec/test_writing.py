from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epsgrid.spec.loading import parse_spec, spec_from_json
from epsgrid.spec.model import Spec
from epsgrid.spec.writing import spec_to_yaml
from tests.spec.fakes import MINIMAL

POSITIVE = st.floats(min_value=5e-324, allow_infinity=False)


def test_the_effective_spec_in_the_order_of_its_fields() -> None:
    text = spec_to_yaml(parse_spec(MINIMAL))
    assert re.findall(r"^(\w+):", text, re.MULTILINE) == list(Spec.model_fields)
    assert text.startswith(
        "experiment: demo\ntask:\n  name: tests.spec.fakes:blobs\n  root: null\n  label: plain\n  classes: 2\n"
        "  shuffle: true\nmodel:\n  name: tests.spec.fakes:net\n  layers:\n  - width: 8\n    activation: relu\n"
        "optimizer:\n  name: tests.spec.fakes:adam_like\n  betas: [0.9, 0.999]\n"
    )
    assert "\n  learning_rates: [0.001]\n" in text and "\n  default_epsilon: 1.0e-08\n" in text


def changed(spec: Spec, label: str, epsilon: float, rates: list[float]) -> Spec:
    values = spec.model_dump(mode="json")
    values["task"]["label"] = label
    values["sweep"] |= {"default_epsilon": epsilon, "learning_rates": rates}
    return spec_from_json(json.loads(json.dumps(values)), "values")


@settings(max_examples=40)
@given(st.text(st.characters(codec="utf-8")), POSITIVE, st.lists(POSITIVE, min_size=1, unique=True))
@example("1e-8", 1e16, [1e-300])
@example("no", 1e-8, [1e22])
@example("010", 5e-324, [0.1])
@example("1_000", 1.0, [123456.0])
@example("1:30", 1.0, [1e2])
@example("<<", 1.0, [1e2])
@example("~", 1.0, [1e2])
@example(" two\nlines \n", 1.0, [1e2])
@example("\x85", 1.0, [1.0])
@example("\x85\u2028\ufeff\x00\t", 1.0, [1e2])
def test_what_is_written_reads_back_as_an_equal_spec(label: str, epsilon: float, rates: list[float]) -> None:
    spec = changed(parse_spec(MINIMAL), label, epsilon, rates)
    written = spec_to_yaml(spec)
    assert parse_spec(written) == spec
    assert yaml.safe_load(written) == spec.model_dump(mode="json"), "any YAML reader takes it for the same"


def test_equal_lists_are_written_out_not_aliased() -> None:
    spec = parse_spec(MINIMAL, overrides=["sweep.seeds=[1]", "model.layers=[{width: 3}, {width: 3}]"])
    assert "*" not in spec_to_yaml(spec)


@pytest.mark.parametrize(
    ("schedule", "written"),
    [
        ("cosine", {"kind": "cosine", "warmup_steps": None, "final": 0.0}),
        ("{kind: linear, warmup: 0.05}", {"kind": "linear", "warmup_steps": None, "warmup": 0.05, "final": 0.0}),
        ("one_cycle", {"kind": "one_cycle", "warmup_steps": None, "warmup": 0.3, "final": 4e-6}),
        ("{kind: one_cycle, warmup_steps: 9}", {"kind": "one_cycle", "warmup_steps": 9, "final": 4e-6}),
        ("constant", {"kind": "constant", "warmup_steps": None}),
        ("{factor: 0.5}", {"kind": "step", "milestones": [0.75], "factor": 0.5, "warmup_steps": None}),
        (
            "{kind: inverse_sqrt, warmup_steps: 9}",
            {"kind": "inverse_sqrt", "milestones": [0.75], "factor": 0.1, "warmup_steps": 9},
        ),
    ],
)
def test_a_schedule_is_written_with_the_fields_of_its_kind(schedule: str, written: dict[str, Any]) -> None:
    """Those of `step` and `inverse_sqrt` are what they were before there were others, for the ids of their trials."""
    spec = parse_spec(MINIMAL, overrides=[f"training.schedule={schedule}"])
    assert spec.model_dump(mode="json")["training"]["schedule"] == written
    assert parse_spec(spec_to_yaml(spec)) == spec
