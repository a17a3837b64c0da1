"""What the translation tasks share: label-smoothed cross-entropy, perplexity, and BLEU of a beam search.

`training.batch_size` counts tokens: a batch holds as many sentence pairs of like lengths as stay, filling included,
within it on either side. Which pairs share a batch is fixed; a trial's seed and the epoch decide the order of batches.

Trials are chosen by perplexity on the validation split, exp of the mean −log p of a token, without label smoothing, in
pieces of the task's own vocabulary: perplexities of different vocabularies cannot be compared. BLEU comes from a beam
search over the whole split, which takes longer than the perplexity by far: it is computed for the test split, and with
`metric: bleu` for the validation split, too.

A model is called as model(source, target) → scores and for the search gives `encode`, `begin`, `step` and `max_length`,
as the one in models/transformer.py does.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from epsgrid.data._parallel import END, PAD
from epsgrid.errors import SpecError
from epsgrid.numerics.seeds import derive_seed
from epsgrid.spec.model import TaskOptions
from epsgrid.tasks import Metric, Split
from epsgrid.tasks._divide import Count

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from epsgrid.data._parallel import Pairs, ParallelCorpus, Sentences
    from epsgrid.data.translation import Encoding

_SEARCHED = ("encode", "begin", "step", "max_length")
"""What a model has besides its call, so that it can be searched."""

EVALUATION_TOKENS = 4096
"""Tokens at a time when a split is scored; it bounds memory and does not depend on the spec."""

SEARCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Source tokens at a time when a split is translated, by kind of device."""


class TranslationOptions(TaskOptions):
    """How text is encoded, the loss, and how translations are searched and judged; the published recipe by default.

    A translation has at most `longest_factor` times the tokens of its source plus `longest_extra`.
    """

    vocabulary: Annotated[int, Field(ge=2)] = 10_000
    joined: bool = False
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    metric: Literal["perplexity", "bleu"] = "perplexity"
    bleu: bool = True
    beam: Count = 5
    length_penalty: Annotated[float, Field(ge=0)] = 1.0
    longest_factor: Annotated[float, Field(ge=0)] = 1.2
    longest_extra: Annotated[int, Field(ge=0)] = 10

    @model_validator(mode="after")
    def _metric_is_computed(self) -> TranslationOptions:
        if self.metric == "bleu" and not self.bleu:
            raise ValueError("metric: bleu needs BLEU; leave out bleu: false, or choose by metric: perplexity")
        return self

    def encoding(self) -> Encoding:
        """Return how text becomes ids."""
        from epsgrid.data.translation import Encoding

        return Encoding(self.vocabulary, self.joined)


class TranslationBatch(NamedTuple):
    """A batch on the device: ids, int64, filled with PAD at the end of a row.

    Attributes:
        source: (n, S), each row ends with END.
        before: (n, T), the target, shifted: each row begins with END.
        after: (n, T), what follows each of those tokens: the target and END.
    """

    source: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor


