"""`epsgrid selftest`: it passes here, and it could fail."""

import json
from dataclasses import replace

import pytest

from epsgrid.cli.commands import selftest as command
from epsgrid.errors import ExitCode
from epsgrid.stages import selftest as stage
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import Scores, TrialResult
from tests.cli.conftest import Shell

pytestmark = pytest.mark.xdist_group("selftest")  # its module-scoped fixture is made once


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The document about two sweeps, the second one under kills, and their folder."""
    shell = Shell(tmp_path_factory.mktemp("selftest"))
    document = json.loads(
        shell.run("selftest", "--kill", "--kills", "2", "--trials", "6", "--dir", "here", "--keep", "--json").stdout
    )
    return document | {"folder": shell.folder / document["folder"]}


@pytest.fixture
def sweeps(found):
    return found["folder"]


def test_kills_leave_no_trace(found):
    assert found["passed"], found
    assert found["trials"] == 6
    assert found["worker_kills"] + found["driver_kills"] >= 1


@pytest.mark.parametrize(("differing", "is_kept"), [((), False), (("0123456789abcdef",), True)])
def test_its_folders_are_removed_where_all_went_well(differing, is_kept, tmp_path, monkeypatch, capsys):
    def selftest(folder, **_):
        (folder / "whole").mkdir()
        return stage.SelfTest(13, 1, 0, differing, (), 1.0, 1.0)

    monkeypatch.setattr(stage, "selftest", selftest)
    code = command.selftest(kill=True, folder=tmp_path, trials=13, kills=1, seed=0, keep=False, json=True, quiet=True)
    assert json.loads(capsys.readouterr().out)["passed"] is not is_kept
    assert bool(list(tmp_path.iterdir())) is is_kept
    assert code == (ExitCode.UNEXPECTED if is_kept else None)


def test_a_result_that_differs_is_found(sweeps):
    """The comparison itself must be able to fail."""
    trial = ExperimentFolder(sweeps / "killed").trials()[3]
    same = ExperimentFolder(sweeps / "whole").trial(trial.id)
    assert stage._numbers(trial) == stage._numbers(same) is not None
    result = TrialResult.read(trial.result_json)
    nearly = Scores(result.test.loss * (1 + 1e-15) + 5e-324, result.test.metric)
    replace(result, test=nearly).write(trial.result_json)
    assert stage._numbers(trial) != stage._numbers(same)
    result.write(trial.result_json)
    trial.metrics_jsonl.write_text(trial.metrics_jsonl.read_text().replace('"epoch": 2', '"epoch": 3'))
    assert stage._numbers(trial) != stage._numbers(same)


def test_a_trial_that_was_trained_twice_is_found(sweeps):
    trial = ExperimentFolder(sweeps / "killed").trials()[5]
    assert stage._completions(trial) == 1
    with trial.log.open("a") as log:
        log.write("2026-01-01T00:00:00+00:00 done\n")
    assert stage._completions(trial) == 2
