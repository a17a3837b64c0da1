"""The official archive of IWSLT14: an archive of the same layout, and what can be wrong with one."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from epsgrid.data import _iwslt14
from epsgrid.data._iwslt14 import _clean, _prepare_archive, _tokenizer
from epsgrid.errors import DataError

TESTS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
SMALL = (50, 2, 10)
"""Pairs that the small archive gives."""

GOOD = [(f"Das ist Satz Nummer {n}, usw.", f"This is sentence number {n}, U.S.") for n in range(50)]


def members(pairs: list[tuple[str, str]] = GOOD) -> dict[str, str]:
    """Return the files of a small archive by name: 50 good training pairs, two test sentences in each set."""
    files = {"de-en/README": "hello\n"}
    for side, language in enumerate(("de", "en")):
        head = [
            "<url>http://www.ted.com/talks/x</url>",
            "<keywords>talks, science</keywords>",
            "<talkid>1</talkid>",
            f"<title>{('Der Titel', 'The title')[side]}</title>",
            f"<description>{('TED Vortrag', 'TED talk')[side]}</description>",
        ]
        files[f"de-en/train.tags.de-en.{language}"] = "".join(
            f"{line}\n" for line in [*head, *(pair[side] for pair in pairs)]
        )
        for name in TESTS:
            segments = [
                f'<seg id="1"> {("Es ist’s", "It’s")[side]} {name} </seg>',
                f'<seg id="2">{("Gut!", "Good!")[side]}</seg>',
            ]
            body = "\n".join(['<?xml version="1.0"?>', "<mteval>", "<doc>", *segments, "</doc>", "</mteval>"])
            files[f"de-en/IWSLT14.{name}.de-en.{language}.xml"] = f"{body}\n"
    return files


def pack(path: Path, files: dict[str, str | bytes], link: str | None = None) -> Path:
    """Write an archive of files, and of a link to a file outside of it in front of them."""
    with tarfile.open(path, "w:gz") as tar:
        if link:
            outside = tarfile.TarInfo(link)
            outside.type, outside.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(outside)
        for name, text in files.items():
            content = text if isinstance(text, bytes) else text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def test_the_archive_becomes_a_folder_of_tokenised_pairs(tmp_path: Path) -> None:
    archive = pack(tmp_path / "de-en.tgz", members())
    _prepare_archive(archive, tmp_path / "out", SMALL)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{split}.{language}" for split in ("train", "valid", "test") for language in ("de", "en")
    )
    english = lines(tmp_path / "out" / "train.en")
    assert english[:3] == ["the title", "ted talk", "this is sentence number 0 , u.s ."]
    assert lines(tmp_path / "out" / "train.de")[2] == "das ist satz nummer 0 , usw ."
    # the titles are pairs 1 and 2: pair 23 is sentence 20, pair 46 sentence 43
    assert lines(tmp_path / "out" / "valid.en") == [f"this is sentence number {n} , u.s ." for n in (20, 43)]
    assert "this is sentence number 20 , u.s ." not in english
    test = lines(tmp_path / "out" / "test.en")
    assert test[:2] == ["it &apos;s ted.dev2010", "good !"]
    assert [line.split()[-1] for line in test[::2]] == [name.lower() for name in TESTS]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["de-en.tgz", "out"]


def test_nothing_in_an_archive_can_reach_outside(tmp_path: Path) -> None:
    archive = tmp_path / "a" / "b" / "de-en.tgz"
    archive.parent.mkdir(parents=True)
    pack(archive, {"../../evil": b"x", "/tmp/evil": b"x", **members()}, link="de-en/train.tags.de-en.de")
    _prepare_archive(archive, tmp_path / "a" / "out", SMALL)
    assert {path.name for path in tmp_path.rglob("*") if path.is_dir()} == {"a", "b", "out"}
    assert not list(tmp_path.rglob("*evil*"))


TRAIN, LAST = "de-en/train.tags.de-en", "de-en/IWSLT14.TED.tst2012.de-en.de.xml"
DAMAGES: dict[str, tuple[dict[str, str | bytes] | bytes | None, str]] = {
    "missing": (None, r"not a readable tar archive .*No such file"),
    "no archive": (b"<html>404</html>" * 100, r"(?s)not a readable tar archive .*; get it again"),
    "incomplete": ({LAST: b""}, r"it lacks IWSLT14\.TED\.tst2012\.de-en\.de\.xml"),
    "unequal": ({f"{TRAIN}.en": members()[f"{TRAIN}.en"] + "One more.\n"}, r"German has 52 lines, its English 53"),
    "latin-1": ({f"{TRAIN}.de": "Bäume\n".encode("latin-1")}, r"train\.tags\.de-en\.de is not UTF-8"),
    "other counts": (
        dict(members(GOOD[:4])),
        r"6 / 0 / 10 pairs came out, expected 160,239 / 7,283 / 6,750 .* IWSLT14",
    ),
}


@pytest.mark.parametrize("damage", [*DAMAGES, "truncated"])
def test_damaged_archives_are_errors_and_leave_nothing(tmp_path: Path, damage: str) -> None:
    archive = tmp_path / "de-en.tgz"
    changes, words = DAMAGES.get(damage, ({}, r"not a readable tar archive"))
    if isinstance(changes, bytes):
        archive.write_bytes(changes)
    elif changes is not None:
        pack(archive, {name: text for name, text in (members() | changes).items() if text})
    if damage == "truncated":
        archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match=words):
        _prepare_archive(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path != archive] == []


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_iwslt14, "_LIMIT_BYTES", 1_000_000)
    archive = pack(tmp_path / "bomb.tgz", members() | {"de-en/zeros": b"\0" * 10_000_000})
    with pytest.raises(DataError, match=r"more than 1,000,000 bytes unpacked"):
        _prepare_archive(archive, tmp_path / "out", SMALL)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*file/out"):
        _prepare_archive(pack(tmp_path / "de-en.tgz", members()), tmp_path / "file" / "out", SMALL)


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("He's here, isn't he?", "He &apos;s here , isn &apos;t he ?"),
        ("I saw Mr. Smith at 5 p.m.", "I saw Mr. Smith at 5 p.m ."),
        ("Wait...", "Wait ..."),
        ("a & b [c] | <d>", "a &amp; b &#91; c &#93; &#124; &lt; d &gt;"),
        (".", "."),
        ("  ", ""),
    ],
)
def test_lines_are_tokenised_as_by_moses(line: str, tokens: str) -> None:
    assert _tokenizer("en")(line) == tokens


def test_cleaning_keeps_what_fits() -> None:
    kept = [("a b", "a  b c "), ("a", "b"), ("a b c d", "a b c d e f")]
    dropped = [("a b", "a b c d"), ("", "b"), ("a " * 176, "b " * 176), ("x" * 1001, "b")]
    assert _clean([*kept, *dropped]) == [("a b", "a b c"), *kept[1:]]
