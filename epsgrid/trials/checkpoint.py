"""Save and load the exact state of a running trial, without pickled code; and the weights that it keeps aside."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from epsgrid.errors import CorruptRecordError
from epsgrid.store.atomic import write_bytes

_FORMAT = 1


@dataclass
class KeptWeights:
    """Weights kept aside while training goes on, to be scored in the end: the sum of state_dicts over some epochs.

    Floating tensors are in float64 where several are summed.
    """

    total: dict[str, torch.Tensor] = field(default_factory=dict)
    epochs: int = 0

    def replace(self, model: torch.nn.Module) -> None:
        """Keep the model's present weights instead of those kept so far."""
        self.total = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.epochs = 1

    def add(self, model: torch.nn.Module) -> None:
        """Add the model's present weights to the sum; of a tensor of integers the latest is kept."""
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                before = self.total.get(name, torch.zeros((), dtype=torch.float64, device=value.device))
                self.total[name] = before + value.detach().double()
            else:
                self.total[name] = value.detach().clone()
        self.epochs += 1

    def load_into(self, model: torch.nn.Module) -> None:
        """Give the model the mean of the kept weights."""
        assert self.epochs
        means = {
            name: value / self.epochs if value.is_floating_point() and self.epochs > 1 else value
            for name, value in self.total.items()
        }
        model.load_state_dict(means)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a trial between two steps.

    `epoch` counts from 0, `step` within it and `steps` in all; `loss_sum` is over the epoch's steps, a float64 scalar;
    `kept` is `KeptWeights.total`; `generators` are torch's global ones, by device; `records` are the epochs done, as
    JSON objects; `seconds` of training are over all runs of the trial.
    """

    trial: str
    epoch: int
    step: int
    steps: int
    loss_sum: torch.Tensor
    model: dict[str, Any]
    optimizer: dict[str, Any]
    kept: dict[str, torch.Tensor]
    kept_epochs: int
    generators: dict[str, torch.Tensor]
    records: list[dict[str, Any]]
    seconds: float


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint so that the file is always the old or the new one, whole; StoreError if it cannot be."""
    document = {**vars(checkpoint), "format": _FORMAT, "records": json.dumps(checkpoint.records)}
    buffer = io.BytesIO()
    torch.save(document, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path, trial: str) -> Checkpoint | None:
    """Return the trial's checkpoint with its tensors on the CPU, or None where there is none yet.

    Raises CorruptRecordError where the file cannot be read, or belongs to another trial or format.
    """
    if not path.exists():
        return None
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        is_ours = document.pop("format") == _FORMAT and document["trial"] == trial
        checkpoint = Checkpoint(**{**document, "records": json.loads(document["records"])})
    except Exception as error:  # torch.load raises many kinds for damaged files
        raise CorruptRecordError(
            f"{path}: unreadable checkpoint ({type(error).__name__}); delete it to start this trial over"
        ) from error
    if not is_ours:
        raise CorruptRecordError(f"{path}: a checkpoint of another trial or format; delete it to start this one over")
    return checkpoint
