"""Text for language models: three sequences of word ids with one vocabulary, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from epsgrid.data import check_subset
from epsgrid.data._cache import Arrays, cached_arrays
from epsgrid.errors import DataError

EOS = "<eos>"
"""The word that stands for the end of a line."""

SPLITS = ("train", "validation", "test")

_NO_TEXT = {
    b"\x1f\x8b": "compressed by gzip",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\xff\xfe": "text in UTF-16 or UTF-32",
    b"\xfe\xff": "text in UTF-16",
}
"""What files that begin with some bytes are."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text for a language model: the ids of the words of each split, in reading order, possibly mapped read-only.

    A word's id is its position in `words`, `checksum` is the sha256 of the complete splits and the vocabulary, and
    `description` is one line for the report.
    """

    has_validation: ClassVar[bool] = True

    train: NDArray[Any]
    validation: NDArray[Any]
    test: NDArray[Any]
    words: tuple[str, ...]
    checksum: str
    description: str

    @property
    def splits(self) -> dict[str, NDArray[Any]]:
        """The ids of each split, by name."""
        return {name: getattr(self, name) for name in SPLITS}

    def described(self, what: str) -> Corpus:
        """Return the corpus with a description that says `what` it is, and its sizes."""
        sizes = f"{len(self.train):,} training, {len(self.validation):,} validation and {len(self.test):,} test words"
        return replace(self, description=f"{what}: {sizes}, vocabulary {len(self.words):,}")

    def first(self, counts: Mapping[str, int | None]) -> Corpus:
        """Return the first words of each split, None for all; SpecError if there are fewer. The vocabulary stays."""
        asked = {name: count for name, count in counts.items() if count is not None}
        if not asked:
            return self
        for name, count in asked.items():
            check_subset(name, count, len(self.splits[name]), "words")
        kept = ", ".join(f"{count:,} {name}" for name, count in asked.items())
        parts: dict[str, Any] = {name: self.splits[name][:count] for name, count in asked.items()}
        return replace(self, **parts, description=f"a subset (the first {kept} words) of {self.description}")


def make_corpus(splits: Mapping[str, NDArray[Any]], words: tuple[str, ...]) -> Corpus:
    """Return the corpus with its checksum, the ids in the smallest type that holds the vocabulary."""
    kind = np.uint16 if len(words) <= 1 << 16 else np.int32
    parts = {name: np.ascontiguousarray(splits[name], kind) for name in SPLITS}
    return Corpus(**parts, words=words, checksum=_checksum(parts, words), description="")


def encode(texts: Mapping[str, bytes], places: Mapping[str, str]) -> Corpus:
    """Turn texts, UTF-8, into word ids: words are separated by white space, and every line ends with `<eos>`.

    The vocabulary is that of the training text, in order of first appearance. `places` are the files that the texts are
    from, for error messages. Raises DataError where a text is empty, not UTF-8 or holds the word `<eos>`, or the
    validation or test text has a word that the training text does not have.
    """
    vocabulary: dict[str, int] = {}
    splits = {}
    for name in SPLITS:
        ids = []
        for number, line in enumerate(text_lines(texts[name], places[name]), start=1):
            words = line.split()
            if EOS in words:
                raise DataError(
                    f"{places[name]}:{number}: the word {EOS} stands for the end of a line; remove it from the text"
                )
            for word in (*words, EOS):
                if name == "train":
                    vocabulary.setdefault(word, len(vocabulary))
                elif word not in vocabulary:
                    raise DataError(
                        f"{places[name]}:{number}: the word {word!r} is not in the vocabulary, which is that of"
                        f" {places['train']} ({len(vocabulary):,} words); replace rare words by <unk> in all files"
                    )
                ids.append(vocabulary[word])
        splits[name] = np.array(ids, np.int32)
    return make_corpus(splits, tuple(vocabulary))


def text_lines(text: bytes, place: object) -> list[str]:
    """Return the lines of a text in UTF-8, which end as on any system: by LF, CR LF or CR; nothing else ends a line.

    Raises DataError, with its place, where the text is empty, not UTF-8, or no text, and where some lines end by CR
    alone and others do not: it cannot be known whether those are line ends.
    """
    for mark, what in _NO_TEXT.items():
        if text.startswith(mark):
            raise DataError(f"{place}: {what}, where text in UTF-8 is expected; convert or unpack it")
    unified = text.replace(b"\r\n", b"\n")
    if b"\r" in unified and b"\n" in unified:
        number = unified.count(b"\n", 0, unified.index(b"\r")) + 1
        raise DataError(f"{place}:{number}: a carriage return, where lines end by line feeds; make all line ends alike")
    unified = unified.replace(b"\r", b"\n")
    try:
        decoded = unified.decode("utf-8-sig")  # without the byte order mark of Windows editors
    except UnicodeDecodeError as error:
        number = unified.count(b"\n", 0, error.start) + 1
        raise DataError(f"{place}:{number}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error
    if "\0" in decoded:
        number = decoded.count("\n", 0, decoded.index("\0")) + 1
        raise DataError(f"{place}:{number}: a zero byte, which no text has; the file is damaged, or not UTF-8")
    if not decoded.strip():
        raise DataError(f"{place}: an empty file; it must hold text, one sentence a line")
    return decoded.removesuffix("\n").split("\n")


def cached_corpus(folder: Path, make: Callable[[], Corpus]) -> Corpus:
    """Return the corpus stored in `folder`, mapped read-only; make and store it first if it is missing or damaged.

    Stored ids and words are checked against their checksum each time. Raises DataError if the folder cannot be written.
    """

    def arrays() -> Arrays:
        corpus = make()
        return Arrays(corpus.splits, {"words": list(corpus.words), "checksum": corpus.checksum})

    for _ in range(2):
        kept = cached_arrays(folder, arrays)
        splits = {name: kept.arrays[name] for name in SPLITS}
        words, checksum = tuple(kept.about["words"]), kept.about["checksum"]
        if checksum == _checksum(splits, words):
            return Corpus(**splits, words=words, checksum=checksum, description="")
        shutil.rmtree(folder, ignore_errors=True)
    raise DataError(f"decoded data in {folder} are damaged; delete that folder and run the command again")


def _checksum(splits: Mapping[str, NDArray[Any]], words: tuple[str, ...]) -> str:
    parts = [splits[name] for name in SPLITS]
    digest = hashlib.sha256(json.dumps([[len(part) for part in parts], list(words)]).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).astype("<i4").data)
    return digest.hexdigest()
