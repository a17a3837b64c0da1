"""Any folder of labelled images as a task: one's own, or Tiny-ImageNet as its archive unpacks.

Cross-entropy; accuracy. Images lie in train/<class>/* and test/<class>/* below `root` (see `epsgrid.data.images` for
what else is read) and are brought to one size where they differ. Training images are varied as in the published
recipes: cut out at random after padding with an eighth of their size (4 at 32 pixels, 8 at 64) in black, and flipped
half of the time. Mean and deviation are those of the training images unless the spec states others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from epsgrid.data.images import FitName
from epsgrid.spec.model import PositiveFloat, TaskOptions
from epsgrid.tasks._divide import DividedImages, Subset, divide
from epsgrid.tasks._images import ImageTask, Pixels

if TYPE_CHECKING:
    import torch

    from epsgrid.data._images import ImageSet

_WHITE = 255
_PADDING_SHARE = 8
_VALIDATION_SHARE = 10

Channels = tuple[float, float, float]
PositiveChannels = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Options(TaskOptions):
    """Where the images lie, their size, how many are held out, how they are normalised and varied.

    `root` leaves a trial's identity alone: the checksum of the decoded images speaks for it. `validation` is a tenth of
    the training images, and `padding` an eighth of the shorter side, where nothing is said.
    """

    location_fields: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Annotated[str, Field(min_length=1)]
    size: Annotated[int, Field(ge=1)] | None = None
    fit: FitName = "center-crop"
    mean: Channels | None = None
    std: PositiveChannels | None = None
    validation: Annotated[int, Field(ge=0)] | None = None
    subset: Subset = Subset()
    augment: bool = True
    padding: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _mean_and_std_go_together(self) -> Options:
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                "mean and std go together; state both as shares of white, or neither to have them computed"
            )
        return self


def prepare(options: Options) -> DividedImages:
    """Decode the folder, or map what was decoded before.

    Raises:
        DataError: the folder is not as expected, or an image cannot be read.
        SpecError: more images are asked for than there are.
    """
    from epsgrid.data import images

    found = images.load(options.root, options.size, options.fit)
    if options.mean is None:
        images.mean_and_sd(found)  # here, once, and not in every worker
    return _divided(options, found)


def find(options: Options, checksum: str) -> DividedImages | None:
    """Return the data of this checksum as they were decoded before; None where they have to be prepared."""
    from epsgrid.data._cache import known

    found = known("images", checksum)
    return None if found is None else _divided(options, found)


def _divided(options: Options, images: ImageSet) -> DividedImages:
    held_out = len(images.train) // _VALIDATION_SHARE if options.validation is None else options.validation
    return divide(images, held_out, options.subset)


def build(options: Options, data: DividedImages, device: torch.device) -> ImageTask:
    """Bind the task to its data and a device."""
    padding = options.padding
    if padding is None:
        padding = min(data.images.train.pixels.shape[2:]) // _PADDING_SHARE
    return ImageTask(data, _pixels(options, data), options.augment, device, padding)


def _pixels(options: Options, data: DividedImages) -> Pixels:
    if options.mean is not None and options.std is not None:
        return Pixels(_WHITE, options.mean, options.std)
    from epsgrid.data import images

    mean, sd = images.mean_and_sd(data.images)
    return Pixels(_WHITE, tuple(mean), tuple(sd))
