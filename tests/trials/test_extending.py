"""More epochs: from which state of a shorter training they go on, and that the numbers are those of one long one."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.spec import identity
from epsgrid.spec.model import Schedule, Training
from epsgrid.store import observations
from epsgrid.store.paths import ExperimentFolder
from epsgrid.trials.adopting import adopt
from epsgrid.trials.extending import extends, goes_on, longest_first, shared_epochs, why_anew
from epsgrid.trials.schedule import learning_rate_at
from epsgrid.trials.train import Interrupted
from tests.trials.conftest import make_setting
from tests.trials.test_train import curves, stop_after, without_times


def training(epochs, *milestones, **changes):
    return Training(epochs=epochs, schedule=Schedule(milestones=milestones), **changes)


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.lists(st.sampled_from([0.2, 0.25, 0.5, 0.75, 0.9]), max_size=2, unique=True),
    st.lists(st.sampled_from([0.2, 0.25, 0.5, 0.75, 0.9]), max_size=2, unique=True),
)
def test_shared_epochs_are_those_of_equal_learning_rates(short, long, one, other):
    trainings = training(short, *sorted(one)), training(long, *sorted(other))
    rates = [[learning_rate_at(0.1, each.schedule, epoch, each.epochs) for epoch in range(12)] for each in trainings]
    wanted = 0
    while wanted < min(short, long) and rates[0][wanted] == rates[1][wanted]:
        wanted += 1
    assert shared_epochs(*trainings) == wanted


def test_milestones_that_fall_on_the_same_epochs_go_on():
    published = training(200, 0.75)
    assert shared_epochs(published, training(300, 0.75)) == 150
    assert shared_epochs(published, training(300, 0.5)) == 200
    assert extends(published, training(300, 0.5)) and extends(published, training(300, 0.75))
    assert not extends(published, training(300, 0.6)), "that would be another experiment"
    assert not extends(published, training(100, 0.75)) and not extends(published, published)
    assert not extends(published, training(300, 0.75, batch_size=64))
    assert shared_epochs(published, training(300, 0.75, batch_size=64)) == 0


def test_why_a_longer_training_starts_anew_and_what_would_help():
    for epochs in (201, 250, 300, 350, 777):
        words = why_anew(training(200, 0.25, 0.75), training(epochs, 0.25, 0.75))
        assert words is not None and "the learning rate of epoch 51 is another" in words
        kept = words.split("milestones=[")[1].split("]")[0].split(", ")
        assert why_anew(training(200, 0.25, 0.75), training(epochs, *map(float, kept))) is None
    assert why_anew(training(4, 0.75), training(5, 0.75)) == (
        "the learning rate of epoch 4 is another, since milestones are fractions of the epochs; with"
        " training.schedule.milestones=[0.6] it would be the same"
    )


def test_a_schedule_by_steps_has_no_length():
    root = Schedule(kind="inverse_sqrt", warmup_steps=10)
    assert shared_epochs(Training(epochs=3, schedule=root), Training(epochs=9, schedule=root)) == 3


def test_epochs_to_average_must_not_have_been_left_behind():
    short = training(4, average_last=2)
    assert goes_on(short, training(6, average_last=2), 4)
    assert not goes_on(short, training(5, average_last=2), 4)
    assert goes_on(short, training(5, average_last=2), 3)
    assert "were not kept apart" in (why_anew(short, training(5, average_last=2)) or "")


def test_a_step_into_an_epoch_counts_as_the_epoch():
    assert goes_on(training(4, 0.75), training(8, 0.75), 3)
    assert not goes_on(training(4, 0.75), training(8, 0.75), 3, step=1)


def test_the_longest_earlier_training_comes_first():
    earlier = [training(epochs).model_dump(mode="json") for epochs in (2, 5, 9)]
    earlier.append(training(3, batch_size=7).model_dump(mode="json"))
    assert [found.epochs for _, found in longest_first(earlier, training(9))] == [5, 2]


CONSTANT = "training.schedule.milestones=[]"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (("training.epochs=2", CONSTANT), ("training.epochs=5", CONSTANT)),
        (("training.epochs=4", "training.schedule.milestones=[0.5]"), ("training.epochs=5",)),
        (("training.epochs=3", CONSTANT, "training.average_last=2"), ("training.epochs=5", "training.average_last=2")),
        (("training.epochs=2", CONSTANT, "training.selection=test"), ("training.epochs=3", "training.selection=test")),
    ],
)
def test_more_epochs_end_bit_for_bit_as_if_trained_at_once(tmp_path, short, long):
    coincide = "training.schedule.milestones=[0.4]" if "0.5" in short[1] else CONSTANT
    first, longer = make_setting(*short), make_setting(*long, coincide)
    whole = longer.train(tmp_path / "whole", longer.trial())
    experiment = ExperimentFolder(tmp_path / "experiment")
    first.train(experiment.trial(first.trial().id).path, first.trial())
    trial = longer.trial()
    folder = experiment.trial(trial.id)
    notes = []
    adopt(experiment, folder, trial.identity, [identity(first.spec)["training"]], notes.append)
    assert notes == [
        f"goes on after epoch {first.spec.training.epochs} of trial {first.trial().id}, which is of"
        f" {first.spec.training.epochs} epochs"
    ]
    steps = []
    extended = longer.train(folder.path, trial, lambda: bool(steps.append(1)))
    assert without_times(extended) == without_times(whole)
    assert curves(folder.path) == curves(tmp_path / "whole")
    assert observations.read(folder.observations_jsonl) == observations.read(tmp_path / "whole/observations.jsonl")
    new = longer.spec.training.epochs - first.spec.training.epochs
    assert len(steps) == new * longer.task.steps_per_epoch(64), "only the new epochs were trained"


def test_an_interrupted_short_trial_serves_as_well(tmp_path):
    first, longer = make_setting("training.epochs=3", CONSTANT), make_setting("training.epochs=4", CONSTANT)
    experiment, trial = ExperimentFolder(tmp_path), longer.trial()
    with pytest.raises(Interrupted):
        first.train(experiment.trial(first.trial().id).path, first.trial(), stop_after(30))
    adopt(experiment, experiment.trial(trial.id), trial.identity, [identity(first.spec)["training"]], lambda text: None)
    extended = longer.train(experiment.trial(trial.id).path, trial)
    whole = longer.train(tmp_path / "whole", trial)
    assert without_times(extended) == without_times(whole)


def test_a_damaged_checkpoint_is_told_and_none_is_begun_twice(tmp_path):
    first, longer = make_setting("training.epochs=2", CONSTANT), make_setting("training.epochs=3", CONSTANT)
    experiment, trial, notes = ExperimentFolder(tmp_path), longer.trial(), []
    source, folder = experiment.trial(first.trial().id), experiment.trial(trial.id)
    first.train(source.path, first.trial())
    good = source.checkpoint.read_bytes()
    source.checkpoint.write_bytes(good[:100])
    adopt(experiment, folder, trial.identity, [identity(first.spec)["training"]], notes.append)
    assert not folder.checkpoint.exists() and "unreadable checkpoint" in notes[0] and "it is not used" in notes[0]
    source.checkpoint.write_bytes(good)
    longer.train(folder.path, trial)
    before = folder.checkpoint.read_bytes()
    adopt(experiment, folder, trial.identity, [identity(first.spec)["training"]], notes.append)
    assert folder.checkpoint.read_bytes() == before and len(notes) == 1


def test_milestones_that_move_leave_nothing_to_go_on_from(tmp_path):
    first, longer = make_setting("training.epochs=4"), make_setting("training.epochs=8")
    experiment, trial, notes = ExperimentFolder(tmp_path), longer.trial(), []
    first.train(experiment.trial(first.trial().id).path, first.trial())
    adopt(experiment, experiment.trial(trial.id), trial.identity, [identity(first.spec)["training"]], notes.append)
    assert notes == [] and not experiment.trial(trial.id).checkpoint.exists()


@pytest.mark.parametrize(("choice", "kept"), [("small", True), ("all", True), ("none", False)])
def test_the_last_state_is_saved_where_it_is_kept(tmp_path, choice, kept):
    setting = make_setting("training.epochs=1", f"execution.keep_checkpoints={choice}")
    setting.train(tmp_path, setting.trial())
    assert ExperimentFolder(tmp_path).root.joinpath("checkpoint.pt").exists() == kept


def test_a_kept_last_state_gives_the_result_again(tmp_path):
    """As after a kill between the last epoch and the result."""
    setting = make_setting()
    whole = setting.train(tmp_path, setting.trial())
    again = setting.train(tmp_path, setting.trial(), lambda: pytest.fail("a step was taken"))
    assert without_times(again) == without_times(whole)
    assert dataclasses.replace(again, seconds=whole.seconds) == whole
