from __future__ import annotations

import hashlib
import importlib.util
import socket
from pathlib import Path

import pytest

from epsgrid import plugins
from epsgrid.data import _catalogue, cifar10
from epsgrid.data._fetch import Fetcher, Remote, md5_problem
from epsgrid.data._torchvision import import_torchvision
from epsgrid.errors import DataError, UnknownNameError
from tests.data.server import Answer, serving

BODY = b"some text\n" * 20_000
ONE = Remote("https://example.org/a/one.txt", hashlib.md5(BODY).hexdigest())
TWO = Remote("https://example.org/b/two.txt", hashlib.md5(b"2").hexdigest())


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def get(
    folder: Path, url: str, *remotes: Remote, retries: int = 2
) -> tuple[bool, list[str], list[tuple[str, int, int]]]:
    said: list[str] = []
    told: list[tuple[str, int, int]] = []
    fetcher = Fetcher(said.append, lambda *progress: told.append(progress), retries, url)
    return fetcher.get({folder / remote.name: remote for remote in remotes}), said, told


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_files_are_fetched_checked_and_told(tmp_path: Path) -> None:
    with serving({"one.txt": [Answer(BODY)], "two.txt": [Answer(b"2")]}) as served:
        fetched, said, told = get(tmp_path / "data", served.url, ONE, TWO)
    assert fetched
    assert (tmp_path / "data" / "one.txt").read_bytes() == BODY
    assert names(tmp_path / "data") == ["one.txt", "two.txt"]
    assert said == [f"fetching {served.url}/one.txt", f"fetching {served.url}/two.txt"]
    assert told[0] == ("one.txt", 65_536, len(BODY))
    assert told[-1] == ("two.txt", 1, 1)
    counts = [done for name, done, of in told if name == "one.txt"]
    assert counts == sorted(counts)
    assert counts[-1] == len(BODY)


def test_what_is_in_place_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(BODY)
    with serving({"two.txt": [Answer(b"2")]}) as served:
        assert get(tmp_path, served.url, ONE, TWO)[0]
        assert get(tmp_path, served.url, ONE, TWO) == (False, [], [])
    assert served.asked == ["two.txt"]


def test_another_file_in_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_bytes(b"my own")
    with (
        serving({"one.txt": [Answer(BODY)]}) as served,
        pytest.raises(DataError, match=r"two\.txt: not the published file: MD5 \w+, expected \w+; move it away, then"),
    ):
        get(tmp_path, served.url, ONE, TWO)
    assert served.asked == []
    assert (tmp_path / "two.txt").read_bytes() == b"my own"


@pytest.mark.parametrize(
    "broken",
    [Answer(BODY[:1000], announced=len(BODY)), Answer(b"<html>", status=503), Answer(b"altered"), Answer(status=429)],
)
def test_a_broken_transfer_is_tried_again(tmp_path: Path, broken: Answer) -> None:
    with serving({"one.txt": [broken, Answer(BODY)]}) as served:
        fetched, said, _ = get(tmp_path, served.url, ONE)
    assert fetched
    assert names(tmp_path) == ["one.txt"]
    assert said[1:] == ["that failed; attempt 2 of 3"]


@pytest.mark.parametrize(
    ("answer", "attempts", "words"),
    [
        (Answer(status=404), 1, "the server answers 404 Not Found"),
        (Answer(status=503), 3, "the server answers 503 Service Unavailable"),
        (Answer(BODY[:1000], announced=len(BODY)), 3, "the transfer broke off before the end of the file"),
        (
            Answer(b"altered"),
            3,
            "what came is not the published file, by its checksum: altered on its way, or replaced",
        ),
    ],
)
def test_a_failed_fetch_leaves_nothing_and_says_what_to_do(
    tmp_path: Path, answer: Answer, attempts: int, words: str
) -> None:
    with (
        serving({"one.txt": [answer]}) as served,
        pytest.raises(DataError, match=rf"http://127\.0\.0\.1:\d+/one\.txt: {words}") as caught,
    ):
        get(tmp_path / "made" / "for it", served.url, ONE)
    assert served.asked == ["one.txt"] * attempts
    assert names(tmp_path) == [], "not even the folders that were made for it"
    assert "get what is missing elsewhere, put it here, and run the same command again" in str(caught.value)
    place = tmp_path / "made" / "for it" / "one.txt"
    assert f"{served.url}/one.txt -> {place} (MD5 {ONE.md5})" in str(caught.value)


