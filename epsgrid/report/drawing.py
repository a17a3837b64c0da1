"""What drawings share: style, colours, and how a figure becomes bytes.

Figures are for print: colour-blind-safe, legible at two columns' width, and the same bytes every time. Colours are
those of Okabe and Ito. matplotlib is imported inside the functions, and without pyplot, so that no display is needed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from epsgrid.report.words import decade

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, SKY, VERMILION, PURPLE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#CC79A7", "#777777"
WIDTH_INCH = 7.2
PNG_DPI = 200
LABEL_INCH = 0.13
"""Least distance of two names one below the other, in 7 point type."""
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.hashsalt": "epsgrid",
    "svg.fonttype": "path",
}


@contextmanager
def style() -> Iterator[None]:
    """Use our settings alone, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(height_inch: float) -> Figure:
    """Return an empty figure of full width; to be called and drawn on inside `style()`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCH, height_inch), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def add_legend(figure: Figure, entries: Sequence[tuple[Any, str]], columns: int) -> None:
    """Put a legend of (handle, label) pairs below everything, where it can cover nothing."""
    handles, labels = zip(*entries, strict=True)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.6, handlelength=1.8)


def log_axis(axis: Axis) -> None:
    """Mark the decades of an axis that has a log scale, in plain text, and nothing between them."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
    axis.set_minor_locator(NullLocator())


def rows_that_fit(rows: int, row_inch: float, first: Sequence[int] = (), least_inch: float = LABEL_INCH) -> list[int]:
    """Return the rows whose names fit without touching: some that come first, then evenly spaced ones.

    Args:
        rows: how many there are.
        row_inch: height of each.
        first: rows to name before any other.
        least_inch: least distance of two names.
    """
    least = math.ceil(least_inch / row_inch - 1e-9)
    chosen: list[int] = []
    for row in [*first, *range(0, rows, least)]:
        if all(abs(row - other) >= least for other in chosen):
            chosen.append(row)
    return sorted(chosen)


def elided(name: str, width: int = 34) -> str:
    """Shorten a long name in the middle, where names of layers differ least."""
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[:half]}…{name[-half:]}"


def short_count(number: int) -> str:
    """Write a count short.

    >>> short_count(640), short_count(12_000), short_count(2_359_296)
    ('640', '12k', '2.36M')
    """
    for size, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{suffix}"
    return str(number)


def fix_layout(figure: Figure) -> Figure:
    """Lay a finished figure out once and for all, so that saving it twice does not do it twice."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def to_svg(figure: Figure) -> bytes:
    """Return a figure as SVG, without a date: equal numbers give equal bytes."""
    return _saved(figure, format="svg", dpi=PNG_DPI, metadata={"Date": None, "Creator": None})


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG, likewise."""
    return _saved(figure, format="png", dpi=PNG_DPI, metadata={"Software": None})


def _saved(figure: Figure, **options: Any) -> bytes:
    with style():
        buffer = io.BytesIO()
        figure.savefig(buffer, facecolor="white", **options)
        return buffer.getvalue()
