"""The output of `epsgrid probe`, and its options."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from epsgrid.cli.tables import report_table
from epsgrid.numerics.estimates import _FORMULAS
from epsgrid.report.text.bounds import reliability_table
from epsgrid.report.trust import reliability_row
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import ProbeRecord
from tests.cli.conftest import Shell
from tests.report.kept import SMALL, probed, trusted

pytestmark = pytest.mark.xdist_group("probe")  # its module-scoped fixture is made once


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


@pytest.mark.parametrize("columns", [80, 60])
def test_the_answer_stands_first_and_fits_a_screen(shell, columns):
    code, shown = shell.in_terminal("probe", "spec.yaml", "-q", COLUMNS=str(columns))
    lines = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown).splitlines()
    assert code == 0
    assert lines[0] == "ε bounds: 1e-4 to 0.1"
    assert len(lines) <= 24
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    assert "confidence medium (--full: 1 more remark): with seed 1 the lower bound would be 1e-4" in text
    assert "grid 4 of 13 ε: 1e-4, 1e-3, 1e-2, 0.1 lower end" in text
    assert "bounds without rounding noise: ε 1e-4 to 0.1; the published rule, noise included: 1e-5 to 0.1" in text
    assert text.endswith("Next: epsgrid sweep")


def test_the_summary_follows_the_bounds_and_the_list_asked_for(shell):
    shown = shell.call("probe", "spec.yaml", "-o", "sweep.bounds=published").stdout
    assert shown.startswith("ε bounds: 1e-5 to 0.1\n")
    assert "5 of 13 ε: 1e-5, 1e-4, 1e-3, 1e-2, 0.1\n" in shown
    shown = shell.call("probe", "spec.yaml", "-o", "sweep.epsilons=[1e-3, 1e-9]").stdout
    assert "your list, sweep.epsilons, takes the place of the bounds: 1e-9, 1e-3\n" in shown


def test_the_summary_says_how_much_higher_the_learning_rate_has_to_be(shell):
    shown = shell.call("probe", "spec.yaml").stdout
    said = re.search(r"^lr +at ε = (\S+), steps do as much with one (\S+) times as high", shown, re.M)
    at_most, times = said.groups()
    before = after = 0.0
    for layer in probed().layers:
        for (low, high), entries in zip(pairwise(layer.histogram.edges()), layer.histogram.counts[1:], strict=False):
            gradients = entries * (low + high) / 2
            before, after = before + gradients, after + gradients / (1 + float(at_most) / ((low + high) / 2))
    assert float(times) == pytest.approx(before / after, rel=0.01)
    assert "(-o sweep.lr_mode=effective)" in " ".join(shown.split())
    assert "as high (sweep.lr_mode: effective)" in " ".join(
        shell.call("probe", "spec.yaml", "-o", "sweep.lr_mode=effective").stdout.split()
    )
    assert "\nlr " not in shell.call("probe", "spec.yaml", "-o", "sweep.epsilons=[1e-9]").stdout


def test_layers_that_are_left_out_have_to_be_there(shell):
    asked = ("probe", "spec.yaml", "--out", "left-out", "-q", "-o")
    problem = shell.call(*asked, "probe.leave_out=['*.bais']", expect=2).stderr
    assert "leave_out: '*.bais' matches no layer; the layers are 1.weight, 1.bias" in problem
    assert "leave_out leaves no layer" in shell.call(*asked, "probe.leave_out=['*']", expect=4).stderr
    assert "left out    1.bias" in shell.call(*asked, "probe.leave_out=['*.bias']").stdout


def test_every_layer_has_its_histogram_on_a_common_axis(shell):
    shown = shell.call("probe", "spec.yaml", "--full").stdout.splitlines()
    place = next(place for place, line in enumerate(shown) if line.startswith("layer "))
    header, *rows = shown[place : place + len(SMALL) + 1]
    assert re.search(r"1e-\d+ +1e-?\d+$", header)
    for layer, row in zip(SMALL, rows, strict=True):
        assert row.startswith(f"{layer.name} ")
        assert re.search(r"[▁▂▃▄▅▆▇]*█[▁▂▃▄▅▆▇]*", row)


def test_reliability_stands_below_the_bounds(shell):
    shown = shell.call("probe", "spec.yaml", "--full", "-o", "sweep.bounds=published").stdout
    bounds, kinds, trust, estimates = (
        shown.index(text)
        for text in ("ε bounds: ", "Bounds of each kind", "Reliability: medium\n", "Point estimates of ε")
    )
    assert bounds < kinds < trust < estimates
    for line in (
        "  • with seed 1 the lower bound would be 1e-4, one decade higher",
        "  • only rounding noise: conv.bias (100 % of its entries)",
        "as measured                 1e-5   0.1        5                     –",
        "without rounding noise      1e-4   0.1        4               +1.0, 0",
    ):
        assert f"{line}\n" in shown
    assert "decades settled after 4 of 16 batches" in shown
    assert all(f"\n{name} " in shown and formula in shown for name, (formula, _) in _FORMULAS.items())


def test_json_holds_reliability_kinds_and_estimates(shell):
    document = shell.json("probe", "spec.yaml", "-q")
    assert document["bounds"]["reliability"]["verdict"] == document["reliability"]["verdict"] == "medium"
    assert document["reliability"]["settled_after"] == 4
    assert [row["kind"] for row in document["kinds"]] == ["convolution", "bias", "dense"]
    assert [row["name"] for row in document["estimates"]] == list(_FORMULAS)
    assert all(set(row) == {"name", "formula", "epsilon", "decade"} for row in document["estimates"])


def test_the_verdict_has_its_colour(shell):
    code, shown = shell.in_terminal("probe", "spec.yaml", "-q", "--full")
    assert code == 0
    assert re.search(r"\x1b\[1;33mReliability: medium", shown)
    bounds = probed()
    colours = {"high": "bold green", "medium": "bold yellow", "low": "bold red"}
    for verdict, style in colours.items():
        row = reliability_row(replace(bounds, reliability=trusted(bounds, verdict)))
        assert report_table(reliability_table(row))[0].style == style


def test_options_override_the_spec_and_overrides(shell):
    def resolved(*arguments: str) -> tuple[dict, dict]:
        """Return the document, and the probe's settings as the call stores them."""
        document = shell.json("probe", "spec.yaml", "-q", "--out", "options", "--force", *arguments)
        return document, json.loads((shell.folder / "options/experiment.json").read_text())["spec"]["probe"]

    document, settings = resolved("--epochs", "2", "--batches", "20")
    assert document["steps"] == 20
    assert (settings["epochs"], settings["batches"]) == (2, 20)
    document, settings = resolved("-o", "probe.batches=5", "--batches", "3")
    assert (document["steps"], settings["batches"]) == (3, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "probe.update_weights=true"], "update_weights: true needs probe.learning_rate"),
        (["-o", "probe.learning_rate=1e-3"], "learning_rate is only used with update_weights: true"),
        (["--batches", "setled"], "--batches: expected a number of batches, 1 or more, or settled, got 'setled'"),
        (["--batches", "0"], "--batches: expected a number of batches, 1 or more, or settled, got '0'"),
        (["--epochs", "0"], "Invalid value for '--epochs'"),
    ],
)
def test_wrong_options_are_refused_with_exit_2(shell, arguments, words):
    assert words in shell.call("probe", "spec.yaml", *arguments, expect=2).stderr
