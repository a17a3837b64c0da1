"""CIFAR-10 with the published recipe (AdaBelief's repository, after AdaBound).

Images are cut to 32×32 after padding with 4 black pixels, flipped half of the time, and normalised with the published
mean and deviation; cross-entropy; accuracy. The published protocol trains on all 50,000 images and watches the test
set: `validation: 0` with `training.selection: test`. By default 5,000 are held out to choose among trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from epsgrid.spec.model import TaskOptions
from epsgrid.tasks._divide import DividedImages, Subset, divide
from epsgrid.tasks._images import ImageTask, Pixels

if TYPE_CHECKING:
    import torch

PIXELS = Pixels(white=255, mean=(0.4914, 0.4822, 0.4465), sd=(0.2023, 0.1994, 0.2010))


class Options(TaskOptions):
    """Where CIFAR-10 lies, how many images are held out, and how training images are varied.

    `root` and `download` say where the data come from and leave a trial's identity alone: its checksum speaks for them.
    """

    location_fields: ClassVar[frozenset[str]] = frozenset({"root", "download"})

    root: str | None = None
    download: bool = False
    validation: Annotated[int, Field(ge=0)] = 5000
    subset: Subset = Subset()
    augment: bool = True

    @model_validator(mode="after")
    def _subset_is_part_of_validation(self) -> Options:
        if self.subset.validation is not None and self.subset.validation > self.validation:
            raise ValueError(
                f"subset.validation: {self.subset.validation} is more than validation: {self.validation},"
                " the images held out of training; raise validation or lower subset.validation"
            )
        return self


def prepare(options: Options) -> DividedImages:
    """Find and decode CIFAR-10, or map what was decoded before.

    Raises:
        DataError: the data are missing, and how to get them; or damaged.
        SpecError: more images are asked for than there are.
    """
    from epsgrid.data import cifar10

    return divide(cifar10.load(options.root, options.download), options.validation, options.subset)


def find(options: Options, checksum: str) -> DividedImages | None:
    """Return the data of this checksum as they were decoded before; None where they have to be prepared."""
    from epsgrid.data._cache import known

    found = known("cifar10", checksum)
    return None if found is None else divide(found, options.validation, options.subset)


def build(options: Options, data: DividedImages, device: torch.device) -> ImageTask:
    """Bind the task to its data and a device."""
    return ImageTask(data, PIXELS, options.augment, device)
