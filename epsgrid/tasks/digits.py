"""Handwritten digits, 8×8 grey pixels, bundled with epsgrid: a real task that trains in seconds on a CPU.

Cross-entropy; accuracy; no augmentation. They are the test part of the UCI set "Optical Recognition of Handwritten
Digits" (Alpaydin and Kaynak 1998): a fixed fifth of every class is set aside for testing here.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from epsgrid.data import bundled
from epsgrid.data._images import Images, image_set
from epsgrid.spec.options import TaskOptions
from epsgrid.tasks._build import image_builder
from epsgrid.tasks._divide import DividedImages, balanced_order, divide

_TEST_SIZE = 360
_TEST_SEED = 0

START = {"training": {"epochs": 6, "batch_size": 32}, "sweep": {"learning_rates": [1e-3, 3e-3, 1e-2]}}


class Options(TaskOptions):
    """How the 1,797 digits are divided; 360 are for testing."""

    validation: Annotated[int, Field(ge=0)] = 360
    """Of the other 1,437 digits, how many are held out of training for validation, to choose by."""


def prepare(options: Options) -> DividedImages:
    """Read the digits and divide them; SpecError where `validation` leaves nothing to train on."""
    digits = bundled("digits")
    pixels, labels = digits["images"][:, np.newaxis], digits["target"].astype(np.int64)
    order = balanced_order(labels, _TEST_SEED)
    test, train = order[:_TEST_SIZE], order[_TEST_SIZE:]
    images = image_set(
        Images(pixels[train], labels[train]),
        Images(pixels[test], labels[test]),
        tuple("0123456789"),
        "scikit-learn's handwritten digits",
    )
    return divide(images, options.validation)


build = image_builder(16, (0.3053,), (0.3760,))
