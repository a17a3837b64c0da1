"""Colours for light and for dark pages: what a colour of the light page becomes on the dark one, and contrast.

Figures are drawn for white paper. On a dark page greys change places, so that what stood out still does, and colours
keep their hue but are lifted where they would sink into the background. Lightness is that of Oklab
(https://bottosson.github.io/posts/oklab/); contrast is the ratio of the WCAG 2.2 (relative luminance).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

PAPER, INK = "#ffffff", "#000000"
"""Of figures as they are drawn; on a page they become its own paper and ink."""
DARK_PAPER = "#16181c"
_LEAST_LIGHTNESS, _MOST_LIGHTNESS = 0.21, 0.93
"""Of the dark page: its paper and its ink, as Oklab's L in [0, 1]."""
_GREY = 0.03
"""Least chroma of a colour that has a hue."""
LEAST_CONTRAST = 4.5
"""Of text and its background, by WCAG 2.2 (1.4.3); what has it on white paper has it on dark paper, too."""

_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_FROM_LMS, _FROM_LAB = np.linalg.inv(_TO_LMS), np.linalg.inv(_TO_LAB)


@cache
def on_dark(colour: str) -> str:
    """Return what a colour of the light page becomes on the dark one.

    Args:
        colour: "#rrggbb".

    >>> on_dark("#ffffff") == DARK_PAPER
    True
    """
    if colour == PAPER:
        return DARK_PAPER
    lightness, a, b = _to_oklab(colour)
    inverted = _MOST_LIGHTNESS - (_MOST_LIGHTNESS - _LEAST_LIGHTNESS) * lightness
    lightness = inverted if math.hypot(a, b) < _GREY else max(lightness, inverted)
    least = min(LEAST_CONTRAST, contrast(colour, PAPER))
    while contrast(found := _from_oklab(lightness, a, b), DARK_PAPER) < least and lightness < 1:
        lightness += 0.01
    return found


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, from 1 (none) to 21 (black on white).

    >>> round(contrast("#000000", "#ffffff"), 2)
    21.0
    """
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    return float(_linear(colour) @ (0.2126, 0.7152, 0.0722))


def _linear(colour: str) -> np.ndarray:
    """Return red, green and blue in [0, 1], proportional to light."""
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _to_oklab(colour: str) -> tuple[float, float, float]:
    lightness, a, b = _TO_LAB @ np.cbrt(_TO_LMS @ _linear(colour))
    return float(lightness), float(a), float(b)


def _from_oklab(lightness: float, a: float, b: float) -> str:
    """Return the colour, less colourful where screens cannot show it."""
    light = np.clip(_FROM_LMS @ (_FROM_LAB @ (lightness, a, b)) ** 3, 0, 1)
    values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * value):02x}" for value in values)
