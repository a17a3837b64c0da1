"""Trials for which memory runs out, with a stand-in for the place where they run: this process, one after another."""

import signal

import pytest

from epsgrid.executors import Job, JobEnded, JobStarted, JobStatus, call_work
from epsgrid.spec.model import Execution
from epsgrid.stages.experiment import resolve
from epsgrid.stages.running import HowToRun, TrialEvent, _out_of_memory_message
from epsgrid.stages.sweep import plan_sweep, sweep
from epsgrid.store.records import TrialFailure
from tests.executors.fake_gpus import install
from tests.stages.conftest import NeverStop


def _asking(spec_path, *overrides):
    """Ask for five trials."""
    given = ["execution.executor=local", "sweep.seeds=[0,1,2,3,4]", *overrides]
    return resolve(spec_path, None, given, spec_path.parent / "runs")


class Cramped:
    """Has memory for a trial that is alone, and not for the third and fifth that come beside others."""

    def __init__(self, folder, status, enough=True):
        self.folder, self.status, self.enough = folder, status, enough
        self.calls = []

    def run(self, jobs, work, *, slots, notify, stop, execution):
        self.calls.append([(job.trial, job.exclusive) for job in jobs])
        first = len(self.calls) == 1
        for number, job in enumerate(jobs):
            fits = number not in (2, 4) if first else job.exclusive and self.enough
            notify(JobStarted(job))
            notify(JobEnded(job, call_work(work, job) if fits else self.fail(job)))

    def fail(self, job):
        """End as a trial's process does: it says why, unless it was killed."""
        folder = self.folder.trial(job.trial)
        if self.status == JobStatus.OUT_OF_MEMORY:
            before = TrialFailure.read(folder.failure_json).attempts if folder.failure_json.exists() else 0
            error = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."
            TrialFailure(job.trial, error, "a trace", str(folder.log), before + 1, "now").write(folder.failure_json)
        return self.status


def _run(asked, monkeypatch, status, **options):
    events, place = [], Cramped(asked.folder, status, **options)
    monkeypatch.setattr("epsgrid.executors.load", lambda name: place)
    summary = sweep(asked, "default", HowToRun(4, events.append, NeverStop()))
    return summary, [event for event in events if isinstance(event, TrialEvent) and event.state != "running"], place


STATUSES = pytest.mark.parametrize(
    ("status", "what"),
    [
        (JobStatus.OUT_OF_MEMORY, "out of memory"),
        (-signal.SIGKILL, "its process was killed by signal 9 (often: out of memory)"),
    ],
)


@STATUSES
def test_a_trial_that_ran_out_of_memory_is_tried_again_alone(spec_path, monkeypatch, status, what):
    asked = _asking(spec_path)
    summary, ended, place = _run(asked, monkeypatch, status)
    assert summary.counts == {"done": 5}
    first, second = place.calls
    assert not any(exclusive for _, exclusive in first)
    assert second == [(first[2][0], True), (first[4][0], True)]
    errors = [event.failure.error for event in ended if event.failure is not None]
    assert len(errors) == 2
    assert all(error.startswith(f"{what}; it is tried again alone") for error in errors)
    assert not asked.folder.trial(first[2][0]).failure_json.exists()


@STATUSES
def test_one_that_does_not_fit_alone_either_ends_with_what_to_do(spec_path, monkeypatch, status, what):
    summary, _, place = _run(_asking(spec_path), monkeypatch, status, enough=False)
    assert summary.counts == {"done": 3, "failed": 2}
    assert len(place.calls) == 2
    for failure in summary.failures:
        assert failure.error.startswith(f"{what}, though it ran alone: a smaller training.batch_size")
        assert f"`epsgrid retry {failure.id}`" in failure.error
        assert failure.attempts == 2
        assert ("CUDA out of memory. Tried" in failure.error) == (status == JobStatus.OUT_OF_MEMORY)


def test_what_helps_depends_on_the_place():
    event = JobEnded(Job("folder", "abcd"), JobStatus.OUT_OF_MEMORY)
    for executor, more_memory in (("local", False), ("slurm", True)):
        message = _out_of_memory_message(event, Execution(executor=executor), is_tried_again=False)
        assert ("and execution.slurm.memory gives more" in message) == more_memory
        assert ("though it ran alone" in message) == more_memory


@pytest.mark.parametrize(
    ("overrides", "workers", "slots"),
    [
        ((), None, 2),
        (("execution.trials_per_device=3",), None, 6),
        (("execution.trials_per_device=3",), 4, 4),
        (("execution.trials_per_device=3", "execution.workers=5"), None, 5),
        (("execution.trials_per_device=3",), 64, 6),
        (("execution.executor=ray", "execution.trials_per_device=3"), None, 6),
        (("execution.executor=ray", "execution.ray.gpus=0.25"), None, 8),
        (("execution.executor=ray", "execution.ray.gpus=2"), None, 1),
        (("execution.executor=ray", "execution.ray.address=h:1"), 9, 9),
        (("execution.executor=slurm",), None, 64),
        (("execution.executor=inline", "execution.trials_per_device=3"), None, 1),
        (("execution.device=cpu",), 7, 7),
        (("execution.executor=ray", "execution.ray.gpus=0"), 7, 7),
    ],
)
def test_slots_are_what_the_devices_have_room_for(spec_path, tmp_path, monkeypatch, overrides, workers, slots):
    install(tmp_path, monkeypatch, 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    asked = resolve(spec_path, None, ["execution={executor: local, device: cuda}", *overrides], tmp_path / "runs")
    assert plan_sweep(asked, "conventional", workers).slots == slots
