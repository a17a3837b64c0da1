from __future__ import annotations

import functools
import hashlib
import importlib.util
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from epsgrid.data._folder import list_images
from PIL import Image

from epsgrid.data import cifar10
from epsgrid.data._torchvision import import_torchvision
from epsgrid.errors import DataError
from tests.data.folders import CLASSES, draw, write_batches, write_folder

REAL = Path.home() / ".cache" / "epsgrid" / "data" / "cifar10-images"
needs_torchvision = pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision not installed")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"EPSGRID_CACHE": str(tmp_path / "cache")}


def test_an_image_folder_is_decoded_once(tmp_path: Path, environment: dict[str, str]) -> None:
    root = write_folder(tmp_path / "images")
    images = cifar10.load(str(root), environment=environment)
    assert images.train.pixels.shape == (20, 3, 32, 32)
    assert images.test.pixels.shape == (10, 3, 32, 32)
    assert images.classes == CLASSES
    assert images.description == "CIFAR-10 (a subset of its 60,000 images)"
    assert np.array_equal(images.test.pixels[3], draw(350).transpose(2, 0, 1))
    assert not images.train.pixels.flags.writeable
    again = cifar10.load(str(root), environment=environment)
    assert again.checksum == images.checksum
    assert len(list((tmp_path / "cache" / "arrays").iterdir())) == 1


def test_a_changed_image_is_noticed(tmp_path: Path, environment: dict[str, str]) -> None:
    root = write_folder(tmp_path / "images")
    before = cifar10.load(str(root), environment=environment)
    Image.fromarray(draw(5)).save(root / "train" / "cat" / "0.png")
    after = cifar10.load(str(root), environment=environment)
    assert after.checksum != before.checksum
    assert np.array_equal(after.train.pixels[6], draw(5).transpose(2, 0, 1))


def test_equal_images_elsewhere_have_the_same_checksum(tmp_path: Path, environment: dict[str, str]) -> None:
    copies = [write_folder(tmp_path / name) for name in ("one", "two")]
    first, second = (cifar10.load(str(root), environment=environment) for root in copies)
    assert first.checksum == second.checksum


def test_places_are_searched_in_order(tmp_path: Path, environment: dict[str, str]) -> None:
    write_folder(tmp_path / "cache" / "data" / "cifar10-images", train=1)
    assert len(cifar10.load(environment=environment).train) == 10
    environment["EPSGRID_DATA"] = str(tmp_path / "own")
    assert len(cifar10.load(environment=environment).train) == 10
    write_folder(tmp_path / "own" / "cifar10-images", train=2)
    assert len(cifar10.load(environment=environment).train) == 20
    write_folder(tmp_path / "elsewhere", train=3)
    assert len(cifar10.load(str(tmp_path / "elsewhere"), environment=environment).train) == 30


