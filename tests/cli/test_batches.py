"""`probe --batch-sizes` and `sweep --batch-sizes`."""

import json

import pytest

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
    assert {law["statistic"] for law in batches["laws"]} == {"low", "median", "high"}
    assert (batches["measured_now"], batches["already_measured"]) == (2, 0)
    assert probed["batch_size"] == 64


def test_probe_prints_bounds_laws_and_the_verdict_without_measuring_again(shell, probed):
    shown = shell.call("probe", "spec.yaml", "-q", "--batch-sizes", "32,256")
    assert "0 probes measured, 2 already there" in shown.stderr
    for text in (
        "ε bounds: ",
        "Batch sizes: the bounds at each",
        "  • scaling bounds by 1/√κ between batch 32 and 256: ",
        "64 (spec)",
        "Batch sizes: laws by layer",
    ):
        assert text in shown.stdout


def test_sweep_plans_without_torch_then_trains_and_reports(shell, probed):
    assert "torch" not in shell.imported(f"sweep spec.yaml {' '.join(SCALED)} -n")
    planned = shell.call("sweep", "spec.yaml", *SCALED, "-n")
    assert "3 trials: 0 finished, 3 to run" in planned.stdout
    assert "lr 1e-2, ε 1e-3, as asked for, is scaled from batch 64" in planned.stderr
    ended = shell.json("sweep", "spec.yaml", *SCALED, "-q")
    assert (ended["complete"], ended["trained_now"]) == (True, 3)
    assert "Batch sizes: one setting at each" in shell.call("report", "--full").stdout
    folder = shell.folder / "runs/tiny/report"
    batches = json.loads((folder / "report.json").read_text())["batches"]
    assert [row["rule"] for row in batches["trained"]["rows"]] == ["base", "sqrt", "none"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--grid both --batch-sizes 32", "--grid and --batch-sizes: the one trains a grid"),
        ("--until-decided --batch-sizes 32", "--until-decided and --batch-sizes: the one trains a grid"),
        ("--extend-rates --batch-sizes 32", "--extend-rates and --batch-sizes: the one trains a grid"),
        ("--max-seeds 3", "--max-seeds: only used with --until-decided"),
        ("--max-seeds 0 --until-decided", "greater than or equal to 1"),
        ("--until-decided", "--until-decided: sweep.seeds has one seed, and one seed has no spread; give two or more"),
        ("--rules sqrt --half-life", "--rules and --half-life: only used with --batch-sizes"),
        ("--batch-sizes 32 --epsilon 0", "--epsilon: expected a positive finite number, got 0"),
        ("--batch-sizes 32 --learning-rate inf", "--learning-rate: expected a positive finite number, got inf"),
        ("--batch-sizes 32,x", "expected whole numbers of at least 1, as in 32,128,512"),
        ("--batch-sizes 32 --rules cube", "there is no rule 'cube'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(shell, options, words):
    assert words in shell.call("sweep", "spec.yaml", "-n", *options.split(), expect=2).stderr
