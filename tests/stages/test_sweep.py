import signal

import pytest

from epsgrid import executors
from epsgrid.cli.progress import plan_lines
from epsgrid.errors import StoreError
from epsgrid.executors import JobEnded, JobStarted
from epsgrid.grids._rates import EffectiveRates
from epsgrid.numerics.precision import underflow_warning
from epsgrid.report.text.render import cells_table, tables
from epsgrid.selection.load import load_experiment
from epsgrid.stages import probe as probe_stage
from epsgrid.stages.running import HowToRun, SweepPlan
from epsgrid.stages.sweep import plan_sweep, sweep
from epsgrid.store.lease import Lease
from epsgrid.store.records import GridRecord
from tests.report.simulate import compare
from tests.stages.conftest import NeverStop


def run(asked, grid="conventional", stop=None, fail_fast=False):
    events = []
    summary = sweep(asked, grid, HowToRun(1, events.append, stop or NeverStop(), fail_fast=fail_fast))
    return summary, events


def measure(asked):
    return probe_stage.probe(asked, ["test"], force=False, on_step=lambda done, of: None)


def test_events_tell_the_plan_and_every_start_and_end(asked):
    summary, events = run(asked)
    assert isinstance(events[0], SweepPlan)
    assert events[0].to_run == 13
    assert [event.state for event in events[1:]] == ["running", "done"] * 13
    assert all(event.result is not None for event in events[2::2])
    assert summary.complete
    assert summary.counts == {"done": 13}
    assert summary.trained == 13


def test_grids_share_trials_and_the_record_holds_all(asked):
    measure(asked)
    first, _ = run(asked, "narrowed")
    assert GridRecord.read(asked.folder.grid_json).epsilons["default"] == (1e-8,)
    second, _ = run(asked, "conventional")
    record = GridRecord.read(asked.folder.grid_json)
    assert set(record.epsilons) == {"narrowed", "conventional"}
    shared = set(record.epsilons["narrowed"]) & set(record.epsilons["conventional"])
    assert second.trained == 13 - len(shared) - (1e-8 not in shared)
    assert first.complete and second.complete


def test_dry_run_of_what_is_not_measured_or_not_here(asking, tmp_path, monkeypatch):
    """`download: true` made it fetch 170 MB, to say how many trials there are."""
    planned = plan_sweep(asking(), "both", None)
    assert planned.to_run == 13
    assert "narrowed grid is known after `epsgrid probe`" in planned.unknown[0]
    monkeypatch.setattr("epsgrid.tasks.cifar10.fetch", lambda *_: pytest.fail("downloaded"))
    for options in ("", ", download: true"):
        planned = plan_sweep(asking(f"task={{name: cifar10, root: nowhere{options}}}"), "conventional", None)
        assert planned.to_run == 13
        assert "the data are not ready, so all trials count as to run: CIFAR-10 not found" in planned.unknown[0]
    assert not (tmp_path / "runs").exists()
    planned = plan_sweep(asking("optimizer=sgdm"), "both", None)
    assert (planned.to_run, planned.unknown) == (1, ()), "an optimizer without ε needs no probe"


def test_bounds_of_other_settings_are_refused_unless_these_only_tell_how_far_bounds_can_be_trusted(asked, asking):
    measure(asked)
    with pytest.raises(StoreError, match=r"other settings:\n  probe\.batches: null there, 2 asked\n  probe\.seed: 0 "):
        run(asking("probe.seed=9", "probe.batches=2"), "narrowed")
    more = asking("probe.seeds=2", "probe.every=3")
    assert run(more, "narrowed")[0].complete
    assert measure(more)[1], "asked for more, the probe does not answer with less"


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
    [
        (-signal.SIGKILL, "killed by signal 9 (often: out of memory)"),
        (255, "ended with status 255 and stored no reason"),
    ],
)
def test_a_process_that_ends_without_a_word_becomes_a_failure_after_its_retries(asked, monkeypatch, status, words):
    monkeypatch.setattr("epsgrid.executors.inline.run", ending_with(status))
    summary, events = run(asked)
    assert summary.counts == {"failed": 13}
    assert [event.state for event in events[1:]].count("running") == 26
    assert all(words in failure.error and failure.attempts == 2 for failure in summary.failures)


