"""Divide a data set into training, validation and test images; fixed, stratified, the same for all trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from epsgrid.errors import SpecError
from epsgrid.spec.model import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from epsgrid.data._images import ImageSet

_SPLIT_SEED = 0

Count = Annotated[int, Field(ge=1)]


class Subset(Frozen):
    """How many images of each split to use, chosen once, with the classes balanced; all where nothing is said."""

    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None


@dataclass(frozen=True, eq=False)
class DividedImages:
    """A data set divided into training, validation and test images: what an image task's `prepare` returns.

    Attributes:
        images: the data set.
        train: indices into `images.train`.
        validation: likewise, none of them in `train`; may be empty.
        test: indices into `images.test`.
        description: one line for the report.
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
    """Hold `validation` images out of the training images, and keep `subset` of each split.

    The division is fixed and stratified. Which images are held out does not depend on the subset, and a smaller subset
    is part of a larger one.

    Raises:
        SpecError: more images are asked for than there are.
    """
    from epsgrid.data._split import balanced_order

    subset = subset or Subset()
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
    kept = {split: _keep(split, indices, getattr(subset, split)) for split, indices in whole.items()}
    return DividedImages(images, **kept, description=_describe(images, whole, kept))


def _keep(split: str, indices: NDArray[np.int64], count: int | None) -> NDArray[np.int64]:
    if count is not None and count > len(indices):
        raise SpecError(
            f"task.subset.{split}: {count:,} images asked for, there are {len(indices):,};"
            " ask for fewer, or leave it out"
        )
    return indices[:count]


def _describe(images: ImageSet, whole: dict[str, NDArray[np.int64]], kept: dict[str, NDArray[np.int64]]) -> str:
    """Return the line for the report.

    Such as "CIFAR-10: 45,000 training, 5,000 validation (held out of training) and 10,000 test images, 3×32×32".
    """

    def count(split: str) -> str:
        of = f" of {len(whole[split]):,}" if len(kept[split]) < len(whole[split]) else ""
        return f"{len(kept[split]):,}{of}"

    held_out = (
        f"{count('validation')} validation (held out of training)" if len(kept["validation"]) else "no validation"
    )
    subset = "a subset of " if any(len(kept[split]) < len(whole[split]) for split in whole) else ""
    shape = "×".join(map(str, images.train.pixels.shape[1:]))
    return (
        f"{subset}{images.description}: {count('train')} training, {held_out} and {count('test')} test images, {shape}"
    )
