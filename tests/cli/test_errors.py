"""A user's mistake ends with exit code 2 and a message that says what, where and how to fix it."""

import sys
from types import ModuleType

import pytest

from epsgrid.__main__ import main
from tests.cli.conftest import SPEC


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs: 2", "epoch: 2", ["spec.yaml:5:", "training.epoch", "did you mean 'epochs'"]),
        ("optimizer: adam", "optimizer: adma", ["spec.yaml:4:", "unknown optimizer 'adma'", "did you mean 'adam'"]),
        (SPEC, "", ["spec.yaml", "empty"]),
        (SPEC, "a: [1", ["spec.yaml:", "YAML"]),
    ],
)
def test_wrong_spec(shell, old, new, words):
    shell.write(SPEC.replace(old, new))
    for command in (["probe", "spec.yaml"], ["sweep", "spec.yaml", "--dry-run"], ["show", "spec.yaml"]):
        error = shell.call(*command, expect=2).stderr
        assert error.startswith("error: ")
        assert all(word in error for word in words)


def test_a_missing_spec_a_wrong_override_and_no_experiment_yet(shell):
    for command in ("sweep", "report"):
        assert "epsgrid probe" in shell.call(command, expect=2).stderr
    assert "nowhere.yaml" in shell.call("probe", "nowhere.yaml", expect=2).stderr
    shell.write()
    error = shell.call("show", "spec.yaml", "-o", "optimizer.betsa=[0.9,0.98]", expect=2).stderr
    assert "-o optimizer.betsa" in error and "did you mean" in error


def test_damaged_bounds_are_named(swept):
    bounds = swept.folder / "runs/tiny/bounds.json"
    whole = bounds.read_text()
    for keep in (0, 2000):
        bounds.write_text(whole[:keep])
        for command in ("sweep", "report"):
            assert str(bounds) in swept.call(command, expect=2).stderr
    bounds.write_text(whole.replace('"batch_size": 64', '"batch_size": 65'))
    error = swept.call("sweep", expect=2).stderr
    assert str(bounds) in error and "checksum" in error


@pytest.mark.parametrize("seconds", ["often", "0", "inf"])
def test_a_wrong_heartbeat_is_named(shell, seconds):
    shell.write()
    for command in (["sweep", "spec.yaml", "--grid", "default"], ["probe", "spec.yaml"]):
        error = shell.call(*command, expect=2, EPSGRID_HEARTBEAT_S=seconds).stderr
        assert f"error: EPSGRID_HEARTBEAT_S: expected a number of seconds above 0, such as 30, not '{seconds}'" in error


class StillImporting(ModuleType):
    def __getattr__(self, name):
        raise KeyboardInterrupt


def test_ctrl_c_while_modules_are_read_shows_no_trace(monkeypatch):
    monkeypatch.setitem(sys.modules, "epsgrid.cli.app", StillImporting("epsgrid.cli.app"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
