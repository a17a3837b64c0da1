"""What a screen reader says of each figure: a sentence with the numbers that matter."""

from __future__ import annotations

import re

import pytest
from epsgrid.report.rendered import RenderedFigure

from epsgrid.report import pictures
from epsgrid.report.compare import compare
from epsgrid.report.observed import observed
from tests.report.test_browser import some_diverged
from tests.report.test_learning import with_epochs
from tests.report.test_observed import watched


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RenderedFigure]:
    """All figures but for their drawings."""
    changes = {"truth": some_diverged, "rates": (1e-3, 1e-2)}
    stored = with_epochs(watched(tmp_path_factory.mktemp("watched"), {1e-3: 0, 1e-8: 0}, **changes))
    comparison = compare(stored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_rendered", undrawn)
        found = pictures.render_figures(stored, comparison, observed(stored, comparison.best))
    return {figure.name: figure for figure in found}


def undrawn(picture: pictures._Picture, *, paper: bool) -> RenderedFigure:
    return RenderedFigure(picture.name, picture.caption, b"", picture.title, picture.alt)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("metric", "Bounds from 1e-5 to 0.1. Best on validation: lr 1e-3, 90.05 ± 0.03 % at ε 1e-3; lr 1e-2,"),
        ("map", "2 learning rates by 3 ε; 1 cell diverged; best on validation: lr 1e-3, ε 1e-3 with"),
        (
            "learning",
            "narrowed and conventional (lr 1e-3, ε 1e-3): 89.50 ± 0.71 % on validation after epoch 4;",
        ),
        ("ledger", "conventional search: conventional grid 1 min 20 s; narrowed search: probe 3.0 s + narrowed grid"),
        ("histograms", "Gradient magnitudes of 4 layers: lower bound"),
        ("course", "After 16 steps of the probe the lower bound is"),
        ("fractions", "Of the entries that adapt at all, 90 % still do at ε"),
        ("bands", "Median √v̂ over 1 to 9 epochs: convolution from"),
        ("adaptable", "4 layers over 1 to 9 epochs; all entries:"),
    ],
)
def test_a_figure_is_told_in_numbers(figures: dict[str, RenderedFigure], name: str, says: str) -> None:
    assert says in figures[name].alt
    assert figures[name].description.startswith(f"{figures[name].title}. ")
    assert re.findall(r"\b(?:None|nan|inf)\b", figures[name].alt) == []


def test_every_figure_of_a_report_is_known_by_its_name(figures: dict[str, RenderedFigure]) -> None:
    """An earlier report's figures are found by these names, and removed."""
    assert set(figures) <= set(pictures.FIGURES)
    assert len({figure.heading for figure in figures.values()}) == len(figures) == 11
