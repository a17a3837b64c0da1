"""Translation between two languages of your own text; as published for IWSLT14 German-English, by default.

The text is a folder of train|valid|test.de and .en, tokenised, a sentence a line (`root`). The published recipe: joint
byte-pair encoding of 10,000 with a dictionary for each language, 4,096 tokens a batch, label smoothing 0.1, beam 5.
`epsgrid data fetch iwslt14` makes the folder from the official archive.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from epsgrid.data import _iwslt14, check_subset
from epsgrid.data._cache import data_folders
from epsgrid.data._corpus import text_lines
from epsgrid.data._fetch import DataSet
from epsgrid.data._parallel import ParallelCorpus, ParallelText, encoded_corpus
from epsgrid.errors import DataError
from epsgrid.tasks._build import build_translation
from epsgrid.tasks._options import Subset, TranslationOptions

_Language = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]

_FILES = {"train": "train", "validation": "valid", "test": "test"}
_SUBSET_SEED = 0

DATA_SET = DataSet(
    "iwslt14",
    contents="German-English transcripts of TED talks, 174,272 pairs",
    files=(_iwslt14.ARCHIVE,),
    download_mb=19,
    licence="TED's: Creative Commons BY-NC-ND",
    tasks=("translation",),
    find=_iwslt14.find,
    fetch=_iwslt14.fetch,
    check=_iwslt14.check,
)

START = {
    "model": "transformer",
    "training": {"epochs": 50, "batch_size": 4096, "schedule": {"kind": "inverse_sqrt", "warmup_steps": 4000}},
    "sweep": {"learning_rates": [5e-5, 5e-4, 5e-3]},
}


class Options(TranslationOptions):
    """Where the text lies and in which languages; how it is encoded, searched and judged."""

    location_fields: ClassVar[frozenset[str]] = frozenset({"root"})

    root: str | None = None
    """Folder of the text, or the name of one in the data folders; it is no part of a trial's identity, the checksum of
    the text is. null: IWSLT14."""
    source: _Language = "de"
    """Language to translate from, as the ending of its files."""
    target: _Language = "en"
    """Language to translate into, as the ending of its files."""
    subset: Subset = Subset()

    @model_validator(mode="after")
    def _languages_differ(self) -> Options:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; they are the endings of two files")
        return self


def prepare(options: Options) -> ParallelCorpus:
    """Read the text of a folder and encode it, or map from the cache what was encoded before from the same text."""
    places = [folder / (options.root or _iwslt14.FOLDER) for folder in data_folders()]
    if options.root is not None:
        places.insert(0, Path(options.root).expanduser().absolute())
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise DataError(
            f"no parallel text: none of these folders is there: {', '.join(map(str, dict.fromkeys(places)))}."
            " Put tokenised text there as train, valid and test, each with one file per language such as train.de and"
            " train.en, or name another folder in task.root; for IWSLT14, `epsgrid data fetch iwslt14` makes that"
            " folder from the official archive"
        )
    languages = (options.source, options.target)
    contents = {split: [_read(folder, name, language) for language in languages] for split, name in _FILES.items()}
    digests = [hashlib.sha256(text).hexdigest() for pair in contents.values() for text in pair]
    counts = options.subset.model_dump()

    def text(split: str) -> ParallelText:
        paths = [folder / f"{_FILES[split]}.{language}" for language in languages]
        return _text(split, paths, contents[split], counts[split])

    return encoded_corpus(
        lambda: {split: text(split) for split in _FILES},
        ["files", *languages, *digests, *(counts[split] for split in _FILES)],
        folder.name,
        languages,
        options.vocabulary,
    )


build = build_translation


def _read(folder: Path, name: str, language: str) -> bytes:
    try:
        return (folder / f"{name}.{language}").read_bytes()
    except OSError as error:
        raise DataError(
            f"{folder / name}.{language} cannot be read ({error.strerror}); a folder of parallel text holds train,"
            " valid and test, each with one file per language, whose endings are task.source and task.target"
        ) from error


def _text(split: str, paths: list[Path], contents: list[bytes], count: int | None) -> ParallelText:
    """Decode and check a split, and choose `count` pairs of it: a fixed random choice, in the order of the files."""
    source, target = map(_lines, paths, contents)
    size = len(source)
    if size != len(target):
        raise DataError(
            f"{paths[0]} has {size:,} lines and {paths[1]} {len(target):,}; they must have the same number, for a line"
            " is the translation of the line with the same number"
        )
    check_subset(split, count, size, "pairs")
    if count is None:
        return ParallelText(source, target, size)
    chosen = np.sort(np.random.RandomState(_SUBSET_SEED).permutation(size)[:count])
    return ParallelText([source[i] for i in chosen], [target[i] for i in chosen], size)


def _lines(path: Path, content: bytes) -> list[str]:
    """Return the lines of a file, without spaces at their ends."""
    lines = [line.strip() for line in text_lines(content, path)]
    if not all(lines):
        raise DataError(
            f"{path}:{lines.index('') + 1}: an empty line ({lines.count('')} in this file);"
            " remove it here and its counterpart in the other language"
        )
    return lines
