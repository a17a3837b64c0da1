"""`epsgrid export bounds`, in this process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from epsgrid.cli.app import app
from epsgrid.numerics.bounds import Reliability
from epsgrid.store.latest import remember
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import ProbeRecord
from tests.report.simulate import simulate


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one run, the latest, whose bounds have medium confidence."""
    monkeypatch.chdir(tmp_path)
    for name in ("EPSGRID_OUT", "EPSGRID_RUNS"):
        monkeypatch.delenv(name, raising=False)
    stored = simulate(tmp_path / "runs" / "mine", sweep=False)
    assert stored.bounds is not None and stored.probe is not None
    soft = replace(stored.bounds, reliability=Reliability("medium", ("a bias of 10 entries sets the upper bound",)))
    replace(stored.probe, bounds_json=soft.to_json()).write(stored.folder.bounds_json)
    remember(stored.folder.root, tmp_path / "runs")
    return tmp_path / "runs"


def called(*words: Any, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["export", "bounds", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


def test_the_text_alone_is_on_stdout(runs: Path) -> None:
    done = called("--to", "wandb", "--space", "grid", "--epsilon-name", "adam_eps")
    assert yaml.safe_load(done.stdout)["parameters"]["adam_eps"] == {"values": [1e-4, 1e-3, 1e-2]}
    assert "Note: confidence in these bounds is medium: a bias of 10 entries sets the upper bound" in done.stderr
    assert "Next: set program in it" in done.stderr


def test_a_file_is_written_and_named(runs: Path, tmp_path: Path) -> None:
    done = called("mine", "--to", "json", "-o", "spaces/mine.json", "--framework", "keras", "-q")
    assert done.stdout == "spaces/mine.json\n" and "Next" not in done.stderr
    assert (
        json.loads((tmp_path / "spaces" / "mine.json").read_text(encoding="utf-8"))["for"]["optimizer"] == "keras-adam"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--to", "optna"], "unknown exporter 'optna'; did you mean 'optuna'"),
        (["miin", "--to", "json"], "no experiment 'miin', neither as a folder nor in runs; did you mean 'mine'"),
        (["--to", "json", "--framework", "keras-adm"], "unknown optimizer 'keras-adm'; did you mean 'keras-adam'"),
        (["--to", "json", "--lr-name", "learning rate"], "'learning rate' cannot name a hyperparameter"),
    ],
)
def test_wrong_input_is_told(runs: Path, words: list[str], told: str) -> None:
    assert told in called(*words, code=2).stderr


def test_a_verdict_of_firm_needs_no_note(runs: Path) -> None:
    folder = ExperimentFolder(runs / "mine")
    probe = ProbeRecord.read(folder.bounds_json)
    firm = replace(probe.bounds(), reliability=Reliability("high", ("seeds agree",)))
    replace(probe, bounds_json=firm.to_json()).write(folder.bounds_json)
    assert "Note" not in called("--to", "ray").stderr
