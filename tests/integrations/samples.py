"""A small training that both callbacks follow, and the same by a loop of one's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import epsgrid

EXAMPLES, BATCH, EPOCH = 48, 8, 6


class Model(nn.Module):
    """The same weights every time; gives what the Trainer of transformers wants."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        self.scale = scale

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.net(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels) * self.scale, "logits": logits}


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-2)


def two_epsilons(parameters: Iterable[nn.Parameter], large: float = 1.0) -> torch.optim.Optimizer:
    """The second layer's ε is far above its gradients."""
    held = list(parameters)
    return torch.optim.Adam([{"params": held[:2], "eps": 1e-3}, {"params": held[2:], "eps": large}], lr=1e-2)


def damping_by_hand(optimizer: Any) -> float:
    """Return the mean of √v̂/(√v̂ + ε) over the entries of an Adam whose v is not zero."""
    factors = []
    for group in optimizer.param_groups:
        for state in (optimizer.state[parameter] for parameter in group["params"]):
            root = (state["exp_avg_sq"].double() / (1 - group["betas"][1] ** float(state["step"]))).sqrt()
            factors.append((root / (root + group["eps"]))[root > 0])
    return float(torch.cat(factors).mean())


def wandb_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the history of the only offline run of W&B below a folder, whose `finish` does not wait for its file."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    for _ in range(600):
        records = [wandb_internal_pb2.Record.FromString(record) for record in _records(path.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            break
        time.sleep(0.1)
    histories = [record.history.item for record in records if record.WhichOneof("record_type") == "history"]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in each} for each in histories]


def _records(raw: bytes, at: int = 7) -> Iterator[bytes]:
    """Yield the records of a file of W&B, a log of LevelDB's after 7 bytes: blocks, and parts with a header of 7."""
    record = b""
    while at < len(raw):
        if (left := 32768 - at % 32768) < 7:  # a block ends, padded
            at += left
            continue
        length, kind = int.from_bytes(raw[at + 4 : at + 6], "little"), raw[at + 6]
        record += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4) and at <= len(raw):  # whole, or its last part
            yield record
            record = b""


def data() -> torch.utils.data.TensorDataset:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(EXAMPLES, 8, generator=generator)
    return torch.utils.data.TensorDataset(inputs, torch.randint(3, (EXAMPLES,), generator=generator))


def by_hand(epochs: int = 1, order: Sequence[int] = range(EPOCH)) -> Any:
    """Train on batches in some order; return the bounds and the weights."""
    batches = list(torch.utils.data.DataLoader(data(), batch_size=BATCH))
    model = Model()
    optimizer = adam(model.parameters())
    with epsgrid.observe(optimizer, model=model) as observer:
        for _ in range(epochs):
            for number in order:
                optimizer.zero_grad()
                model(*batches[number])["loss"].backward()
                optimizer.step()
    return observer.bounds(), model.state_dict()
