from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from epsgrid.data._cache import cached
from epsgrid.data._images import Images, ImageSet, image_set
from epsgrid.errors import DataError


def make(value: int = 1) -> ImageSet:
    pixels = np.full((3, 1, 2, 2), value, np.uint8)
    images = Images(pixels, np.array([0, 1, 0]))
    return image_set(images, images, ("a", "b"), "three images")


def never() -> ImageSet:
    raise AssertionError("made again")


def test_what_was_made_once_is_mapped_read_only(tmp_path: Path) -> None:
    made = cached(tmp_path / "arrays" / "key", make)
    again = cached(tmp_path / "arrays" / "key", never)
    assert (again.checksum, again.classes, again.description) == (made.checksum, ("a", "b"), "three images")
    assert made.checksum == make().checksum
    assert np.array_equal(again.train.pixels, make().train.pixels)
    assert type(again.train.pixels) is np.ndarray
    assert not again.train.pixels.flags.writeable
    assert [path.name for path in (tmp_path / "arrays").iterdir()] == ["key"]


def test_a_truncated_array_is_made_again(tmp_path: Path) -> None:
    cached(tmp_path / "key", make)
    array = tmp_path / "key" / "train_pixels.npy"
    array.write_bytes(array.read_bytes()[:-1])
    assert np.array_equal(cached(tmp_path / "key", make).train.pixels, make().train.pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("damage", ["missing array", "empty array", "not json", "other version", "missing field"])
def test_whatever_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "key"
    cached(folder, make)
    about = json.loads((folder / "about.json").read_text())
    if damage == "missing array":
        (folder / "test_labels.npy").unlink()
    elif damage == "empty array":
        (folder / "test_labels.npy").write_bytes(b"")
    elif damage == "not json":
        (folder / "about.json").write_text("{")
    elif damage == "other version":
        (folder / "about.json").write_text(json.dumps(about | {"version": 99}))
    else:
        del about["shapes"]
        (folder / "about.json").write_text(json.dumps(about))
    assert cached(folder, make).checksum == make().checksum
    cached(folder, never)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    cached(folder, make)
    np.save(folder / "train_labels.npy", np.array([{}, {}, {}], object), allow_pickle=True)
    assert cached(folder, make).train.labels.dtype == np.int64


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write prepared data into .*file.*EPSGRID_CACHE"):
        cached(tmp_path / "file" / "key", make)


def test_an_interrupted_making_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> ImageSet:
        raise DataError("corrupt")

    with pytest.raises(DataError, match="corrupt"):
        cached(tmp_path / "arrays" / "key", fail)
    assert not list(tmp_path.rglob("*"))


def slowly() -> ImageSet:
    time.sleep(0.2)
    return make()


def prepare(folder: Path) -> str:
    return cached(folder, slowly).checksum


def test_two_processes_may_prepare_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        checksums = pool.map(prepare, [tmp_path / "key"] * 4, chunksize=1)
    assert set(checksums) == {make().checksum}
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_another_process_that_was_faster_wins(tmp_path: Path) -> None:
    folder = tmp_path / "key"

    def overtaken() -> ImageSet:
        cached(folder, make)
        return make()

    assert cached(folder, overtaken).checksum == make().checksum
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_the_checksum_tells_pixels_labels_and_classes_apart() -> None:
    base = make()
    relabelled = Images(base.train.pixels, np.array([1, 1, 0]))
    others = [
        make(2),
        image_set(relabelled, base.test, base.classes, ""),
        image_set(base.test, base.train, ("a", "c"), ""),
    ]
    assert len({base.checksum, *(other.checksum for other in others)}) == 4
    assert image_set(base.train, base.test, base.classes, "in other words").checksum == base.checksum
