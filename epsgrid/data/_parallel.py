"""Encoded parallel text: token ids of sentence pairs, the same for every source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._arrays import Arrays

PAD, END, UNKNOWN = 0, 1, 2
"""The first ids of every dictionary: filling, end of a sentence (it also starts the target), an unknown piece."""

SPECIAL = ("<pad>", "</s>", "<unk>")


@dataclass(frozen=True, eq=False)
class Sentences:
    """One language of a split.

    Attributes:
        tokens: (all tokens,), int32, sentence after sentence, without END.
        offsets: (n + 1,), int64: sentence i is tokens[offsets[i] : offsets[i + 1]].
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sentence, END included: (n,)."""
        return np.diff(self.offsets) + 1

    @property
    def longest(self) -> int:
        """Tokens of the longest sentence, END included; 0 where there is none."""
        return int(self.lengths.max(initial=0))


@dataclass(frozen=True, eq=False)
class Pairs:
    """One split.

    Attributes:
        source: what is translated.
        target: its translation, encoded.
        references: (bytes,), uint8: the translations as text, a line each, UTF-8; empty for training pairs.
    """

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
    """A corpus ready for training: what the translation task's `prepare` returns.

    Attributes:
        train: pairs to learn from.
        validation: pairs to choose by.
        test: pairs to report on.
        source_pieces: the source dictionary, by id.
        target_pieces: the target dictionary, by id; the same as the source's where they are joined.
        bpe: sentencepiece's model, with which further text can be cut alike.
        languages: codes of source and target.
        checksum: sha256 of everything that is trained on or compared with, hex.
        description: one line for the report.
    """

    train: Pairs
    validation: Pairs
    test: Pairs
    source_pieces: tuple[str, ...]
    target_pieces: tuple[str, ...]
    bpe: bytes
    languages: tuple[str, str]
    checksum: str
    description: str

    @cached_property
    def splits(self) -> dict[str, Pairs]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def has_validation(self) -> bool:
        """Whether there are pairs to choose among trials by; always so."""
        return True


def join_sentences(sentences: Sequence[NDArray[np.int32]]) -> Sentences:
    """Lay sentences out one after another."""
    offsets = np.zeros(len(sentences) + 1, np.int64)
    np.cumsum([len(sentence) for sentence in sentences], out=offsets[1:])
    return Sentences(np.concatenate([np.empty(0, np.int32), *sentences]), offsets)


def to_arrays(corpus: ParallelCorpus) -> Arrays:
    """Return the corpus as named arrays and plain values, to be kept in the cache."""
    arrays = dict(_arrays(corpus.splits))
    arrays["bpe"] = np.frombuffer(corpus.bpe, np.uint8)
    about = {
        "source_pieces": list(corpus.source_pieces),
        "target_pieces": list(corpus.target_pieces),
        "languages": list(corpus.languages),
        "checksum": corpus.checksum,
        "description": corpus.description,
    }
    return Arrays(arrays, about)


def from_arrays(kept: Arrays) -> ParallelCorpus:
    """Return the corpus that `to_arrays` was given."""
    arrays, about = kept.arrays, kept.about
    train, validation, test = (
        Pairs(
            Sentences(arrays[f"{split}_source"], arrays[f"{split}_source_offsets"]),
            Sentences(arrays[f"{split}_target"], arrays[f"{split}_target_offsets"]),
            arrays[f"{split}_references"],
        )
        for split in ("train", "validation", "test")
    )
    source, target = about["languages"]
    return ParallelCorpus(
        train,
        validation,
        test,
        tuple(about["source_pieces"]),
        tuple(about["target_pieces"]),
        arrays["bpe"].tobytes(),
        (source, target),
        about["checksum"],
        about["description"],
    )


def checksum(splits: dict[str, Pairs], *dictionaries: Sequence[str]) -> str:
    """Return sha256 over token ids, references and dictionaries, hex; the same on every machine."""
    digest = hashlib.sha256("\n\n".join("\n".join(pieces) for pieces in dictionaries).encode())
    for name, array in _arrays(splits).items():
        little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"\0{name} {array.shape}\0".encode())
        digest.update(little_endian.data)
    return digest.hexdigest()


def _arrays(splits: dict[str, Pairs]) -> dict[str, NDArray[np.generic]]:
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, pairs in splits.items():
        arrays[f"{name}_source"], arrays[f"{name}_source_offsets"] = pairs.source.tokens, pairs.source.offsets
        arrays[f"{name}_target"], arrays[f"{name}_target_offsets"] = pairs.target.tokens, pairs.target.offsets
        arrays[f"{name}_references"] = pairs.references
    return arrays
