"""The figure of adaptable shares against ε: how abruptly a larger ε turns Adam into SGD with momentum.

The shares come from the probe's histograms, before any training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.report.figures import style
from epsgrid.report.figures.binning import log_edges
from epsgrid.report.rows import Comparison
from epsgrid.report.table import percent
from epsgrid.report.trust import shares_above
from epsgrid.selection.cells import NARROWED
from epsgrid.selection.formatting import power
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS_PER_DECADE = 10
_MARGIN_DECADES = 1
_ALL_BUT = 1e-4
"""Share of the entries that may cross ε outside the picture."""
_HEIGHT_INCH = 3.2
_KINDS = (style.GREEN, style.VERMILION, style.BLUE, style.PURPLE, "#B8860B", style.GREY, style.SKY, "#6A4C93")
_DASHES: tuple[Any, ...] = ("--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1)))
_MARKS: dict[bool, dict[str, Any]] = {
    True: {"ls": "none", "marker": "o", "ms": 5, "mfc": style.BLUE, "mec": style.BLUE, "mew": 1.0},
    False: {"ls": "none", "marker": "o", "ms": 5, "mfc": "white", "mec": "black", "mew": 0.9},
}
"""Of a swept ε, by whether the narrowed grid has it."""


@dataclass(frozen=True)
class _FractionCurve:
    """Of the entries of some layers, the share with √v̂ above each ε of the figure, in [0, 1]; zeros lie below."""

    title: str
    entries: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class _FractionNumbers:
    """The numbers of the figure; ε are the optimizer's own.

    Attributes:
        epsilons: rising, ten per decade.
        total: all entries together.
        kinds: the layers of each kind; empty where there is one kind alone, or kinds are not known.
        marks: (swept ε, share of all entries that still adapts there, whether the narrowed grid has it), rising.
        decades: first and last decade of the bounds.
        optimizer: its name.
    """

    epsilons: tuple[float, ...]
    total: _FractionCurve
    kinds: tuple[_FractionCurve, ...]
    marks: tuple[tuple[float, float, bool], ...]
    decades: tuple[float, float]
    optimizer: str


def fraction_numbers(stored: StoredExperiment, comparison: Comparison) -> _FractionNumbers | None:
    """Return the numbers of the figure; None where nothing was probed, or no layer's entries were counted."""
    bounds, probe = stored.bounds, stored.probe
    layers = [layer for layer in bounds.layers if layer.histogram] if bounds else []
    if bounds is None or probe is None or not any(layer.nonzero for layer in layers):
        return None
    edges = log_edges(_BINS_PER_DECADE)
    total = shares_above(layers, 10.0**edges)
    placement = probe.placement
    swept = [(row.epsilon, row.share) for row in comparison.adaptive]
    shown = _shown(edges, total, [placement.magnitude_from_epsilon(epsilon) for epsilon, _ in swept])

    def curve(title: str, own: Sequence[LayerStatistics]) -> _FractionCurve:
        return _FractionCurve(
            title, sum(layer.entries for layer in own), tuple(shares_above(own, 10.0 ** edges[shown]).tolist())
        )

    kinds = dict.fromkeys(layer.kind for layer in layers)
    by_kind = tuple(curve(kind, [layer for layer in layers if layer.kind == kind]) for kind in kinds)
    return _FractionNumbers(
        epsilons=tuple(placement.epsilon_from_magnitude(float(10**edge)) for edge in edges[shown]),
        total=curve("all layers", layers),
        kinds=by_kind if len(by_kind) > 1 else (),
        marks=tuple((epsilon, share, NARROWED in comparison.sweeping(epsilon)) for epsilon, share in swept),
        decades=(bounds.low.decade, bounds.high.decade),
        optimizer=comparison.optimizer,
    )


def _shown(edges: npt.NDArray[np.float64], total: npt.NDArray[np.float64], magnitudes: Sequence[float]) -> slice:
    """Return the edges to show: whole decades around all but a few entries, and around the swept ε."""
    changing = np.flatnonzero((total < total[0] - _ALL_BUT) & (total > _ALL_BUT))
    logs = [*np.log10(magnitudes), *(edges[changing[[0, -1]]] if len(changing) else ())]
    if not logs:
        return slice(None)
    low, high = np.floor(min(logs)) - _MARGIN_DECADES, np.ceil(max(logs)) + _MARGIN_DECADES
    inside = np.flatnonzero((edges >= low - 1e-9) & (edges <= high + 1e-9))
    return slice(int(inside[0]), int(inside[-1]) + 1)


def draw_fractions(numbers: _FractionNumbers) -> Figure:
    """Draw the shares over ε, with the decades of the bounds shaded and the swept ε marked."""
    from matplotlib.ticker import LogLocator

    with style.applied():
        figure = style.new_figure(_HEIGHT_INCH)
        axes = figure.subplots()
        style.shade_decades(axes, *numbers.decades, margin=0.5)
        for index, kind in enumerate(numbers.kinds):
            look: dict[str, Any] = {"color": _KINDS[index % len(_KINDS)], "ls": _DASHES[index % len(_DASHES)]}
            (line,) = axes.plot(numbers.epsilons, kind.shares, lw=1.1, zorder=3, label=kind.title, **look)
            style.hover(line, f"{kind.title}: {kind.entries:,} entries")
        axes.plot(numbers.epsilons, numbers.total.shares, "k", lw=1.5, zorder=4, label=numbers.total.title)
        for is_narrowed, label in ((True, "ε of the narrowed grid"), (False, "other swept ε")):
            marks = [(epsilon, share) for epsilon, share, narrowed in numbers.marks if narrowed is is_narrowed]
            if marks:
                xs, shares = zip(*marks, strict=True)
                (drawn,) = axes.plot(xs, shares, zorder=5, label=label, **_MARKS[is_narrowed])
                style.hover(drawn, *(f"ε {power(x)}: {percent(share)} of all entries adapt" for x, share in marks))
        axes.set_xscale("log")
        axes.set_xlim(numbers.epsilons[0], numbers.epsilons[-1])
        axes.xaxis.set_major_locator(LogLocator(numticks=14))
        style.log_axis(axes.xaxis)
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        style.value_lines(axes)
        axes.set_xlabel(f"ε of {numbers.optimizer}")
        axes.set_ylabel("entries with √v̂ above ε")
        return style.finished(figure, columns=4)
