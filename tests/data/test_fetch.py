"""Downloads from a server on this machine: checked, repeated, moved into place complete, and errors that help."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from epsgrid.data._fetch import Fetcher, Remote
from epsgrid.errors import DataError
from tests.data.server import Answer, serving

BODY = b"some text\n" * 20_000
MD5 = {"one.txt": hashlib.md5(BODY).hexdigest(), "two.txt": hashlib.md5(b"2").hexdigest(), "three.tgz": None}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def get(folder: Path, url: str, *names: str) -> tuple[bool, list[str], list[tuple[str, int, int]]]:
    said: list[str] = []
    told: list[tuple[str, int, int]] = []
    fetcher = Fetcher(said.append, lambda *progress: told.append(progress), retries=2)
    return fetcher.get({folder / name: Remote(f"{url}/{name}", MD5[name]) for name in names}), said, told


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_files_are_fetched_checked_and_reported(tmp_path: Path) -> None:
    with serving({"one.txt": [Answer(BODY)], "two.txt": [Answer(b"2")]}) as served:
        fetched, said, told = get(tmp_path / "data", served.url, "one.txt", "two.txt")
    assert fetched
    assert (tmp_path / "data" / "one.txt").read_bytes() == BODY
    assert names(tmp_path) == ["one.txt", "two.txt"]
    assert said == [f"fetching {served.url}/one.txt", f"fetching {served.url}/two.txt"]
    steps = [65_536, 131_072, 196_608, len(BODY)]
    assert told == [*(("one.txt", done, len(BODY)) for done in steps), ("two.txt", 1, 1)]


def test_files_in_place_are_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(BODY)
    with serving({"two.txt": [Answer(b"2")]}) as served:
        assert get(tmp_path, served.url, "one.txt", "two.txt")[0]
        assert get(tmp_path, served.url, "one.txt", "two.txt") == (False, [], [])
    assert served.asked == ["two.txt"]


def test_another_file_in_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_bytes(b"my own")
    words = r"two\.txt: not the published file: MD5 \w+, expected \w+; move it away, then"
    with serving({"one.txt": [Answer(BODY)]}) as served, pytest.raises(DataError, match=words):
        get(tmp_path, served.url, "one.txt", "two.txt")
    assert served.asked == []
    assert (tmp_path / "two.txt").read_bytes() == b"my own"


BROKEN = {
    "503": (Answer(b"<html>", status=503), "503 Server Error: Service Unavailable"),
    "404": (Answer(status=404), "404 Client Error: Not Found"),
    "cut off": (Answer(BODY[:1000], announced=len(BODY)), "Connection broken: IncompleteRead"),
    "altered": (Answer(b"altered"), "hash of downloaded file .* does not match the known hash"),
}


@pytest.mark.parametrize(("answer", "words"), BROKEN.values(), ids=list(BROKEN))
def test_a_failed_fetch_leaves_no_file_and_says_what_to_do(tmp_path: Path, answer: Answer, words: str) -> None:
    place = tmp_path / "made" / "for it" / "one.txt"
    with (
        serving({"one.txt": [answer]}) as served,
        pytest.raises(DataError, match=rf"http://127\.0\.0\.1:\d+/one\.txt: .*{words}") as caught,
    ):
        get(place.parent, served.url, "one.txt")
    assert served.asked == ["one.txt"] * 3
    assert names(tmp_path) == []
    with serving({"one.txt": [answer, Answer(BODY)]}) as served:
        fetched, said, _ = get(place.parent, served.url, "one.txt")
    assert (fetched, said) == (True, [f"fetching {served.url}/one.txt"] * 2), "a broken transfer is repeated"
    assert names(tmp_path) == ["one.txt"]
    assert "get what is missing elsewhere, put it here, and run the command again" in str(caught.value)
    assert f"/one.txt -> {place} (MD5 {MD5['one.txt']})" in str(caught.value)


def test_without_a_network_all_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(BODY)
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(DataError, match=r"no connection, is this machine offline\? \(.*[Rr]efused") as caught:
            get(tmp_path, url, "one.txt", "two.txt", "three.tgz")
    assert str(caught.value).splitlines()[2:] == [
        f"  {url}/two.txt -> {tmp_path / 'two.txt'} (MD5 {MD5['two.txt']})",
        f"  {url}/three.tgz -> {tmp_path / 'three.tgz'} (no checksum is published)",
    ]
    assert names(tmp_path) == ["one.txt"]


def test_a_wrong_address_and_a_folder_that_cannot_be_written_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere:/one\.txt: No connection adapters"):
        get(tmp_path, "nowhere:", "one.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write into .*file: .*; make room there, or name another folder with"):
        get(tmp_path / "file", "http://127.0.0.1:9", "one.txt")
