from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from epsgrid.data import digits


def test_all_digits_are_there_once(tmp_path: Path) -> None:
    images = digits.load({"EPSGRID_CACHE": str(tmp_path)})
    assert images.train.pixels.shape == (1437, 1, 8, 8)
    assert images.test.pixels.shape == (360, 1, 8, 8)
    both = np.concatenate([images.train.pixels, images.test.pixels]).reshape(1797, 64)
    bundle = load_digits()
    assert sorted(map(tuple, both)) == sorted(map(tuple, bundle.data.astype(np.uint8)))
    assert images.classes == tuple("0123456789")


def test_the_test_part_is_stratified_and_fixed(tmp_path: Path) -> None:
    images = digits.load({"EPSGRID_CACHE": str(tmp_path)})
    assert set(np.bincount(images.test.labels)) <= {34, 35, 36, 37}
    assert images.checksum == digits.load({"EPSGRID_CACHE": str(tmp_path)}).checksum == CHECKSUM


CHECKSUM = "350c5f15440504110acc0bdd12e34920f821b1bcae4cd107d7e456a52256b79e"
