from __future__ import annotations

import numpy as np
import pytest
from epsgrid.data.synthetic import generate

from epsgrid.data._images import ImageSet


def small(shape: tuple[int, int, int] = (1, 8, 8), noise: float = 0.3, seed: int = 0) -> ImageSet:
    return generate(shape, classes=3, train=60, test=30, noise=noise, seed=seed)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 5, 3), (1, 1, 1)])
def test_shapes_and_balance(shape: tuple[int, int, int]) -> None:
    images = small(shape)
    assert images.train.pixels.shape == (60, *shape)
    assert images.test.pixels.shape == (30, *shape)
    assert np.bincount(images.train.labels).tolist() == [20] * 3
    assert np.bincount(images.test.labels).tolist() == [10] * 3


def test_it_says_that_it_is_generated() -> None:
    assert "GENERATED" in small().description


def test_the_seed_decides() -> None:
    assert small().checksum == small().checksum
    assert small(seed=1).checksum != small().checksum


def test_classes_can_be_told_apart() -> None:
    """The nearest class mean of the training images is right for most test images."""
    images = small()
    flat = images.train.pixels.reshape(60, -1).astype(float)
    means = np.stack([flat[images.train.labels == label].mean(0) for label in range(3)])
    test = images.test.pixels.reshape(30, -1).astype(float)
    nearest = ((test[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == images.test.labels).mean() > 0.7