class TranslationTask:
    """Translate sentences.

    Attributes:
        inputs: (size of the source dictionary, tokens of the longest sentence of either language).
        outputs: size of the target dictionary.
        notes: how scores were computed, for the record: sacrebleu's signatures.
    """

    has_validation = True

    def __init__(self, options: TranslationOptions, data: ParallelCorpus, device: torch.device) -> None:
        self.metric = Metric("bleu", "max", "") if options.metric == "bleu" else Metric("perplexity", "min", "")
        sides = [side for pairs in data.splits.values() for side in (pairs.source, pairs.target)]
        self.inputs: tuple[int, ...] = (len(data.source_pieces), max(side.longest for side in sides))
        self.outputs = len(data.target_pieces)
        self.notes: dict[str, str] = self._signatures() if options.bleu else {}
        self._options = options
        self._data = data
        self._device = device
        self._packed: dict[int, list[TranslationBatch]] = {}

    def steps_per_epoch(self, batch_size: int, seed: int = 0, epoch: int = 0) -> int:
        """Return the number of batches of at most `batch_size` tokens.

        Raises:
            SpecError: a sentence is longer than that.
        """
        return len(self._training(batch_size))

    def learning_rate_scale(self, batch: TranslationBatch) -> float:
        """Return 1: every batch trains at the scheduled rate."""
        return 1.0

    def begin_epoch(self, model: torch.nn.Module, batch_size: int) -> None:
        """See that the model fits: nothing is carried from batch to batch.

        Raises:
            SpecError: the model does not translate; or it has one embedding for two dictionaries, which can be told by
                its shape only where they differ in size.
        """
        if not _translates(model, searched=self._options.bleu):
            raise SpecError(
                f"a translation task needs a model that translates, and {type(model).__name__} is none;"
                " use `model: transformer`"
            )
        source = getattr(model, "source_embedding", None)
        shares = source is not None and source is getattr(model, "target_embedding", None)
        if shares and self._data.source_pieces != self._data.target_pieces:
            raise SpecError(
                "model.shared: all needs one dictionary for both languages, the task's are two;"
                " set task.joined: true, or model.shared: decoder"
            )

    def batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[TranslationBatch]:
        """Yield the batches of an epoch, from `first_step` on, in an order drawn from (seed, epoch)."""
        import torch

        training = self._training(batch_size)
        assert 0 <= first_step <= len(training), (first_step, len(training))
        generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
        for index in torch.randperm(len(training), generator=generator)[first_step:].tolist():
            yield training[index]

    def loss(self, model: torch.nn.Module, batch: TranslationBatch) -> torch.Tensor:
        """Return the label-smoothed cross-entropy, mean over the target's tokens."""
        import torch

        scores = model(batch.source, batch.before)
        return torch.nn.functional.cross_entropy(
            scores.flatten(0, 1),
            batch.after.flatten(),
            ignore_index=PAD,
            label_smoothing=self._options.label_smoothing,
        )

    def evaluate(self, model: torch.nn.Module, split: Split) -> dict[str, float]:
        """Score a whole split.

        Args:
            model: in eval mode.
            split: "validation" or "test".

        Returns:
            `loss`, the mean −log p of a token in nats, and `perplexity`, its exp. Where BLEU is computed: `bleu` of the
            tokenised and `bleu_13a` of the detokenised translations, 0 to 100; both NaN where the loss is not finite.
        """
        import torch

        assert not model.training
        with torch.inference_mode():
            loss = self._mean_loss(model, self._data.splits[split])
        scores = {"loss": loss, "perplexity": _perplexity(loss)}
        if self._options.bleu and (split == "test" or self.metric.name == "bleu"):
            scores |= self._bleu(model, split, math.isfinite(loss))
        return scores

    def translate(self, model: torch.nn.Module, split: Split) -> list[str]:
        """Translate a whole split by beam search.

        Args:
            model: in eval mode.
            split: "validation" or "test".

        Returns:
            The translations, tokenised, in the order of the split.
        """
        import torch

        from epsgrid.data._bpe import join

        assert not model.training
        found: dict[int, list[int]] = {}
        source = self._data.splits[split].source
        with torch.inference_mode():
            for rows in _by_length(source.lengths, SEARCH_TOKENS.get(self._device.type, EVALUATION_TOKENS)):
                found |= zip(rows.tolist(), self._search(model, source, rows), strict=True)
        pieces = self._data.target_pieces
        return [join([pieces[token] for token in found[row]]) for row in range(len(source))]

    def _training(self, tokens: int) -> list[TranslationBatch]:
        """Make the training batches, once; they stay on the device, some 100 MB of them for all of IWSLT14."""
        if tokens not in self._packed:
            self._packed = {tokens: self._batches(self._data.train, tokens)}
        return self._packed[tokens]

    def _batches(self, pairs: Pairs, tokens: int) -> list[TranslationBatch]:
        from epsgrid.tasks._packing import pack

        return [self._batch(pairs, rows) for rows in pack(pairs.source.lengths, pairs.target.lengths, tokens)]

    def _batch(self, pairs: Pairs, rows: NDArray[np.int64]) -> TranslationBatch:
        after = self._filled(pairs.target, rows)
        before = after.roll(1, dims=1)
        before[before == END] = PAD  # what stood at the end of a sentence now stands behind it
        before[:, 0] = END
        return TranslationBatch(self._filled(pairs.source, rows), before, after)

    def _filled(self, sentences: Sentences, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return sentences as (n, tokens of the longest), each with END and then PAD behind it, on the device."""
        import numpy as np
        import torch

        lengths = sentences.lengths[rows]
        filled = np.full((len(rows), lengths.max()), PAD, np.int64)
        for place, row, length in zip(filled, rows, lengths, strict=True):
            place[: length - 1] = sentences.tokens[sentences.offsets[row] : sentences.offsets[row + 1]]
            place[length - 1] = END
        return torch.from_numpy(filled).to(self._device)

    def _mean_loss(self, model: torch.nn.Module, pairs: Pairs) -> float:
        import torch

        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for batch in self._batches(pairs, max(EVALUATION_TOKENS, self.inputs[1])):
            scores = model(batch.source, batch.before).float()
            total += torch.nn.functional.cross_entropy(
                scores.flatten(0, 1), batch.after.flatten(), ignore_index=PAD, reduction="sum"
            )
        return total.item() / int(pairs.target.lengths.sum())

    def _bleu(self, model: torch.nn.Module, split: Split, finite: bool) -> dict[str, float]:
        from epsgrid.tasks._bleu import PLAIN, TOKENISED, bleu_scores

        if not finite:
            return {TOKENISED: math.nan, PLAIN: math.nan}
        references = self._data.splits[split].reference_lines()
        return bleu_scores(self.translate(model, split), references, self._data.languages[1])

    def _signatures(self) -> dict[str, str]:
        from epsgrid.tasks._bleu import bleu_signatures

        return {f"sacrebleu signature of {name}": signature for name, signature in bleu_signatures().items()}

    def _search(self, model: Any, source: Sentences, rows: NDArray[np.int64]) -> list[list[int]]:
        """Return the tokens of the best translation of each of some sentences."""
        from epsgrid.tasks._beam import Search, beam_search
        from epsgrid.tasks._stepping import Stepping

        options = self._options
        lengths = source.lengths[rows]
        limits = (lengths * options.longest_factor).astype(int) + options.longest_extra
        search = Search(options.beam, options.length_penalty, start=END, end=END, never=(PAD,))
        decoder = Stepping(model, model.encode(self._filled(source, rows)))
        found = beam_search(decoder, decoder.tensor(limits.clip(max=model.max_length - 1)), search)
        return [translation.tokens for translation in found]


def _translates(model: torch.nn.Module, *, searched: bool) -> bool:
    """Return whether a model takes source and target and, where it is searched, gives what the search needs."""
    try:
        inspect.signature(model.forward).bind(None, None)
    except TypeError:
        return False
    return not searched or all(hasattr(model, name) for name in _SEARCHED)


def _perplexity(loss: float) -> float:
    """Return exp(loss); infinity where that has no float, NaN for NaN."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _by_length(lengths: NDArray[np.int64], tokens: int) -> Iterator[NDArray[np.int64]]:
    """Yield the sentences in batches of like lengths, longest first, so that memory runs out at once or never."""
    import numpy as np

    order = np.argsort(-lengths, kind="stable")
    while len(order):
        size = max(1, tokens // int(lengths[order[0]]))
        yield order[:size]
        order = order[size:]
