"""Image sets, and folders of image files: how they are listed and decoded, and what can be wrong with them."""

from __future__ import annotations

import os
import re
import shutil
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile

from epsgrid.data._images import Images, decode, decode_splits, image_set, labelled_as, list_images, list_split
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


def test_all_images_that_cannot_be_used_are_listed_at_once(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    (root / "train" / "cat" / "0.png").write_bytes(b"no image")
    (root / "train" / "bird" / "9.png").symlink_to(tmp_path / "nowhere")
    (root / "train" / "bird" / "loop.png").symlink_to("loop.png")
    Image.fromarray(draw(1, 8)).save(root / "test" / "dog" / "0.png")
    with pytest.raises(DataError, match="4 of 32 images cannot be used:") as told:
        decode_splits([list_split(root / split) for split in ("train", "test")], SIZE, None)
    lines = str(told.value).splitlines()[1:]
    assert [Path(line.strip().partition(": ")[0]).name for line in lines] == ["9.png", "loop.png", "0.png", "0.png"]
    assert "8×8 pixels, expected 32×32" in lines[3]
    for file in (root / "train").glob("*/*"):
        file.unlink()
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"22 of 22 images cannot be used:(\n.*){10}\n  and 12 more"):
        decode(list_split(root / "train"), None, None)


def test_a_stray_file_among_images_is_skipped_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = write_folder(tmp_path) / "train"
    (split / "cat" / "0.png").rename(split / "cat" / "0")  # an image by its content
    before = list_split(split)
    assert capsys.readouterr().err == ""
    (split / "cat" / "README").write_text("not an image")
    assert list_split(split) == before
    assert capsys.readouterr().err == f"Note: skipped 1 file that is no image: {split / 'cat' / 'README'}\n"
    os.mkfifo(split / "dog" / "pipe.png")  # reading it would never end
    assert list_split(split) == before
    assert "2 files that are no images, such as: " in capsys.readouterr().err
    for file in list((split / "dog").glob("?.png")):
        file.unlink()
    with pytest.raises(DataError, match="dog: no images in it"):
        list_split(split)


@pytest.mark.parametrize("error", [RuntimeError("no words"), MemoryError(), EOFError(), struct.error("x"), KeyError(1)])
def test_whatever_a_decoder_raises_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    listing = list_split(write_folder(tmp_path) / "test")

    def load(image: Image.Image) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    words = re.escape(str(error) or type(error).__name__)
    with pytest.raises(DataError, match=rf"airplane/0\.png: not a readable image \({words}\)"):
        decode(listing, SIZE, None)


@pytest.mark.parametrize("kind", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    upright = np.zeros((24, 16, 3), np.uint8)
    upright[:8, :8, 0] = upright[16:, 8:, 1] = 255  # red at the top left, green at the bottom right
    across = upright.transpose(1, 0, 2)
    stored = [upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1]]
    stored += [across, across[:, ::-1][::-1][:, ::-1], across[::-1, ::-1], across[:, ::-1]]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(stored[orientation - 1])).save(tmp_path / f"a.{kind}", exif=exif)
    pixels = decode(list_images({"a": tmp_path}), (16, 24), None).pixels[0]
    assert pixels[0, 2, 2] > 180 > pixels[1, 2, 2]
    assert pixels[1, 20, 12] > 180 > pixels[0, 20, 12]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    Image.fromarray(draw(1)).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    assert np.array_equal(decode(list_images({"a": tmp_path}), SIZE, None).pixels[0], draw(1).transpose(2, 0, 1))


def test_names_in_any_encoding_are_listed_and_checksums_of_others_stay(tmp_path: Path) -> None:
    split = write_folder(tmp_path) / "train"
    (split / "cat" / "0.png").rename(split / "cat" / os.fsdecode(b"caf\xe9.png"))
    (split / "dog").rename(split / os.fsdecode(b"d\xf6g"))
    listing = list_split(split)
    assert "d\udcf6g" in listing.classes
    images = decode(listing, SIZE, None)
    assert len(image_set(images, images, listing.classes, "").checksum) == 64
    small = Images(np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2), np.array([1]))
    made = image_set(small, small, ("käfer", "ω"), "").checksum
    assert made == "832badcb7f5f17427f5ac0b545996c39e496333e690c25c91548f9eb5461ad1c"


def test_one_name_in_two_forms_of_unicode_is_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = write_folder(tmp_path)
    (root / "train" / "cat").rename(root / "train" / composed)
    (root / "test" / "cat").rename(root / "test" / decomposed)
    train, test = (list_split(root / split) for split in ("train", "test"))
    matched = labelled_as(test, train.classes, root)
    assert matched.classes == train.classes
    assert matched.labels == tuple(range(10))
    assert [Path(file).parent.name for file in matched.files][train.classes.index(composed)] == decomposed
    shutil.copytree(root / "test" / decomposed, root / "train" / decomposed)
    with pytest.raises(DataError, match=r"'cafe\\u0301' and 'caf\\xe9' are one name in two forms of Unicode"):
        list_split(root / "train")
    (root / "test" / "dog").rename(root / "test" / "Dog")
    with pytest.raises(DataError, match="without training images: Dog; train has 'dog'"):
        labelled_as(list_split(root / "test"), train.classes, root)


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
