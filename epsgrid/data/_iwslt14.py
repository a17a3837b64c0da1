"""IWSLT14 German-English from the official archive, by the published recipe.

Moses' tokenisation, lower case, pairs of 1 to 175 tokens with at most 1.5 times as many on one side; every 23rd pair
is for validation; the five development and test sets of 2010 to 2012 together are for testing (fairseq,
examples/translation/prepare-iwslt14.sh). sacremoses keeps "usw." whole at the end of a line; Moses' own tokenizer.perl,
and so the published text, always splits a last full stop off.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from epsgrid.data._cache import new_folder
from epsgrid.data._corpus import text_lines
from epsgrid.data._fetch import Fetcher, Finding, Remote
from epsgrid.errors import DataError
from epsgrid.extras import require

FOLDER = "iwslt14-de-en"
"""Name of the prepared folder among the data folders."""

ARCHIVE = Remote("https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz", None)
"""Where the archive of the evaluation campaign is today. Its owners publish no checksum: its pairs are counted."""

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
_SEGMENT = re.compile(r'<seg id="[0-9]*">\s*|\s*</seg>\s*')
_LAST_STOP = re.compile(r"(?:^|(?<=\s))(\S*[^\s.])\.$")
_LENGTH_RATIO, _LONGEST_LINE, _LONGEST_WORD = 1.5, 175, 1000
_VALIDATION_EVERY = 23
_LIMIT_BYTES = 2**30
"""Most bytes that an archive may hold, unpacked."""

_Pairs = list[tuple[str, str]]


def find(folders: Sequence[Path]) -> Path | None:
    """Return the prepared folder in the first of the folders that has it; None if none has it."""
    return next((folder / FOLDER for folder in folders if (folder / FOLDER).is_dir()), None)


def fetch(folder: Path, fetcher: Fetcher) -> bool:
    """Make the prepared folder in a folder, and return whether it was missing; an archive that is there is used."""
    if find((folder,)) is not None:
        return False
    require("sacremoses", "translation")
    archive = folder / ARCHIVE.name
    fetched = fetcher.get({archive: ARCHIVE})
    fetcher.say(f"reading and tokenising {archive}")
    try:
        _prepare_archive(archive, folder / FOLDER)
    except DataError as error:
        raise DataError(f"{error}\n{archive} is kept; remove it to have it fetched again") from error
    if fetched:
        archive.unlink(missing_ok=True)
    return True


def check(place: Path) -> Iterator[Finding]:
    """Check a prepared folder: count the lines of each file, none of which may be empty; no checksum is published."""
    for split, expected in zip(("train", "valid", "test"), COUNTS, strict=True):
        for language in _LANGUAGES:
            file = place / f"{split}.{language}"
            try:
                lines = text_lines(file.read_bytes(), file.name)
            except OSError as error:
                yield Finding(file.name, f"cannot be read ({error.strerror or error})")
                continue
            except DataError as error:
                yield Finding(file.name, str(error))
                continue
            empty = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
            problem = f"line {empty:,} is empty" if empty else None
            if len(lines) != expected:
                problem = f"{len(lines):,} lines, expected {expected:,}"
            yield Finding(file.name if problem else f"{file.name}: {expected:,} lines", problem)


def _prepare_archive(archive: Path, folder: Path, counts: tuple[int, int, int] | None = None) -> None:
    """Make train|valid|test.{de,en} in a new folder from the official archive, or from one of the same layout.

    Nothing is extracted: the twelve files needed are read from the archive by name, in whatever folder they are, so
    that no name or link in it can reach outside. The new folder is either complete or missing. `counts` are the
    training, validation and test pairs that must come out. Raises DataError where the archive is damaged or another
    one, or `folder` cannot be written.
    """
    texts = _read_members(archive)
    train, test = {}, {}
    for language in _LANGUAGES:
        tokenize = _tokenizer(language)
        training, *tests = _MEMBERS[language]
        train[language] = [
            tokenize(_TITLES.sub("", line)) for line in texts[training] if not any(tag in line for tag in _SKIPPED)
        ]
        segments = [line for name in tests for line in texts[name] if "<seg id" in line]
        # the recipe replaces typographic apostrophes here alone
        test[language] = [tokenize(_SEGMENT.sub("", line).replace("’", "'")) for line in segments]
    cleaned = _clean(_paired(train))
    splits = {
        "train": [pair for number, pair in enumerate(cleaned, 1) if number % _VALIDATION_EVERY],
        "valid": cleaned[_VALIDATION_EVERY - 1 :: _VALIDATION_EVERY],
        "test": _paired(test),
    }
    found, expected = tuple(map(len, splits.values())), counts or COUNTS
    if found != expected:
        shown, official = (" / ".join(f"{count:,}" for count in each) for each in (found, expected))
        raise DataError(
            f"{archive}: {shown} pairs came out, expected {official} from the official archive of IWSLT14"
            " German-English; is this another release of it, or sacremoses of another version?"
        )
    try:
        with new_folder(folder) as temporary:
            for split, pairs in splits.items():
                for language, lines in zip(_LANGUAGES, zip(*pairs, strict=True), strict=True):
                    text = "".join(f"{line.lower()}\n" for line in lines)
                    (temporary / f"{split}.{language}").write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error}; make room there, or name another folder") from error


def _read_members(archive: Path) -> dict[str, list[str]]:
    """Return the lines of every file that is needed, by name."""
    wanted = {name for names in _MEMBERS.values() for name in names}
    found: dict[str, list[str]] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if tar.offset > _LIMIT_BYTES or member.size > _LIMIT_BYTES:
                    raise DataError(f"{archive}: more than {_LIMIT_BYTES:,} bytes unpacked; not the archive of IWSLT14")
                name = member.name.rpartition("/")[2]
                if member.isreg() and name in wanted:
                    file = tar.extractfile(member)
                    assert file is not None, member.name
                    found[name] = file.read().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{archive}: {member.name} is not UTF-8 ({error})") from error
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: not a readable tar archive ({error}); get it again") from error
    if missing := sorted(wanted - found.keys()):
        raise DataError(f"{archive}: not the archive of IWSLT14 German-English; it lacks {', '.join(missing)}")
    return found


def _paired(lines: dict[str, list[str]]) -> _Pairs:
    source, target = (lines[language] for language in _LANGUAGES)
    if len(source) != len(target):
        raise DataError(
            f"the archive's German has {len(source):,} lines, its English {len(target):,}; it is damaged, get it again"
        )
    return list(zip(source, target, strict=True))


def _tokenizer(language: str) -> Callable[[str], str]:
    """Return a function that splits a line into tokens with one space between them, XML characters escaped.

    >>> _tokenizer("de")("Häuser, Bäume usw.")
    'Häuser , Bäume usw .'
    """
    moses = require("sacremoses", "translation").MosesTokenizer(language)
    return lambda line: _LAST_STOP.sub(r"\1 .", moses.tokenize(line, return_str=True, escape=True))


def _clean(pairs: Iterable[tuple[str, str]]) -> _Pairs:
    """Keep pairs of tokenised lines of similar lengths, as Moses' clean-corpus-n.perl does with the recipe's limits.

    Both lines have 1 to 175 tokens, neither more than 1.5 times as many as the other, and no word is longer than 1,000
    characters. The order is kept, with single spaces between tokens.
    """
    kept = []
    for pair in pairs:
        left, right = (" ".join(line.split()) for line in pair)
        shorter, longer = sorted((len(left.split()), len(right.split())))
        fits = shorter >= 1 and longer <= min(_LONGEST_LINE, _LENGTH_RATIO * shorter)
        if fits and max(map(len, f"{left} {right}".split())) <= _LONGEST_WORD:
            kept.append((left, right))
    return kept
