"""Every data set of the catalogue, small, from a server on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import tarfile
from pathlib import Path
from typing import Any

import pytest

from epsgrid.data import _iwslt14, cifar10, ptb
from epsgrid.data._fetch import Fetcher, Remote
from epsgrid.data._torchvision import import_torchvision
from epsgrid.errors import DataError, ExecutionError
from epsgrid.stages.data import Fetched, check_data, fetch_data, list_data
from tests.data.folders import write_batches, write_folder
from tests.data.server import Answer, serving
from tests.data.test_iwslt14 import members, pack
from tests.data.test_ptb import NAMES, TEXTS

needs_torchvision = pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision not installed")
needs_sacremoses = pytest.mark.skipif(not importlib.util.find_spec("sacremoses"), reason="sacremoses not installed")

TEXT = {NAMES[split]: [Answer(text.encode())] for split, text in TEXTS.items()}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"EPSGRID_CACHE": str(tmp_path / "cache")}


@pytest.fixture
def small_ptb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take TEXTS for the published files."""
    originals = {
        split: ptb.Original(NAMES[split], text.count("\n"), hashlib.md5(text.encode()).hexdigest())
        for split, text in TEXTS.items()
    }
    monkeypatch.setattr(ptb, "FILES", originals)
    monkeypatch.setattr(ptb, "VOCABULARY", 7)


def places(environment: dict[str, str]) -> dict[str, Path | None]:
    return {data.name: place for data, place in list_data(environment)}


def test_nothing_is_here_at_first(tmp_path: Path, environment: dict[str, str]) -> None:
    assert places(environment) == {"cifar10": None, "iwslt14": None, "ptb": None}
    with pytest.raises(
        DataError, match=r"ptb is not in .*cache/data; `epsgrid data fetch ptb` gets it \(6 MB\), --dir"
    ):
        check_data("ptb", None, environment)
    assert not (tmp_path / "cache").exists()


def fetch(name: str, url: str, environment: dict[str, str], folder: Path | None = None, log: Any = None) -> Fetched:
    return fetch_data(name, folder, Fetcher(*([log] if log else []), base_url=url), environment)


def test_ptb_is_fetched_once_and_goes_on_with_what_is_missing(
    tmp_path: Path, environment: dict[str, str], small_ptb: None
) -> None:
    said: list[str] = []
    with (
        serving({name: answer for name, answer in TEXT.items() if "test" not in name}) as served,
        pytest.raises(DataError, match=r"ptb\.test\.txt: the server answers 404"),
    ):
        fetch("ptb", served.url, environment, log=said.append)
    assert "Licence: Linguistic Data Consortium's" in said[0]
    checked = check_data("ptb", None, environment)
    assert [finding.problem for finding in checked.findings] == [None, None, "missing"]
    assert not checked.whole
    with serving(TEXT) as served:
        first, second = (fetch("ptb", served.url, environment) for _ in range(2))
    assert (first.fetched_now, second.fetched_now, first.looked_for) == (True, False, True)
    assert first.place == tmp_path / "cache" / "data" / "ptb" == places(environment)["ptb"]
    assert served.asked == ["ptb.test.txt"]
    assert ptb.load(environment=environment).description.startswith("Penn Treebank: 9 training")
    for split in TEXTS:
        path = first.place / NAMES[split]
        path.write_text(path.read_text().replace("dog", "cow"))
    problems = [finding.problem for finding in check_data("ptb", None, environment).findings]
    assert ["wrong checksum" in (problem or "") for problem in problems] == [True, True, False]


