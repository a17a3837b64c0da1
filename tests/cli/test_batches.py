"""`probe --batch-sizes` and `sweep --batch-sizes` through real processes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from epsgrid.cli.commands import sweep
from epsgrid.errors import SpecError
from tests.cli.conftest import SPEC, Shell

pytestmark = pytest.mark.xdist_group("batches")  # what its fixtures made is made once

CARRIED = ("--batch-sizes", "256", "--rules", "sqrt,none", "--learning-rate", "1e-2", "--epsilon", "1e-3")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    made = Shell(tmp_path_factory.mktemp("batches"))
    made.write(SPEC.replace("seeds: [0, 1]", "seeds: [0]") + "execution: {executor: inline}\n")
    return made


@pytest.fixture(scope="module")
def probed(shell: Shell) -> dict:
    """The document of a first call, of which the sizes stand in the spec."""
    return json.loads(shell.run("probe", "spec.yaml", "--json", "-o", "probe.batch_sizes=[32,256]").stdout)


def test_probe_json_holds_the_numbers(probed):
    batches = probed["batches"]
    assert [row["batch_size"] for row in batches["sizes"]] == [32, 64, 256]
    assert batches["low"]["low"] < batches["low"]["value"] < batches["low"]["high"]
    assert [panel["end"] for panel in batches["magnitudes"]["panels"]] == ["low", "median", "high"]
    assert (batches["measured_now"], batches["already_measured"]) == (2, 0)
    assert probed["batch_size"] == 64


def test_probe_prints_bounds_exponents_and_the_verdict_without_measuring_again(shell, probed):
    shown = shell.run("probe", "spec.yaml", "-q", "--batch-sizes", "32,256")
    assert "0 probes measured, 2 already there" in shown.stderr
    for text in (
        "ε bounds: ",
        "Batch sizes: the bounds at each",
        "  • carrying ",
        "64 (spec)",
        "Batch sizes: exponents of √v̂ by layer",
    ):
        assert text in shown.stdout


def test_sweep_plans_without_torch_then_trains_and_reports(shell, probed):
    code = (
        "import sys; from epsgrid.cli.app import run\n"
        f"sys.argv = ['epsgrid', 'sweep', 'spec.yaml', *{CARRIED}, '-n']\n"
        "code = run()\n"
        "sys.exit(99 if 'torch' in sys.modules else code)"
    )
    planned = subprocess.run(
        [sys.executable, "-c", code], cwd=shell.folder, env=shell.environment(), capture_output=True, text=True
    )
    assert planned.returncode == 0, planned.stderr
    assert "3 trials: 0 finished, 3 to run" in planned.stdout
    assert "lr 1e-2, ε 1e-3, as asked for, is carried from batch 64" in planned.stderr
    ended = json.loads(shell.run("sweep", "spec.yaml", *CARRIED, "--json", "-q").stdout)
    assert (ended["complete"], ended["trained_now"]) == (True, 3)
    assert "Batch sizes: one setting at each" in shell.run("report").stdout
    folder = shell.folder / "runs/tiny/report"
    assert "batch-magnitudes.svg" in {path.name for path in folder.iterdir()}
    batches = json.loads((folder / "report.json").read_text())["batches"]
    assert [row["rule"] for row in batches["trained"]["rows"]] == ["base", "sqrt", "none"]


def test_wrong_sizes_are_told_with_exit_2(shell):
    told = shell.run("probe", "spec.yaml", "--batch-sizes", "32,x", expect=2).stderr
    assert "expected whole numbers of at least 1, as in 32,128,512" in told


def test_options_that_do_not_go_together_are_refused():
    with pytest.raises(SpecError, match="--grid and --batch-sizes: the one trains a grid"):
        sweep._request("32", None, None, None, half_life=False, grid="both")
    for value in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(SpecError, match="--epsilon: expected a positive finite number"):
            sweep._request("32", None, None, value, half_life=False, grid=None)
    with pytest.raises(SpecError, match="--learning-rate: expected a positive finite number, got -1"):
        sweep._request("32", None, -1.0, None, half_life=False, grid=None)
    with pytest.raises(SpecError, match="--rules and --half-life: only used with --batch-sizes"):
        sweep._need_batch_sizes(rules="sqrt", learning_rate=None, epsilon=None, half_life=True)
    sweep._need_batch_sizes(rules=None, learning_rate=None, epsilon=None, half_life=None)
    request = sweep._request("32,64", None, 1e-3, 1e-8, half_life=True, grid=None)
    assert (request.sizes, request.rules, request.half_life) == ((32, 64), ("sqrt", "linear", "none"), True)
