import errno
import json
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from epsgrid.executors import Job, JobStatus
from epsgrid.stages.experiment import resolve
from epsgrid.stages.running import HowToRun
from epsgrid.stages.sweep import sweep
from epsgrid.store.lease import Lease
from epsgrid.store.records import TrialFailure, TrialResult
from epsgrid.tasks import digits
from epsgrid.worker import main, run_job
from tests.stages.conftest import SPEC

TOO_MUCH = 2**50


@pytest.fixture
def experiment(tmp_path):
    """An experiment whose trials are planned and stored, but not run."""
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    asked = resolve(path, None, (), tmp_path / "runs")
    stop = SimpleNamespace(level=lambda: 1)
    sweep(asked, "conventional", HowToRun(1, lambda event: None, stop))
    return asked.folder


@pytest.fixture
def job(experiment):
    return Job(str(experiment.root), experiment.trials()[0].id)


def test_a_trial_is_run_to_its_result_and_cleans_up(experiment, job):
    folder = experiment.trial(job.trial)
    assert main([job.experiment, job.trial]) == JobStatus.FINISHED
    result = TrialResult.read(folder.result_json)
    assert result.id == job.trial
    assert result.state == "done"
    assert not folder.checkpoint.exists()
    assert "start: lr 1e-2" in folder.log.read_text()
    assert run_job(job) == JobStatus.FINISHED
    assert TrialResult.read(folder.result_json) == result


def test_a_log_that_cannot_be_written_does_not_fail_its_trial(experiment, job):
    folder = experiment.trial(job.trial)
    folder.log.symlink_to("/dev/full")
    assert run_job(job) == JobStatus.FINISHED
    assert TrialResult.read(folder.result_json).state == "done"


def test_a_failure_is_kept_with_its_trace_and_counted(experiment, job, monkeypatch):
    folder = experiment.trial(job.trial)

    def broken(*arguments):
        raise RuntimeError("no such luck")

    with monkeypatch.context() as patched:
        patched.setattr("epsgrid.models.mlp.build", broken)
        assert run_job(job) == run_job(job) == JobStatus.FAILED
    failure = TrialFailure.read(folder.failure_json)
    assert failure.error == "RuntimeError: no such luck"
    assert failure.attempts == 2
    assert "in broken" in failure.trace
    assert "no such luck" in folder.log.read_text()
    assert run_job(job) == JobStatus.FINISHED
    assert not folder.failure_json.exists()


def raised(make):
    """Return the error that a call raises."""
    try:
        make()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (raised(lambda: torch.empty(TOO_MUCH)), JobStatus.OUT_OF_MEMORY),
        (raised(lambda: bytearray(TOO_MUCH)), JobStatus.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), JobStatus.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), JobStatus.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), JobStatus.FAILED),
        (RuntimeError("CUDA error: device-side assert triggered"), JobStatus.FAILED),
    ],
)
def test_a_trial_that_runs_out_of_memory_has_a_status_of_its_own(experiment, job, monkeypatch, error, status):
    monkeypatch.setattr("epsgrid.models.mlp.build", Mock(side_effect=error))
    assert run_job(job) == status
    assert type(error).__name__ in TrialFailure.read(experiment.trial(job.trial).failure_json).error


def test_a_damaged_trial_and_one_in_the_folder_of_another_are_refused(experiment, job):
    one, other = experiment.trials()[:2]
    document = json.loads(one.spec_json.read_text())
    one.spec_json.write_text(json.dumps(document | {"seed": 5}))
    assert run_job(job) == JobStatus.FAILED
    assert str(one.spec_json) in TrialFailure.read(one.failure_json).error
    one.spec_json.write_bytes(other.spec_json.read_bytes())
    assert run_job(job) == JobStatus.FAILED
    assert f"is of trial {other.id}" in TrialFailure.read(one.failure_json).error


def test_a_lost_lease_leaves_everything_to_the_new_holder(experiment, job, monkeypatch):
    monkeypatch.setattr(Lease, "lost", lambda lease, max_age_s=1.0: True)
    assert run_job(job) == JobStatus.HELD_ELSEWHERE
    assert not experiment.trial(job.trial).result_json.exists()


def test_wrong_arguments_print_the_usage(capsys):
    assert main([]) == 2
    assert "EXPERIMENT_FOLDER TRIAL_ID" in capsys.readouterr().err


def test_a_trial_is_not_trained_on_other_data_than_it_was_planned_with(experiment, job, monkeypatch):
    prepared = digits.prepare(digits.Options(name="digits"))
    other = replace(prepared, images=replace(prepared.images, checksum="0" * 64))
    monkeypatch.setattr(digits, "prepare", lambda options: other)
    assert run_job(job) == JobStatus.FAILED
    failure = TrialFailure.read(experiment.trial(job.trial).failure_json)
    assert "not those that this trial was planned with: their checksum is 000000000000…" in failure.error
    assert not experiment.trial(job.trial).result_json.exists()


def test_a_trial_that_somebody_holds_is_left_alone(experiment, job):
    lease = Lease.take(experiment.trial(job.trial).lease)
    try:
        assert run_job(job) == JobStatus.HELD_ELSEWHERE
    finally:
        lease.release()
    assert run_job(job) == JobStatus.FINISHED
