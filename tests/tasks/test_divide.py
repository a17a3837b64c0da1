from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.data._images import Images, image_set
from epsgrid.errors import SpecError
from epsgrid.tasks._divide import Subset, divide


def images(count: int) -> Images:
    return Images(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), np.arange(count) % 2)


FORTY = image_set(images(40), images(10), ("a", "b"), "forty images")


@given(st.integers(0, 39))
def test_held_out_images_are_not_trained_on(validation: int) -> None:
    divided = divide(FORTY, validation)
    assert len(divided.validation) == validation
    assert sorted([*divided.train, *divided.validation]) == list(range(40))
    assert sorted(divided.test) == list(range(10))
    assert divided.has_validation is (validation > 0)
    assert divided.checksum == FORTY.checksum


def test_subsets_are_nested_balanced_and_leave_the_division_alone() -> None:
    whole = divide(FORTY, 10)
    small = divide(FORTY, 10, Subset(train=4, validation=2, test=6))
    assert small.train.tolist() == whole.train[:4].tolist()
    assert small.validation.tolist() == whole.validation[:2].tolist()
    assert np.bincount(small.train % 2).tolist() == [2, 2]
    assert np.bincount(small.test % 2).tolist() == [3, 3]


def test_the_description_says_what_is_used() -> None:
    assert divide(FORTY, 10).description == (
        "forty images: 30 training, 10 validation (held out of training) and 10 test images, 1×1×1"
    )
    assert divide(FORTY, 0, Subset(train=4)).description == (
        "a subset of forty images: 4 of 40 training, no validation and 10 test images, 1×1×1"
    )


@pytest.mark.parametrize("validation", [40, 41])
def test_holding_everything_out_is_refused(validation: int) -> None:
    with pytest.raises(SpecError, match=rf"task\.validation: {validation} .* nothing to train on.*has 40 training"):
        divide(FORTY, validation)


@pytest.mark.parametrize(
    ("subset", "words"),
    [
        (Subset(train=31), r"task\.subset\.train: 31 images asked for, there are 30"),
        (Subset(validation=11), r"task\.subset\.validation: 11 images asked for, there are 10"),
        (Subset(test=11), r"task\.subset\.test: 11 images asked for, there are 10"),
    ],
)
def test_a_subset_larger_than_the_split_is_refused(subset: Subset, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        divide(FORTY, 10, subset)
