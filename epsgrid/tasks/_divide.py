"""Divide an image set into training, validation and test images: fixed, stratified, the same for all trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epsgrid.data import check_subset
from epsgrid.data._images import ImageSet
from epsgrid.errors import SpecError
from epsgrid.tasks._options import Subset

_SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class DividedImages:
    """A divided image set, as `prepare` of an image task returns it.

    `train` and `validation`, which may be empty, are indices into `images.train`, and `test` into `images.test`.
    """

    images: ImageSet
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    description: str

    @property
    def checksum(self) -> str:
        """Sha256 of the whole data set, hex."""
        return self.images.checksum

    @property
    def has_validation(self) -> bool:
        """Whether images are held out of the training images."""
        return len(self.validation) > 0


def divide(images: ImageSet, validation: int, subset: Subset | None = None) -> DividedImages:
    """Hold `validation` images out of the training images, and keep `subset` of each split, fixed and stratified.

    Which images are held out does not depend on the subset, and a smaller subset is part of a larger one. Raises
    SpecError where more images are asked for than there are.
    """
    if validation >= len(images.train):
        raise SpecError(
            f"task.validation: {validation:,} images held out leave nothing to train on: {images.description}"
            f" has {len(images.train):,} training images; ask for fewer"
        )
    order = balanced_order(images.train.labels, _SPLIT_SEED)
    whole = {
        "train": order[validation:],
        "validation": order[:validation],
        "test": balanced_order(images.test.labels, _SPLIT_SEED),
    }
    kept = {}
    shown = {}
    subset_of = ""
    for split, indices in whole.items():
        count = getattr(subset, split, None)
        check_subset(split, count, len(indices), "images")
        kept[split] = indices[:count]
        shown[split] = f"{len(kept[split]):,}"
        if len(kept[split]) < len(indices):
            shown[split] += f" of {len(indices):,}"
            subset_of = "a subset of "
    held_out = f"{shown['validation']} validation (held out of training)" if validation else "no validation"
    shape = "×".join(map(str, images.train.pixels.shape[1:]))
    counts = f"{shown['train']} training, {held_out} and {shown['test']} test images"
    description = f"{subset_of}{images.description}: {counts}, {shape}"
    return DividedImages(images, **kept, description=description)


def balanced_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return a random order of the examples in which every stretch holds the classes in nearly their proportions.

    Its first n examples are therefore a stratified sample, and so is the rest. The random numbers are those of numpy's
    RandomState, which never change (NEP 19): the split of a data set does not depend on the version of numpy.
    """
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    place = np.empty(len(labels))  # position of an example within its class: (rank + ½) / size of the class
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels[shuffled] == label)
        place[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    return shuffled[np.argsort(place, kind="stable")].astype(np.int64)
