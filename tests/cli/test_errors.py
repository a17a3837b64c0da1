"""A user's mistake ends with exit code 2 and a message that says what, where and how to fix it."""

import pytest

from tests.cli.conftest import SPEC


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("epochs: 2", "epoch: 2"), ["spec.yaml:5:", "training.epoch", "did you mean 'epochs'"]),
        (("epochs: 2", "epochs: two"), ["spec.yaml:5:", "training.epochs", "two"]),
        (("[1e-2]", "[-1e-2]"), ["spec.yaml:7:", "sweep.learning_rates", "greater than 0", "-0.01"]),
        (("task: digits", "task: digit"), ["spec.yaml:2:", "unknown task 'digit'", "did you mean 'digits'"]),
        (("name: mlp", "name: mpl"), ["spec.yaml:3:", "unknown model 'mpl'", "did you mean 'mlp'"]),
        (("optimizer: adam", "optimizer: adma"), ["spec.yaml:4:", "unknown optimizer 'adma'", "did you mean 'adam'"]),
        (
            ("experiment: tiny", "experiment: tiny\nexperiment: two"),
            ["spec.yaml:2:", "experiment", "repeated key", "spec.yaml:1:"],
        ),
        ((SPEC, ""), ["spec.yaml", "empty"]),
        ((SPEC, "- a\n- b\n"), ["spec.yaml", "mapping"]),
        ((SPEC, "a: [1"), ["spec.yaml:", "YAML"]),
    ],
)
def test_wrong_spec(shell, change, words):
    shell.write(SPEC.replace(*change) if change[0] != SPEC else change[1])
    for command in (["probe", "spec.yaml"], ["sweep", "spec.yaml", "--dry-run"], ["show", "spec.yaml"]):
        error = shell.call(*command, expect=2).stderr
        assert error.startswith("error: ")
        for word in words:
            assert word.lower() in error.lower()


def test_a_missing_spec_and_a_wrong_override(shell):
    assert "nowhere.yaml" in shell.call("probe", "nowhere.yaml", expect=2).stderr
    shell.write()
    error = shell.call("show", "spec.yaml", "-o", "optimizer.betsa=[0.9,0.98]", expect=2).stderr
    assert "-o optimizer.betsa" in error and "did you mean" in error


def test_no_experiment_yet(shell):
    for command in ("sweep", "report"):
        error = shell.call(command, expect=2).stderr
        assert "epsgrid probe" in error


def test_damaged_bounds_are_named(swept):
    shell = swept
    bounds = shell.folder / "runs/tiny/bounds.json"
    whole = bounds.read_text()
    for keep in (0, 100, 2000):
        bounds.write_text(whole[:keep])
        for command in ("sweep", "report"):
            assert str(bounds) in shell.call(command, expect=2).stderr
    bounds.write_text(whole.replace('"batch_size": 64', '"batch_size": 65'))
    error = shell.call("sweep", expect=2).stderr
    assert str(bounds) in error
    assert "checksum" in error
