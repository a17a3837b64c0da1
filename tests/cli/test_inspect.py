"""`epsgrid inspect`: its output in pipes and terminals."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.numerics.placement import Placement
from epsgrid.store import observations
from epsgrid.store.paths import remember
from tests.cli.conftest import Shell
from tests.report.kept import SMALL, MadeUp, falling, probed, series, trusted
from tests.report.simulate import probe_record, simulate, trial_id

pytestmark = pytest.mark.xdist_group("inspect")  # its module-scoped fixture is made once

TUNED = trial_id(1e-3, 1e-3, 0)
MANY = [MadeUp(f"block{i}.weight", "dense", 60, falling(-3 - i / 50)) for i in range(60)]


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
    assert lines[:4] == [
        f"simulated  {shell.folder}/runs/small",
        "adam on digits, mlp",
        "the probe",
        "9 snapshots, step 10 to step 90",
    ]
    for text in (
        "Percentiles of √v̂, all layers together",
        "Bounds over time, by the published rule",
        "Kinds of layers",
    ):
        assert text in shown.stdout
    assert re.search(r"^conv.bias +bias +32 .*[▁▂▃▄▅▆▇█]", shown.stdout, re.MULTILINE)
    assert re.search(r"^bounds .*├─+┤", shown.stdout, re.MULTILINE)
    assert re.search(r"^ *90 +– +\S+ +−1.5 +\S+ +−0.5 +head.weight +head.bias", shown.stdout, re.MULTILINE)
    assert f"  {TUNED}  lr 1e-3, ε 1e-3, seed 0" in shown.stdout
    assert "adapting" not in shown.stdout
    assert f"Next: epsgrid inspect {shell.folder}/runs/small" in shown.stderr


def test_a_trial_is_shown_with_what_adapts(shell):
    shown = shell.call("inspect", "small", TUNED[:8], "--quiet", "--figures", "pictures")
    assert f"trial {TUNED}: lr 1e-3, ε 1e-3, seed 0, done" in shown.stdout
    shares = dict(re.findall(r"^(\S+) +\S+ +[\d,]+ +([\d.]+) %  [▁▂▃▄▅▆▇█]{9} ", shown.stdout, re.MULTILINE))
    kept = series()
    assert shares == {layer.name: f"{100 * kept.adaptable(layer.name)[-1][1]:.1f}" for layer in SMALL}
    assert "between" in shown.stdout
    names = [f"{TUNED}-percentiles.{suffix}" for suffix in ("svg", "png")]
    assert shown.stderr.splitlines() == [f"Figure: pictures/{name}" for name in names]
    assert {path.name for path in (shell.folder / "pictures").iterdir()} == set(names)


def test_steps_are_chosen(shell):
    header = re.compile(r"(epoch [\d.]+)")
    assert header.findall(shell.call("inspect", "small", TUNED).stdout)[2:5] == ["epoch 1", "epoch 5", "epoch 9"]
    chosen = shell.call("inspect", "small", TUNED, "--step", "22", "--step", "1000").stdout
    assert header.findall(chosen)[2:4] == ["epoch 2", "epoch 9"]


def test_one_layer_in_detail(shell):
    shown = shell.call("inspect", "small", TUNED, "--layer", "head.weight").stdout
    assert "head.weight  dense, 1,000 entries" in shown
    quantiles = dict(series().over_time("head.weight", 0.5))
    rows = re.findall(r"^ *(\d+) +[\d.]+ +100 +0 +(.*?) {2,}[\d.]+ % ", shown, re.MULTILINE)
    assert [int(step) for step, _ in rows] == [10, 20, 30, 40, 60, 70, 80, 90]
    for step, cells in rows:
        assert float(cells.split()[3]) == pytest.approx(quantiles[int(step)], rel=0.005)


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
    assert document["adaptable"]["total"] == [share for _, share in kept.adaptable()]
    assert set(document["adaptable"]["kinds"]) == {"convolution", "bias", "dense"}
    assert document["bounds_over_time"][-1]["low_moved"] == pytest.approx(-1.5, abs=0.05)
    assert len(document["observed_trials"]) == 2
    alone = shell.json("inspect", "small", "--layer", "conv.bias")
    assert [layer["name"] for layer in alone["layers"]] == ["conv.bias"]
    assert (alone["trial"], alone["adaptable"]) == (None, None)


def test_a_probe_without_snapshots_shows_its_histograms_and_says_how_to_keep_more(shell, tmp_path):
    experiment(tmp_path / "runs/bare")
    (tmp_path / "runs/bare/observations.jsonl").unlink()
    shown = shell.call("inspect", str(tmp_path / "runs/bare"))
    assert re.search(r"^all layers .*[▁▂▃▄▅▆▇█]", shown.stdout, re.MULTILINE)
    assert "Note: only the histograms at the probe's end are stored; `epsgrid probe SPEC --force`" in shown.stderr
    document = shell.json("inspect", str(tmp_path / "runs/bare"))
    assert (document["layers"], document["snapshots"]) == ([], [])
    assert document["bounds"]["low"]["layers"] == ["head.weight"]


def test_a_mistake_ends_with_exit_2(shell):
    refused = shell.call("inspect", "small", "--layer", "conv.bais", expect=2).stderr
    assert refused.startswith("error: ") and "closest: conv.bias" in refused


def test_a_terminal_shows_forty_of_many_layers_unless_all_are_asked_for(shell):
    def listed(*arguments: str) -> tuple[list[str], str]:
        code, shown = shell.in_terminal("inspect", "many", *arguments)
        assert code == 0
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
        return re.findall(r"^(block\d+\.weight) .*[▁▂▃▄▅▆▇█]", plain, re.MULTILINE), plain

    few, shown = listed()
    assert len(few) == 40
    assert "and 20 more layers: --all-layers shows them" in shown
    bounds = probed(MANY)
    assert set(few[:2]) == {*bounds.low.layers, *bounds.high.layers}
    everything, shown = listed("--all-layers")
    assert everything == [layer.name for layer in MANY]
    assert "more layers" not in shown
    in_a_pipe = shell.call("inspect", "many").stdout
    assert len(re.findall(r"^block\d+\.weight ", in_a_pipe, re.MULTILINE)) == 60


@pytest.mark.parametrize("columns", ["60", "80", "160"])
def test_tables_fit_the_terminal(shell, columns):
    code, shown = shell.in_terminal("inspect", "small", TUNED, COLUMNS=columns)
    assert code == 0
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line.rstrip("\r")) for line in shown.split("\n")]
    rows = [line for line in lines if line.startswith("conv.bias") or "…bias" in line]
    assert len(rows) == 1
    assert re.search(r"[▁▂▃▄▅▆▇█]", rows[0])
    assert len(rows[0]) <= int(columns)


def test_plain_characters_where_the_encoding_has_no_blocks(shell):
    shown = shell.run("inspect", "small", TUNED, PYTHONIOENCODING="ascii").stdout
    assert shown.isascii()
    assert re.search(r"^conv.bias .*[.:=+*#@]{3}", shown, re.MULTILINE)
    assert re.search(r"^bounds .*\[-+\]", shown, re.MULTILINE)
    assert json.loads(shell.run("inspect", "small", "--json", PYTHONIOENCODING="ascii").stdout)["version"] == 1


def test_it_imports_neither_torch_nor_matplotlib(shell):
    assert not {"torch", "matplotlib"} & shell.imported(f"inspect small {TUNED}", "inspect small --json")
