"""Write the report's folder: one page for people, one document and one table for programs, and the figures.

    report.md     verdict, comparison, costs, bounds, figures, layers, provenance
    report.json   the whole comparison, versioned
    report.csv    one row per learning rate and ε
    histograms    the gradient magnitudes, as .svg and .png, as are all figures
    course        how the bounds settled over the probe's steps
    metric        the metric against ε
    bands, adaptable                    the best narrowed setting's magnitudes over training, where they were kept
    bands-default, adaptable-default    likewise, of the default ε

Equal records give equal bytes, and each file is replaced whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epsgrid.report.adaptable import adaptable_numbers
from epsgrid.report.bands import band_numbers
from epsgrid.report.cells import Cell, Spread
from epsgrid.report.compare import compare
from epsgrid.report.draw_adaptable import draw_adaptable
from epsgrid.report.draw_bands import draw_bands
from epsgrid.report.draw_course import draw_course
from epsgrid.report.draw_curves import draw_curves
from epsgrid.report.draw_histograms import draw_histograms
from epsgrid.report.drawing import to_png, to_svg
from epsgrid.report.figures import curve_numbers, histogram_numbers
from epsgrid.report.load import StoredExperiment
from epsgrid.report.observed import Observed, observed, observed_row
from epsgrid.report.over_time import course_numbers
from epsgrid.report.page import page
from epsgrid.report.rows import DEFAULT, Comparison
from epsgrid.store.atomic import readable_json, store_errors, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1
_HISTOGRAMS, _METRIC, _COURSE, _BANDS, _ADAPTABLE = "histograms", "metric", "course", "bands", "adaptable"
_OF_DEFAULT = f"-{DEFAULT}"
_ALL = (_HISTOGRAMS, _METRIC, _COURSE, _BANDS, _ADAPTABLE, f"{_BANDS}{_OF_DEFAULT}", f"{_ADAPTABLE}{_OF_DEFAULT}")
_HISTOGRAMS_CAPTION = (
    "How the gradient magnitudes √v̂ that the probe measured are spread, in all layers together and in each. Each layer "
    "is scaled to its own peak, as a ridge or, where layers are many, in shades of grey; zeros are left out. Marks on "
    "top stand where a swept ε weighs as much as the magnitude below it."
)
_METRIC_CAPTION = (
    "Mean and standard deviation over seeds. Hollow cells lack the score of a seed and are not joined to the line."
)
_DODGE_CAPTION = " Markers of different learning rates stand side by side, at most a fifth of a decade from their ε."

_COURSE_CAPTION = (
    "The bounds as they would have been had the probe ended after so many steps. Shaded: what rounds to the decade of "
    "the end."
)
_BANDS_CAPTION = (
    "Percentiles of √v̂ while {} trained, all layers of a kind together; zeros are left out. The bounds are the probe's."
)
_ADAPTABLE_CAPTION = (
    "Share of each layer's entries that still adapt while {} trained: those with √v̂ above ε. Zeros count as not "
    "adapting."
)


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as bytes, with the text to print below it."""

    name: str
    caption: str
    svg: bytes
    png: bytes


@dataclass(frozen=True)
class WrittenReport:
    """A report and where it lies.

    Attributes:
        comparison: all that it says.
        files: what was written, the page for people first.
    """

    comparison: Comparison
    files: tuple[Path, ...]


def write_report(stored: StoredExperiment) -> WrittenReport:
    """Write the report of an experiment into its folder.

    Whatever is not there yet is said on the page; a figure that has nothing to show is not written, and one of an
    earlier report removed.

    Raises:
        CorruptRecordError: records contradict each other.
        StoreError: the folder cannot be written.
    """
    comparison, folder = compare(stored), stored.folder.report_dir
    seen = observed(stored, comparison.best)
    rows = tuple(observed_row(each, stored, comparison.optimizer) for each in seen)
    comparison = replace(comparison, observed=rows)
    figures = render_figures(stored, comparison, seen)
    contents = {
        "report.md": page(comparison, {figure.name: figure.caption for figure in figures}).encode(),
        "report.json": (readable_json({"version": VERSION, **comparison.to_json()}) + "\n").encode(),
        "report.csv": cells_csv(comparison).encode(),
    }
    for figure in figures:
        contents |= {f"{figure.name}.svg": figure.svg, f"{figure.name}.png": figure.png}
    for name, content in contents.items():
        write_bytes(folder / name, content)
    _remove_figures_except(folder, set(contents))
    return WrittenReport(comparison, tuple(folder / name for name in contents))


