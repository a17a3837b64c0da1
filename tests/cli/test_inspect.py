"""`epsgrid inspect`: its output in pipes and terminals."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import percent
from epsgrid.store import observations
from epsgrid.store.paths import remember
from tests.cli.conftest import Shell
from tests.report.kept import SMALL, MadeUp, falling, probed, series, trusted
from tests.report.simulate import probe_record, simulate, trial_id

pytestmark = pytest.mark.xdist_group("inspect")  # its module-scoped fixture is made once

TUNED = trial_id(1e-3, 1e-3, 0)
MANY = [MadeUp(f"block{i}.weight", "dense", 60, falling(-3 - i / 50)) for i in range(60)]
BLOCKS = "[▁▂▃▄▅▆▇█]"


def experiment(root: Path, layers=SMALL) -> None:
    """A probe and two trials with snapshots."""
    stored = simulate(root, rates=(1e-3,), seeds=(0,))
    bounds = probed(layers)
    probe_record(replace(bounds, reliability=trusted(bounds)), Placement.outside()).write(stored.folder.bounds_json)
    observations.write(stored.folder.observations_jsonl, series(layers, epochs=None, threshold=None))
    for epsilon in (1e-3, 1e-8):
        path = stored.folder.trial(trial_id(1e-3, epsilon, 0)).observations_jsonl
        observations.write(path, series(layers, threshold=epsilon))
    remember(root, root.parent)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    made = Shell(tmp_path_factory.mktemp("inspect"))
    experiment(made.folder / "runs/many", MANY)
    experiment(made.folder / "runs/small")
    return made


def test_the_latest_probe_is_shown(shell):
    shown = shell.call("inspect")
    lines = shown.stdout.splitlines()
    assert lines[:3] == [f"simulated  {shell.folder}/runs/small", "adam on digits, mlp", "the probe"]
    assert re.search(rf"^head.weight +1,000 .* low +.*{BLOCKS}", shown.stdout, re.MULTILINE)
    assert "9 snapshots, step 10 to 90" in shown.stdout
    assert re.search(r"^bounds of √v̂ by .*: \S+ … \S+ at step 10, .* at step 90; probed: ", shown.stdout, re.MULTILINE)
    assert f"  {TUNED}  lr 1e-3, ε 1e-3, seed 0" in shown.stdout
    assert f"Next: epsgrid inspect {shell.folder}/runs/small" in shown.stderr


def test_a_trial_is_shown_with_what_adapts(shell):
    shown = shell.call("inspect", "small", TUNED[:8], "--quiet")
    assert f"trial {TUNED}: lr 1e-3, ε 1e-3, seed 0, done" in shown.stdout and "at step 90, epoch 9:" in shown.stdout
    rows = re.findall(rf"^(\S+) +[\d,]+ +\S+ +(\S+) +\S+ +(\S+ %) .*{BLOCKS}", shown.stdout, re.MULTILINE)
    kept = series()
    assert [name for name, *_ in rows] == [layer.name for layer in SMALL]
    for name, median, share in rows:
        assert float(median) == pytest.approx(kept.over_time(name, 0.5)[-1][1], rel=0.05)
        assert share == percent(kept.adaptable(name)[-1][1])
    assert re.search(r"damping: steps are [\d.]+ % of those at ε → 0, least in \S+: [\d.]+ %", shown.stdout)
    assert "at step 20, epoch 2:" in shell.call("inspect", "small", TUNED, "--step", "22").stdout


def test_json_is_one_document_with_all_of_it(shell):
    document = shell.json("inspect", "small", TUNED)
    kept = series()
    assert document["version"] == 1
    assert document["trial"]["id"] == TUNED and document["trial"]["state"] == "done"
    assert [snapshot["step"] for snapshot in document["snapshots"]] == list(kept.steps)
    layer = document["layers"][2]
    assert (layer["name"], layer["kind"], layer["entries"]) == ("head.weight", "dense", 1000)
    assert layer["percentiles"] == [list(snapshot.layers[2].quantiles) for snapshot in kept.snapshots]
    assert layer["adaptable"] == [list(pair) for pair in kept.adaptable("head.weight")]
    assert layer["damping"] == sorted(layer["damping"], reverse=True) and 0 < layer["damping"][-1] < 1
    assert document["bounds_over_time"][-1]["low_moved"] == pytest.approx(-1.5, abs=0.05)
    assert len(document["observed_trials"]) == 2


def test_a_probe_without_snapshots_shows_its_histograms_and_says_how_to_keep_more(shell, tmp_path):
    experiment(tmp_path / "runs/bare")
    (tmp_path / "runs/bare/observations.jsonl").unlink()
    shown = shell.call("inspect", str(tmp_path / "runs/bare"))
    assert re.search(rf"^conv.bias .*{BLOCKS}", shown.stdout, re.MULTILINE)
    assert "Note: only the histograms at the probe's end are stored; `epsgrid probe SPEC --force`" in shown.stderr
    document = shell.json("inspect", str(tmp_path / "runs/bare"))
    assert (document["trial"], document["layers"], document["snapshots"]) == (None, [], [])
    assert document["bounds"]["low"]["layers"] == ["head.weight"]


def test_a_terminal_shows_forty_of_many_layers_unless_all_are_asked_for(shell):
    def listed(*arguments: str) -> tuple[list[str], str]:
        code, shown = shell.in_terminal("inspect", "many", *arguments)
        assert code == 0
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
        return re.findall(rf"^(block\d+\.weight) .*{BLOCKS}", plain, re.MULTILINE), plain

    few, shown = listed()
    assert len(few) == 40
    assert "and 20 more layers: --all-layers shows them" in shown
    bounds = probed(MANY)
    assert set(few[:2]) == {*bounds.low.layers, *bounds.high.layers}
    everything, shown = listed("--all-layers")
    assert everything == [layer.name for layer in MANY]
    assert "more layers" not in shown


@pytest.mark.parametrize(("columns", "is_drawn"), [("70", False), ("120", True)])
def test_tables_fit_the_terminal(shell, columns, is_drawn):
    code, shown = shell.in_terminal("inspect", "small", TUNED, COLUMNS=columns)
    assert code == 0
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line.rstrip("\r")) for line in shown.split("\n")]
    (row,) = [line for line in lines if line.startswith("conv.bias")]
    assert bool(re.search(BLOCKS, row)) == is_drawn and len(row) <= int(columns)


def test_plain_characters_where_the_encoding_has_no_blocks_and_no_torch_anywhere(shell):
    shown = shell.run("inspect", "small", TUNED, PYTHONIOENCODING="ascii").stdout
    assert shown.isascii()
    assert re.search(r"^conv.bias .*[.:=+*#@]{3}", shown, re.MULTILINE)
    assert json.loads(shell.run("inspect", "small", "--json", PYTHONIOENCODING="ascii").stdout)["version"] == 1
    assert not {"torch", "matplotlib"} & shell.imported(f"inspect small {TUNED}", "inspect small --json")
