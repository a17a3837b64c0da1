"""What the axes of several figures share: scales in plain numbers, faint lines behind, the bounds' decades shaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epsgrid.report.drawing.style import SKY
from epsgrid.selection.formatting import decade

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.patches import Patch


def log_axis(axis: Axis) -> None:
    """Mark the decades of an axis that has a log scale, in plain text, and nothing between them."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
    axis.set_minor_locator(NullLocator())


def log_values(axes: Axes) -> None:
    """Put values on a log scale with plain numbers at 1, 2 and 5 of each decade, for they span few."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(NullLocator())


def value_lines(axes: Axes) -> None:
    """Draw faint lines behind everything, by which values are read."""
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)


def shade_decades(axes: Axes, low: float, high: float, margin: float) -> None:
    """Shade the decades of the bounds.

    Args:
        axes: with ε on the horizontal axis.
        low: first decade.
        high: last decade.
        margin: by how many decades the shade reaches beyond them.
    """
    axes.axvspan(low * 10**-margin, high * 10**margin, color=SKY, alpha=0.22, lw=0, zorder=0)


def decades_entry() -> tuple[Patch, str]:
    """Return the legend's entry for what `shade_decades` drew."""
    from matplotlib.patches import Patch

    return Patch(color=SKY, alpha=0.4, lw=0), "decades of the bounds"
