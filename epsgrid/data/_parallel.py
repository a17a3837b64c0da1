"""Parallel text as token ids: joint byte-pair encoding, dictionaries, and the encoded corpus, kept in the cache.

As published for IWSLT14 (fairseq, examples/translation/prepare-iwslt14.sh) one byte-pair encoding is learnt from both
languages of the training text, and each language has a dictionary of the pieces that occur in its training text. The
10,000 of the recipe are merges; sentencepiece counts the whole vocabulary, single characters included. The text is not
normalised, pieces never cross a space, and the pieces of a line joined together are the line.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._cache import Arrays, cached_arrays, keyed_folder
from epsgrid.data._iwslt14 import COUNTS
from epsgrid.errors import SpecError
from epsgrid.extras import require

PAD, END, UNKNOWN = 0, 1, 2
"""The first ids of every dictionary: padding, end of a sentence (it also starts the target), an unknown piece."""

_SPECIAL = ("<pad>", "</s>", "<unk>")

_SPACE = "▁"
"""Stands in a piece for the space before a word."""

_BPE_UNKNOWN = 0
"""Id that sentencepiece gives to characters that the training text does not have."""

_RECIPE = 2
"""Part of the cache key; raise it whenever the same text would be encoded differently."""

_LONGEST_PIECE = 64
_LONGEST_LINE_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class Sentences:
    """One language of a split: `tokens` without END; sentence i is tokens[offsets[i] : offsets[i + 1]]."""

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sentence, END included: (n,)."""
        return np.diff(self.offsets) + 1

    @property
    def longest(self) -> int:
        """Tokens of the longest sentence, END included; 0 if there is none."""
        return int(self.lengths.max(initial=0))


@dataclass(frozen=True, eq=False)
class Pairs:
    """One split; `references` are the translations as text, UTF-8, one a line, (bytes,), empty for training pairs."""

    source: Sentences
    target: Sentences
    references: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.source)

    def reference_lines(self) -> list[str]:
        """Return the translations as text; none for training pairs."""
        text = self.references.tobytes().decode("utf-8")
        return text.split("\n") if text else []


@dataclass(frozen=True, eq=False)
class ParallelCorpus:
    """A corpus ready for training: the splits, both dictionaries by id, the languages, and a sha256 of everything."""

    has_validation: ClassVar[bool] = True

    train: Pairs
    validation: Pairs
    test: Pairs
    source_pieces: tuple[str, ...]
    target_pieces: tuple[str, ...]
    languages: tuple[str, str]
    checksum: str
    description: str

    @cached_property
    def splits(self) -> dict[str, Pairs]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass(frozen=True)
class ParallelText:
    """Lines of a split, chosen from `available` pairs; line i of `target` translates line i of `source`."""

    source: list[str]
    target: list[str]
    available: int


def encoded_corpus(
    texts: Callable[[], dict[str, ParallelText]],
    key: Sequence[str | int | None],
    name: str,
    languages: tuple[str, str],
    vocabulary: int,
) -> ParallelCorpus:
    """Encode the text of three splits, or map from the cache what was encoded before.

    Args:
        texts: returns the text of train, validation and test; called only if it is not in the cache.
        key: everything that the text depends on.
        name: of the text, for the description.
        languages: codes of source and target.
        vocabulary: number of pieces of the joint byte-pair encoding; SpecError where this text cannot give as many.
    """
    try:
        version = metadata.version("sentencepiece")  # the ids depend on it
    except metadata.PackageNotFoundError:
        version = "none"
    # False stands for dictionaries of their own; there was one for both languages once
    folder = keyed_folder("translation", json.dumps([_RECIPE, version, name, vocabulary, False, *key]))
    kept = cached_arrays(folder, lambda: _encode(texts(), name, languages, vocabulary))
    arrays, about = kept.arrays, kept.about
    splits = {}
    for split in ("train", "validation", "test"):
        source, target = (
            Sentences(arrays[f"{split}_{a}"], arrays[f"{split}_{a}_offsets"]) for a in ("source", "target")
        )
        splits[split] = Pairs(source, target, arrays[f"{split}_references"])
    return ParallelCorpus(
        **splits,
        source_pieces=tuple(about["source_pieces"]),
        target_pieces=tuple(about["target_pieces"]),
        languages=languages,
        checksum=about["checksum"],
        description=about["description"],
    )


