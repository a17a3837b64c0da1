"""All figures of an experiment's report, with their titles and captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.grids import DEFAULT
from epsgrid.report.figures.curve import curve_numbers, draw_curve
from epsgrid.report.figures.damping import damping_of_series, draw_damping
from epsgrid.report.figures.histograms import draw_histograms, histogram_numbers
from epsgrid.report.figures.learning import draw_learning, learning_numbers
from epsgrid.report.figures.map import draw_map, map_numbers
from epsgrid.report.figures.percentiles import draw_percentiles, percentile_numbers
from epsgrid.report.figures.style import to_bytes
from epsgrid.report.observed import Observed
from epsgrid.report.rows import Comparison
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMER = (
    *("metric", "trajectory", "fractions", "batch-magnitudes", "adaptable", "adaptable-default"),
    *("cost", "ledger", "course", "batch-curves", "bands", "bands-default"),
)
FIGURES = (
    *("curve", "map", "learning", "histograms", "percentiles", "percentiles-default", "damping", "damping-default"),
    *_FORMER,
)
"""Names of all figures that a report may have, and of those of earlier versions."""


Picture = tuple[str, str, str, Any, Callable[[Any], "Figure"]]
"""Name, title, caption, numbers (None where there is nothing to show) and drawing function of a figure."""


@dataclass(frozen=True)
class RenderedFigure:
    """A figure with its words; `files` holds it by the ending of the file: "svg", and for a paper "png" and "pdf"."""

    name: str
    title: str
    caption: str
    files: Mapping[str, bytes]


def render_figures(
    stored: StoredExperiment, comparison: Comparison, seen: Sequence[Observed] = (), *, paper: bool = False
) -> tuple[RenderedFigure, ...]:
    """Return the figures that have something to show; for a paper also as PNG and PDF, which takes three times as long.

    `seen` are the trials whose snapshots are shown.
    """
    return rendered(_pictures(stored, comparison, seen), ("svg", "png", "pdf") if paper else ("svg",))


def rendered(pictures: Iterable[Picture], suffixes: Sequence[str] = ("svg",)) -> tuple[RenderedFigure, ...]:
    """Return the figures among some pictures that have something to show."""
    found = []
    for name, title, caption, numbers, draw in pictures:
        if numbers is not None:
            figure = draw(numbers)
            found.append(
                RenderedFigure(name, title, caption, {suffix: to_bytes(figure, suffix) for suffix in suffixes})
            )
    return tuple(found)


def _pictures(stored: StoredExperiment, comparison: Comparison, seen: Sequence[Observed]) -> Iterator[Picture]:
    has_epsilon, metric = bool(comparison.answers.epsilons), comparison.metric
    yield (
        "curve",
        f"{metric.name.capitalize() if metric else ''} over {'ε' if has_epsilon else 'the learning rate'}",
        "Mean and standard deviation over seeds on test, "
        + ("each ε at its best learning rate." if has_epsilon else "at the best epoch of each."),
        curve_numbers(stored, comparison),
        draw_curve,
    )
    yield (
        "map",
        "Learning rate and ε together",
        f"{comparison.selection.capitalize()} {metric.label if metric else ''}, mean over seeds; lighter is better, "
        "in finer steps near the best. A cross marks divergence, a small one that of some "
        "seeds; a setting without tile has no result.",
        map_numbers(stored, comparison),
        draw_map,
    )
    yield (
        "learning",
        "How the chosen settings learned",
        "Mean and standard deviation over seeds. Each seed's score counts at its own best epoch, so the last epoch "
        "need not show it.",
        learning_numbers(stored, comparison),
        draw_learning,
    )
    yield (
        "histograms",
        "Gradient magnitudes before training",
        "Above: all layers together, and the share of entries with √v̂ above each magnitude, which adapt at an ε that "
        "weighs as much; the others move as in SGD with momentum. Below: each layer without "
        "zeros, the fuller the shade the more of its entries.",
        histogram_numbers(stored, comparison),
        draw_histograms,
    )
    placement = (stored.grid.placement if stored.grid else None) or (stored.probe.placement if stored.probe else None)
    for each in seen:
        suffix = f"-{DEFAULT}" if each.name == DEFAULT else ""
        whose = "default ε" if suffix else f"best {each.name} setting"
        yield (
            f"percentiles{suffix}",
            f"Gradient magnitudes over training: {whose}",
            f"While {each.cell.label}, seed {each.trial.seed} trained: percentiles of √v̂ without zeros, all "
            "layers of a kind together, with the probe's bounds; and the share of all entries above ε, which adapt.",
            percentile_numbers(each.series, stored.bounds, each.cell.epsilon),
            draw_percentiles,
        )
        yield (
            f"damping{suffix}",
            f"How far ε shortened the steps: {whose}",
            f"While {each.cell.label}, seed {each.trial.seed} trained: the mean length of steps, as a share of that at "
            "ε → 0, of the layers with the shortest. A higher learning rate makes up for it where it is even.",
            damping_of_series(each.series, placement) if placement else None,
            draw_damping,
        )
