"""`probe --batch-sizes` and `sweep --batch-sizes`."""

import json

import pytest

from epsgrid.cli.commands.sweep import _batch_request, _check_together
from epsgrid.errors import SpecError
from tests.cli.conftest import INLINE, Shell

pytestmark = pytest.mark.xdist_group("batches")  # its module-scoped fixtures are made once

SCALED = ("--batch-sizes", "256", "--rules", "sqrt,none", "--learning-rate", "1e-2", "--epsilon", "1e-3")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    made = Shell(tmp_path_factory.mktemp("batches"))
    made.write(INLINE.replace("seeds: [0, 1]", "seeds: [0]"))
    return made


@pytest.fixture(scope="module")
def probed(shell: Shell) -> dict:
    """The document of a first call, of which the sizes stand in the spec."""
    return shell.json("probe", "spec.yaml", "-o", "probe.batch_sizes=[32,256]")


def test_probe_json_holds_the_numbers(probed):
    batches = probed["batches"]
    assert [row["batch_size"] for row in batches["sizes"]] == [32, 64, 256]
    assert batches["low"]["low"] < batches["low"]["value"] < batches["low"]["high"]
    assert [panel["end"] for panel in batches["magnitudes"]["panels"]] == ["low", "median", "high"]
    assert (batches["measured_now"], batches["already_measured"]) == (2, 0)
    assert probed["batch_size"] == 64


def test_probe_prints_bounds_exponents_and_the_verdict_without_measuring_again(shell, probed):
    shown = shell.call("probe", "spec.yaml", "-q", "--batch-sizes", "32,256")
    assert "0 probes measured, 2 already there" in shown.stderr
    for text in (
        "ε bounds: ",
        "Batch sizes: the bounds at each",
        "  • scaling bounds by 1/√κ between batch 32 and 256: ",
        "64 (spec)",
        "Batch sizes: exponents of √v̂ by layer",
    ):
        assert text in shown.stdout


def test_sweep_plans_without_torch_then_trains_and_reports(shell, probed):
    assert "torch" not in shell.imported("sweep", "spec.yaml", *SCALED, "-n")
    planned = shell.call("sweep", "spec.yaml", *SCALED, "-n")
    assert "3 trials: 0 finished, 3 to run" in planned.stdout
    assert "lr 1e-2, ε 1e-3, as asked for, is scaled from batch 64" in planned.stderr
    ended = shell.json("sweep", "spec.yaml", *SCALED, "-q")
    assert (ended["complete"], ended["trained_now"]) == (True, 3)
    assert "Batch sizes: one setting at each" in shell.call("report").stdout
    folder = shell.folder / "runs/tiny/report"
    assert (folder / "batch-magnitudes.svg").is_file()
    batches = json.loads((folder / "report.json").read_text())["batches"]
    assert [row["rule"] for row in batches["trained"]["rows"]] == ["base", "sqrt", "none"]


def test_options_that_do_not_go_together_are_refused(shell):
    def check(grid=None, confirm=None, sizes=None, *options, half_life=False):
        _check_together(grid, confirm, sizes, *(options or (None, None, None)), half_life=half_life)

    with pytest.raises(SpecError, match="--grid and --batch-sizes: the one trains a grid"):
        check("both", None, "32")
    with pytest.raises(SpecError, match="--confirm and --grid: the one trains the winners"):
        check("both", 2)
    with pytest.raises(SpecError, match="--confirm and --batch-sizes: the one trains the winners"):
        check(None, 2, "32")
    with pytest.raises(SpecError, match="--rules and --half-life: only used with --batch-sizes"):
        check(None, None, None, "sqrt", None, None, half_life=True)
    check()
    for value in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(SpecError, match="--epsilon: expected a positive finite number"):
            _batch_request("32", None, None, value, half_life=False)
    with pytest.raises(SpecError, match="--learning-rate: expected a positive finite number, got -1"):
        _batch_request("32", None, -1.0, None, half_life=False)
    request = _batch_request("32,64", None, 1e-3, 1e-8, half_life=True)
    assert (request.sizes, request.rules, request.half_life) == ((32, 64), ("sqrt", "linear", "none"), True)
    refused = shell.call("sweep", "spec.yaml", "--confirm", "2", "--grid", "both", expect=2)
    assert refused.stderr.startswith("error: --confirm and --grid")
    wrong = shell.call("probe", "spec.yaml", "--batch-sizes", "32,x", expect=2).stderr
    assert "expected whole numbers of at least 1, as in 32,128,512" in wrong
