"""What all figures share: style, colours, axes, legends, and how a figure becomes bytes.

The colours are those of Okabe and Ito, colour-blind-safe and darkened for text. matplotlib is imported inside the
functions, and without pyplot, so that no display is needed and nothing is loaded before the first drawing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from epsgrid.selection.formatting import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, SKY, VERMILION, PURPLE, GREEN, GREY = "#0072b2", "#56b4e9", "#b24e00", "#a0457a", "#00754f", "#666666"
"""Those used for text have a contrast of at least 5 to 1 on white. The page replaces them where it is dark."""
FAINT = "#dddddd"
WIDTH_INCH = 4.0
"""Narrow, so that a text of 8 points can be read where a phone shows the figure whole."""
_TYPEFACE, _FALLBACKS = "DejaVu Sans", "Verdana, Arial, sans-serif"
_STYLE: Any = {
    "font.family": _TYPEFACE,
    "font.size": 8.5,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.hashsalt": "epsgrid",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
_METADATA = {"svg": ("Date", "Creator"), "png": ("Software",), "pdf": ("CreationDate", "Creator", "Producer")}
"""What would differ between equal figures, or between versions."""


@contextmanager
def applied() -> Iterator[None]:
    """Use these settings alone, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(height_inch: float) -> Figure:
    """Return an empty figure of full width, to be drawn on inside `applied()`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCH, height_inch), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finished(figure: Figure, columns: int = 2) -> Figure:
    """Add a legend of everything with a label, below the axes, of so many columns."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            entries.setdefault(label, handle)
    if entries:
        look: dict[str, Any] = {"loc": "outside lower center", "columnspacing": 1.4, "handlelength": 1.6}
        figure.legend(list(entries.values()), list(entries), ncols=columns, **look)
    return figure


def log_axis(axis: Axis) -> None:
    """Label some decades of an axis with a log scale, and nothing between them."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(lambda value, _: power(value))
    axis.set_minor_locator(NullLocator())


def log_values(axes: Axes) -> None:
    """Use a log scale with numbers at 1, 2 and 5 of each decade, for values that span few decades."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.minorticks_off()


def value_lines(axes: Axes) -> None:
    """Draw faint horizontal lines behind everything."""
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)


def shade_bounds(axes: Axes, low: float, high: float) -> None:
    """Shade the range from one value to another on a horizontal axis."""
    axes.axvspan(low, high, color=SKY, alpha=0.22, lw=0, zorder=0, label="bounds")


def mark_default(axes: Axes, epsilon: float, at: float | None = None) -> None:
    """Mark the default ε on a horizontal axis, at its own value or at another that stands for it."""
    look: dict[str, Any] = {"color": PURPLE, "lw": 1.4, "ls": ":", "zorder": 1}
    axes.axvline(epsilon if at is None else at, label=f"default {power(epsilon)}", **look)


def elided(name: str, width: int = 26) -> str:
    """Shorten a long name to its end: the names of layers differ least at the beginning."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def to_bytes(figure: Figure, suffix: str) -> bytes:
    """Return a figure as "svg", "png" or "pdf", without a date: equal numbers give equal bytes.

    Texts stay texts in SVG, in its typeface or one no wider; a PDF embeds the typeface. `savefig` would draw everything
    twice to learn what it shows.
    """
    from matplotlib.backend_bases import get_registered_canvas_class

    canvas: Any = get_registered_canvas_class(suffix)(figure)
    before, figure.dpi = figure.dpi, 200
    try:
        with applied(), io.BytesIO() as buffer:
            getattr(canvas, f"print_{suffix}")(buffer, metadata=dict.fromkeys(_METADATA[suffix]))
            content = buffer.getvalue()
    finally:
        figure.dpi = before
    if suffix != "svg":
        return content
    return content.replace(f"'{_TYPEFACE}'".encode(), f"'{_TYPEFACE}', {_FALLBACKS}".encode())
