"""The learning rate of every step, against torch's schedulers and through whole trainings."""

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR

from epsgrid.spec.model import Schedule
from epsgrid.trials import train
from epsgrid.trials.schedule import learning_rates
from tests.trials.conftest import make_setting
from tests.trials.test_train import curves, without_times


def rates(epochs=1, steps=10, highest=1.0, **fields):
    return [*learning_rates(Schedule(**fields), highest, epochs, lambda epoch: steps)]


def test_every_milestone_multiplies_once_more():
    published = rates(200, 1, 1e-3)
    assert published == pytest.approx([1e-3] * 150 + [1e-4] * 50)
    several = rates(10, 1, milestones=(0.3, 0.6, 0.8), factor=0.2)
    assert several == pytest.approx([1, 1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008])
    assert rates(1, 1, 0.5) == [0.5], "a single epoch keeps the highest"
    assert rates(4, 2, milestones=(0.5,), warmup_steps=4) == pytest.approx([0.25, 0.5, 0.75, 1, 0.1, 0.1, 0.1, 0.1])


def test_inverse_root_rises_to_the_highest_and_falls_with_the_root():
    found = rates(2, 32, 8.0, kind="inverse_sqrt", warmup_steps=4)
    assert [found[step] for step in (0, 1, 2, 3, 4, 15, 63)] == pytest.approx([2, 4, 6, 8, 8 * (4 / 5) ** 0.5, 4, 2])
    assert found == rates(2, 32, 8.0, kind="inverse_sqrt", warmup=1 / 16)


def warmed(adam, steps, decay):
    return SequentialLR(adam, [LinearLR(adam, 1 / steps, total_iters=steps - 1), decay], [steps])


TORCH = {
    "constant": lambda adam, total, _: ConstantLR(adam, 1.0),
    "linear": lambda adam, total, _: LinearLR(adam, 1.0, 0.0, total),
    "{kind: cosine, final: 0.1}": lambda adam, total, _: CosineAnnealingLR(adam, total, adam.defaults["lr"] * 0.1),
    "one_cycle": lambda adam, total, _: OneCycleLR(adam, adam.defaults["lr"], total, cycle_momentum=False),
    "{kind: one_cycle, warmup_steps: 10, final: 0}": lambda adam, total, times: OneCycleLR(
        adam,
        adam.defaults["lr"],
        total,
        pct_start=10 * times / total,
        final_div_factor=float("inf"),
        cycle_momentum=False,
    ),
    "{kind: cosine, warmup_steps: 10}": lambda adam, total, times: warmed(
        adam, 10 * times, CosineAnnealingLR(adam, total - 10 * times)
    ),
    "{kind: linear, warmup: 0.25, final: 0.5}": lambda adam, total, _: warmed(
        adam, round(total / 4), LinearLR(adam, 1.0, 0.5, total - round(total / 4))
    ),
}
"""A function of optimizer, all steps, and the steps that take the time of one, by the schedule of a spec."""


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")  # which torch's SequentialLR uses itself
@pytest.mark.parametrize("schedule", TORCH)
@pytest.mark.parametrize("l", [1, 2])
def test_trained_and_resumed_within_an_epoch_as_torchs_schedulers_go(tmp_path, monkeypatch, schedule, l):  # noqa: E741
    """The rates of all steps are torch's, to the bit; with SVAG there are four times as many steps."""
    short = ("training.batch_size=128", "training.average_last=1")
    setting = make_setting(*short, f"training.schedule={schedule}", f"training.svag={{l: {l}}}")
    total = 3 * l**2 * setting.task.steps_per_epoch(128)
    seen, take_step = [], train.take_step

    def noting(task, model, optimizer, batch, training):
        seen.append(optimizer.param_groups[0]["lr"])
        return take_step(task, model, optimizer, batch, training)

    monkeypatch.setattr(train, "take_step", noting)
    whole = setting.train(tmp_path / "whole")
    reference = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 1e-2 / l)
    following, expected = TORCH[schedule](reference, total, l**2), []
    for _ in range(total):
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        if len(expected) < total:
            following.step()
    assert seen == expected

    seen.clear()
    setting.stop(tmp_path / "stopped", total // 2 + 1)
    assert without_times(setting.train(tmp_path / "stopped")) == without_times(whole)
    assert curves(tmp_path / "stopped") == curves(tmp_path / "whole")
    assert seen == expected


def test_a_text_whose_epochs_differ_in_steps_ends_where_the_schedule_ends(tmp_path, monkeypatch):
    setting = make_setting(
        "task={name: synthetic_text, train: 3000}", "model={name: lstm, hidden: 4}", "training.schedule=linear"
    )
    steps = [setting.task.steps_per_epoch(64, 0, epoch) for epoch in range(3)]
    seen = []
    monkeypatch.setattr(train, "set_learning_rate", lambda optimizer, rate: seen.append(rate))
    monkeypatch.setattr(setting.task, "learning_rate_scale", lambda batch: 1.0)
    setting.train(tmp_path)
    assert seen == pytest.approx([1e-2 * (1 - step / sum(steps)) for step in range(sum(steps))])


def test_a_training_may_end_within_the_warmup():
    assert rates(1, 3, kind="cosine", warmup_steps=8) == pytest.approx([1 / 8, 2 / 8, 3 / 8])
    assert rates(1, 2, kind="cosine", warmup_steps=1) == [1.0, 1.0]
