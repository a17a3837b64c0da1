"""Every data set of the catalogue, small, from a server on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from epsgrid import tasks
from epsgrid.data import _iwslt14
from epsgrid.data._fetch import Fetcher, Remote
from epsgrid.errors import DataError, ExecutionError
from epsgrid.stages.data import check_data, fetch_data, list_data
from epsgrid.tasks import cifar10, ptb
from tests.data.folders import write_batches, write_folder
from tests.data.server import Answer, serving
from tests.data.test_iwslt14 import members, pack

needs_sacremoses = pytest.mark.skipif(not importlib.util.find_spec("sacremoses"), reason="sacremoses not installed")

TEXTS = {
    "train": " the cat sat \n the dog <unk> N \n",
    "validation": " the dog sat \n",
    "test": " the cat \n N cat \n",
}
NAMES = {"train": "ptb.train.txt", "validation": "ptb.valid.txt", "test": "ptb.test.txt"}
TEXT = {NAMES[split]: [Answer(text.encode())] for split, text in TEXTS.items()}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of the test's own, and no waiting between two tries."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("EPSGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EPSGRID_DATA", raising=False)


def prepared(name: str) -> Any:
    plugin = tasks.load(name)
    return plugin.prepare(plugin.Options(name=name))


def problems(name: str, folder: Path | None = None) -> list[str | None]:
    return [finding.problem for finding in check_data(name, folder)[1]]


@pytest.fixture
def small_ptb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take TEXTS for the published files."""
    originals = {
        split: ptb._Original(NAMES[split], text.count("\n"), hashlib.md5(text.encode()).hexdigest())
        for split, text in TEXTS.items()
    }
    monkeypatch.setattr(ptb, "_FILES", originals)


def places() -> dict[str, Path | None]:
    return {data.name: place for data, place in list_data()}


@dataclass(frozen=True)
class Local(Fetcher):
    """Asks one server for every file, whatever its address."""

    url: str = ""

    def get(self, wanted: Mapping[Path, Remote]) -> bool:
        return super().get({place: Remote(f"{self.url}/{each.name}", each.md5) for place, each in wanted.items()})


def fetch(name: str, url: str, folder: Path | None = None, log: Any = lambda line: None) -> tuple[Path, bool]:
    return fetch_data(name, folder, Local(log, retries=0, url=url))


def test_ptb_is_fetched_once_and_goes_on_with_what_is_missing(tmp_path: Path, small_ptb: None) -> None:
    assert places() == {"cifar10": None, "iwslt14": None, "ptb": None}
    with pytest.raises(DataError, match=r"ptb is not in .*cache/data; `epsgrid data fetch ptb` gets it \(6 MB\)"):
        check_data("ptb", None)
    said: list[str] = []
    with (
        serving({name: answer for name, answer in TEXT.items() if "test" not in name}) as served,
        pytest.raises(DataError, match=r"ptb\.test\.txt: 404"),
    ):
        fetch("ptb", served.url, log=said.append)
    assert "Licence: Linguistic Data Consortium's" in said[0]
    assert problems("ptb") == [None, None, "missing"]
    with serving(TEXT) as served:
        first, second = (fetch("ptb", served.url) for _ in range(2))
    place = tmp_path / "cache" / "data" / "ptb"
    assert (first, second, places()["ptb"]) == ((place, True), (place, False), place)
    with serving(TEXT) as elsewhere:
        assert fetch("ptb", elsewhere.url, tmp_path / "own") == (tmp_path / "own" / "ptb", True)
    assert places()["ptb"] == place, "tasks do not look there"
    assert problems("ptb", tmp_path / "own") == [None] * 3
    assert served.asked == ["ptb.test.txt"]
    assert prepared("ptb").description.startswith("Penn Treebank: 9 training")
    for split in TEXTS:
        path = place / NAMES[split]
        path.write_text(path.read_text().replace("dog", "cow"))
    assert ["MD5" in (problem or "") for problem in problems("ptb")] == [True, True, False]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """CIFAR-10's archive with two images a file, and the checksums that it would have."""
    folder = tmp_path / "made" / "cifar-10-batches-py"
    sums = write_batches(folder)
    with tarfile.open(tmp_path / "made" / "archive", "w:gz") as tar:
        tar.add(folder, folder.name)
    content = (tmp_path / "made" / "archive").read_bytes()
    monkeypatch.setattr(cifar10, "_BATCHES", sums)
    monkeypatch.setattr(cifar10, "ARCHIVE", Remote(cifar10.ARCHIVE.url, hashlib.md5(content).hexdigest()))
    return content