def _encode(texts: dict[str, ParallelText], name: str, languages: tuple[str, str], vocabulary: int) -> Arrays:
    processor = _train_bpe(texts["train"].source + texts["train"].target, vocabulary)
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    sides = {
        side: {split: processor.encode(getattr(text, side)) for split, text in texts.items()}
        for side in ("source", "target")
    }
    used = {  # sorted ids of the pieces that occur in the training text, without the one for unknown characters
        side: np.setdiff1d(_flat(lines["train"]), [_BPE_UNKNOWN]) for side, lines in sides.items()
    }
    arrays: dict[str, NDArray[Any]] = {}
    for split, text in texts.items():
        for side, lines in sides.items():
            table = np.full(len(pieces), UNKNOWN, np.int32)  # from sentencepiece's ids to those of the dictionary
            table[used[side]] = np.arange(len(_SPECIAL), len(_SPECIAL) + len(used[side]))
            arrays[f"{split}_{side}"] = table[_flat(lines[split])]
            arrays[f"{split}_{side}_offsets"] = np.cumsum([0, *map(len, lines[split])], dtype=np.int64)
        references = "" if split == "train" else "\n".join(text.target)
        arrays[f"{split}_references"] = np.frombuffer(references.encode(), np.uint8)
    dictionaries = {f"{side}_pieces": [*_SPECIAL, *(pieces[i] for i in ids)] for side, ids in used.items()}
    digest = hashlib.sha256("\n\n".join("\n".join(each) for each in dictionaries.values()).encode())
    for part, array in arrays.items():
        digest.update(f"\0{part} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    source, target = map(len, dictionaries.values())
    description = (
        f"{_describe(texts, name, languages)}; joint BPE of {vocabulary:,} pieces,"
        f" dictionaries of {source:,} and {target:,}"
    )
    about = {"checksum": digest.hexdigest(), "description": description}
    return Arrays(arrays, {**dictionaries, **about})


def _flat(lines: Iterable[Iterable[int]]) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(lines), np.int64)


def _describe(texts: dict[str, ParallelText], name: str, languages: tuple[str, str]) -> str:
    """Return such as "IWSLT14, de → en: 160,239 training, 7,283 validation and 6,750 test pairs"."""
    used, available = ([len(text.source) for text in texts.values()], [text.available for text in texts.values()])
    train, validation, test = (
        f"{n:,} of {of:,}" if n < of else f"{of:,}" for n, of in zip(used, available, strict=True)
    )
    subset = "a subset of " if used != available else ""
    called = "IWSLT14" if tuple(available) == COUNTS and languages == ("de", "en") else name
    counts = f"{train} training, {validation} validation and {test} test pairs"
    return f"{subset}{called}, {languages[0]} → {languages[1]}: {counts}"


def _train_bpe(lines: Sequence[str], vocabulary: int) -> Any:
    """Learn byte-pair encoding of `vocabulary` pieces, single characters and the unknown one included.

    Equal arguments give models of equal bytes. The message about a vocabulary that this text cannot give has
    sentencepiece's, which says how many pieces are possible.
    """
    sentencepiece = require("sentencepiece", "translation")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocabulary,
            character_coverage=1.0,
            normalization_rule_name="identity",
            split_by_unicode_script=False,
            split_by_number=False,
            max_sentencepiece_length=_LONGEST_PIECE,
            max_sentence_length=_LONGEST_LINE_BYTES,
            num_threads=1,
            unk_id=_BPE_UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise SpecError(
            f"task.vocabulary: {vocabulary:,} pieces cannot be learnt from the training text; ask for another number,"
            f" or give more text: {error}"
        ) from error
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def join(parts: Sequence[str]) -> str:
    """Join pieces to text.

    >>> join(["▁und", "▁augen", "licht"])
    'und augenlicht'
    """
    return "".join(parts).replace(_SPACE, " ").strip()
