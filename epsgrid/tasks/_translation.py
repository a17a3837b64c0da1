"""Translation: label-smoothed cross-entropy, perplexity, and BLEU of a beam search.

`training.batch_size` counts tokens: a batch holds as many sentence pairs of similar lengths as keep each side, padding
included, within it. Which pairs share a batch is fixed; a trial's seed and the epoch decide the order of batches.

Trials are chosen by perplexity on the validation split, exp of the mean −log p of a token, without label smoothing, in
pieces of the task's own vocabulary. A beam search takes much longer: BLEU is computed for the test split, and with
`metric: bleu` for the validation split, too. A model is like the one in models/transformer.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from epsgrid.data._parallel import END, PAD, Pairs, ParallelCorpus, Sentences, join
from epsgrid.errors import SpecError
from epsgrid.numerics.seeds import derive_seed
from epsgrid.tasks import Metric, Split, Task
from epsgrid.tasks._beam import beam_search
from epsgrid.tasks._bleu import PLAIN, TOKENISED, bleu_scores, bleu_signatures
from epsgrid.tasks._language import perplexity
from epsgrid.tasks._options import TranslationOptions

_SEARCHED = ("encode", "begin", "step", "max_length")
"""Attributes of a model that can be searched."""

_EVALUATED_AT_ONCE = 4096
"""Tokens at a time when a split is scored; it limits memory and does not depend on the spec."""

_SEARCHED_AT_ONCE = {"cpu": 2048, "cuda": 16384}
"""Source tokens at a time when a split is translated, by kind of device."""

_TIES_SEED = 0


class _TranslationBatch(NamedTuple):
    """A batch on the device, int64, filled with PAD: the source, ending with END, and the target.

    `before` is the target shifted: each row begins with END; `after` holds the token after each of those.
    """

    source: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor


class TranslationTask(Task):
    """Translate sentences; `inputs` are the size of the source dictionary and the tokens of the longest sentence.

    Raises ExecutionError where sacrebleu is not installed.
    """

    def __init__(self, options: TranslationOptions, data: ParallelCorpus, device: torch.device) -> None:
        self.metric = Metric("bleu", "max", "") if options.metric == "bleu" else Metric("perplexity", "min", "")
        sides = [side for pairs in data.splits.values() for side in (pairs.source, pairs.target)]
        self.inputs = (len(data.source_pieces), max(side.longest for side in sides))
        self.outputs = len(data.target_pieces)
        self.notes = {f"sacrebleu signature of {name}": signature for name, signature in bleu_signatures().items()}
        self._options = options
        self._data = data
        self._device = device
        self._packed: dict[int, list[_TranslationBatch]] = {}

    def steps_per_epoch(self, batch_size: int, seed: int = 0, epoch: int = 0) -> int:
        """Return the number of batches of at most `batch_size` tokens."""
        return len(self._training(batch_size))

    def begin_epoch(self, model: torch.nn.Module, batch_size: int) -> None:
        """Check that the model translates; nothing is carried from batch to batch."""
        if not all(hasattr(model, name) for name in _SEARCHED):
            raise SpecError(
                f"a translation task needs a model that translates, and {type(model).__name__} is none;"
                " use `model: transformer`"
            )

    def batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[_TranslationBatch]:
        """Yield the batches of an epoch, from `first_step` on, in an order drawn from (seed, epoch)."""
        training = self._training(batch_size)
        assert 0 <= first_step <= len(training), (first_step, len(training))
        generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
        for index in torch.randperm(len(training), generator=generator)[first_step:].tolist():
            yield training[index]

    def loss(self, model: torch.nn.Module, batch: _TranslationBatch) -> torch.Tensor:
        """Return the label-smoothed cross-entropy, mean over the target's tokens."""
        scores = model(batch.source, batch.before)
        return torch.nn.functional.cross_entropy(
            scores.flatten(0, 1),
            batch.after.flatten(),
            ignore_index=PAD,
            label_smoothing=self._options.label_smoothing,
        )

    def evaluate(self, model: torch.nn.Module, split: Split) -> dict[str, float]:
        """Return `loss`, the mean −log p of a token in nats, and `perplexity`, its exp.

        For the test split, and where BLEU chooses, also `bleu` of the tokenised and `bleu_13a` of the detokenised
        translations, 0 to 100; NaN if the loss is not finite.
        """
        assert not model.training
        pairs = self._data.splits[split]
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        with torch.inference_mode():
            for batch in self._batches(pairs, max(_EVALUATED_AT_ONCE, self.inputs[1])):
                logits = model(batch.source, batch.before).float()
                total += torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), batch.after.flatten(), ignore_index=PAD, reduction="sum"
                )
        loss = total.item() / int(pairs.target.lengths.sum())
        scores = {"loss": loss, "perplexity": perplexity(loss)}
        if split == "test" or self.metric.name == "bleu":
            scores |= {TOKENISED: math.nan, PLAIN: math.nan}
            if math.isfinite(loss):
                translations = self.translate(model, split)
                scores |= bleu_scores(translations, pairs.reference_lines(), self._data.languages[1])
        return scores

    def translate(self, model: Any, split: Split) -> list[str]:
        """Translate a whole split by beam search, with a model in eval mode: tokenised, in the order of the split."""
        assert not model.training
        found: dict[int, list[int]] = {}
        source, options = self._data.splits[split].source, self._options
        # batches of similar lengths, the longest first, so that memory runs out at once or never
        order = np.argsort(-source.lengths, kind="stable")
        at_once = _SEARCHED_AT_ONCE.get(self._device.type, _EVALUATED_AT_ONCE)
        with torch.inference_mode():
            while len(order):
                rows, order = np.split(order, [max(1, at_once // int(source.lengths[order[0]]))])
                limits = (source.lengths[rows] * options.longest_factor).astype(int) + options.longest_extra
                most = torch.from_numpy(limits.clip(max=model.max_length - 1)).to(self._device)
                state = model.begin(model.encode(self._padded(source, rows)))
                best = beam_search(model, state, most, options.beam, options.length_penalty, end=END, never=PAD)
                found |= {row: each.tokens for row, each in zip(rows.tolist(), best, strict=True)}
        pieces = self._data.target_pieces
        return [join([pieces[token] for token in found[row]]) for row in range(len(source))]

    def _training(self, tokens: int) -> list[_TranslationBatch]:
        """Make the training batches, once; they stay on the device, about 100 MB for all of IWSLT14."""
        if tokens not in self._packed:
            self._packed = {tokens: self._batches(self._data.train, tokens)}
        return self._packed[tokens]

    def _batches(self, pairs: Pairs, tokens: int) -> list[_TranslationBatch]:
        batches = []
        for rows in _pack(pairs.source.lengths, pairs.target.lengths, tokens):
            after = self._padded(pairs.target, rows)
            before = after.roll(1, dims=1)
            before[before == END] = PAD  # the end of a shorter sentence has moved one place behind it
            before[:, 0] = END
            batches.append(_TranslationBatch(self._padded(pairs.source, rows), before, after))
        return batches

    def _padded(self, sentences: Sentences, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return sentences as (n, tokens of the longest), each with END and then PAD behind it, on the device."""
        lengths = sentences.lengths[rows]
        padded = np.full((len(rows), lengths.max()), PAD, np.int64)
        for place, row, length in zip(padded, rows, lengths, strict=True):
            place[: length - 1] = sentences[row]
            place[length - 1] = END
        return torch.from_numpy(padded).to(self._device)


def _pack(
    source: NDArray[np.int64], target: NDArray[np.int64], tokens: int, multiple: int = 8
) -> list[NDArray[np.int64]]:
    """Pack pairs into batches as fairseq does, whose published runs had 1,101 batches of 4,096 tokens.

    Pairs are sorted by length of the source, then of the target, with equal ones in a fixed random order. A batch takes
    pair after pair as long as their number times the longest side of any is at most `tokens`; then it gives back what
    exceeds a multiple of `multiple` pairs, if it has more than that. Where those given back and the next pair are too
    many together, they are a batch of their own. `source` and `target` are the tokens of each sentence, its end
    included. Raises SpecError where a single sentence has more than `tokens`.
    """
    longer = np.maximum(source, target)
    if longer.max(initial=0) > tokens:
        raise SpecError(
            f"training.batch_size: {tokens:,}, which this task counts in tokens, is less than the longest sentence has,"
            f" {int(longer.max()):,}; the published recipe has 4096"
        )
    ties = np.random.RandomState(_TIES_SEED).permutation(len(source))
    order = np.lexsort((ties, target, source))
    batches: list[NDArray[np.int64]] = []
    first, longest = 0, 0
    for last, length in enumerate(longer[order].tolist()):
        while (size := last - first) and (size + 1) * max(longest, length) > tokens:
            taken = max(size // multiple * multiple, size % multiple)
            batches.append(order[first : first + taken])
            first += taken
            longest = int(longer[order[first:last]].max(initial=0))
        longest = max(longest, length)
    return [*batches, order[first:]]
