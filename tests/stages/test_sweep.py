import os
import signal

import pytest

from epsgrid.errors import StoreError
from epsgrid.executors import JobEnded, JobStarted
from epsgrid.stages import probe as probe_stage
from epsgrid.stages import sweep as sweep_stage
from epsgrid.stages.experiment import resolve
from epsgrid.stages.sweep import SweepPlan, TrialEnded, TrialStarted, default_slots, plan_sweep, sweep
from epsgrid.store.records import GridRecord
from tests.stages.conftest import NeverStop


def run(asked, grid="conventional", stop=None, fail_fast=False):
    events = []
    summary = sweep(asked, grid, workers=1, fail_fast=fail_fast, notify=events.append, stop=stop or NeverStop())
    return summary, events


def measure(asked):
    return probe_stage.probe(asked, ["test"], force=False, on_step=lambda done, of: None)


def test_events_tell_the_plan_and_every_start_and_end(asked):
    summary, events = run(asked)
    assert isinstance(events[0], SweepPlan)
    assert events[0].to_run == 13
    assert [type(event) for event in events[1:]] == [TrialStarted, TrialEnded] * 13
    assert all(event.state == "done" and event.result is not None for event in events[2::2])
    assert summary.complete
    assert summary.counts == {"done": 13}
    assert summary.trained == 13


def test_narrowed_then_conventional_share_trials_and_the_record_holds_both(asked):
    measure(asked)
    first, _ = run(asked, "narrowed")
    second, _ = run(asked, "conventional")
    record = GridRecord.read(asked.folder.grid_json)
    assert set(record.epsilons) == {"narrowed", "conventional"}
    shared = set(record.epsilons["narrowed"]) & set(record.epsilons["conventional"])
    assert second.trained == 13 - len(shared) - (1e-8 not in shared)
    assert first.complete and second.complete


def test_the_default_epsilon_is_trained_with_a_narrowed_grid_alone(asked):
    measure(asked)
    run(asked, "narrowed")
    assert GridRecord.read(asked.folder.grid_json).epsilons["default"] == (1e-8,)


def test_dry_run_of_what_is_not_measured_or_not_here(spec_path, tmp_path):
    asked = resolve(spec_path, None, [], tmp_path / "runs")
    planned = plan_sweep(asked, "both", None)
    assert planned.to_run == 13
    assert "narrowed grid is known after `epsgrid probe`" in planned.unknown[0]
    absent = resolve(spec_path, None, ["task={name: cifar10, root: nowhere}"], tmp_path / "runs")
    planned = plan_sweep(absent, "conventional", None)
    assert planned.to_run == 13
    assert "the data are not ready" in planned.unknown[0]
    assert not (tmp_path / "runs").exists()


def test_dry_run_of_an_optimizer_without_epsilon_asks_for_no_probe(spec_path, tmp_path):
    planned = plan_sweep(resolve(spec_path, None, ["optimizer=sgdm"], tmp_path / "runs"), "both", None)
    assert planned.to_run == 1
    assert planned.unknown == ()


def test_bounds_of_other_settings_are_refused(spec_path, asked, tmp_path):
    measure(asked)
    other = resolve(spec_path, None, ["probe.seed=9"], tmp_path / "runs")
    with pytest.raises(StoreError, match=r"measured with other settings:\n  probe\.seed: 0 there, 9 asked"):
        run(other, "narrowed")


def ending_with(status):
    def execute(jobs, work, *, slots, notify, stop, execution):
        for job in jobs:
            if stop.level():
                return
            notify(JobStarted(job))
            notify(JobEnded(job, status))

    return execute


@pytest.mark.parametrize(
    ("status", "words"),
    [(-signal.SIGKILL, "killed by signal 9 (often: out of memory)"), (255, "ended with status 255 and told nothing")],
)
def test_a_process_that_ends_without_a_word_becomes_a_failure_after_its_retries(asked, monkeypatch, status, words):
    monkeypatch.setattr("epsgrid.executors.inline.run", ending_with(status))
    summary, events = run(asked)
    assert summary.counts == {"failed": 13}
    assert len([event for event in events if isinstance(event, TrialStarted)]) == 26
    assert all(words in failure.error and failure.attempts == 2 for failure in summary.failures)


def test_fail_fast_starts_nothing_more(spec_path, tmp_path, monkeypatch):
    asked = resolve(spec_path, None, ["execution.retries=0"], tmp_path / "runs")
    monkeypatch.setattr("epsgrid.executors.inline.run", ending_with(-signal.SIGKILL))
    summary, events = run(asked, fail_fast=True)
    assert len([event for event in events if isinstance(event, TrialStarted)]) == 1
    assert summary.counts == {"failed": 1, "pending": 12}


def test_a_stop_leaves_the_rest_pending(asked):
    class StopAfter:
        calls = 0

        def level(self):
            self.calls += 1
            return int(self.calls > 3)

    summary, _ = run(asked, stop=StopAfter())
    assert not summary.complete
    assert summary.counts["pending"] > 0
    assert run(asked)[0].complete


def test_slots_are_the_cores_of_this_process(asked):
    assert sweep_stage.default_slots(asked.spec) == len(os.sched_getaffinity(0))


def test_what_only_tells_how_far_bounds_can_be_trusted_may_change(asked, spec_path, tmp_path):
    measure(asked)
    more = resolve(spec_path, None, ["probe.seeds=2", "probe.every=3"], tmp_path / "runs")
    assert run(more, "narrowed")[0].complete
    assert measure(more).measured_now, "asked for more, the probe does not answer with less"
    other = resolve(spec_path, None, ["probe.batches=2"], tmp_path / "runs")
    with pytest.raises(StoreError, match=r"probe\.batches: null there, 2 asked"):
        run(other, "narrowed")


def test_a_cluster_is_not_limited_to_the_cores_of_this_machine(spec_path, tmp_path):
    def slots(*overrides):
        return default_slots(resolve(spec_path, None, [*overrides, "execution.device=cpu"], tmp_path / "runs").spec)

    here = len(os.sched_getaffinity(0))
    assert slots() == slots("execution.executor=local") == slots("execution.executor=ray") == here
    assert slots("execution.executor=slurm") == slots("execution={executor: ray, ray: {address: h:1}}") == 64
