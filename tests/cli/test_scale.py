"""`epsgrid scale`."""

import json
from functools import partial

import pytest

from epsgrid.spec.loading import load_spec


@pytest.fixture
def scale(shell):
    shell.write()
    return partial(shell.call, "scale")


def test_the_yaml_alone_is_on_stdout(scale, tmp_path):
    done = scale("spec.yaml", "--batch-size", "256")
    (tmp_path / "out.yaml").write_text(done.stdout, encoding="utf-8")
    scaled = load_spec(tmp_path / "out.yaml")
    assert (scaled.training.batch_size, scaled.optimizer.betas) == (256, (0.6, 0.996))
    assert scaled.experiment == "tiny-batch-256"
    assert "sweep.default_epsilon: 1e-8 → 5e-9: outside the root" in done.stdout


def test_json_is_one_document(scale):
    document = json.loads(scale("spec.yaml", "--batch-size", "1024", "--half-life", "--json").stdout)
    assert (document["version"], document["kappa"], document["rule"]) == (1, 16.0, "sqrt")
    assert [change["path"] for change in document["changes"]][:2] == ["experiment", "optimizer.betas"]
    assert document["spec"]["training"]["batch_size"] == 1024
    done = scale("spec.yaml", "-o", "task={name: images, root: /nowhere}", "--batch-size", "128")
    assert "note: not checked whether a batch fits into the training data" in done.stderr
    assert "batch_size: 128" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["spec.yaml", "--batch-size", "1024"], "ends at κ = 10, a batch of 640"),
        (["spec.yaml", "--batch-size", "0"], "Invalid value for '--batch-size'"),
        (["spec.yaml", "--batch-size", "5000", "--rule", "none"], "the largest batch there is holds all 1,077"),
        (["spec.yaml", "--batch-size", "128", "-o", "optimizer=nadam"], "not derived for 'nadam'"),
        (["spec.yaml", "--batch-size", "128", "--rule", "linear", "--half-life"], "--half-life is a form of"),
    ],
)
def test_wrong_input_is_told(scale, arguments, words):
    assert words in scale(*arguments, expect=2).stderr
