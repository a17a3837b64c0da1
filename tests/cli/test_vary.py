"""`probe --vary KEY=LIST --predict N`, and the export of what it predicts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from tests.cli.conftest import INLINE, Shell

pytestmark = pytest.mark.xdist_group("vary")  # its module-scoped fixtures are made once

WIDTHS = ("--vary", "model.hidden.0=8,16,32,64", "--predict", "256", "--seeds", "2")


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    made = Shell(tmp_path_factory.mktemp("vary"))
    made.write(INLINE)
    return made


@pytest.fixture(scope="module")
def document(varied: Shell) -> dict[str, Any]:
    return varied.json("probe", "spec.yaml", *WIDTHS, "-q")


def test_json_holds_the_prediction_and_what_it_rests_on(document):
    assert document["predicted_at"] == {"model.hidden.0": "256"}
    assert [point["model.hidden.0"] for point in document["points"]] == ["8", "16", "32", "64"]
    assert (document["measured_now"], document["already_measured"]) == (8, 0)
    law = next(law for law in document["laws"] if (law["layer"], law["statistic"]) == ("1.weight", "median"))
    assert abs(law["exponent"] + 0.5) < 0.3 and law["decades"] > 0
    assert document["reliability"]["reasons"][0].startswith("predicted at 256 from 8, 16, 32, 64, not measured")
    assert {group["name"] for group in document["groups"]} >= {"dense"}


def test_one_screen_with_the_answer_first_and_nothing_measured_again(varied, document):
    shown = varied.call("probe", "spec.yaml", *WIDTHS, "-q")
    assert shown.stdout.startswith("ε bounds predicted at model.hidden.0 = 256: ")
    assert "0 probes measured, 8 already there" in shown.stderr
    lines = shown.stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert "held out    64, predicted from the smaller ones: off by" in shown.stdout
    assert "By kind of layer" in shown.stdout and "Laws by layer" not in shown.stdout
    full = varied.call("probe", "spec.yaml", *WIDTHS, "-q", "--full").stdout
    assert "Laws by layer" in full and "1.weight" in full


def test_a_prediction_is_exported_with_what_it_rests_on(varied, document):
    bounds = varied.call("export", "bounds", "--predicted", "--to", "json")
    space = json.loads(bounds.stdout)
    assert space["measured"]["predicted_at"] == {"model.hidden.0": "256"}
    assert space["measured"]["low"] == document["bounds"]["low"]
    text = varied.call("export", "bounds", "--predicted", "--to", "optuna").stdout
    assert "predicted at model.hidden.0 = 256, from smaller sizes, by epsgrid" in text
    groups = varied.call("export", "groups", "--predicted").stdout
    assert "# predicted at 256 from 8, 16, 32, 64, not measured" in groups
    written: dict[str, Any] = {}
    exec(compile(groups, "groups.py", "exec"), written)
    assert set(written["EPSILON"]) <= {"1.weight", "1.bias", "3.weight", "3.bias"}
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    assert sum(len(group["params"]) for group in written["param_groups"](model)) == 4


def test_a_batch_size_is_varied_by_either_option(varied):
    short = varied.json("probe", "spec.yaml", "--batch-sizes", "32,128", "-q")["batches"]
    long = varied.json("probe", "spec.yaml", "--vary", "training.batch_size=32,128", "-q")["batches"]
    assert (short["measured_now"], long["measured_now"], long["already_measured"]) == (2, 0, 2)
    assert long["sizes"] == short["sizes"]
    found = varied.json("probe", "spec.yaml", "--vary", "training.batch_size=16,32,128", "--predict", "512", "-q")
    assert (found["batch_size"], found["steps"], found["measured_now"]) == (512, 2, 1), "an epoch in two batches"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--vary model.hidden.0=8,16,32,64", "say for which value to predict the bounds, as in --predict 256"),
        ("--predict 256", "--predict: say from which sizes, as in --vary model.width=32,64,128,256"),
        (
            "--vary model.hidden.0=8,x --predict 9",
            "expected a key and numbers above 0, as in model.width=32,64,128,256",
        ),
        ("--vary model.hidden.0 --predict 9", "--vary model.hidden.0: expected a key and numbers above 0"),
        (
            "--vary model.hidden.0=8,9 --batch-sizes 8",
            "--batch-sizes is short for --vary training.batch_size=...; give",
        ),
        ("--vary model.hiden.0=8,16,32 --predict 9", "did you mean 'hidden'"),
        ("--vary model.hidden.0=8,16,32 --predict 0", "above 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(varied, options, words):
    assert words in varied.call("probe", "spec.yaml", "-q", *options.split(), expect=2).stderr


def test_nothing_predicted_is_told(shell):
    shell.write(INLINE)
    shell.call("probe", "spec.yaml", "-q")
    told = shell.call("export", "bounds", "--predicted", "--to", "json", expect=2).stderr
    assert "no bounds were predicted here; `epsgrid probe SPEC --vary KEY=LIST --predict N` does it" in told
