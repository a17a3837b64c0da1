"""All figures of an experiment's report, with their titles and captions."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.report.batch_exponents import read_batches
from epsgrid.report.figures.adaptable import adaptable_numbers, draw_adaptable
from epsgrid.report.figures.batch_magnitudes import draw_magnitudes
from epsgrid.report.figures.fractions import draw_fractions, fraction_numbers
from epsgrid.report.figures.histograms import draw_histograms, histogram_numbers
from epsgrid.report.figures.learning import draw_learning, learning_numbers
from epsgrid.report.figures.map import draw_map, map_numbers
from epsgrid.report.figures.metric import draw_curves, sweep_numbers
from epsgrid.report.figures.percentiles import draw_percentiles, percentile_numbers
from epsgrid.report.figures.style import to_pdf, to_png, to_svg
from epsgrid.report.figures.trajectory import course_of, draw_trajectory
from epsgrid.report.observed import Observed
from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import DEFAULT
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Picture = tuple[str, str, str, Any, "Callable[[Any], Figure]"]
"""Name, title, caption, numbers (None where there is nothing to show) and drawing function of a figure."""
_OF_DEFAULT = f"-{DEFAULT}"
_OF_TRAINING = ("percentiles", "adaptable", f"percentiles{_OF_DEFAULT}", f"adaptable{_OF_DEFAULT}")
_FORMER = ("cost", "ledger", "course", "batch-curves", "bands", f"bands{_OF_DEFAULT}")
FIGURES = (
    *("metric", "map", "learning", "histograms", "trajectory", "fractions", "batch-magnitudes"),
    *(*_OF_TRAINING, *_FORMER),
)
"""Names of all figures that a report may have, and of those of earlier versions."""


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as bytes, with the words beside it.

    Attributes:
        name: stem of its files, and its address on the page.
        title: its heading.
        caption: what to read below it.
        files: its content in each format, by the ending of the file: always "svg", and "png" and "pdf" for a paper.
    """

    name: str
    title: str
    caption: str
    files: Mapping[str, bytes]


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
    was_enabled = gc.isenabled()
    gc.disable()  # thousands of small artists would start it again and again for nothing
    try:
        rendered = []
        for name, title, caption, numbers, draw in _pictures(stored, comparison, seen):
            if numbers is not None:
                figure = draw(numbers)
                for_paper = {"png": to_png(figure), "pdf": to_pdf(figure)} if paper else {}
                rendered.append(RenderedFigure(name, title, caption, {"svg": to_svg(figure), **for_paper}))
        return tuple(rendered)
    finally:
        if was_enabled:
            gc.enable()


def _pictures(stored: StoredExperiment, comparison: Comparison, seen: Sequence[Observed]) -> Iterator[_Picture]:
    """Yield all figures, in the order of the report."""
    yield from _of_sweep(stored, comparison)
    yield from _of_probe(stored, comparison)
    for each in seen:
        yield from _of_training(each, stored, comparison.optimizer)


def _of_sweep(stored: StoredExperiment, comparison: Comparison) -> Iterator[_Picture]:
    """Yield the figures of the trained settings."""
    curves = sweep_numbers(stored, comparison)
    beside = " Markers of different learning rates stand side by side, at most a fifth of a decade from their ε."
    yield (
        "metric",
        f"{curves.metric.name.capitalize()} against {'ε' if curves.epsilons else 'learning rate'}" if curves else "",
        "Mean and standard deviation over seeds. Hollow cells lack the score of a seed and are not joined to the line."
        + (beside if curves and len(curves.curves) > 1 else ""),
        curves,
        draw_curves,
    )
    yield (
        "map",
        "Learning rate and ε together",
        "The mean over seeds in each tile; lighter is better. A cross marks divergence, a small one that of some "
        "seeds; what has no tile was not trained.",
        map_numbers(stored, comparison),
        draw_map,
    )
    yield (
        "learning",
        "How the chosen settings learned",
        "Mean over seeds, shaded by the standard deviation, of the settings chosen and of the default ε at its best "
        "learning rate. Each seed's score counts at its own best epoch, so the last epoch need not show it.",
        learning_numbers(stored, comparison),
        draw_learning,
    )


def _of_probe(stored: StoredExperiment, comparison: Comparison) -> Iterator[_Picture]:
    """Yield the figures of what the probe measured, at one batch size and at several."""
    yield (
        "histograms",
        "Gradient magnitudes, layer by layer",
        "The distribution of the gradient magnitudes √v̂ that the probe measured, in all layers together and in each. "
        "Each layer is scaled to its own peak, as a ridge or, where layers are many, in shades of grey; zeros are left "
        "out. Marks on top stand where a swept ε weighs as much as the magnitude below it.",
        histogram_numbers(stored, comparison),
        draw_histograms,
    )
    yield (
        "trajectory",
        "How the bounds settled",
        "The bounds that the probe would have given if it had ended after that many steps. Shaded: what rounds to the "
        "final decade.",
        stored.bounds if course_of(stored.bounds) else None,
        lambda bounds: draw_trajectory(bounds, comparison.optimizer),
    )
    yield (
        "fractions",
        "Entries that still adapt, against ε",
        "Share of the entries whose √v̂, measured by the probe, weighs more than ε: those whose step adapts. The others "
        "move as in SGD with momentum; zeros are among them.",
        fraction_numbers(stored, comparison),
        draw_fractions,
    )
    yield (
        "batch-magnitudes",
        "Gradient magnitudes against batch size",
        "Percentiles of each layer's √v̂ over an epoch, against the batch size. The dashed lines show what noise alone "
        "would do from the spec's batch size on, the dotted lines what signal alone would do.",
        read_batches(stored.folder),
        draw_magnitudes,
    )


def _of_training(each: Observed, stored: StoredExperiment, optimizer: str) -> Iterator[_Picture]:
    """Yield the figures of what was observed while one trial trained."""
    suffix, whose = (_OF_DEFAULT, "default ε") if each.name == DEFAULT else ("", f"best {each.name} setting")
    trial = f"{each.cell.label}, seed {each.trial.seed}"
    epsilon = each.cell.epsilon
    yield (
        f"percentiles{suffix}",
        f"Gradient magnitudes over training: {whose}",
        f"Percentiles of √v̂ while {trial} trained, all layers of a kind together; zeros are left out. The bounds "
        "are the probe's.",
        percentile_numbers(each.series, stored.bounds, optimizer=optimizer, epsilon=epsilon),
        draw_percentiles,
    )
    yield (
        f"adaptable{suffix}",
        f"Entries that adapt, over training: {whose}",
        f"Share of each layer's entries that still adapt while {trial} trained: those with √v̂ above ε. Zeros count "
        "as not adapting.",
        adaptable_numbers(each.series, optimizer=optimizer, epsilon=epsilon),
        draw_adaptable,
    )