def test_missing_data_are_told_with_both_ways_to_get_them(tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(DataError, match="CIFAR-10 not found") as caught:
        cifar10.load(environment=environment)
    folder = tmp_path / "cache" / "data"
    assert f"in {folder / 'cifar10-images'} as train/<class>/* and test/<class>/*" in str(caught.value)
    assert f"`download: true` under task: and torchvision downloads it (170 MB) to {folder}" in str(caught.value)


def test_a_root_may_hold_the_image_folder_under_its_usual_name(tmp_path: Path, environment: dict[str, str]) -> None:
    """Where the message of a failed download into `task.root` tells to put the images; they were not found there."""
    write_folder(tmp_path / "mine" / "cifar10-images")
    assert len(cifar10.load(str(tmp_path / "mine"), environment=environment).test) == 10


def test_a_root_without_data_is_told(tmp_path: Path, environment: dict[str, str]) -> None:
    write_folder(tmp_path / "cache" / "data" / "cifar10-images")  # is not fallen back to
    with pytest.raises(DataError, match=r"task\.root .*nowhere holds neither its images nor torchvision's copy"):
        cifar10.load(str(tmp_path / "nowhere"), environment=environment)


def test_a_missing_split_is_told(tmp_path: Path, environment: dict[str, str]) -> None:
    root = write_folder(tmp_path / "images")
    (root / "test").rename(root / "validation")
    with pytest.raises(DataError, match=r"no folder .*images.test"):
        cifar10.load(str(root), environment=environment)


def test_differing_classes_are_told(tmp_path: Path, environment: dict[str, str]) -> None:
    root = write_folder(tmp_path / "images")
    (root / "test" / "dog").rename(root / "test" / "dogs")
    with pytest.raises(DataError, match="only one of them has: dog, dogs"):
        cifar10.load(str(root), environment=environment)


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small copy in torchvision's layout, with torchvision told to expect its MD5 sums."""
    folder = tmp_path / "made" / "cifar-10-batches-py"
    sums = write_batches(folder)
    dataset = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(dataset, "train_list", [[f"data_batch_{k}", sums[f"data_batch_{k}"]] for k in range(1, 6)])
    monkeypatch.setattr(dataset, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": sums["batches.meta"]})
    return folder


@needs_torchvision
@pytest.mark.parametrize("named", ["itself", "its parent"])
def test_torchvisions_copy_is_read(batches: Path, environment: dict[str, str], named: str) -> None:
    images = cifar10.load(str(batches if named == "itself" else batches.parent), environment=environment)
    assert images.train.labels.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert images.test.labels.tolist() == [5, 6]
    assert images.classes == CLASSES
    assert np.array_equal(images.train.pixels[3], draw(1003).transpose(2, 0, 1))
    assert np.array_equal(images.test.pixels[1], draw(1011).transpose(2, 0, 1))


@needs_torchvision
def test_once_decoded_torchvisions_copy_needs_no_torchvision(
    batches: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cifar10.load(str(batches), environment=environment)
    monkeypatch.delattr("epsgrid.data.cifar10.import_torchvision")
    assert cifar10.load(str(batches), environment=environment).checksum == first.checksum


@needs_torchvision
def test_a_damaged_copy_of_torchvisions_is_told(batches: Path, environment: dict[str, str]) -> None:
    (batches / "data_batch_3").write_bytes(b"")
    with pytest.raises(DataError, match=r"cifar-10-batches-py: .*incomplete or damaged.*delete that folder"):
        cifar10.load(str(batches), environment=environment)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server on this machine, which serves the test's folder; gives its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@needs_torchvision
def test_download_is_checked_and_moved_into_place(
    batches: Path,
    served: str,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, batches.name)
    dataset = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(dataset, "url", f"{served}/{archive.name}")
    monkeypatch.setattr(dataset, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    images = cifar10.load(download=True, environment=environment)
    assert len(images.train) == 10
    assert [path.name for path in (tmp_path / "cache" / "data").iterdir()] == ["cifar-10-batches-py"]
    assert capfd.readouterr().out == ""
    archive.unlink()
    assert cifar10.load(download=True, environment=environment).checksum == images.checksum


@needs_torchvision
def test_a_failed_download_is_told_and_leaves_nothing(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_torchvision().datasets.CIFAR10, "url", (tmp_path / "none.tar.gz").as_uri())
    with pytest.raises(DataError, match=r"downloading CIFAR-10 from file:.* failed.*put it at .*cifar-10-batches-py"):
        cifar10.load(download=True, environment=environment)
    assert not list((tmp_path / "cache" / "data").iterdir())


@needs_torchvision
def test_an_altered_download_is_refused(
    served: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar.tar.gz").write_bytes(b"something else")
    monkeypatch.setattr(import_torchvision().datasets.CIFAR10, "url", f"{served}/cifar.tar.gz")
    with pytest.raises(DataError, match=r"downloading CIFAR-10 from http:.* failed: File not found or corrupted"):
        cifar10.load(download=True, environment=environment)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real CIFAR-10 images are not in {REAL}")
def test_the_real_images(tmp_path: Path, environment: dict[str, str]) -> None:
    """All files are listed; a few of each class are linked and decoded."""
    for split, count in (("train", 50_000), ("test", 10_000)):
        listing = list_images(REAL / split, 10)
        assert listing.classes == CLASSES
        assert np.bincount(listing.labels).tolist() == [count // 10] * 10
        for name in CLASSES:
            few = tmp_path / "few" / split / name
            few.mkdir(parents=True)
            for file in sorted((REAL / split / name).iterdir())[:3]:
                (few / file.name).symlink_to(file)
    images = cifar10.load(str(tmp_path / "few"), environment=environment)
    with Image.open(sorted((REAL / "train" / "ship").iterdir())[1]) as image:
        assert np.array_equal(images.train.pixels[8 * 3 + 1], np.asarray(image.convert("RGB")).transpose(2, 0, 1))
