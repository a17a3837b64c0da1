"""Handwritten digits bundled with scikit-learn: 1,797 grey images of 8×8 pixels, values 0 to 16; nothing to download.

They are the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998) and come
without a division of their own: a fixed fifth of every class is set aside for testing here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import version

import numpy as np

from epsgrid.data._cache import cached
from epsgrid.data._images import Images, ImageSet, image_set
from epsgrid.data._places import arrays_folder
from epsgrid.data._split import balanced_order

TEST_SIZE = 360
_TEST_SEED = 0


def load(environment: Mapping[str, str] = os.environ) -> ImageSet:
    """Return the digits: 1,437 for training, 360 for testing, each (1, 8, 8).

    They are kept in the cache, so that only the first process pays for importing scikit-learn.

    Raises:
        DataError: the cache cannot be written.
    """
    key = hashlib.sha256(f"scikit-learn {version('scikit-learn')}".encode()).hexdigest()
    return cached(arrays_folder(environment) / f"digits-{key[:16]}", _read)


def _read() -> ImageSet:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = bundle.images.astype(np.uint8)[:, np.newaxis]
    labels = bundle.target.astype(np.int64)
    order = balanced_order(labels, _TEST_SEED)
    test, train = order[:TEST_SIZE], order[TEST_SIZE:]
    return image_set(
        Images(pixels[train], labels[train]),
        Images(pixels[test], labels[test]),
        tuple(str(name) for name in bundle.target_names),
        "scikit-learn's handwritten digits",
    )
