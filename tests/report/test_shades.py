"""Colours of the dark page: readable where they were, in the same order of greys, of the same hue."""

from __future__ import annotations

import colorsys

import pytest
from epsgrid.report.drawing.style import BLUE, PURPLE, SKY, VERMILION, VERMILION_TEXT
from epsgrid.report.html.shades import DARK_PAPER, LEAST_CONTRAST, contrast, on_dark

GREYS = ("#000000", "#444444", "#707070", "#868686", "#b5b5b5", "#d9d9d9", "#ffffff")
COLOURS = (BLUE, SKY, VERMILION, PURPLE, "#440154", "#21918c", "#fde725", "#009e73")


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("#777777", "#ffffff", 4.48),
        ("#0000ff", "#ffffff", 8.59),
        ("#ff0000", "#000000", 5.25),
        ("#abcdef", "#abcdef", 1),
    ],
)
def test_contrast_is_that_of_the_guidelines(one: str, other: str, ratio: float) -> None:
    """Against values that contrast checkers of others give."""
    assert contrast(one, other) == pytest.approx(ratio, abs=0.01)
    assert contrast(other, one) == contrast(one, other)


@pytest.mark.parametrize("colour", [*GREYS[:-1], *COLOURS])
def test_what_can_be_read_on_white_can_be_read_on_the_dark_page(colour: str) -> None:
    wanted = min(LEAST_CONTRAST, contrast(colour, "#ffffff"))
    assert contrast(on_dark(colour.lower()), DARK_PAPER) >= wanted


def test_paper_becomes_paper() -> None:
    assert on_dark("#ffffff") == DARK_PAPER


def test_greys_change_places() -> None:
    lightness = [int(on_dark(grey)[1:3], 16) for grey in GREYS]
    assert lightness == sorted(lightness, reverse=True)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_keeps_its_hue(colour: str) -> None:
    """By the hue of colorsys, which differs from Oklab's by some degrees where lightness changes much."""

    def hue(value: str) -> float:
        return colorsys.rgb_to_hls(*(int(value[place : place + 2], 16) / 255 for place in (1, 3, 5)))[0]

    apart = abs(hue(colour) - hue(on_dark(colour)))
    assert min(apart, 1 - apart) < 0.09


def test_text_in_vermilion_can_be_read_on_white() -> None:
    assert contrast(VERMILION_TEXT, "#ffffff") >= LEAST_CONTRAST > contrast(VERMILION, "#ffffff")
