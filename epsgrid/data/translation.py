"""Parallel text in a folder, train|valid|test.{de,en}: read, cut by joint byte-pair encoding, kept as arrays of ids.

The recipe is the published one of IWSLT14 German-English (fairseq, examples/translation/prepare-iwslt14.sh): one
byte-pair encoding learnt from both languages of the training text, then a dictionary for each language of the pieces
that its training text has. The text is taken as tokenised; `_iwslt14.prepare_archive` makes it from the official
archive.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epsgrid.data import _bpe, _toy_language
from epsgrid.data._arrays import cached_arrays
from epsgrid.data._iwslt14 import COUNTS, FOLDER
from epsgrid.data._parallel import (
    SPECIAL,
    UNKNOWN,
    Pairs,
    ParallelCorpus,
    checksum,
    from_arrays,
    join_sentences,
    to_arrays,
)
from epsgrid.data._places import arrays_folder, data_folders
from epsgrid.errors import DataError, SpecError

_RECIPE = 1
"""Raised whenever the same text would be encoded otherwise than before."""

_FILES = {"train": "train", "validation": "valid", "test": "test"}
_SUBSET_SEED = 0

Counts = Mapping[str, int | None]
"""How many pairs of `train`, `validation` and `test` to use; None for all."""


@dataclass(frozen=True)
class Encoding:
    """How text becomes ids.

    Attributes:
        vocabulary: pieces of the joint byte-pair encoding.
        joined: one dictionary for both languages, with the pieces of both, in place of one for each.
    """

    vocabulary: int
    joined: bool


@dataclass(frozen=True)
class _Text:
    """Lines of a split; line i of `target` translates line i of `source`; `of` pairs there are in all."""

    source: list[str]
    target: list[str]
    of: int


def load(
    root: str | None,
    languages: tuple[str, str],
    encoding: Encoding,
    counts: Counts,
    environment: Mapping[str, str] = os.environ,
) -> ParallelCorpus:
    """Read the text of a folder and encode it, or map what was encoded before from the same text.

    Args:
        root: a folder; or the name of one in `$EPSGRID_DATA` or in `data` of the cache folder; None for the one that
            `prepare_archive` is told to make there, iwslt14-de-en.
        languages: endings of the source's and the target's files, such as de and en.
        encoding: how text becomes ids.
        counts: how many pairs of each split to use, chosen once; a smaller choice is part of a larger one.
        environment: variables that name the folders.

    Raises:
        DataError: the folder or a file is missing, the two languages have different numbers of lines, a line is empty
            or no UTF-8; the message says where.
        SpecError: more pairs are asked for than there are, or a vocabulary that this text cannot give.
        ExecutionError: sentencepiece is not installed.
    """
    folder = _find(root, environment)
    files = {split: [_read(folder, name, language) for language in languages] for split, name in _FILES.items()}
    digests = [hashlib.sha256(text).hexdigest() for pair in files.values() for text in pair]

    def texts() -> dict[str, _Text]:
        return {split: _text(folder, split, languages, files[split], counts.get(split)) for split in _FILES}

    key = ["files", *languages, *digests, *(counts.get(split) for split in _FILES)]
    return _encoded(key, texts, folder.name, languages, encoding, environment)


def generate(
    sizes: tuple[int, int, int], seed: int, encoding: Encoding, environment: Mapping[str, str] = os.environ
) -> ParallelCorpus:
    """Generate toy text in place of a corpus and encode it, or map what was encoded before.

    Args:
        sizes: pairs for training, validation and testing.
        seed: of the toy languages and the text.
        encoding: how text becomes ids.
        environment: variables that name the cache folder.

    Raises:
        DataError: the cache cannot be written.
        SpecError: a vocabulary that this text cannot give.
        ExecutionError: sentencepiece is not installed.
    """

    def texts() -> dict[str, _Text]:
        splits = zip(_FILES, _toy_language.generate(*sizes, seed), strict=True)
        return {name: _Text(list(text.source), list(text.target), len(text.source)) for name, text in splits}

    name = "GENERATED toy languages (no real data)"
    return _encoded(["generated", *sizes, seed], texts, name, ("source", "target"), encoding, environment)


def _find(root: str | None, environment: Mapping[str, str]) -> Path:
    folders = data_folders(environment)
    places = [folder / (root or FOLDER) for folder in folders]
    if root is not None:
        places.insert(0, Path(root).expanduser().absolute())
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise DataError(
            f"no parallel text: none of these folders is there: {', '.join(map(str, dict.fromkeys(places)))}."
            " Put tokenised text there as train, valid and test, each with one file per language such as train.de and"
            " train.en, or name another folder in task.root; for IWSLT14, `epsgrid data fetch iwslt14` makes that"
            " folder from the official archive"
        )
    return found


def _read(folder: Path, name: str, language: str) -> bytes:
    try:
        return (folder / f"{name}.{language}").read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"{folder}: no file {name}.{language}; a folder of parallel text holds train, valid and test, each with one"
            " file per language, whose endings are task.source and task.target"
        ) from error
    except OSError as error:
        raise DataError(f"{folder / name}.{language} cannot be read: {error}") from error


def _text(folder: Path, split: str, languages: Sequence[str], contents: Sequence[bytes], count: int | None) -> _Text:
    """Decode and check a split, and choose `count` pairs of it."""
    paths = [folder / f"{_FILES[split]}.{language}" for language in languages]
    source, target = (_lines(path, content) for path, content in zip(paths, contents, strict=True))
    if len(source) != len(target):
        raise DataError(
            f"{paths[0]} has {len(source):,} lines and {paths[1]} {len(target):,}; they must have as many, for a line"
            " is the translation of the line with the same number"
        )
    chosen = _choose(split, len(source), count)
    return _Text([source[i] for i in chosen], [target[i] for i in chosen], len(source))


def _lines(path: Path, content: bytes) -> list[str]:
    """Return the lines, without spaces at their ends."""
    try:
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")  # without the mark of editors on Windows
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{number}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error
    if not content.strip():
        raise DataError(f"{path}: an empty file; it must hold a sentence a line")
    lines = [line.strip() for line in lines]
    if not all(lines):
        raise DataError(
            f"{path}:{lines.index('') + 1}: an empty line ({lines.count('')} in this file);"
            " remove it here and its counterpart in the other language"
        )
    return lines


def _choose(split: str, size: int, count: int | None) -> NDArray[np.int64]:
    """Choose pairs at random once and for ever; they keep their order."""
    if count is None:
        return np.arange(size)
    if count > size:
        raise SpecError(
            f"task.subset.{split}: {count:,} pairs asked for, there are {size:,}; ask for fewer, or leave it out"
        )
    return np.sort(np.random.RandomState(_SUBSET_SEED).permutation(size)[:count])


def _encoded(
    key: list[str | int | None],
    texts: Callable[[], dict[str, _Text]],
    name: str,
    languages: tuple[str, str],
    encoding: Encoding,
    environment: Mapping[str, str],
) -> ParallelCorpus:
    parts = [_RECIPE, _sentencepiece_version(), name, encoding.vocabulary, encoding.joined, *key]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    folder = arrays_folder(environment) / f"translation-{digest[:16]}"
    return from_arrays(cached_arrays(folder, lambda: to_arrays(_encode(texts(), name, languages, encoding))))


def _sentencepiece_version() -> str:
    """Return the version that the ids depend on; none where it is missing, which is told when it is needed."""
    try:
        return metadata.version("sentencepiece")
    except metadata.PackageNotFoundError:
        return "none"


def _encode(texts: dict[str, _Text], name: str, languages: tuple[str, str], encoding: Encoding) -> ParallelCorpus:
    model = _bpe.train_bpe(texts["train"].source + texts["train"].target, encoding.vocabulary)
    ids = {
        split: tuple(
            [np.array(line, np.int64) for line in _bpe.encode(model, lines)] for lines in (text.source, text.target)
        )
        for split, text in texts.items()
    }
    pieces = _bpe.pieces(model)
    used = [_used(side) for side in ids["train"]]
    if encoding.joined:
        used = [np.union1d(*used)] * 2
    tables = [_table(len(pieces), side) for side in used]
    splits = {}
    for split, sides in ids.items():
        source, target = (
            join_sentences([table[line] for line in side]) for side, table in zip(sides, tables, strict=True)
        )
        references = "" if split == "train" else "\n".join(texts[split].target)
        splits[split] = Pairs(source, target, np.frombuffer(references.encode(), np.uint8))
    source_pieces, target_pieces = ((*SPECIAL, *(pieces[i] for i in side)) for side in used)
    return ParallelCorpus(
        splits["train"],
        splits["validation"],
        splits["test"],
        source_pieces,
        target_pieces,
        model,
        languages,
        checksum(splits, source_pieces, target_pieces),
        _describe(texts, name, languages, encoding, (len(source_pieces), len(target_pieces))),
    )


def _used(lines: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the ids that occur, rising, without the one for unknown characters."""
    return np.setdiff1d(np.concatenate(lines), [_bpe.UNKNOWN])


