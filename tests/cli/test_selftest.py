"""`epsgrid selftest`: it passes here, and it could fail."""

from dataclasses import replace

import pytest

from epsgrid.stages import selftest as stage
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import Scores, TrialResult

pytestmark = pytest.mark.xdist_group("selftest")  # its module-scoped fixture is made once


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """The folder of two sweeps, the second one under kills."""
    folder = tmp_path_factory.mktemp("selftest")
    found = stage.selftest(folder, trials=6, kills=2, report=lambda line: None)
    assert found.passed, found
    assert found.trials == 6
    assert found.worker_kills + found.driver_kills >= 1
    return folder


@pytest.mark.parametrize(("differing", "is_kept"), [((), False), (("0123456789abcdef",), True)])
def test_its_folders_are_removed_where_all_went_well(differing, is_kept, shell, monkeypatch):
    def selftest(folder, **_):
        (folder / "whole").mkdir()
        return stage._SelfTest(13, 1, 0, differing, ())

    monkeypatch.setattr(stage, "selftest", selftest)
    document = shell.json("selftest", "--dir", "here", expect=int(is_kept))
    assert document["passed"] is not is_kept
    assert bool(list((shell.folder / "here").iterdir())) is is_kept


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
