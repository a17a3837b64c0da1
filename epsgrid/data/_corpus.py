"""Text as numbers: three streams of word ids with one vocabulary, decoded once and mapped by every process."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._arrays import Arrays, cached_arrays
from epsgrid.errors import DataError, SpecError

EOS = "<eos>"
"""The word that stands for the end of a line."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text for a language model: what a language task's `prepare` returns.

    Attributes:
        train: (n,), ids of the words in reading order, uint16 or int32; perhaps mapped, so not to be written to.
        validation: likewise.
        test: likewise.
        words: the vocabulary; a word's id is its place in it.
        checksum: sha256 of all of the above, whole, hex.
        description: one line for the report.
    """

    train: NDArray[Any]
    validation: NDArray[Any]
    test: NDArray[Any]
    words: tuple[str, ...]
    checksum: str
    description: str

    @property
    def has_validation(self) -> bool:
        """True: a corpus always comes with a split to choose by."""
        return True

    def split(self, name: str) -> NDArray[Any]:
        """Return the ids of "train", "validation" or "test"."""
        assert name in SPLITS, name
        ids: NDArray[Any] = getattr(self, name)
        return ids

    def described(self, what: str) -> Corpus:
        """Return the corpus with a description: `what` it is, and its sizes."""
        sizes = f"{len(self.train):,} training, {len(self.validation):,} validation and {len(self.test):,} test words"
        return replace(self, description=f"{what}: {sizes}, vocabulary {len(self.words):,}")

    def first(self, counts: Mapping[str, int | None]) -> Corpus:
        """Return the beginning of each split; vocabulary and checksum stay those of the whole.

        Args:
            counts: words to keep, by split; all of them where it is None.

        Raises:
            SpecError: more are asked for than there are.
        """
        asked = {name: count for name, count in counts.items() if count is not None}
        if not asked:
            return self
        for name, count in asked.items():
            if count > len(self.split(name)):
                raise SpecError(
                    f"task.subset.{name}: {count:,} words asked for, there are {len(self.split(name)):,};"
                    " ask for fewer, or leave it out"
                )
        kept = ", ".join(f"{count:,} {name}" for name, count in asked.items())
        train, validation, test = (self.split(name)[: counts.get(name)] for name in SPLITS)
        description = f"a subset (the first {kept} words) of {self.description}"
        return replace(self, train=train, validation=validation, test=test, description=description)


def make_corpus(splits: Mapping[str, NDArray[Any]], words: tuple[str, ...], description: str = "") -> Corpus:
    """Return the corpus with its checksum taken, ids as small as the vocabulary allows."""
    kind = np.uint16 if len(words) <= 1 << 16 else np.int32
    parts = {name: np.ascontiguousarray(splits[name], kind) for name in SPLITS}
    checksum = _checksum([parts[name] for name in SPLITS], words)
    return Corpus(**parts, words=words, checksum=checksum, description=description)


def encode(texts: Mapping[str, bytes], places: Mapping[str, str]) -> Corpus:
    """Turn texts into word ids: words are what white space separates, and every line ends with `<eos>`.

    The vocabulary is that of the training text, in order of first appearance. An empty line is an `<eos>` alone.

    Args:
        texts: UTF-8, by split.
        places: the files they are from, for error messages.

    Raises:
        DataError: a text is empty, not UTF-8 or holds the word `<eos>`; or validation or test text has a word that
            training text has not.
    """
    lines = {name: list(_lines(texts[name], places[name])) for name in SPLITS}
    vocabulary: dict[str, int] = {}
    for line in lines["train"]:
        for word in line:
            vocabulary.setdefault(word, len(vocabulary))
    splits = {name: _ids(lines[name], vocabulary, places[name], places["train"]) for name in SPLITS}
    return make_corpus(splits, tuple(vocabulary))


def _lines(text: bytes, place: str) -> Iterator[list[str]]:
    """Yield the words of each line, `<eos>` included; only a line feed ends a line, as `wc -l` counts."""
    if not text.strip():
        raise DataError(f"{place} is empty: it must hold text, one sentence a line")
    try:
        decoded = text.decode("utf-8-sig")  # without the mark that editors on Windows put in front
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 at byte {error.start}; convert it, or fetch it again") from error
    for number, line in enumerate(decoded.removesuffix("\n").split("\n"), start=1):
        words = line.split()
        if EOS in words:
            raise DataError(f"{place}:{number}: the word {EOS} stands for the end of a line; remove it from the text")
        yield [*words, EOS]


def _ids(lines: list[list[str]], vocabulary: Mapping[str, int], place: str, source: str) -> NDArray[np.int32]:
    ids = []
    for number, line in enumerate(lines, start=1):
        for word in line:
            if word not in vocabulary:
                raise DataError(
                    f"{place}:{number}: the word {word!r} is not in the vocabulary, which is that of {source}"
                    f" ({len(vocabulary):,} words); replace rare words by <unk> in all three files"
                )
            ids.append(vocabulary[word])
    return np.array(ids, np.int32)


def cached(folder: Path, make: Callable[[], Corpus]) -> Corpus:
    """Return the corpus kept in `folder`, its ids mapped read-only; make and keep it first if need be.

    What is kept is checked against its checksum each time; a damaged copy is thrown away and made again.

    Args:
        folder: named after the content that the ids are made from.
        make: called only when the folder is missing or damaged.

    Raises:
        DataError: the folder cannot be written; also whatever `make` raises.
    """
    kept = _open(folder, make)
    if kept is None:
        shutil.rmtree(folder, ignore_errors=True)
        kept = _open(folder, make)
    if kept is None:
        raise DataError(f"decoded data in {folder} are damaged; delete that folder and run the command again")
    return kept


def _open(folder: Path, make: Callable[[], Corpus]) -> Corpus | None:
    """Return the corpus kept in `folder`, made if need be, or None where it does not match its checksum."""
    kept = cached_arrays(folder, lambda: _to_arrays(make()))
    train, validation, test = (kept.arrays.get(name, np.zeros(0, np.uint16)) for name in SPLITS)
    words, checksum = tuple(kept.about.get("words", ())), kept.about.get("checksum")
    if checksum != _checksum((train, validation, test), words):
        return None
    return Corpus(train, validation, test, words, checksum, "")


def _to_arrays(corpus: Corpus) -> Arrays:
    arrays = {name: corpus.split(name) for name in SPLITS}
    return Arrays(arrays, {"words": list(corpus.words), "checksum": corpus.checksum})


def _checksum(parts: Sequence[NDArray[Any]], words: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([[len(part) for part in parts], list(words)]).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).astype("<i4").data)
    return digest.hexdigest()
