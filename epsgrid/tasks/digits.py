"""Handwritten digits, 8×8 grey pixels, bundled with scikit-learn: a real task that trains in seconds on a CPU.

Cross-entropy; accuracy; no augmentation. Mean and deviation are those of all pixels of the 1,797 images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from epsgrid.spec.model import TaskOptions
from epsgrid.tasks._divide import DividedImages, divide
from epsgrid.tasks._images import ImageTask, Pixels

if TYPE_CHECKING:
    import torch

PIXELS = Pixels(white=16, mean=(0.3053,), sd=(0.3760,))


class Options(TaskOptions):
    """How many of the 1,437 training images are held out for validation; 360 more are for testing."""

    validation: Annotated[int, Field(ge=0)] = 360


def prepare(options: Options) -> DividedImages:
    """Read the digits, or map what was read before.

    Raises:
        DataError: the cache cannot be written.
        SpecError: `validation` leaves nothing to train on.
    """
    from epsgrid.data import digits

    return divide(digits.load(), options.validation)


def build(options: Options, data: DividedImages, device: torch.device) -> ImageTask:
    """Bind the task to its data and a device."""
    return ImageTask(data, PIXELS, augment=False, device=device)