def test_without_a_network_all_that_is_missing_is_named(tmp_path: Path) -> None:
    with serving({"one.txt": [Answer(BODY)]}) as served:
        get(tmp_path, served.url, ONE)
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        unchecked = Remote("https://example.org/three.tgz", None)
        with pytest.raises(DataError, match=r"no connection \(.*[Rr]efused.*\); is this machine offline\?") as caught:
            get(tmp_path, url, ONE, TWO, unchecked)
    assert str(caught.value).splitlines()[2:] == [
        f"  {url}/two.txt -> {tmp_path / 'two.txt'} (MD5 {TWO.md5})",
        f"  {url}/three.tgz -> {tmp_path / 'three.tgz'} (no checksum is published)",
    ]
    assert names(tmp_path) == ["one.txt"]


def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere:/one\.txt: No connection adapters"):
        get(tmp_path, "nowhere:", ONE)


def test_a_file_without_checksum_is_taken_as_it_comes(tmp_path: Path) -> None:
    with serving({"one.txt": [Answer(b"any")]}) as served:
        get(tmp_path, served.url, Remote("https://example.org/one.txt", None))
    assert (tmp_path / "one.txt").read_bytes() == b"any"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write into .*file: .*; make room there, or name another folder with"):
        get(tmp_path / "file", "http://127.0.0.1:9", ONE)


def test_an_interrupted_fetch_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(name: str, done: int, of: int) -> None:
        raise KeyboardInterrupt

    with serving({"one.txt": [Answer(BODY)]}) as served, pytest.raises(KeyboardInterrupt):
        Fetcher(on_bytes=interrupt, base_url=served.url).get({tmp_path / "one.txt": ONE})
    assert names(tmp_path) == []


def test_our_own_mistakes_are_not_taken_for_the_networks(tmp_path: Path) -> None:
    def mistaken(name: str, done: int, of: int) -> None:
        raise TypeError("a mistake")

    with serving({"one.txt": [Answer(BODY)]}) as served, pytest.raises(TypeError, match="a mistake"):
        Fetcher(on_bytes=mistaken, base_url=served.url).get({tmp_path / "one.txt": ONE})


def test_problems_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_bytes(b"2")
    assert md5_problem(tmp_path / "two.txt", TWO.md5) is None
    assert md5_problem(tmp_path / "two.txt", None) is None
    assert md5_problem(tmp_path / "one.txt", ONE.md5) == "missing"
    assert md5_problem(tmp_path, ONE.md5) == "cannot be read (Is a directory)"


def test_the_catalogue_names_tasks_and_addresses_that_are() -> None:
    tasks = [task for data in _catalogue.CATALOGUE for task in data.tasks]
    assert set(tasks) <= set(plugins.names("tasks"))
    assert [data.name for data in _catalogue.CATALOGUE] == sorted(data.name for data in _catalogue.CATALOGUE)
    for data in _catalogue.CATALOGUE:
        assert all(file.url.startswith("https://") for file in data.files)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ptp", r"unknown data set 'ptp'; did you mean 'ptb'\? \(one of: cifar10, iwslt14, ptb\)"),
        ("translation", "unknown data set 'translation'; the task translation uses 'iwslt14'"),
        ("digits", "the task digits needs no data set to be fetched; those are: cifar10, iwslt14, ptb"),
    ],
)
def test_an_unknown_data_set_is_told(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        _catalogue.named(name)


@pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision not installed")
def test_cifar10_is_what_torchvision_says() -> None:
    dataset = import_torchvision().datasets.CIFAR10
    assert Remote(dataset.url, dataset.tgz_md5) == cifar10.ARCHIVE
    assert cifar10.ARCHIVE.name == dataset.filename
    theirs = dict([*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])])
    assert theirs == cifar10.BATCHES
