"""What `epsgrid probe` prints, and its options, through real processes."""

from __future__ import annotations

import doctest
import json
import re
from dataclasses import replace

import pytest

from epsgrid.cli.commands import probe
from epsgrid.numerics.estimates import FORMULAS
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import ProbeRecord
from tests.cli.conftest import Shell
from tests.cli.test_streams import in_terminal
from tests.report.kept import SMALL, probed, trusted

pytestmark = pytest.mark.xdist_group("probe")  # what its fixtures made is made once


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A stored probe whose bounds were replaced by made-up ones that have everything."""
    made = Shell(tmp_path_factory.mktemp("probe"))
    made.write()
    made.run("probe", "spec.yaml", "-q")
    path = ExperimentFolder(made.folder / "runs/tiny").bounds_json
    bounds = probed()
    record = ProbeRecord.read(path)
    replace(record, bounds_json=replace(bounds, reliability=trusted(bounds)).to_json()).write(path)
    return made


def test_examples_in_the_command_run() -> None:
    found = doctest.testmod(probe)
    assert found.attempted and not found.failed


def test_every_layer_has_its_histogram_on_a_common_axis(shell):
    shown = shell.run("probe", "spec.yaml").stdout
    header, *rows = shown.splitlines()[: len(SMALL) + 3]
    assert re.search(r"│1e-\d+ +│1e-\d+", header[-32:])
    for layer, row in zip(SMALL, rows, strict=False):
        assert row.startswith(layer.name)
        assert layer.kind in row
        assert re.fullmatch(r"[ ▁▂▃▄▅▆▇█]{32}", row[-32:])
        assert "█" in row[-32:]
    assert rows[-2].startswith("all layers")
    assert re.fullmatch(r" *├─+┤ *", rows[-1][-32:])


def test_reliability_stands_below_the_bounds(shell):
    shown = shell.run("probe", "spec.yaml").stdout
    bounds, kinds, trust, estimates = (
        shown.index(text)
        for text in ("ε bounds: ", "Bounds of each kind", "Reliability: medium\n", "Point estimates of ε")
    )
    assert bounds < kinds < trust < estimates
    for line in (
        "  • with seed 1 the lower bound would be 1e-4, one decade higher",
        "  • only rounding noise: conv.bias (100.0 % of its entries)",
        "as measured                 1e-5   0.1        5                     –",
        "without rounding noise      1e-4   0.1        4               +1.0, 0",
    ):
        assert f"{line}\n" in shown
    assert "decades settled after 4 of 16 batches" in shown
    assert all(f"\n{name} " in shown and formula in shown for name, (formula, _) in FORMULAS.items())


def test_json_holds_reliability_kinds_and_estimates(shell):
    document = json.loads(shell.run("probe", "spec.yaml", "--json", "-q").stdout)
    assert document["bounds"]["reliability"]["verdict"] == document["reliability"]["verdict"] == "medium"
    assert document["reliability"]["settled_after"] == 4
    assert [row["kind"] for row in document["kinds"]] == ["convolution", "bias", "dense"]
    assert [row["name"] for row in document["estimates"]] == list(FORMULAS)
    assert all(set(row) == {"name", "formula", "epsilon", "decade"} for row in document["estimates"])


@pytest.mark.parametrize(("verdict", "colour"), [("high", "32"), ("medium", "33"), ("low", "31")])
def test_the_verdict_has_its_colour_in_a_terminal(shell, verdict, colour):
    path = ExperimentFolder(shell.folder / "runs/tiny").bounds_json
    before = path.read_bytes()
    bounds = probed()
    made = replace(bounds, reliability=trusted(bounds, verdict)).to_json()
    replace(ProbeRecord.read(path), bounds_json=made).write(path)
    code, shown = in_terminal(shell, "probe", "spec.yaml", "-q")
    path.write_bytes(before)
    assert code == 0
    assert re.search(rf"\x1b\[1;{colour}mReliability: {verdict}", shown)


def resolved(shell, *arguments: str) -> dict:
    """The probe's settings as a call stores them."""
    run = shell.run("probe", "spec.yaml", "-q", "--json", "--out", "options", "--force", *arguments)
    return json.loads(run.stdout), json.loads((shell.folder / "options/experiment.json").read_text())["spec"]["probe"]


def test_options_are_shortcuts_for_the_spec(shell):
    document, settings = resolved(shell, "--epochs", "2", "--batches", "20", "--every", "5", "--beta2", "0.9,0.99")
    assert document["steps"] == 20
    assert (settings["epochs"], settings["batches"], settings["every"]) == (2, 20, 5)
    assert settings["beta2"] == [0.9, 0.99]


def test_options_win_over_the_spec_and_overrides(shell):
    document, settings = resolved(shell, "-o", "probe.batches=5", "--batches", "3")
    assert (document["steps"], settings["batches"]) == (3, 3)


def test_weights_may_move(shell):
    _, settings = resolved(shell, "--update-weights", "--learning-rate", "1e-3", "--batches", "2")
    assert (settings["update_weights"], settings["learning_rate"]) == (True, 1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--update-weights"], "update_weights: true needs probe.learning_rate"),
        (["--learning-rate", "1e-3"], "learning_rate is only used with update_weights: true"),
        (["--batches", "setled"], "-o probe.batches=setled"),
        (["--epochs", "0"], "-o probe.epochs=0"),
        (["--seeds", "0"], "-o probe.seeds=0"),
        (["--every", "0"], "-o probe.every=0"),
        (["--beta2", "1.5"], "-o probe.beta2"),
        (["--compare-weights", "-1"], "-o probe.compare_weights=-1"),
    ],
)
def test_wrong_options_are_told_by_the_spec_with_exit_2(shell, arguments, words):
    assert words in shell.run("probe", "spec.yaml", *arguments, expect=2).stderr