def test_fail_fast_starts_nothing_more(asking, monkeypatch):
    asked = asking("execution.retries=0")
    monkeypatch.setattr("epsgrid.executors.inline.run", ending_with(-signal.SIGKILL))
    summary, events = run(asked, fail_fast=True)
    assert [event.state for event in events[1:]].count("running") == 1
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


@pytest.mark.parametrize("grid", ["conventional", "default", "narrowed"])
def test_effective_rates_need_a_probe(asking, grid):
    asked = asking("sweep.lr_mode=effective")
    with pytest.raises(StoreError, match=r"bounds\.json is missing, and .* needs .* run `epsgrid probe SPEC` first"):
        run(asked, grid)
    assert "learning rates to train with are known after `epsgrid probe`" in plan_sweep(asked, grid, None).unknown[-1]


def test_both_modes_share_what_they_can_and_the_report_goes_by_the_grids_rates(asking):
    asked = asking()
    measure(asked)
    fixed, _ = run(asked, "conventional")
    effective = asking("sweep.lr_mode=effective")
    again, _ = run(effective, "conventional")
    cells = GridRecord.read(asked.folder.grid_json).cells
    unscaled = [cell for cell in cells if cell.asked_rate is None]
    assert {cell.id for cell in unscaled} == {cell.id for cell in cells} & set(fixed.states)
    assert {1e-10, 1e-9, 1e-8} <= {cell.epsilon for cell in unscaled}
    assert again.trained == 13 - len(unscaled)
    assert {cell.grid_rate for cell in cells} == {1e-2}
    found = compare(load_experiment(asked.folder))
    assert {cell.learning_rate for cell in found.cells} == {1e-2}
    largest = next(cell for cell in found.cells if cell.epsilon == 100)
    probe = load_experiment(asked.folder).probe
    rates = EffectiveRates.of(probe.bounds().chosen("trusted"), probe.placement)
    assert largest.trained_rate == rates.trained(1e-2, 100) > 50
    assert largest.label.startswith("lr 1e-2 trained at ")
    table = cells_table(found)
    assert table.columns[:2] == ("learning rate", "trained at")
    assert all(len(row) == len(made.columns) for made in (table, *tables(found)) for row in made.rows)
    assert any("learning rates are effective ones" in note for note in found.notes)


def test_trials_that_an_earlier_command_left_to_the_executor_are_watched(asked, monkeypatch):
    """As after the death of a command whose Slurm tasks go on; what others hold is waited for."""
    planned = plan_sweep(asked, "conventional", None).plan.trials
    leases = [Lease.take(asked.folder.trial(trial.id).lease) for trial in planned[:2]]
    inline, handed, asked_for = executors.load("inline"), [], []

    class Cluster:
        def already_submitted(self, jobs):
            asked_for.append([job.trial for job in jobs])
            return {job for job in jobs if job.trial == planned[0].id}

        def run(self, jobs, work, **options):
            handed.append([job.trial for job in jobs])
            for lease in leases:
                lease.release()
            inline.run(jobs, work, **options)

    monkeypatch.setattr("epsgrid.executors.load", lambda name: Cluster())
    summary, _ = run(asked)
    assert summary.counts == {"done": 13}
    assert handed == [[trial.id for trial in planned if trial is not planned[1]], [planned[1].id]]
    assert asked_for == [[planned[0].id, planned[1].id]]


def test_an_epsilon_that_float32_cannot_hold_is_warned_of_before_it_is_trained(asked):
    """It was trained in silence, and divided 0 by 0 wherever a gradient vanished."""
    tiny = asked.with_sweep(default_epsilon=1e-50)
    planned = plan_sweep(tiny, "default", 1)
    assert planned.warnings == (underflow_warning(1e-50),)
    assert plan_lines(planned)[1:] == [f"warning: {underflow_warning(1e-50)}"]
    assert plan_sweep(asked, "conventional", 1).warnings == ()
