"""Any image folder, and Tiny-ImageNet's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epsgrid.data import images
from epsgrid.errors import DataError
from tests.data.folders import draw

ENVIRONMENT_KEY = "EPSGRID_CACHE"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {ENVIRONMENT_KEY: str(tmp_path / "cache")}


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


def test_a_folder_is_read_by_class_and_name(folder: Path, environment: dict[str, str]) -> None:
    found = images.load(str(folder), environment=environment)
    assert found.classes == ("crow", "owl")
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(found.train.pixels[4], draw(11, 8).transpose(2, 0, 1))
    assert np.array_equal(found.test.pixels[1], draw(51, 8).transpose(2, 0, 1))
    assert found.description == "images of birds"


def test_what_was_decoded_is_kept_until_a_file_or_the_size_changes(folder: Path, environment: dict[str, str]) -> None:
    first = images.load(str(folder), environment=environment)
    assert images.load(str(folder), environment=environment).checksum == first.checksum
    assert len(list((Path(environment[ENVIRONMENT_KEY]) / "arrays").iterdir())) == 1
    assert images.load(str(folder), 4, environment=environment).checksum != first.checksum
    save(folder / "train" / "owl" / "2.png", 99)
    assert images.load(str(folder), environment=environment).checksum != first.checksum


def test_oblong_images_are_kept_as_they_are(tmp_path: Path, environment: dict[str, str]) -> None:
    for split in ("train", "test"):
        for label, name in enumerate("ab"):
            save(tmp_path / split / name / "0.png", label, width=6, height=4)
    assert images.load(str(tmp_path), environment=environment).train.pixels.shape == (2, 3, 4, 6)


@pytest.mark.parametrize("fit", ["center-crop", "resize"])
def test_sizes_are_brought_together(folder: Path, environment: dict[str, str], fit: images.FitName) -> None:
    """A bright square in the middle of a wide image: cropping keeps it square, stretching makes it narrow."""
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[4:12, 20:28] = 255
    Image.fromarray(wide).save(folder / "train" / "crow" / "0.png")
    found = images.load(str(folder), 16, fit, environment)
    assert found.train.pixels.shape == (6, 3, 16, 16)
    bright = found.train.pixels[0, 0] > 127
    assert bright.any(1).sum() == 8
    assert bright.any(0).sum() == (8 if fit == "center-crop" else 2)


def test_an_image_that_has_the_size_is_not_touched(folder: Path, environment: dict[str, str]) -> None:
    found = images.load(str(folder), 8, "resize", environment)
    assert np.array_equal(found.train.pixels[0], draw(0, 8).transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["val", "validation"])
def test_other_names_for_the_test_images(folder: Path, environment: dict[str, str], name: str) -> None:
    (folder / "test").rename(folder / name)
    assert len(images.load(str(folder), environment=environment).test) == 2


def test_a_class_may_be_without_test_images(folder: Path, environment: dict[str, str]) -> None:
    (folder / "test" / "crow" / "0.png").unlink()
    (folder / "test" / "crow").rmdir()
    assert images.load(str(folder), environment=environment).test.labels.tolist() == [1]


@pytest.fixture
def tiny_imagenet(tmp_path: Path) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    for label, name in enumerate(("n01", "n02", "n03")):
        for number in range(2):
            save(root / "train" / name / "images" / f"{name}_{number}.JPEG", 10 * label + number)
        (root / "train" / name / f"{name}_boxes.txt").write_text("0 0 1 1\n")
    lines = []
    for number, name in enumerate(("n03", "n01", "n03")):
        save(root / "val" / "images" / f"val_{number}.JPEG", 90 + number)
        lines.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    save(root / "test" / "images" / "test_0.JPEG", 1)
    return root


def test_tiny_imagenet_is_read_as_it_unpacks(tiny_imagenet: Path, environment: dict[str, str]) -> None:
    found = images.load(str(tiny_imagenet), environment=environment)
    assert found.classes == ("n01", "n02", "n03")
    assert found.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.test.labels.tolist() == [0, 2, 2]
    with Image.open(tiny_imagenet / "val" / "images" / "val_1.JPEG") as image:
        assert np.array_equal(found.test.pixels[0], np.asarray(image).transpose(2, 0, 1))


def test_tiny_imagenets_annotations_must_fit(tiny_imagenet: Path, environment: dict[str, str]) -> None:
    annotations = tiny_imagenet / "val" / "val_annotations.txt"
    text = annotations.read_text()
    annotations.write_text(text + "val_9.JPEG\tn01\n")
    with pytest.raises(DataError, match=r"1 images that .*val_annotations.txt names are not there: val_9.JPEG"):
        images.load(str(tiny_imagenet), environment=environment)
    annotations.write_text(text + "val_2.JPEG n01\n")
    with pytest.raises(DataError, match=r"val_annotations.txt:4: expected a file name and its class"):
        images.load(str(tiny_imagenet), environment=environment)
    annotations.write_text(text.replace("n01", "n99"))
    with pytest.raises(DataError, match="classes with test images and without training images: n99"):
        images.load(str(tiny_imagenet), environment=environment)


def test_tiny_imagenets_annotations_must_be_readable(tiny_imagenet: Path, environment: dict[str, str]) -> None:
    annotations = tiny_imagenet / "val" / "val_annotations.txt"
    text = annotations.read_text()
    annotations.write_bytes(b"val_0.JPEG\t\xff\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt: cannot be read \(.*utf-8.*unpack the archive again"):
        images.load(str(tiny_imagenet), environment=environment)
    annotations.write_text("")
    with pytest.raises(DataError, match=r"val_annotations\.txt: an empty file"):
        images.load(str(tiny_imagenet), environment=environment)
    annotations.write_text(text)
    (tiny_imagenet / "val" / "images").rename(tiny_imagenet / "val" / "pictures")
    with pytest.raises(DataError, match=r"no folder of a training class such as 'n01'"):
        images.load(str(tiny_imagenet), environment=environment)


def test_test_images_lie_in_folders_by_class(folder: Path, environment: dict[str, str]) -> None:
    """Without one there was nothing to score a trained model on, which was found out when all had been trained."""
    (folder / "test").rename(folder / "elsewhere")
    save(folder / "test" / "0.png", 1)
    with pytest.raises(DataError, match=r"test: no folder of a training class such as 'crow'; .* lie in .*/<class>/\*"):
        images.load(str(folder), environment=environment)


def test_test_images_without_labels_do_not_stand_before_val(folder: Path, environment: dict[str, str]) -> None:
    """As in ImageNet and in Tiny-ImageNet with its val sorted by class: a test/images that nobody labelled."""
    (folder / "test").rename(folder / "val")
    save(folder / "test" / "images" / "0.png", 1)
    (folder / "val" / "val_annotations.txt").write_text("0.png\tcrow\n")  # left behind when it was sorted
    assert images.load(str(folder), environment=environment).test.labels.tolist() == [0, 1]


def test_a_missing_part_is_told(folder: Path, environment: dict[str, str]) -> None:
    (folder / "test").rename(folder / "heldout")
    with pytest.raises(DataError, match="found none of the folders test, val, validation"):
        images.load(str(folder), environment=environment)
    with pytest.raises(DataError, match=r"no folder .*nowhere/train"):
        images.load(str(folder / "nowhere"), environment=environment)


def test_one_class_is_too_few(tmp_path: Path, environment: dict[str, str]) -> None:
    save(tmp_path / "train" / "a" / "0.png", 0)
    with pytest.raises(DataError, match="found 1 class folders; classification needs two or more"):
        images.load(str(tmp_path), environment=environment)


def test_an_image_of_another_size_is_named(folder: Path, environment: dict[str, str]) -> None:
    save(folder / "train" / "owl" / "1.png", 1, width=7)
    with pytest.raises(DataError, match=r"owl/1.png: 7×8 pixels, expected 8×8, the size of the first.*set task.size"):
        images.load(str(folder), environment=environment)


def test_a_file_that_is_no_image_is_named(folder: Path, environment: dict[str, str]) -> None:
    (folder / "train" / "owl" / "1.png").write_text("no image")
    with pytest.raises(DataError, match=r"owl/1.png: not a readable image \("):
        images.load(str(folder), 8, environment=environment)
    (folder / "train" / "crow" / "0.png").write_text("no image")
    with pytest.raises(DataError, match=r"crow/0.png: not a readable image .*replace or remove it$"):
        images.load(str(folder), environment=environment)


def test_mean_and_deviation_are_those_of_the_training_pixels(folder: Path, environment: dict[str, str]) -> None:
    found = images.load(str(folder), environment=environment)
    mean, sd = images.mean_and_sd(found, environment)
    shares = found.train.pixels.astype(np.float64) / 255
    np.testing.assert_allclose(mean, shares.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(sd, shares.std((0, 2, 3)), rtol=1e-12)
    assert images.mean_and_sd(found, environment) == (mean, sd)


def test_pixels_that_are_all_the_same_cannot_be_normalised(tmp_path: Path, environment: dict[str, str]) -> None:
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(tmp_path / split / name / "0.png")
    with pytest.raises(DataError, match=r"all training pixels of a channel are the same.*set task.mean"):
        images.mean_and_sd(images.load(str(tmp_path), environment=environment), environment)
