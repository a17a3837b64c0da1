import pytest

from epsgrid.spec.model import Schedule
from epsgrid.trials.step import learning_rate_at


def test_every_milestone_multiplies_once_more():
    schedule = Schedule(milestones=(0.3, 0.6, 0.8), factor=0.2)
    rates = [learning_rate_at(1.0, schedule, epoch, 10) for epoch in range(10)]
    assert rates == pytest.approx([1, 1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008])
    published = [learning_rate_at(1e-3, Schedule(), epoch, 200) for epoch in range(200)]
    assert published == pytest.approx([1e-3] * 150 + [1e-4] * 50)
    assert learning_rate_at(0.5, Schedule(), 0, 1) == 0.5, "a single epoch keeps the base rate"


def test_inverse_root_rises_to_the_base_and_falls_with_the_root():
    schedule = Schedule(kind="inverse_sqrt", warmup_steps=4)
    rates = [learning_rate_at(8.0, schedule, 0, 1, step) for step in (0, 1, 2, 3, 4, 15, 63)]
    assert rates == pytest.approx([2, 4, 6, 8, 8 * (4 / 5) ** 0.5, 4, 2])