def _table(pieces: int, used: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the id in the dictionary for each of sentencepiece's ids; UNKNOWN for those not used."""
    table = np.full(pieces, UNKNOWN, np.int32)
    table[used] = np.arange(len(SPECIAL), len(SPECIAL) + len(used))
    return table


def _describe(
    texts: dict[str, _Text], name: str, languages: tuple[str, str], encoding: Encoding, dictionaries: tuple[int, int]
) -> str:
    """Return the line for the report.

    Such as "IWSLT14, de → en: 160,239 training, 7,283 validation and 6,750 test pairs; joint BPE of 10,000 pieces, …".
    """
    subset = any(len(text.source) < text.of for text in texts.values())

    def count(split: str) -> str:
        text = texts[split]
        return f"{len(text.source):,} of {text.of:,}" if len(text.source) < text.of else f"{text.of:,}"

    official = tuple(text.of for text in texts.values()) == COUNTS and languages == ("de", "en")
    title = "IWSLT14" if official else name
    shared = (
        f"one dictionary of {dictionaries[0]:,}"
        if encoding.joined
        else "dictionaries of {:,} and {:,}".format(*dictionaries)
    )
    return (
        f"{'a subset of ' if subset else ''}{title}, {languages[0]} → {languages[1]}: {count('train')} training,"
        f" {count('validation')} validation and {count('test')} test pairs;"
        f" joint BPE of {encoding.vocabulary:,} pieces, {shared}"
    )