def render_figures(
    stored: StoredExperiment, comparison: Comparison, seen: Sequence[Observed] = ()
) -> tuple[RenderedFigure, ...]:
    """Return the figures that have something to show.

    Args:
        stored: the experiment.
        comparison: of it.
        seen: the trials whose snapshots are shown.
    """
    figures = []
    if (histograms := histogram_numbers(stored, comparison)) is not None:
        figures.append(_rendered(_HISTOGRAMS, _HISTOGRAMS_CAPTION, draw_histograms(histograms)))
    course = course_numbers(stored.bounds, comparison.optimizer) if stored.bounds else None
    if course is not None:
        figures.append(_rendered(_COURSE, _COURSE_CAPTION, draw_course(course)))
    if (curves := curve_numbers(stored, comparison)) is not None:
        dodge = _DODGE_CAPTION if len(curves.curves) > 1 else ""
        figures.append(_rendered(_METRIC, _METRIC_CAPTION + dodge, draw_curves(curves)))
    for each in seen:
        figures += _observed_figures(each, stored, comparison.optimizer)
    return tuple(figures)


def _observed_figures(each: Observed, stored: StoredExperiment, optimizer: str) -> list[RenderedFigure]:
    """Return the bands and the map of one trial, as far as there is something to show."""
    suffix = _OF_DEFAULT if each.name == DEFAULT else ""
    words, epsilon = f"{each.cell.words}, seed {each.trial.seed}", each.cell.epsilon
    figures = []
    if (bands := band_numbers(each.series, stored.bounds, optimizer=optimizer, epsilon=epsilon)) is not None:
        figures.append(_rendered(_BANDS + suffix, _BANDS_CAPTION.format(words), draw_bands(bands)))
    if (shares := adaptable_numbers(each.series, optimizer=optimizer, epsilon=epsilon)) is not None:
        figures.append(_rendered(_ADAPTABLE + suffix, _ADAPTABLE_CAPTION.format(words), draw_adaptable(shares)))
    return figures


def _rendered(name: str, caption: str, figure: Figure) -> RenderedFigure:
    return RenderedFigure(name, caption, to_svg(figure), to_png(figure))


def _remove_figures_except(folder: Path, names: set[str]) -> None:
    """Remove figures of an earlier report that this one does not show."""
    for name in (f"{stem}.{suffix}" for stem in _ALL for suffix in ("svg", "png")):
        if name not in names:
            with store_errors("remove", folder / name):
                (folder / name).unlink(missing_ok=True)


def cells_csv(comparison: Comparison) -> str:
    """Return one row per learning rate and ε as CSV; metrics in their stored unit, empty where not known."""
    buffer = io.StringIO()
    rows = [_csv_row(cell, comparison) for cell in comparison.cells]
    writer = csv.DictWriter(buffer, list(_CSV_COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


_CSV_COLUMNS = (
    "learning_rate",
    "epsilon",
    "grids",
    "inside_bounds",
    "seeds",
    "done",
    "diverged",
    "failed",
    "missing",
    "metric",
    "selection",
    "selecting_mean",
    "selecting_sd",
    "test_mean",
    "test_sd",
    "seconds",
    "best_of",
)


def _csv_row(cell: Cell, comparison: Comparison) -> dict[str, Any]:
    selecting, test = _mean_and_sd(cell.score), _mean_and_sd(cell.test)
    values = (
        cell.learning_rate,
        cell.epsilon,
        " ".join(cell.grids),
        None if cell.inside is None else str(cell.inside).lower(),
        cell.tally.trials,
        cell.tally.done,
        cell.tally.diverged,
        cell.tally.failed,
        cell.tally.missing,
        comparison.metric.name if comparison.metric else None,
        comparison.selection,
        *selecting,
        *test,
        cell.tally.seconds,
        " ".join(row.name for row in comparison.best if row.choice.cell is cell),
    )
    return dict(zip(_CSV_COLUMNS, values, strict=True))


def _mean_and_sd(spread: Spread | None) -> tuple[float | None, float | None]:
    return (None, None) if spread is None else (spread.mean, spread.sd)
