"""What a new user meets: the demo, a first spec, the schema and the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epsgrid.cli.commands import demo
from epsgrid.errors import ExitCode
from epsgrid.spec.loading import load_spec
from tests.cli.conftest import Shell


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the demo's calls of the three stages, in place of training for a minute."""
    called: list[Any] = []
    for module in (demo.probe, demo.sweep, demo.report):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, name, lambda given, name=name, **_: called.append((name, given)))
    return called


def test_the_demo_goes_through_the_three_stages_of_both_specs(stages: list[Any], tmp_path: Path) -> None:
    assert demo.demo(runs=tmp_path) is None
    assert [name for name, _ in stages] == ["probe", "sweep", "report"] * 2
    for place, name in ((0, "demo"), (3, "demo-nuclei")):
        assert load_spec(stages[place][1]).experiment == name
        assert stages[place + 1][1] == stages[place][1]
        assert stages[place + 2][1] == [tmp_path / name]


def test_an_unfinished_sweep_ends_the_demo(stages: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.sweep, "sweep", lambda *_, **__: ExitCode.STOPPED)
    assert demo.demo(runs=tmp_path) is ExitCode.STOPPED
    assert [name for name, _ in stages] == ["probe"]


def test_a_first_spec_is_written_once_and_says_what_comes_next(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    written = shell.call("init")
    assert written.stdout == "digits.yaml\n"
    assert load_spec(tmp_path / "digits.yaml").experiment == "digits"
    assert "epsgrid probe digits.yaml\n  epsgrid sweep\n  epsgrid report\n" in written.stderr
    assert "# yaml-language-server: $schema=epsgrid.schema.json" in written.stderr
    before = (tmp_path / "digits.yaml").read_text(encoding="utf-8")
    refused = shell.call("init", expect=2)
    assert "digits.yaml exists; name another file: `epsgrid init digits FILE`" in refused.stderr
    assert (tmp_path / "digits.yaml").read_text(encoding="utf-8") == before
    assert "epsgrid probe" not in shell.call("init", "command", "mine.yaml").stderr
    assert load_spec(tmp_path / "mine.yaml").experiment == "mine"
    assert "'json:loads' has no class Options" in shell.call("init", "json:loads", expect=2).stderr
    assert "unknown task 'digit'; did you mean 'digits'?" in shell.call("init", "digit", expect=2).stderr


def test_schema_and_reference_are_printed(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert json.loads(shell.call("schema").stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert shell.call("show", "--reference").stdout.startswith("# Spec reference\n")
    assert "a YAML spec is expected, as in `epsgrid show spec.yaml`" in shell.call("show", expect=2).stderr
