"""The task `images`: any image folder, and Tiny-ImageNet's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from epsgrid.data._images import ImageSet
from epsgrid.errors import DataError
from epsgrid.tasks import images
from tests.data.folders import draw, write_folder


def load(root: Path, size: int | None = None, fit: str = "center-crop", **settings: Any) -> ImageSet:
    options = {"root": str(root), "size": size, "fit": fit, "validation": 0, **settings}
    return images.prepare(images.Options(name="images", **options)).images


def save(path: Path, seed: int, width: int = 8, height: int = 8) -> np.ndarray:
    """Save an image; return its pixels as (3, height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = draw(seed, max(width, height))[:height, :width]
    Image.fromarray(pixels).save(path)
    return pixels.transpose(2, 0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with three training images and one test image each."""
    root = tmp_path / "birds"
    for label, name in enumerate(("crow", "owl")):
        for number in range(3):
            save(root / "train" / name / f"{number}.png", 10 * label + number)
        save(root / "test" / name / "0.png", 50 + label)
    return root


def test_a_folder_is_read_by_class_and_name(folder: Path) -> None:
    found = load(folder)
    assert found.classes == ("crow", "owl")
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(found.train.pixels[4], draw(11, 8).transpose(2, 0, 1))
    assert np.array_equal(found.test.pixels[1], draw(51, 8).transpose(2, 0, 1))
    assert found.description == "images of birds"


def test_decoded_images_are_kept_until_a_file_or_the_size_changes(folder: Path, cache: Path) -> None:
    first = load(folder)
    assert load(folder).checksum == first.checksum
    assert len(list((cache / "arrays").iterdir())) == 2, "of the images and of the counts of their pixels"
    assert load(folder, 4).checksum != first.checksum
    save(folder / "train" / "owl" / "2.png", 99)
    assert load(folder).checksum != first.checksum


@pytest.mark.parametrize("fit", ["center-crop", "resize"])
def test_sizes_are_brought_together(folder: Path, fit: str) -> None:
    """A bright square in the middle of a wide image: cropping keeps it square, stretching makes it narrow."""
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[4:12, 20:28] = 255
    Image.fromarray(wide).save(folder / "train" / "crow" / "0.png")
    found = load(folder, 16, fit)
    assert found.train.pixels.shape == (6, 3, 16, 16)
    bright = found.train.pixels[0, 0] > 127
    assert bright.any(1).sum() == 8
    assert bright.any(0).sum() == (8 if fit == "center-crop" else 2)
    untouched = load(folder, 8, fit).train.pixels[1]
    assert np.array_equal(untouched, draw(1, 8).transpose(2, 0, 1)), "an image that has the size is not changed"


@pytest.fixture
def tiny_imagenet(tmp_path: Path) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    for seed, name in enumerate(("n01", "n01", "n02", "n02", "n03", "n03")):
        save(root / "train" / name / "images" / f"{name}_{seed}.JPEG", seed)
        (root / "train" / name / f"{name}_boxes.txt").write_text("0 0 1 1\n")
    for number in range(3):
        save(root / "val" / "images" / f"val_{number}.JPEG", 90 + number)
    rows = [f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n" for number, name in enumerate(("n03", "n01", "n03"))]
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    save(root / "test" / "images" / "test_0.JPEG", 1)
    return root


def test_tiny_imagenet_is_read_as_it_unpacks(tiny_imagenet: Path) -> None:
    found = load(tiny_imagenet)
    assert found.classes == ("n01", "n02", "n03")
    assert found.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.test.labels.tolist() == [0, 2, 2]
    with Image.open(tiny_imagenet / "val" / "images" / "val_1.JPEG") as image:
        assert np.array_equal(found.test.pixels[0], np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "val_9.JPEG\tn01\n", r"1 images that .*val_annotations.txt names are not there: val_9.JPEG"),
        ("", "val_2.JPEG n01\n", r"val_annotations.txt: not lines of a file name and its class"),
        ("n01", "n99", "classes with test images and without training images: n99"),
        (None, "val_0.JPEG\t\xff\n", r"val_annotations\.txt:1: not UTF-8"),
        (None, "", r"val_annotations\.txt: an empty file"),
    ],
)
def test_tiny_imagenets_annotations_must_be_readable_and_fit(
    tiny_imagenet: Path, old: str | None, new: str, message: str
) -> None:
    annotations = tiny_imagenet / "val" / "val_annotations.txt"
    text = new if old is None else annotations.read_text().replace(old, new, 1)
    annotations.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        load(tiny_imagenet)


def test_a_missing_part_is_an_error(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "one" / "train" / "a" / "0.png", 0)
    with pytest.raises(DataError, match="found 1 class folders; classification needs two or more"):
        load(tmp_path / "one")
    (folder / "test").rename(folder / "heldout")
    with pytest.raises(DataError, match=r"no folder .*/test: an image folder holds train/<class>/\* and test/<class>"):
        load(folder)
    with pytest.raises(DataError, match=r"no folder .*nowhere/train"):
        load(folder / "nowhere")


def test_an_image_of_another_size_is_named(folder: Path) -> None:
    save(folder / "train" / "owl" / "1.png", 1, width=7)
    with pytest.raises(DataError, match=r"owl/1.png: 7×8 pixels, expected 8×8; bring all .* task.size"):
        load(folder)


def test_mean_and_deviation_are_those_of_the_training_pixels(folder: Path) -> None:
    found = load(folder)
    mean, sd = images.mean_and_sd(found)
    values = found.train.pixels.astype(np.float64) / 255
    np.testing.assert_allclose(mean, values.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(sd, values.std((0, 2, 3)), rtol=1e-12)
    assert images.mean_and_sd(found) == (mean, sd)
    _, task = built(folder, augment=False, validation=0)
    batch = next(task.batches(0, 0, 6)).images
    assert abs(batch.mean().item()) < 1e-3
    assert abs(batch.std().item() - 1) < 1e-2


def test_pixels_that_are_all_the_same_cannot_be_normalised(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(tmp_path / split / name / "0.png")
    with pytest.raises(DataError, match=r"all training pixels of a channel are the same.*check the images"):
        load(tmp_path)


def built(folder: Path, **settings: Any) -> tuple[Any, Any]:
    options = images.Options(name="images", root=str(folder), **settings)
    data = images.prepare(options)
    return data, images.build(options, data, torch.device("cpu"))


def test_a_tenth_is_held_out_and_an_eighth_padded(tmp_path: Path) -> None:
    data, task = built(write_folder(tmp_path / "birds", train=4))
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 10)
    assert data.description.startswith("images of birds: 36 training, 4 validation (held out of training) and 10 test")
    assert task._padding == 4
    _, small = built(tmp_path / "birds", size=16)
    assert small._padding == 2
    assert small.inputs == (3, 16, 16)
