"""Language modelling: a text in columns, read in stretches of varying length, judged by perplexity.

Training text is cut into `batch_size` columns of equal length, read side by side from top to bottom, so that the state
a model carries is that of the words just before (truncated backpropagation through time). As published for AWD-LSTM,
95 % of the stretches are drawn from N(70, 5) words, the others from N(35, 5), no less than 5, and each step's learning
rate is scaled by its length / 70.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from epsgrid.data._corpus import Corpus
from epsgrid.errors import DataError
from epsgrid.models._language import carried_state, read_text
from epsgrid.tasks import Metric, Split, Task
from epsgrid.tasks._options import LanguageOptions

_EVALUATED_AT_ONCE = 2000
"""Words at a time when a split is scored; it limits memory."""

_FULL_SHARE = 0.95
_LENGTH_SD = 5.0
_LEAST_LENGTH = 5

_NO_WORD = -100
"""Target at places that ask for no answer; cross-entropy ignores it."""


class _TextBatch(NamedTuple):
    """A stretch of every column, on the device: `inputs` (time, batch), int64; `targets`, the same one word later."""

    inputs: torch.Tensor
    targets: torch.Tensor


class LanguageTask(Task):
    """Predict the next word, by cross-entropy in nats; judged by perplexity. The text is kept on the device.

    Raises DataError where a split has less than two words.
    """

    metric = Metric("perplexity", "min", "")

    def __init__(self, corpus: Corpus, options: LanguageOptions, device: torch.device) -> None:
        least = min(map(len, corpus.splits.values()))
        if least < 2:
            raise DataError(f"a split has {least} words; at least two are needed, one to read and one to predict")
        self.inputs = ()
        self.outputs = len(corpus.words)
        self._options = options
        # int64 is what embedding and cross-entropy take
        ids = {name: torch.from_numpy(each.astype(np.int64)).to(device) for name, each in corpus.splits.items()}
        self._train = ids["train"]
        self._held_out: dict[Split, torch.Tensor] = {"validation": ids["validation"], "test": ids["test"]}

    def begin_epoch(self, model: torch.nn.Module, batch_size: int) -> None:
        """Set the carried state to zeros, for every epoch and for a model that was just built."""
        carried_state(model).reset(batch_size)

    def steps_per_epoch(self, batch_size: int, seed: int = 0, epoch: int = 0) -> int:
        """Return the number of stretches in an epoch, which varies with seed and epoch."""
        return len(self._stretches(seed, epoch, self._rows(batch_size)))

    def batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[_TextBatch]:
        """Yield the stretches of an epoch in reading order, from `first_step` on.

        Up to `batch_size` words at the end of the text that do not fill a row are left out.
        """
        rows = self._rows(batch_size)
        stretches = self._stretches(seed, epoch, rows)
        assert 0 <= first_step <= len(stretches), (first_step, len(stretches))
        ids = self._train[: rows * batch_size + 1]
        inputs, targets = (part.view(batch_size, -1).t().contiguous() for part in (ids[:-1], ids[1:]))
        for start, end in stretches[first_step:]:
            yield _TextBatch(inputs[start:end], targets[start:end])

    def learning_rate_scale(self, batch: _TextBatch) -> float:
        """Return the factor on the learning rate of a step: its length / `sequence_length`."""
        return len(batch.inputs) / self._options.sequence_length

    def loss(self, model: torch.nn.Module, batch: _TextBatch) -> torch.Tensor:
        """Return the mean cross-entropy of a stretch, plus the model's penalty, and update the carried state."""
        carried = carried_state(model)
        state = carried.read()
        assert not state or state[0].shape[1] == batch.inputs.shape[1], "begin_epoch comes before an epoch's first step"
        output = read_text(model, batch.inputs, state)
        carried.keep(output.state)
        return F.cross_entropy(output.logits.flatten(0, 1), batch.targets.flatten()) + output.penalty

    def evaluate(self, model: torch.nn.Module, split: Split) -> dict[str, float]:
        """Return mean cross-entropy, in nats per word, and perplexity over every word of a split but its first.

        Columns overlap by one word, so that no word is left out between them; each begins with a state of zeros. The
        state carried in training is not changed. A model that carries none reads `sequence_length` words at a time, as
        many as in training on average.
        """
        assert not model.training
        inputs, targets = _padded_columns(self._held_out[split], getattr(self._options.evaluation_columns, split))
        state = carried_state(model).zeros(inputs.shape[1])
        total = torch.zeros((), dtype=torch.float64, device=inputs.device)
        at_once = max(1, _EVALUATED_AT_ONCE // inputs.shape[1]) if state else self._options.sequence_length
        with torch.inference_mode():
            for start in range(0, len(inputs), at_once):
                here = slice(start, start + at_once)
                logits, _, state = read_text(model, inputs[here], state)
                total += F.cross_entropy(
                    logits.flatten(0, 1).float(), targets[here].flatten(), ignore_index=_NO_WORD, reduction="sum"
                )
        loss = total.item() / (len(self._held_out[split]) - 1)
        return {"loss": loss, "perplexity": perplexity(loss)}

    def _rows(self, batch_size: int) -> int:
        rows = (len(self._train) - 1) // batch_size
        if rows < 2:
            raise DataError(
                f"{len(self._train):,} training words are too few for {batch_size} columns (training.batch_size),"
                " which need two words each and one more; use more text or a smaller batch"
            )
        return rows

    def _stretches(self, seed: int, epoch: int, rows: int) -> list[tuple[int, int]]:
        """Return first row and row after the last of each stretch; as published, a single last row is left out."""
        lengths = self._lengths(seed, epoch)
        ends = [0]
        while ends[-1] < rows - 1:
            ends.append(min(ends[-1] + next(lengths), rows))
        return list(pairwise(ends))

    def _lengths(self, seed: int, epoch: int) -> Iterator[int]:
        full = self._options.sequence_length
        digest = hashlib.sha256(f"lengths/{seed}/{epoch}".encode()).digest()
        random = np.random.RandomState(np.frombuffer(digest, "<u4").astype(np.uint32))
        while True:
            centre = full if random.uniform() < _FULL_SHARE else full / 2
            yield max(_LEAST_LENGTH, int(random.normal(centre, _LENGTH_SD)))


def perplexity(loss: float) -> float:
    """Return e to the power of a loss in nats; infinity if that is too large for a float, NaN for NaN.

    >>> perplexity(0.0), perplexity(1000.0)
    (1.0, inf)
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _padded_columns(ids: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut (n,) word ids into at most `most` columns; return inputs and targets, (rows, columns) each.

    The places left over in the last columns ask for no answer.
    """
    rows = -(-(len(ids) - 1) // most)
    count = -(-(len(ids) - 1) // rows)
    inputs = ids.new_zeros(rows * count)
    targets = ids.new_full((rows * count,), _NO_WORD)
    inputs[: len(ids) - 1] = ids[:-1]
    targets[: len(ids) - 1] = ids[1:]
    return inputs.view(count, rows).t().contiguous(), targets.view(count, rows).t().contiguous()
