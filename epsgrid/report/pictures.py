"""All figures of an experiment's report: which there are, their headings, and what to read below them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.report.batches import measured_batches
from epsgrid.report.drawing import alts
from epsgrid.report.drawing.adaptable import draw_adaptable
from epsgrid.report.drawing.bands import draw_bands
from epsgrid.report.drawing.course import draw_course
from epsgrid.report.drawing.curves import draw_curves
from epsgrid.report.drawing.fractions import draw_fractions
from epsgrid.report.drawing.histograms import draw_histograms
from epsgrid.report.drawing.learning import draw_learning
from epsgrid.report.drawing.ledger import draw_ledger
from epsgrid.report.drawing.magnitudes import draw_magnitudes
from epsgrid.report.drawing.map import draw_map
from epsgrid.report.drawing.style import to_pdf, to_png, to_svg
from epsgrid.report.numbers.adaptable import adaptable_numbers
from epsgrid.report.numbers.bands import band_numbers
from epsgrid.report.numbers.batch_figure import magnitude_numbers
from epsgrid.report.numbers.figures import curve_numbers, histogram_numbers
from epsgrid.report.numbers.fractions import fraction_numbers
from epsgrid.report.numbers.learning import learning_numbers
from epsgrid.report.numbers.ledger import ledger_numbers
from epsgrid.report.numbers.maps import map_numbers
from epsgrid.report.numbers.over_time import course_numbers
from epsgrid.report.observed import Observed
from epsgrid.report.rendered import RenderedFigure
from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import DEFAULT
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OF_DEFAULT = f"-{DEFAULT}"
FIGURES = (
    *("metric", "map", "learning", "ledger", "histograms", "course", "fractions"),
    "batch-magnitudes",
    *("bands", "adaptable", f"bands{_OF_DEFAULT}", f"adaptable{_OF_DEFAULT}"),
)
"""Names of all figures a report may have."""
_HISTOGRAMS_CAPTION = (
    "How the gradient magnitudes √v̂ that the probe measured are spread, in all layers together and in each. Each layer "
    "is scaled to its own peak, as a ridge or, where layers are many, in shades of grey; zeros are left out. Marks on "
    "top stand where a swept ε weighs as much as the magnitude below it."
)
_METRIC_CAPTION = (
    "Mean and standard deviation over seeds. Hollow cells lack the score of a seed and are not joined to the line."
)
_DODGE_CAPTION = " Markers of different learning rates stand side by side, at most a fifth of a decade from their ε."
_MAP_CAPTION = (
    "The mean over seeds in each tile, the better, the lighter. A cross stands for divergence, a small one for that of "
    "some seeds; what has no tile was not trained."
)
_LEARNING_CAPTION = (
    "Mean over seeds, shaded by the standard deviation, of the settings chosen and of the default ε at its best "
    "learning rate. Each seed's score counts at its own best epoch, so the last epoch need not show it."
)
_COURSE_CAPTION = (
    "The bounds as they would have been had the probe ended after so many steps. Shaded: what rounds to the decade of "
    "the end."
)
_FRACTIONS_CAPTION = (
    "Share of the entries whose √v̂, measured by the probe, weighs more than ε: those whose step adapts. The others "
    "move as in SGD with momentum; zeros are among them."
)
_LEDGER_CAPTION = "Each search as if it were run alone: trials that belong to both grids count in both."
_BATCH_MAGNITUDES_CAPTION = (
    "Percentiles of each layer's √v̂ over an epoch, against the batch size. From the spec's batch size on, dashed: "
    "where nothing but noise would take them; dotted: nothing but signal."
)
_BANDS_CAPTION = (
    "Percentiles of √v̂ while {} trained, all layers of a kind together; zeros are left out. The bounds are the probe's."
)
_ADAPTABLE_CAPTION = (
    "Share of each layer's entries that still adapt while {} trained: those with √v̂ above ε. Zeros count as not "
    "adapting."
)


@dataclass(frozen=True)
class _Picture:
    """A figure that can be drawn: its words, and what draws it."""

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]


def render_figures(
    stored: StoredExperiment, comparison: Comparison, seen: Sequence[Observed] = (), *, paper: bool = False
) -> tuple[RenderedFigure, ...]:
    """Return the figures that have something to show.

    Args:
        stored: the experiment.
        comparison: of it.
        seen: the trials whose snapshots are shown.
        paper: also as PNG and PDF, which takes three times as long.
    """
    pictures = [*_of_search(stored, comparison), *_of_probe(stored, comparison), *_of_batches(stored, comparison)]
    for each in seen:
        pictures += _of_training(each, stored, comparison.optimizer)
    with _without_collecting():
        return tuple(_rendered(picture, paper=paper) for picture in pictures)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Draw without Python's garbage collector: thousands of small artists set it off again and again for nothing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _rendered(picture: _Picture, *, paper: bool) -> RenderedFigure:
    figure = picture.draw()
    png, pdf = (to_png(figure), to_pdf(figure)) if paper else (None, None)
    return RenderedFigure(picture.name, picture.caption, to_svg(figure), picture.title, picture.alt, png, pdf)


def _of_search(stored: StoredExperiment, comparison: Comparison) -> Iterator[_Picture]:
    """Yield what the trained settings show, and what they cost."""
    if (curves := curve_numbers(stored, comparison)) is not None:
        dodge = _DODGE_CAPTION if len(curves.curves) > 1 else ""
        title = f"{curves.metric.name.capitalize()} against {'ε' if curves.has_epsilon else 'learning rate'}"
        caption = _METRIC_CAPTION + dodge
        yield _Picture("metric", title, caption, alts.of_curves(curves), lambda: draw_curves(curves))
    if (tiles := map_numbers(stored, comparison)) is not None:
        alt = alts.of_map(tiles)
        yield _Picture("map", "Learning rate and ε together", _MAP_CAPTION, alt, lambda: draw_map(tiles))
    if (learning := learning_numbers(stored, comparison)) is not None:
        alt, title = alts.of_learning(learning), "How the chosen settings learned"
        yield _Picture("learning", title, _LEARNING_CAPTION, alt, lambda: draw_learning(learning))
    if (ledger := ledger_numbers(comparison)) is not None:
        alt, title = alts.of_ledger(ledger), "What each search costs"
        yield _Picture("ledger", title, _LEDGER_CAPTION, alt, lambda: draw_ledger(ledger))


def _of_probe(stored: StoredExperiment, comparison: Comparison) -> Iterator[_Picture]:
    """Yield what the probe measured."""
    if (histograms := histogram_numbers(stored, comparison)) is not None:
        alt, title = alts.of_histograms(histograms), "Gradient magnitudes, layer by layer"
        yield _Picture("histograms", title, _HISTOGRAMS_CAPTION, alt, lambda: draw_histograms(histograms))
    course = course_numbers(stored.bounds, comparison.optimizer) if stored.bounds else None
    if course is not None:
        alt = alts.of_course(course)
        yield _Picture("course", "How the bounds settled", _COURSE_CAPTION, alt, lambda: draw_course(course))
    if (fractions := fraction_numbers(stored, comparison)) is not None:
        alt, title = alts.of_fractions(fractions), "Entries that still adapt, against ε"
        yield _Picture("fractions", title, _FRACTIONS_CAPTION, alt, lambda: draw_fractions(fractions))


def _of_batches(stored: StoredExperiment, comparison: Comparison) -> Iterator[_Picture]:
    """Yield what is known of other batch sizes."""
    if comparison.batches is None:
        return
    if (measured := measured_batches(stored)) is not None:
        numbers, title = magnitude_numbers(measured), "Gradient magnitudes against batch size"
        alt = comparison.batches.exponents.verdict if comparison.batches.exponents else ""
        yield _Picture("batch-magnitudes", title, _BATCH_MAGNITUDES_CAPTION, alt, lambda: draw_magnitudes(numbers))


def _of_training(each: Observed, stored: StoredExperiment, optimizer: str) -> Iterator[_Picture]:
    """Yield the bands and the map of one trial, as far as there is something to show."""
    suffix, whose = (_OF_DEFAULT, "default ε") if each.name == DEFAULT else ("", f"best {each.name} setting")
    words, epsilon = f"{each.cell.words}, seed {each.trial.seed}", each.cell.epsilon
    bands = band_numbers(each.series, stored.bounds, optimizer=optimizer, epsilon=epsilon)
    if bands is not None:
        title, caption = f"Gradient magnitudes over training: {whose}", _BANDS_CAPTION.format(words)
        yield _Picture(f"bands{suffix}", title, caption, alts.of_bands(bands), lambda: draw_bands(bands))
    shares = adaptable_numbers(each.series, optimizer=optimizer, epsilon=epsilon)
    if shares is not None:
        title, caption = f"Entries that adapt, over training: {whose}", _ADAPTABLE_CAPTION.format(words)
        yield _Picture(f"adaptable{suffix}", title, caption, alts.of_adaptable(shares), lambda: draw_adaptable(shares))
