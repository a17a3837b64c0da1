"""Save and load the exact state of a running trial, without pickled code."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from epsgrid.errors import CorruptRecordError
from epsgrid.store.atomic import write_bytes

_FORMAT = 1
_SMALL_BYTES = 2**20


@dataclass(frozen=True)
class Checkpoint:
    """Where a trial stands between two steps.

    Attributes:
        trial: id of the trial it belongs to.
        epoch: the epoch under way, from 0; `step` of its steps are done.
        step: steps done in that epoch.
        steps: steps done in all.
        loss_sum: sum of the losses of those steps, float64 scalar.
        model: the model's state_dict.
        optimizer: the optimizer's state_dict.
        kept: weights to score in the end, see `epsgrid.trials.keeping`; empty while there are none.
        kept_epochs: how many epochs' weights are summed in `kept`.
        generators: states of torch's global generators, by device.
        records: the epochs done so far, as JSON objects.
        seconds: training time so far, over all runs of the trial.
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


def is_kept(choice: str, size: int) -> bool:
    """Say whether a finished trial keeps a checkpoint of so many bytes.

    Args:
        choice: `execution.keep_checkpoints` of the spec.
        size: of the file, or of the tensors in it.
    """
    return choice == "all" or (choice == "small" and size <= _SMALL_BYTES)


def tensor_bytes(state: Any) -> int:
    """Return the size of all tensors in a state_dict, however nested."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(map(tensor_bytes, values))


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint so that the file is always either the old or the new one, whole.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    document = {**vars(checkpoint), "format": _FORMAT, "records": json.dumps(checkpoint.records)}
    buffer = io.BytesIO()
    torch.save(document, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path, trial: str) -> Checkpoint | None:
    """Return the trial's checkpoint with its tensors on the CPU, or None where there is none yet.

    Raises:
        CorruptRecordError: the file cannot be read, or belongs to another trial or format.
    """
    if not path.exists():
        return None
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        if document.pop("format") != _FORMAT or document["trial"] != trial:
            raise CorruptRecordError(
                f"{path}: a checkpoint of another trial or format; delete it to start this one over"
            )
        return Checkpoint(**{**document, "records": json.loads(document["records"])})
    except CorruptRecordError:
        raise
    except Exception as error:  # torch.load raises many kinds for damaged files
        raise CorruptRecordError(
            f"{path}: unreadable checkpoint ({type(error).__name__}); delete it to start this trial over"
        ) from error