def test_cifar10_is_fetched_and_unpacked_or_taken_from_an_archive_put_there_by_hand(
    tmp_path: Path, archive: bytes
) -> None:
    with serving({"cifar-10-python.tar.gz": [Answer(archive)]}) as served:
        (place, first), (_, second) = (fetch("cifar10", served.url) for _ in range(2))
    assert (first, second, served.asked) == (True, False, ["cifar-10-python.tar.gz"])
    assert [path.name for path in (tmp_path / "cache" / "data").iterdir()] == ["cifar-10-batches-py"]
    (place / "data_batch_2").write_bytes(b"")
    with pytest.raises(
        DataError,
        match=r"(?s)cifar-10-batches-py is damaged; move it away.*command again\n  data_batch_2: not the publ",
    ):
        fetch("cifar10", served.url)
    shutil.rmtree(place)
    (place.parent / "cifar-10-python.tar.gz").write_bytes(archive)
    assert fetch("cifar10", "http://127.0.0.1:9")[1]
    assert sorted(path.name for path in place.parent.iterdir()) == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


def test_an_image_folder_is_counted_and_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "cache" / "data" / "cifar10-images")
    monkeypatch.setattr(cifar10, "_SIZES", (20, 10))
    assert problems("cifar10") == [None, None]
    (folder / "test" / "cat" / "0.png").write_bytes(b"no image")
    (folder / "train" / "dog" / "1.png").unlink()
    train, test = problems("cifar10")
    assert train == "every class has 2 images, but dog has 1"
    assert "0.png: not a readable image" in (test or "")


@needs_sacremoses
def test_iwslt14_is_fetched_and_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_iwslt14, "COUNTS", (50, 2, 10))
    archive = pack(tmp_path / "small.tgz", members()).read_bytes()
    said: list[str] = []
    with serving({"de-en.tgz": [Answer(archive)]}) as served:
        (place, first), (_, second) = (fetch("iwslt14", served.url, log=said.append) for _ in range(2))
    assert (first, second, served.asked) == (True, False, ["de-en.tgz"])
    assert any(line.startswith("reading and tokenising") for line in said)
    assert [path.name for path in (tmp_path / "cache" / "data").iterdir()] == ["iwslt14-de-en"]
    (place / "valid.en").write_text("one\n\n")
    (place / "test.de").write_text("one\n")
    (place / "train.en").unlink()
    assert {each.what: each.problem for each in check_data("iwslt14", None)[1] if each.problem} == {
        "train.en": "cannot be read (No such file or directory)",
        "valid.en": "line 2 is empty",
        "test.de": "1 lines, expected 10",
    }


def test_the_package_that_prepares_it_is_needed_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with serving({}) as served, pytest.raises(ExecutionError, match=r"pip install 'epsgrid\[translation\]'"):
        fetch("iwslt14", served.url)
    assert served.asked == []


@needs_sacremoses
def test_an_archive_that_is_another_is_kept(tmp_path: Path) -> None:
    other = pack(tmp_path / "other.tgz", members()).read_bytes()
    with serving({"de-en.tgz": [Answer(other)]}) as served, pytest.raises(DataError, match=r"(?s)pairs came out.*kept"):
        fetch("iwslt14", served.url)
