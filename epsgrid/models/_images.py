"""Check that images are large enough for a convolutional model."""

from __future__ import annotations

from epsgrid.errors import SpecError


def require_images(model: str, inputs: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """Return `inputs` as (channels, height, width).

    Args:
        model: name for the error message.
        inputs: shape of one example, without the batch axis.
        smallest: least height and width in pixels that the model's strides leave something of.

    Raises:
        SpecError: `inputs` is no image, or one smaller than that.
    """
    if len(inputs) != 3 or min(inputs[1:]) < smallest:
        other = ", or `model: {name: mlp}`, which takes images of any size" if len(inputs) == 3 else " or another model"
        raise SpecError(
            f"model {model} needs images of at least {smallest}×{smallest} pixels, as (channels, height, width);"
            f" this task gives {inputs}; take another task{other}"
        )
    channels, height, width = inputs
    return channels, height, width
