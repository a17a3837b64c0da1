from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from epsgrid.data._folder import decode, list_images
from PIL import Image

from epsgrid.errors import DataError
from tests.data.folders import CLASSES, draw, write_folder


def test_images_come_by_class_and_name(tmp_path: Path) -> None:
    listing = list_images(write_folder(tmp_path, train=3) / "train", 10)
    images = decode(listing, 32)
    assert listing.classes == CLASSES
    assert images.labels.tolist() == [label for label in range(10) for _ in range(3)]
    for place in (0, 4, 29):
        expected = draw(100 * (place // 3) + place % 3).transpose(2, 0, 1)
        assert np.array_equal(images.pixels[place], expected)


def test_other_formats_and_modes_become_colour(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    Image.fromarray(draw(7)[:, :, 0]).save(root / "train" / "bird" / "2.bmp")
    Image.fromarray(draw(7)).save(root / "train" / "bird" / "3.jpg")
    images = decode(list_images(root / "train", 10), 32)
    assert np.array_equal(images.pixels[6], np.stack([draw(7)[:, :, 0]] * 3))
    with Image.open(root / "train" / "bird" / "3.jpg") as image:
        assert np.array_equal(images.pixels[7], np.asarray(image).transpose(2, 0, 1))


def test_many_pieces_decoded_in_threads_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = list_images(write_folder(tmp_path, train=5) / "train", 10)
    whole = decode(listing, 32)
    monkeypatch.setattr("epsgrid.data._folder._AT_ONCE", 3)
    assert np.array_equal(decode(listing, 32).pixels, whole.pixels)


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    before = list_images(root / "train", 10)
    (root / "train" / ".DS_Store").write_bytes(b"")
    (root / "train" / "cat" / ".thumbs").write_bytes(b"")
    (root / "train" / ".cache").mkdir()
    assert list_images(root / "train", 10) == before


def test_every_change_changes_the_signature(tmp_path: Path) -> None:
    folder = write_folder(tmp_path) / "train"
    signatures = [list_images(folder, 10).signature]
    file = folder / "cat" / "0.png"
    os.utime(file, ns=(0, 1))
    signatures.append(list_images(folder, 10).signature)
    file.write_bytes(file.read_bytes() + b"\0")
    os.utime(file, ns=(0, 1))
    signatures.append(list_images(folder, 10).signature)
    file.rename(folder / "cat" / "9.png")
    signatures.append(list_images(folder, 10).signature)
    (folder / "cat" / "9.png").rename(folder / "dog" / "9.png")
    signatures.append(list_images(folder, 10).signature)
    assert len(set(signatures)) == 5


def test_a_missing_split_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*test: an image folder holds train/<class>"):
        list_images(tmp_path / "test", 10)


def test_a_missing_class_is_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "train" / "frog").rename(root / "frog")
    with pytest.raises(DataError, match=r"train: expected 10 class folders, found 9 \(airplane, .*a class is missing"):
        list_images(root / "train", 10)


def test_no_class_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found 0 \(none\)"):
        list_images(tmp_path, 10)


def test_an_empty_class_is_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "test" / "ship" / "0.png").unlink()
    with pytest.raises(DataError, match="ship: no images in it"):
        list_images(root / "test", 10)


def test_a_folder_among_the_images_is_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "train" / "ship" / "more").mkdir()
    with pytest.raises(DataError, match="more: a folder where images are expected"):
        list_images(root / "train", 10)


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_a_corrupt_image_is_named(tmp_path: Path, damage: str) -> None:
    root = write_folder(tmp_path)
    file = root / "train" / "deer" / "1.png"
    content = {"text": b"no image", "truncated": file.read_bytes()[:500], "empty": b""}[damage]
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"deer.1\.png: not a readable image .*replace or remove it"):
        decode(list_images(root / "train", 10), 32)


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    Image.fromarray(draw(0, side=64)[:48]).save(root / "train" / "deer" / "1.png")
    with pytest.raises(DataError, match=r"deer.1\.png: 64×48 pixels, expected 32×32"):
        decode(list_images(root / "train", 10), 32)


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    """The traceback of a FileNotFoundError came instead."""
    write_folder(tmp_path)
    (tmp_path / "train" / "bird" / "9.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"bird/9\.png: cannot be read \(No such file .*\), as where a link leads nowhere"
    ):
        list_images(tmp_path / "train", 10)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_not_cut_off(tmp_path: Path, dtype: type) -> None:
    """PIL's conversion to colour makes every value above 255 white; a class of such images would be blank."""
    write_folder(tmp_path)
    place = tmp_path / "train" / "cat" / "0.tiff"
    Image.fromarray(np.full((32, 32), 20_000, dtype)).save(place)
    with pytest.raises(DataError, match=r"cat/0\.tiff: more than 8 bits per channel .*; convert it to 8"):
        decode(list_images(tmp_path / "train", 10), 32)


def test_images_beyond_all_memory_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path)
    words = r"20 images of 10000000×10000000 pixels need 6,000,000 GB of memory.*bring them to a smaller size"
    with pytest.raises(DataError, match=words):
        decode(list_images(tmp_path / "train", 10), 10_000_000)
