"""IWSLT14 German-English from the official archive, by the published recipe.

Moses' tokenisation, lower case, pairs of 1 to 175 tokens with at most 1.5 times as many on one side; every 23rd pair
is for validation; the five development and test sets of 2010 to 2012 together are for testing (fairseq,
examples/translation/prepare-iwslt14.sh).
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from epsgrid.data._extra import require
from epsgrid.data._fetch import Fetcher, Finding, Remote
from epsgrid.data._moses import clean, tokenizer
from epsgrid.errors import DataError

FOLDER = "iwslt14-de-en"
"""Name of the prepared folder among the data folders."""

ARCHIVE_URL = "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz"
"""Where the archive of the evaluation campaign is kept today."""

ARCHIVE = Remote(ARCHIVE_URL, None)
"""Its owners publish no checksum: what comes out of it is counted."""

COUNTS = (160_239, 7_283, 6_750)
"""Training, validation and test pairs that the official archive gives."""

_LANGUAGES = ("de", "en")
_TEST_SETS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
_MEMBERS = {
    language: (f"train.tags.de-en.{language}", *(f"IWSLT14.{name}.de-en.{language}.xml" for name in _TEST_SETS))
    for language in _LANGUAGES
}
_SKIPPED = ("<url>", "<talkid>", "<keywords>")
_TITLES = re.compile(r"</?(?:title|description)>")
_SEGMENT = re.compile(r'<seg id="[0-9]*">\s*')
_SEGMENT_END = re.compile(r"\s*</seg>\s*")
_RATIO, _SHORTEST, _LONGEST = 1.5, 1, 175
_VALIDATION_EVERY = 23
_LIMIT_BYTES = 2**30


def find(folders: Sequence[Path]) -> Path | None:
    """Return the prepared folder in the first of the folders that has it; None where none has."""
    return next((folder / FOLDER for folder in folders if (folder / FOLDER).is_dir()), None)


def fetch(folder: Path, fetcher: Fetcher) -> bool:
    """Make the prepared folder in a folder, unless it is there; an archive that lies there is used.

    Returns:
        Whether anything had to be done.

    Raises:
        DataError: the archive cannot be fetched, and how to get it by hand; or it cannot be prepared.
        ExecutionError: sacremoses is not installed.
    """
    if find((folder,)) is not None:
        return False
    require("sacremoses", "translation")
    archive = folder / ARCHIVE.name
    fetched = fetcher.get({archive: ARCHIVE})
    fetcher.say(f"no checksum of the archive is published; what comes out is counted. Its SHA-256: {_sha256(archive)}")
    try:
        prepare_archive(archive, folder / FOLDER, COUNTS, tell=fetcher.say)
    except DataError as error:
        raise DataError(f"{error}\n{archive} is kept; remove it to have it fetched again") from error
    if fetched:
        archive.unlink(missing_ok=True)
    return True


def _sha256(archive: Path) -> str:
    try:
        with archive.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror}); the archive is expected there") from error


def check(place: Path) -> Iterator[Finding]:
    """Look through a prepared folder: lines of each file, none of them empty. It has no published checksum."""
    for split, expected in zip(("train", "valid", "test"), COUNTS, strict=True):
        for language in _LANGUAGES:
            yield _check_lines(place / f"{split}.{language}", expected)


def _check_lines(file: Path, expected: int) -> Finding:
    try:
        lines = file.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        return Finding(file.name, f"cannot be read ({error.strerror or error})")
    if len(lines) != expected:
        return Finding(file.name, f"{len(lines):,} lines, expected {expected:,}")
    empty = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    return Finding(f"{file.name}: {expected:,} lines", f"line {empty:,} is empty" if empty else None)


def prepare_archive(
    archive: Path,
    folder: Path,
    counts: tuple[int, int, int] | None = COUNTS,
    limit_bytes: int = _LIMIT_BYTES,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[int, int, int]:
    """Make train|valid|test.{de,en} from the official archive.

    Nothing is extracted: the twelve files needed are read out of the archive by name, wherever their folder is in it,
    so that no name or link in it can reach outside. The folder is there whole or not at all.

    Args:
        archive: de-en.tgz, or any tar archive of the same layout.
        folder: what to make; must not be there yet.
        counts: training, validation and test pairs that must come out; None for an archive other than the official.
        limit_bytes: most bytes that the archive may hold, unpacked.
        tell: told, in a line, what is being done.

    Returns:
        How many training, validation and test pairs there are.

    Raises:
        DataError: the archive is damaged, too large, or lacks a file; other counts come out; `folder` is already there
            or cannot be written.
        ExecutionError: sacremoses is not installed.
    """
    if folder.exists():
        raise DataError(f"{folder} is already there; remove it first, or name another folder")
    tell(f"reading {archive}")
    texts = _read_members(archive, limit_bytes)
    tell("tokenising")
    splits = _prepare(texts)
    found = (len(splits["train"]), len(splits["valid"]), len(splits["test"]))
    if not all(found):
        raise DataError(f"{archive}: {_count(found)} pairs came out; each split needs some")
    if counts is not None and found != counts:
        raise DataError(
            f"{archive}: {_count(found)} pairs came out, expected {_count(counts)} from the official archive of IWSLT14"
            " German-English; is this another release of it, or sacremoses of another version? To take it all the same:"
            f" epsgrid data prepare {archive} FOLDER --any-counts"
        )
    _write(folder, splits)
    return found


def _count(counts: Iterable[int]) -> str:
    return " / ".join(f"{count:,}" for count in counts)


def _read_members(archive: Path, limit_bytes: int) -> dict[str, list[str]]:
    """Return the lines of every file that is needed, by name."""
    wanted = {name for names in _MEMBERS.values() for name in names}
    found: dict[str, list[str]] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if tar.offset > limit_bytes or member.size > limit_bytes:
                    raise DataError(f"{archive}: more than {limit_bytes:,} bytes unpacked; not the archive of IWSLT14")
                name = member.name.rpartition("/")[2]
                if member.isreg() and name in wanted:
                    found[name] = _member_lines(archive, tar, member)
    except FileNotFoundError as error:
        raise DataError(f"no archive {archive}; the official one is at {ARCHIVE_URL}") from error
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: not a readable tar archive ({error}); get it again") from error
    if missing := sorted(wanted - found.keys()):
        raise DataError(f"{archive}: not the archive of IWSLT14 German-English; it lacks {', '.join(missing)}")
    return found


def _member_lines(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> list[str]:
    file = tar.extractfile(member)
    assert file is not None, member.name
    try:
        return file.read().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{archive}: {member.name} is not UTF-8 ({error})") from error


_Pairs = list[tuple[str, str]]


def _prepare(texts: dict[str, list[str]]) -> dict[str, _Pairs]:
    sides = {language: _tokenize(language, texts) for language in _LANGUAGES}
    training, testing = (_zip(*(sides[language][part] for language in _LANGUAGES)) for part in (0, 1))
    cleaned = _lower(clean(training, _RATIO, _SHORTEST, _LONGEST))
    return {
        "train": [pair for number, pair in enumerate(cleaned, 1) if number % _VALIDATION_EVERY],
        "valid": cleaned[_VALIDATION_EVERY - 1 :: _VALIDATION_EVERY],
        "test": _lower(testing),
    }


def _tokenize(language: str, texts: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Return tokenised training lines and tokenised test lines of a language."""
    tokenize = tokenizer(language)
    training, *tests = _MEMBERS[language]
    return (
        [tokenize(_TITLES.sub("", line)) for line in texts[training] if not any(tag in line for tag in _SKIPPED)],
        [tokenize(_segment(line)) for name in tests for line in texts[name] if "<seg id" in line],
    )


def _segment(line: str) -> str:
    """Return the text of a segment of an XML file; the recipe makes its typographic apostrophes plain ones."""
    return _SEGMENT_END.sub("", _SEGMENT.sub("", line)).replace("’", "'")


def _zip(source: list[str], target: list[str]) -> _Pairs:
    if len(source) != len(target):
        raise DataError(
            f"the archive's German has {len(source):,} lines, its English {len(target):,}; it is damaged, get it again"
        )
    return list(zip(source, target, strict=True))


def _lower(pairs: _Pairs) -> _Pairs:
    return [(source.lower(), target.lower()) for source, target in pairs]


def _write(folder: Path, splits: dict[str, _Pairs]) -> None:
    making = folder.parent / f".preparing-{uuid.uuid4().hex}"
    try:
        making.mkdir(parents=True)
        for split, pairs in splits.items():
            for language, lines in zip(_LANGUAGES, zip(*pairs, strict=True), strict=True):
                (making / f"{split}.{language}").write_text(
                    "".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n"
                )
        making.rename(folder)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error}; make room there, or name another folder") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
