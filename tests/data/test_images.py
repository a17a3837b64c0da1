"""Image sets, and folders of image files: how they are listed and decoded, and what can be wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epsgrid.data._images import Images, decode, image_set, list_images, list_split
from epsgrid.errors import DataError
from tests.data.folders import CLASSES, draw, write_folder

SIZE = (32, 32)


def test_images_come_by_class_and_name_and_hidden_files_are_ignored(tmp_path: Path) -> None:
    split = write_folder(tmp_path, train=3) / "train"
    before = list_split(split)
    (split / ".DS_Store").write_bytes(b"")
    (split / "cat" / ".thumbs").write_bytes(b"")
    (split / ".cache").mkdir()
    assert list_split(split) == before
    images = decode(before, SIZE, None)
    assert before.classes == CLASSES
    assert images.labels.tolist() == [label for label in range(10) for _ in range(3)]
    for place in (0, 4, 29):
        assert np.array_equal(images.pixels[place], draw(100 * (place // 3) + place % 3).transpose(2, 0, 1))


def test_other_formats_and_modes_become_colour(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    Image.fromarray(draw(7)[:, :, 0]).save(root / "train" / "bird" / "2.bmp")
    Image.fromarray(draw(7)).save(root / "train" / "bird" / "3.jpg")
    images = decode(list_split(root / "train"), None, None)
    assert np.array_equal(images.pixels[6], np.stack([draw(7)[:, :, 0]] * 3))
    with Image.open(root / "train" / "bird" / "3.jpg") as image:
        assert np.array_equal(images.pixels[7], np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("change", ["time", "content", "name", "class"])
def test_every_change_changes_the_signature(tmp_path: Path, change: str) -> None:
    folder = write_folder(tmp_path) / "train"
    file, before = folder / "cat" / "0.png", list_split(folder).signature
    if change == "content":
        status = file.stat()
        file.write_bytes(file.read_bytes() + b"\0")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(file, ns=(0, 1))
    else:
        file.rename(folder / ("cat" if change == "name" else "dog") / "9.png")
    assert list_split(folder).signature != before


def test_a_missing_split_an_empty_class_and_a_folder_among_images_are_errors(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    with pytest.raises(DataError, match=r"no folder .*val: an image folder holds train/<class>"):
        list_split(root / "val")
    with pytest.raises(DataError, match=r"nowhere: cannot be read \(No such file or directory\)"):
        list_images({"nowhere": root / "nowhere"})
    (root / "test" / "ship" / "0.png").unlink()
    with pytest.raises(DataError, match="ship: no images in it"):
        list_split(root / "test")
    (root / "train" / "ship" / "more").mkdir()
    with pytest.raises(DataError, match="more: a folder where images are expected"):
        list_split(root / "train")
    (root / "train" / "bird" / "9.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"bird/9\.png: cannot be read \(No such file or directory\)"):
        list_split(root / "train")


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_a_corrupt_image_is_named(tmp_path: Path, damage: str) -> None:
    file = write_folder(tmp_path) / "train" / "deer" / "1.png"
    file.write_bytes({"text": b"no image", "truncated": file.read_bytes()[:500], "empty": b""}[damage])
    with pytest.raises(DataError, match=r"deer.1\.png: not a readable image .*replace or remove it"):
        decode(list_split(tmp_path / "train"), SIZE, None)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_not_clipped(tmp_path: Path, dtype: type) -> None:
    """PIL's conversion to colour makes every value above 255 white; a class of such images would be blank."""
    place = write_folder(tmp_path) / "train" / "cat" / "0.tiff"
    Image.fromarray(np.full((32, 32), 20_000, dtype)).save(place)
    with pytest.raises(DataError, match=r"cat/0\.tiff: more than 8 bits per channel .*; convert it to 8"):
        decode(list_split(tmp_path / "train"), SIZE, None)


def test_the_checksum_depends_on_pixels_labels_and_classes_alone() -> None:
    one, two = (Images(np.full((3, 1, 2, 2), value, np.uint8), np.array([0, 1, 0])) for value in (1, 2))
    base = image_set(one, one, ("a", "b"), "")
    others = [
        image_set(one, two, ("a", "b"), ""),
        image_set(Images(one.pixels, np.array([1, 1, 0])), one, ("a", "b"), ""),
        image_set(one, one, ("a", "c"), ""),
    ]
    assert len({base.checksum, *(other.checksum for other in others)}) == 4
    assert image_set(one, one, ("a", "b"), "another description").checksum == base.checksum
