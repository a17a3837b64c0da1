"""Ending trials early: who falls behind, that a trial obeys and nothing else changes, and that it can be taken back."""

import dataclasses
import sys
import time
from statistics import median

import pytest

from epsgrid.errors import ExecutionError
from epsgrid.selection.load import load_experiment
from epsgrid.spec.model import Prune
from epsgrid.stages import pruning as module
from epsgrid.stages.experiment import resolve
from epsgrid.stages.plans import chosen, plan_again, start_over
from epsgrid.stages.pruning import Watch, _Judge
from epsgrid.stages.status import status
from epsgrid.stages.sweep import plan_sweep
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.pruning import Pruning, ask, is_asked, note_pruned, unprune
from epsgrid.store.records import EpochRecord, Scores, TrialResult, append_epoch, read_epochs
from epsgrid.store.state import trial_state
from tests.report.simulate import compare
from tests.stages.conftest import train

CURVES = {f"t{number}": [0.1 * number + 0.02 * epoch for epoch in range(8)] for number in range(9)}


def rungs(curves, factor, first):
    """Asynchronous successive halving, one trial after another, in a few plain lines."""
    reached, ends = {}, {}
    for trial, scores in curves.items():
        rung, epoch = 0, first
        while epoch <= len(scores):
            competing = sorted([*reached.setdefault(rung, []), scores[epoch - 1]], reverse=True)
            reached[rung].append(scores[epoch - 1])
            if scores[epoch - 1] < competing[max(len(competing) // factor, 1) - 1]:
                ends[trial] = epoch
                break
            rung, epoch = rung + 1, epoch * factor
    return ends


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("first", [1, 2])
def test_successive_halving_equals_a_plain_recomputation(direction, order, first):
    sign = 1 if direction == "max" else -1
    curves = {trial: [sign * score for score in CURVES[trial]] for trial in list(CURVES)[::order]}
    judge = _Judge(Prune(first_epoch=first, reduction_factor=2), 8, direction)
    found = {}
    for trial, scores in curves.items():
        if (epoch := judge.follow(trial, scores)) is not None:
            found[trial] = epoch
        judge.end(trial, scores[:epoch], pruned=epoch is not None)
    assert found == rungs({trial: [sign * s for s in scores] for trial, scores in curves.items()}, 2, first)
    assert found or order == 1


def test_the_median_rule_equals_a_plain_recomputation():
    judge = _Judge(Prune(method="median", first_epoch=3, startup_trials=2), 8, "max")
    for trial in ("t8", "t4", "t6"):
        judge.end(trial, CURVES[trial], pruned=False)
    for trial in ("t0", "t5", "t7"):
        behind = [
            epoch
            for epoch in range(3, 9)
            if max(CURVES[trial][:epoch]) < median(CURVES[other][epoch - 1] for other in ("t8", "t4", "t6"))
        ]
        assert judge.follow(trial, CURVES[trial]) == (behind[0] if behind else None)
    assert judge.follow("t0b", CURVES["t0"][:2]) is None, "not before the first epoch"


def test_hyperband_prunes_and_what_is_not_finite_is_passed_over():
    judge = _Judge(Prune(method="hyperband"), 8, "max")
    assert any(judge.follow(trial, scores) is not None for trial, scores in list(CURVES.items())[::-1])
    assert judge.follow("nan", [float("nan")] * 3) is None
    judge.end("nan", [float("nan")], pruned=False)


def test_without_optuna_it_says_what_to_install(spec_path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    asked = resolve(spec_path, None, ["sweep.prune={}"], tmp_path / "runs")
    with pytest.raises(ExecutionError, match=r"optuna is needed by sweep\.prune .*`pip install 'epsgrid\[optuna\]'`"):
        train(asked)
    assert not asked.folder.root.exists()


def test_a_trial_is_asked_once_and_spared_for_good(tmp_path):
    folder = ExperimentFolder(tmp_path).trial("ab")
    assert not is_asked(folder)
    unprune(folder)
    assert not folder.prune_json.exists(), "nothing was asked of it"
    assert ask(folder, 2, 10, "slow") and not ask(folder, 3, 10, "slower")
    assert is_asked(folder) and trial_state(folder) == "pending"
    assert note_pruned(folder, 3).label == "pruned after epoch 3 of 10: slow"
    assert trial_state(folder) == "pruned"
    unprune(folder)
    assert not is_asked(folder) and not ask(folder, 4, 10, "slow") and trial_state(folder) == "pending"


def write_epochs(folder, trial, scores, direction="max"):
    for epoch, score in enumerate(scores, start=1):
        record = EpochRecord(epoch, 1.0, Scores(1.0, score), None, 0.1, 1.0, direction)
        append_epoch(folder.trial(trial).metrics_jsonl, record)


@pytest.mark.parametrize("direction", ["max", "min"])
def test_the_watch_asks_the_running_trial_that_falls_behind(tmp_path, direction):
    folder = ExperimentFolder(tmp_path)
    sign = 1 if direction == "max" else -1
    for trial, scores in {"best": CURVES["t8"], "behind": CURVES["t0"][:3], "spared": CURVES["t0"][:3]}.items():
        write_epochs(folder, trial, [sign * score for score in scores], direction)
    write_epochs(folder, "at-its-end", [sign * score for score in CURVES["t0"]], direction)
    write_epochs(folder, "old", CURVES["t0"], None)
    ask(folder.trial("spared"), 1, 8, "slow")
    unprune(folder.trial("spared"))
    watch = Watch(folder, Prune(method="median", startup_trials=1), 8, {"best": "done", "absent": "pending"})
    for trial in ("behind", "spared", "without-epochs", "at-its-end", "old"):
        watch.start(trial)
    assert watch.look() == ["behind"]
    assert watch.look() == [], "it was asked"
    found = Pruning.find(folder.trial("behind").prune_json)
    assert (found.state, found.judged_epoch, found.epochs) == ("asked", 1, 8)
    assert found.why == "worse than the median of the finished trials after epoch 1"


def test_what_goes_wrong_is_told_once_and_ends_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "_LOOK_S", 0.001)
    watch = Watch(ExperimentFolder(tmp_path), Prune(), 8, {})
    calls = []

    def look():
        calls.append(1)
        raise OSError("no disk")

    monkeypatch.setattr(watch, "look", look)
    with watch.looking():
        while len(calls) < 3:
            time.sleep(0.001)
    assert capsys.readouterr().err == "pruning: OSError: no disk; trials go on\n"


OPTIONS = ["training.epochs=6", "training.schedule.milestones=[]", "sweep.seeds=[0, 1]"]
PRUNING = ["sweep.prune={method: median, startup_trials: 1}"]


def without_times(folder, trial):
    result = TrialResult.read(folder.trial(trial).result_json)
    return dataclasses.replace(result, seconds=0.0, provenance={})


def test_a_pruned_trial_is_no_finished_one_and_goes_on_bit_for_bit(spec_path, tmp_path, monkeypatch):
    """The second trial is asked to end while it trains its second epoch; afterwards it is trained to its end."""
    asked = resolve(spec_path, None, [*OPTIONS, *PRUNING], tmp_path / "runs")
    whole = resolve(spec_path, tmp_path / "whole", OPTIONS, tmp_path / "runs")
    undisturbed = train(whole, grid="default")
    first, second = undisturbed.states
    folder = asked.folder.trial(second)
    monkeypatch.setattr(Watch, "look", lambda watch: [])
    monkeypatch.setattr(
        "epsgrid.trials.observations.Observations.after_epoch",
        lambda kept, epoch: (
            ask(folder, 2, 6, "slow") if epoch == 2 and kept._path == folder.observations_jsonl else None
        ),
    )
    summary = train(asked, grid="default")
    assert (summary.counts, summary.complete, summary.trained) == ({"done": 1, "pruned": 1}, True, 1)
    assert Pruning.find(folder.prune_json).label == "pruned after epoch 2 of 6: slow"
    assert len(read_epochs(folder.metrics_jsonl)) == 2 and not folder.result_json.exists()
    assert without_times(asked.folder, first) == without_times(whole.folder, first)
    assert (status(asked.folder).states["pruned"], status(asked.folder).missing) == (1, 0)
    assert status(asked.folder).left_seconds == 0

    found = compare(load_experiment(asked.folder))
    (cell,) = found.cells
    assert (cell.tally.pruned, cell.tally.missing, cell.tally.complete) == (1, 0, False)
    assert found.best_of("default").choice.cell is None and found.best_of("default").choice.incomplete == 1
    assert any(note.startswith("1 trial pruned: settings that lack them") for note in found.notes)
    assert [end.error for end in found.unfinished] == ["pruned after epoch 2 of 6: slow"]

    assert train(asked, grid="default").trained == 0, "left as it is"
    assert plan_sweep(resolve(spec_path, None, OPTIONS, tmp_path / "runs"), "default", None).to_run == 1
    picked = chosen(asked.folder, ["pruned"])
    assert picked == (second,) and start_over(asked.folder, picked) == ()
    assert trial_state(folder) == "interrupted"
    again = train(asked, plan_again(asked, picked))
    assert again.counts == {"done": 1}
    assert without_times(asked.folder, second) == without_times(whole.folder, second)


def test_a_sweep_prunes_by_itself_and_one_that_does_not_trains_what_was_pruned_to_its_end(
    spec_path, tmp_path, monkeypatch
):
    """Learning rates so far apart that whoever comes second is behind from the first epoch on."""
    monkeypatch.setattr(module, "_LOOK_S", 0.005)
    options = ["training.epochs=40", "sweep.learning_rates=[1e-2, 1e-9]", *PRUNING]
    asked = resolve(spec_path, None, options, tmp_path / "runs")
    summary = train(asked, grid="default")
    assert summary.counts == {"done": 1, "pruned": 1}
    pruned = next(trial for trial, state in summary.states.items() if state == "pruned")
    assert Pruning.find(asked.folder.trial(pruned).prune_json).epochs_trained < 40
    assert train(resolve(spec_path, None, options[:-1], tmp_path / "runs"), grid="default").counts == {"done": 2}
    assert Pruning.find(asked.folder.trial(pruned).prune_json).state == "spared"
