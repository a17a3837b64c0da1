"""Every data set of the catalogue, small, from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from epsgrid import plugins
from epsgrid.data import _iwslt14
from epsgrid.data._fetch import Fetcher, Remote
from epsgrid.errors import DataError, ExecutionError, UnknownNameError
from epsgrid.stages.data import CATALOGUE, check_data, fetch_data, list_data
from epsgrid.tasks import cifar10, ptb
from tests.data.folders import write_batches, write_folder
from tests.data.server import Answer, Served, serving
from tests.data.test_iwslt14 import members, pack
from tests.tasks.test_ptb import NAMES, ORIGINALS, TEXTS

ANSWERS = {NAMES[split]: [Answer(text.encode())] for split, text in TEXTS.items()}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the data sets in a cache of the test's own."""
    monkeypatch.setenv("EPSGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EPSGRID_DATA", raising=False)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "data"


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Take TEXTS for the published files of Penn Treebank, and this machine for their mirror."""
    monkeypatch.setattr(ptb, "FILES", ORIGINALS)
    with serving(ANSWERS) as served:
        monkeypatch.setattr(ptb, "MIRROR", served.url)
        yield served


def places() -> dict[str, Path | None]:
    return {found.data.name: found.place for found in list_data()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_here_at_first(data: Path) -> None:
    assert places() == {"cifar10": None, "iwslt14": None, "ptb": None}
    words = r"ptb is not in .*cache/data; `epsgrid data fetch ptb` gets it \(6 MB\), --dir"
    with pytest.raises(DataError, match=words):
        check_data("ptb", None)
    assert not data.parent.exists()


def test_ptb_is_fetched_once_and_found(data: Path, mirror: Served) -> None:
    said: list[str] = []
    first = fetch_data("ptb", None, Fetcher(said.append))
    assert (first.fetched_now, first.looked_for) == (True, True)
    assert not fetch_data("ptb", None, Fetcher()).fetched_now
    assert first.place == data / "ptb" == places()["ptb"]
    assert sorted(mirror.asked) == sorted(NAMES.values())
    assert "Licence: Linguistic Data Consortium's" in said[0]
    assert ptb.prepare(ptb.Options(name="ptb")).description.startswith("Penn Treebank: 9 training")


def test_an_interrupted_fetch_of_ptb_continues_with_what_is_missing(
    mirror: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving({name: answer for name, answer in ANSWERS.items() if "test" not in name}) as served:
        monkeypatch.setattr(ptb, "MIRROR", served.url)
        with pytest.raises(DataError, match=r"ptb\.test\.txt: 404 Client Error"):
            fetch_data("ptb", None, Fetcher())
    checked = check_data("ptb", None)
    assert [finding.problem for finding in checked.findings] == [None, None, "missing"]
    assert not checked.whole
    monkeypatch.setattr(ptb, "MIRROR", mirror.url)
    assert fetch_data("ptb", None, Fetcher()).fetched_now
    assert mirror.asked == ["ptb.test.txt"]


def test_another_folder_is_used_and_reported_as_not_looked_in(tmp_path: Path, mirror: Served) -> None:
    fetched = fetch_data("ptb", tmp_path / "own", Fetcher())
    assert fetched.place == tmp_path / "own" / "ptb"
    assert not fetched.looked_for
    assert places()["ptb"] is None
    assert check_data("ptb", tmp_path / "own").whole


def test_a_damaged_text_is_found(data: Path, mirror: Served) -> None:
    (data / "ptb").mkdir(parents=True)
    for split, text in TEXTS.items():
        (data / "ptb" / NAMES[split]).write_text(text.replace("dog", "cow"))
    problems = [finding.problem for finding in check_data("ptb", None).findings]
    assert ["wrong checksum" in (problem or "") for problem in problems] == [True, True, False]


def test_cifar10_is_fetched_and_unpacked_or_taken_from_an_archive_put_there(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = write_batches(tmp_path / "cifar-10-batches-py")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    content = packed.getvalue()
    monkeypatch.setattr(cifar10, "BATCHES", sums)
    with serving({"cifar.tgz": [Answer(content)]}) as served:
        monkeypatch.setattr(cifar10, "ARCHIVE", Remote(f"{served.url}/cifar.tgz", hashlib.md5(content).hexdigest()))
        first = fetch_data("cifar10", None, Fetcher())
        assert (first.fetched_now, fetch_data("cifar10", None, Fetcher()).fetched_now) == (True, False)
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "cifar.tgz").write_bytes(content)
        assert fetch_data("cifar10", tmp_path / "own", Fetcher()).fetched_now
        assert served.asked == ["cifar.tgz"]
    assert names(data) == ["cifar-10-batches-py"]
    assert names(tmp_path / "own") == ["cifar-10-batches-py", "cifar.tgz"]
    (first.place / "data_batch_2").write_bytes(b"")
    assert [finding.what for finding in check_data("cifar10", None).findings if finding.problem] == ["data_batch_2"]
    words = r"(?s)cifar-10-batches-py is damaged; move it away.*data_batch_2: not the publ"
    with pytest.raises(DataError, match=words):
        fetch_data("cifar10", None, Fetcher())


def test_an_image_folder_is_counted_and_decoded(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(data / "cifar10-images")
    monkeypatch.setattr(cifar10, "SIZES", (20, 10))
    assert check_data("cifar10", None).whole
    (folder / "test" / "cat" / "0.png").write_bytes(b"no image")
    (folder / "train" / "dog" / "1.png").unlink()
    train, test = (finding.problem or "" for finding in check_data("cifar10", None).findings)
    assert train == "every class has 2 images, but dog has 1"
    assert "0.png: not a readable image" in test


def test_iwslt14_is_fetched_and_prepared(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pack(tmp_path / "small.tgz", members()).read_bytes()
    said: list[str] = []
    with serving({"de-en.tgz": [Answer(content)]}) as served:
        monkeypatch.setattr(_iwslt14, "ARCHIVE", Remote(f"{served.url}/de-en.tgz", None))
        words = r"(?s)pairs came out, expected 160,239 .*de-en\.tgz is kept; remove it to have it"
        with pytest.raises(DataError, match=words):
            fetch_data("iwslt14", tmp_path / "other", Fetcher())
        assert names(tmp_path / "other") == ["de-en.tgz"]
        monkeypatch.setattr(_iwslt14, "COUNTS", (50, 2, 10))
        first = fetch_data("iwslt14", None, Fetcher(said.append))
        assert (first.fetched_now, fetch_data("iwslt14", None, Fetcher()).fetched_now) == (True, False)
        assert served.asked == ["de-en.tgz"] * 2
    digest = hashlib.sha256(content).hexdigest()
    assert f"no checksum of the archive is published; what comes out is counted. Its SHA-256: {digest}" in said
    assert names(data) == ["iwslt14-de-en"]
    (first.place / "valid.en").write_text("one\n\n")
    (first.place / "test.de").write_text("one\n")
    (first.place / "train.en").unlink()
    problems = {each.what: each.problem for each in check_data("iwslt14", None).findings if each.problem}
    assert problems == {
        "train.en": "cannot be read (No such file or directory)",
        "valid.en: 2 lines": "line 2 is empty",
        "test.de": "1 lines, expected 10",
    }


def test_the_packages_needed_are_checked_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with serving({}) as served, pytest.raises(ExecutionError, match=r"pip install 'epsgrid\[translation\]'"):
        monkeypatch.setattr(_iwslt14, "ARCHIVE", Remote(f"{served.url}/de-en.tgz", None))
        fetch_data("iwslt14", None, Fetcher())
    assert served.asked == []


def test_the_catalogue_names_tasks_and_addresses_that_exist() -> None:
    assert {task for data in CATALOGUE for task in data.tasks} <= set(plugins.names("tasks"))
    assert [data.name for data in CATALOGUE] == sorted(data.name for data in CATALOGUE)
    assert all(file.url.startswith("https://") for data in CATALOGUE for file in data.files)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ptp", r"unknown data set 'ptp'; did you mean 'ptb'\? \(one of: cifar10, iwslt14, ptb\)"),
        ("translation", "unknown data set 'translation'; the task translation uses 'iwslt14'"),
        ("digits", "the task digits needs no data set to be fetched; those are: cifar10, iwslt14, ptb"),
    ],
)
def test_an_unknown_data_set_is_an_error(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        check_data(name, None)
