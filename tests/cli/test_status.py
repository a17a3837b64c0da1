import json

import pytest

from tests.cli.conftest import Shell

pytestmark = pytest.mark.xdist_group("status")  # what its fixtures made is made once


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    made = Shell(tmp_path_factory.mktemp("status"))
    made.run("sweep", str(made.write()), "--grid", "default", "--quiet")
    return made


def test_status_counts_trials_and_says_what_comes_next(shell):
    done = shell.run("status")
    assert "2 of 2 trials finished (100 %): 2 done" in done.stdout
    assert "Next: epsgrid report" in done.stderr


def test_status_lists_trials_on_request(shell):
    assert shell.run("status", "--trials").stdout.count(" done") >= 2
    document = json.loads(shell.run("status", "--json", "--trials").stdout)
    assert document["states"]["done"] == document["trials"] == len(document["all"]) == 2


def test_watching_ends_when_nothing_runs(shell):
    assert "2 of 2" in shell.run("status", "--watch").stdout


def test_status_does_not_import_torch(shell):
    done = shell.run("status", PYTHONPROFILEIMPORTTIME="1")
    assert "pydantic" in done.stderr
    assert " torch\n" not in done.stderr


def test_forget_then_retry(shell):
    trial = json.loads(shell.run("status", "--json", "--trials").stdout)["all"][0]["id"]
    assert f"archive/{trial}-1" in shell.run("forget", trial[:10]).stdout
    assert "1 pending" in shell.run("status").stdout
    assert "1 trained now" in shell.run("retry", trial, "--quiet").stdout
    again = shell.run("retry", trial, "--quiet")
    assert f"archive/{trial}-2" in again.stderr
    assert "1 trained now" in again.stdout
    assert "Nothing to do: no trial is failed." in shell.run("retry", "failed").stderr


def test_a_wrong_trial_is_a_usage_error(shell):
    assert "no trial 'faild' here; did you mean 'failed'?" in shell.run("retry", "faild", expect=2).stderr
