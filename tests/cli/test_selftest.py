import json
from dataclasses import replace

import pytest

from epsgrid.stages import selftest as stage
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import Scores, TrialResult

pytestmark = pytest.mark.xdist_group("selftest")  # what its fixtures made is made once


def test_kills_leave_no_trace(shell):
    done = shell.run("selftest", "--kill", "--kills", "4", "--dir", "here", "--json")
    found = json.loads(done.stdout)
    assert found["passed"], found
    assert found["trials"] == 13
    assert found["worker_kills"] + found["driver_kills"] >= 1
    assert list((shell.folder / "here").iterdir()) == [], "its folders are removed where all went well"


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """Two folders with the same sweep of one seed, undisturbed both."""
    folder = tmp_path_factory.mktemp("selftest")
    found = stage.selftest(folder, trials=1, kills=0, seed=0, say=lambda text: None)
    assert found.passed
    assert (found.worker_kills, found.driver_kills) == (0, 0)
    return folder


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
