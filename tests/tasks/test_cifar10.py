"""CIFAR-10: where it is looked for, both layouts, the download, and everything that can be wrong with it."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epsgrid.data._fetch import Fetcher, Remote
from epsgrid.data._images import ImageSet
from epsgrid.data._torchvision import import_torchvision
from epsgrid.errors import DataError
from epsgrid.tasks import cifar10
from tests.data.folders import CLASSES, draw, write_batches, write_folder
from tests.data.server import Answer, serving

needs_torchvision = pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision not installed")


def load(root: Path | None = None, **settings: Any) -> ImageSet:
    options = {"validation": 0, "root": str(root) if root else None, **settings}
    return cifar10.prepare(cifar10.Options(name="cifar10", **options)).images


def test_an_image_folder_is_decoded_once(tmp_path: Path, cache: Path) -> None:
    root = write_folder(tmp_path / "images")
    images = load(root)
    assert images.train.pixels.shape == (20, 3, 32, 32)
    assert images.test.pixels.shape == (10, 3, 32, 32)
    assert images.classes == CLASSES
    assert images.description == "CIFAR-10 (a subset of its 60,000 images)"
    assert np.array_equal(images.test.pixels[3], draw(350).transpose(2, 0, 1))
    assert not images.train.pixels.flags.writeable
    assert load(root).checksum == images.checksum
    assert len(list((cache / "arrays").iterdir())) == 1
    assert load(write_folder(tmp_path / "copy")).checksum == images.checksum
    Image.fromarray(draw(5)).save(root / "train" / "cat" / "0.png")
    after = load(root)
    assert after.checksum != images.checksum
    assert np.array_equal(after.train.pixels[6], draw(5).transpose(2, 0, 1))


def test_places_are_searched_in_order(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(cache / "data" / "cifar10-images", train=1)
    assert len(load().train) == 10
    monkeypatch.setenv("EPSGRID_DATA", str(tmp_path / "own"))
    assert len(load().train) == 10
    write_folder(tmp_path / "own" / "cifar10-images", train=2)
    assert len(load().train) == 20
    assert len(load(tmp_path / "own").train) == 20, "a root may hold the image folder under its usual name"
    write_folder(tmp_path / "elsewhere", train=3)
    assert len(load(tmp_path / "elsewhere").train) == 30


def test_missing_data_are_an_error_with_both_ways_to_get_them(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="CIFAR-10 not found") as caught:
        load()
    folder = cache / "data"
    assert f"in {folder / 'cifar10-images'} as train/<class>/* and test/<class>/*" in str(caught.value)
    assert "`download: true` under task: and torchvision's copy is downloaded (170 MB) to" in str(caught.value)
    assert str(folder / "cifar-10-batches-py") in str(caught.value)
    write_folder(folder / "cifar10-images")  # is not used instead of a root
    with pytest.raises(DataError, match=r"neither its images nor torchvision's copy in .*nowhere\. Put its"):
        load(tmp_path / "nowhere")


def test_a_folder_of_another_layout_is_an_error(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images")
    (root / "test" / "dog").rename(root / "test" / "dogs")
    with pytest.raises(DataError, match="without training images: dogs; train has 'dog'"):
        load(root)
    (root / "train" / "frog").rename(root / "frog")
    with pytest.raises(DataError, match=r"train: expected 10 class folders, found 9 \(airplane, .*a class is missing"):
        load(root)
    (root / "train").rename(root / "training")
    with pytest.raises(DataError, match=r"no folder .*images.train"):
        load(root)


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
def test_torchvisions_copy_is_read(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load(batches)
    assert images.train.labels.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert images.test.labels.tolist() == [5, 6]
    assert images.classes == CLASSES
    assert np.array_equal(images.train.pixels[3], draw(1003).transpose(2, 0, 1))
    assert np.array_equal(images.test.pixels[1], draw(1011).transpose(2, 0, 1))
    with monkeypatch.context() as patch:  # once decoded, it needs no torchvision
        patch.delattr("epsgrid.tasks.cifar10.import_torchvision")
        assert load(batches.parent).checksum == images.checksum
    (batches / "data_batch_3").write_bytes(b"")
    with pytest.raises(DataError, match=r"cifar-10-batches-py: .*incomplete or damaged.*delete that folder"):
        load(batches)


@needs_torchvision
def test_checksums_are_those_of_torchvision() -> None:
    dataset = import_torchvision().datasets.CIFAR10
    assert Remote(dataset.url, dataset.tgz_md5) == cifar10.ARCHIVE
    assert cifar10.ARCHIVE.name == dataset.filename
    theirs = dict([*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])])
    assert theirs == cifar10._BATCHES


@needs_torchvision
def test_a_download_is_checked_and_moved_into_place(
    batches: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(batches, batches.name)
    content = packed.getvalue()
    with serving({"cifar.tgz": [Answer(b"something else")] * 4 + [Answer(content)]}) as served:
        monkeypatch.setattr(cifar10, "ARCHIVE", Remote(f"{served.url}/cifar.tgz", hashlib.md5(content).hexdigest()))
        with pytest.raises(DataError, match=r"cifar\.tgz: MD5 hash of downloaded file .* does not match"):
            load(download=True)
        assert not list((cache / "data").iterdir())
        images = load(download=True)
        assert load(download=True).checksum == images.checksum
    assert served.asked == ["cifar.tgz"] * 5
    assert len(images.train) == 10
    assert [path.name for path in (cache / "data").iterdir()] == ["cifar-10-batches-py"]
    assert capfd.readouterr().out == ""


def test_nothing_in_an_archive_can_reach_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "data" / cifar10.ARCHIVE.name
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        for member in (tarfile.TarInfo("../evil"), link):
            tar.addfile(member, io.BytesIO(b""))
    monkeypatch.setattr(cifar10, "ARCHIVE", Remote(cifar10.ARCHIVE.url, None))
    with pytest.raises(DataError, match=rf"{archive.name} cannot be unpacked: .*passwd"):
        cifar10.fetch(archive.parent, Fetcher())
    assert [path.name for path in tmp_path.rglob("*")] == ["data", archive.name]
