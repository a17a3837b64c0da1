"""`epsgrid diff`, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from epsgrid.cli.app import app
from tests.report.simulate import peaked, simulate


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPSGRID_RUNS", raising=False)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    few = {"conventional": (1e-8, 1e-4), "rates": (1e-3,)}
    simulate(tmp_path / "runs" / "one", **few, seeds=(0, 1))
    simulate(tmp_path / "runs" / "other", peaked(best=1e-4), **few, seeds=(0, 1, 2))
    simulate(tmp_path / "runs" / "half", probe=False, sweep=False)


def called(*words: Any, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["diff", *words])
    assert done.exit_code == code, done.output
    return done


def test_names_and_folders_are_compared() -> None:
    lines = called("one", "runs/other").stdout.splitlines()
    assert [line.rpartition("/")[2] for line in lines[:2]] == ["one", "other"]
    assert any(line.split() == ["sweep.seeds", "[0,", "1]", "[0,", "1,", "2]", "which", "trials"] for line in lines)
    assert any("lr 1e-3, ε 1e-3" in line and "lr 1e-3, ε 1e-4" in line for line in lines)
    assert lines[-1] == "They differ in spec, progress and winners."


def test_nothing_differs_is_said() -> None:
    assert called("one", "one").stdout.splitlines()[-1] == "Nothing differs."


def test_json_is_one_document() -> None:
    done = called("one", "half", "--json")
    document = json.loads(done.stdout)
    assert document["version"] == 1
    assert document["differing"] == ["spec", "progress", "bounds", "winners"]
    assert document["bounds"][0]["magnitude_b"] is None
    assert {"what": "trials", "a": "8 done", "b": "none planned"} in document["progress"]


def test_a_run_that_is_not_there_is_told() -> None:
    assert "no experiment 'on'" in called("on", "other", code=2).stderr
    Path("runs/one/bounds.json").write_text("{}")
    assert "bounds.json" in called("one", "other", code=2).stderr
