"""A tiny real experiment, ready to train in the test's own process."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from epsgrid import models, tasks
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial, identity, trial_identity
from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import TrialResult
from epsgrid.trials.building import seed_weights
from epsgrid.trials.device import one_thread
from epsgrid.trials.train import Interrupted, run_trial

SPEC = """
experiment: tiny
task: digits
model: {name: mlp, hidden: [16], dropout: 0.2}
optimizer: {name: adam, weight_decay: 1e-4}
training: {epochs: 3, batch_size: 64}
sweep: {learning_rates: [1e-2], seeds: [0]}
"""


@dataclass
class Setting:
    """A spec with its task, and how to train a trial of it."""

    spec: Spec
    task: tasks.Task
    checksum: str

    def trial(self, learning_rate: float = 1e-2, epsilon: float | None = 1e-4, seed: int = 0) -> Trial:
        return Trial.of(trial_identity(identity(self.spec), self.checksum, learning_rate, epsilon, seed))

    def train(
        self, folder: Path, trial: Trial | None = None, should_stop: Callable[[], bool] = lambda: False, **options: Any
    ) -> TrialResult:
        with one_thread():
            return run_trial(
                self.spec,
                trial or self.trial(),
                self.task,
                TrialFolder(folder),
                torch.device("cpu"),
                should_stop=should_stop,
                provenance={},
                warn=self.warnings.append,
                **options,
            )

    def stop(self, folder: Path, steps: int, trial: Trial | None = None) -> None:
        """Train until the trial is asked to stop before its next step."""
        calls = itertools.count()
        with pytest.raises(Interrupted, match="stopped in epoch"):
            self.train(folder, trial, lambda: next(calls) == steps)

    def model(self) -> torch.nn.Module:
        """Return the network with the initial weights of seed 0."""
        seed_weights(0)
        return models.load("mlp").build(self.spec.model, self.task.inputs, self.task.outputs)

    def __post_init__(self) -> None:
        self.warnings: list[str] = []


def make_setting(*overrides: str) -> Setting:
    spec = parse_spec(SPEC, overrides=overrides)
    plugin = tasks.load(spec.task.name)
    data = plugin.prepare(spec.task)
    return Setting(spec, plugin.build(spec.task, data, torch.device("cpu")), data.checksum)


@pytest.fixture
def setting() -> Setting:
    return make_setting()