def test_tasks_do_not_look_in_another_folder(tmp_path: Path, environment: dict[str, str], small_ptb: None) -> None:
    with serving(TEXT) as served:
        fetched = fetch("ptb", served.url, environment, tmp_path / "own")
    assert (fetched.place, fetched.looked_for) == (tmp_path / "own" / "ptb", False)
    assert places(environment)["ptb"] is None
    assert check_data("ptb", tmp_path / "own", environment).whole


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """CIFAR-10's archive with two images a file, and the checksums that it would have."""
    folder = tmp_path / "made" / "cifar-10-batches-py"
    sums = write_batches(folder)
    with tarfile.open(tmp_path / "made" / "archive", "w:gz") as tar:
        tar.add(folder, folder.name)
    content = (tmp_path / "made" / "archive").read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    dataset = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(dataset, "train_list", [[f"data_batch_{k}", sums[f"data_batch_{k}"]] for k in range(1, 6)])
    monkeypatch.setattr(dataset, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": sums["batches.meta"]})
    monkeypatch.setattr(dataset, "tgz_md5", md5)
    monkeypatch.setattr(dataset, "url", "http://127.0.0.1:9/not-asked")
    monkeypatch.setattr(cifar10, "BATCHES", sums)
    monkeypatch.setattr(cifar10, "ARCHIVE", Remote(cifar10.ARCHIVE.url, md5))
    return content


@needs_torchvision
def test_cifar10_is_fetched_and_unpacked(tmp_path: Path, environment: dict[str, str], archive: bytes) -> None:
    with serving({"cifar-10-python.tar.gz": [Answer(archive)]}) as served:
        first = fetch("cifar10", served.url, environment)
        second = fetch("cifar10", served.url, environment)
    assert (first.fetched_now, second.fetched_now) == (True, False)
    assert served.asked == ["cifar-10-python.tar.gz"]
    assert [path.name for path in (tmp_path / "cache" / "data").iterdir()] == ["cifar-10-batches-py"]
    assert len(cifar10.load(environment=environment).train) == 10
    (first.place / "data_batch_2").write_bytes(b"")
    problems = [finding.what for finding in check_data("cifar10", None, environment).findings if finding.problem]
    assert problems == ["data_batch_2"]
    with pytest.raises(
        DataError, match=r"(?s)cifar-10-batches-py is damaged; move it away.*data_batch_2: not the publ"
    ):
        fetch("cifar10", served.url, environment)


@needs_torchvision
def test_an_archive_put_there_by_hand_is_used_and_kept(
    tmp_path: Path, environment: dict[str, str], archive: bytes
) -> None:
    folder = tmp_path / "cache" / "data"
    folder.mkdir(parents=True)
    (folder / "cifar-10-python.tar.gz").write_bytes(archive)
    assert fetch("cifar10", "http://127.0.0.1:9", environment).fetched_now
    assert sorted(path.name for path in folder.iterdir()) == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


def test_an_image_folder_is_counted_and_decoded(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "cache" / "data" / "cifar10-images")
    monkeypatch.setattr(cifar10, "SIZES", (20, 10))
    assert check_data("cifar10", None, environment).whole
    (folder / "test" / "cat" / "0.png").write_bytes(b"no image")
    (folder / "train" / "dog" / "1.png").unlink()
    train, test = (finding.problem or "" for finding in check_data("cifar10", None, environment).findings)
    assert train == "every class has 2 images, but dog has 1"
    assert "0.png: not a readable image" in test


@pytest.fixture
def small_iwslt14(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(_iwslt14, "COUNTS", (50, 2, 10))
    return pack(tmp_path / "small.tgz", members()).read_bytes()


@needs_sacremoses
def test_iwslt14_is_fetched_and_prepared(tmp_path: Path, environment: dict[str, str], small_iwslt14: bytes) -> None:
    said: list[str] = []
    with serving({"de-en.tgz": [Answer(small_iwslt14)]}) as served:
        first = fetch("iwslt14", served.url, environment, log=said.append)
        second = fetch("iwslt14", served.url, environment)
    assert (first.fetched_now, second.fetched_now) == (True, False)
    assert served.asked == ["de-en.tgz"]
    digest = hashlib.sha256(small_iwslt14).hexdigest()
    assert f"no checksum of the archive is published; what comes out is counted. Its SHA-256: {digest}" in said
    assert [path.name for path in (tmp_path / "cache" / "data").iterdir()] == ["iwslt14-de-en"]
    (first.place / "valid.en").write_text("one\n\n")
    (first.place / "test.de").write_text("one\n")
    (first.place / "train.en").unlink()
    problems = {each.what: each.problem for each in check_data("iwslt14", None, environment).findings if each.problem}
    assert problems == {
        "train.en": "cannot be read (No such file or directory)",
        "valid.en: 2 lines": "line 2 is empty",
        "test.de": "1 lines, expected 10",
    }


@needs_sacremoses
def test_an_archive_that_is_another_is_kept_and_told(tmp_path: Path, environment: dict[str, str]) -> None:
    other = pack(tmp_path / "other.tgz", members()).read_bytes()
    with (
        serving({"de-en.tgz": [Answer(other)]}) as served,
        pytest.raises(
            DataError, match=r"(?s)pairs came out, expected 160,239 .*de-en\.tgz is kept; remove it to have it"
        ),
    ):
        fetch("iwslt14", served.url, environment)
    assert [path.name for path in (tmp_path / "cache" / "data").iterdir()] == ["de-en.tgz"]


def test_what_prepares_it_is_asked_for_before_anything_is_fetched(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sacremoses", None)
    with serving({}) as served, pytest.raises(ExecutionError, match=r"pip install 'epsgrid\[translation\]'"):
        fetch("iwslt14", served.url, environment)
    assert served.asked == []
