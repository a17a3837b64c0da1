"""`epsgrid export bounds`, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import Result

from epsgrid.numerics.reliability import Reliability
from epsgrid.store.paths import ExperimentFolder, remember
from epsgrid.store.records import ExperimentRecord, ProbeRecord
from tests.cli.conftest import Shell
from tests.report.simulate import simulate


@pytest.fixture
def export(shell: Shell) -> Callable[..., Result]:
    """The command, in a folder of one run, the latest, whose bounds are of medium reliability."""
    stored = simulate(shell.folder / "runs" / "mine", sweep=False)
    assert stored.bounds is not None and stored.probe is not None
    medium = replace(stored.bounds, reliability=Reliability("medium", ("a bias of 10 entries sets the upper bound",)))
    replace(stored.probe, bounds_json=medium.to_json()).write(stored.folder.bounds_json)
    remember(stored.folder.root, shell.folder / "runs")
    return partial(shell.call, "export", "bounds")


def test_the_text_alone_is_on_stdout(export: Callable[..., Result]) -> None:
    done = export("--to", "wandb", "--space", "grid", "--epsilon-name", "adam_eps")
    assert yaml.safe_load(done.stdout)["parameters"]["adam_eps"] == {"values": [1e-4, 1e-3, 1e-2]}
    assert "Note: the reliability of these bounds is medium: a bias of 10 entries sets the upper bound" in done.stderr
    assert "Next: set program in it" in done.stderr


def test_a_run_is_named_and_its_epsilon_is_another_frameworks(export: Callable[..., Result]) -> None:
    done = export("mine", "--to", "json", "--framework", "keras", "-q")
    assert json.loads(done.stdout)["for"]["optimizer"] == "keras-adam" and "Next" not in done.stderr


def test_the_bounds_that_were_asked_for_are_exported(export: Callable[..., Result], tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path / "runs" / "mine")
    probe = ProbeRecord.read(folder.bounds_json)
    trusted = probe.bounds()
    noise = replace(trusted.low, epsilon=1e-9, decade=1e-9, layers=("noise",))
    replace(probe, bounds_json=replace(trusted, low=noise).beside(trusted).to_json()).write(folder.bounds_json)

    def least(*words: str) -> float:
        return float(json.loads(export("--to", "json", *words).stdout)["epsilon"]["low"])

    assert (least("--bounds", "trusted"), least("--bounds", "published")) == (1e-4, 1e-9)
    assert least() == 1e-9, "the spec is one of an earlier version, which had the published ones alone"
    experiment = ExperimentRecord.read(folder.experiment_json)
    sweep = {**experiment.spec["sweep"], "bounds": "trusted"}
    replace(experiment, spec={**experiment.spec, "sweep": sweep}).write(folder.experiment_json)
    assert least() == 1e-4
    assert "'trust' is not one of" in export("--to", "json", "--bounds", "trust", expect=2).stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--to", "optna"], "unknown exporter 'optna'; did you mean 'optuna'"),
        (["miin", "--to", "json"], "no experiment 'miin', neither as a folder nor in runs; did you mean 'mine'"),
        (["--to", "json", "--framework", "keras-adm"], "unknown optimizer 'keras-adm'; did you mean 'keras-adam'"),
        (["--to", "json", "--lr-name", "learning rate"], "'learning rate' cannot name a hyperparameter"),
    ],
)
def test_wrong_input_is_told(export: Callable[..., Result], words: list[str], told: str) -> None:
    assert told in export(*words, expect=2).stderr


def test_groups_are_a_module_of_ready_parameter_groups(export: Callable[..., Result], shell: Shell) -> None:
    done = shell.call("export", "groups", "--by", "layer", "--epsilon", "1e-3")
    written: dict[str, Any] = {}
    exec(compile(done.stdout, "groups.py", "exec"), written)
    layers = list(written["EPSILON"])
    model = torch.nn.Module()
    for name in [*layers[:1], "another"]:
        model.register_parameter(name.replace(".", "_"), torch.nn.Parameter(torch.zeros(2)))
    written["EPSILON"] = {name.replace(".", "_"): value for name, value in written["EPSILON"].items()}
    groups = written["param_groups"](model)
    assert [group["eps"] for group in groups] == [written["EPSILON"][layers[0].replace(".", "_")], 1e-3]
    assert done.stdout.startswith("# ε by layer for adam: the largest that does not shorten the steps, against 1e-3")
    refused = shell.call("export", "groups", "--epsilon", "0", expect=2)
    assert "--epsilon: expected a positive finite number, got 0" in refused.stderr
    shell.call("export", "groups", "--by", "letter", expect=2)
