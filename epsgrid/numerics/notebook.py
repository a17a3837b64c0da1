"""What histograms, bounds and diagnoses show in a notebook: tables and bars in HTML, pictures, frames.

The HTML has no colours of its own: it takes those of the page, dark or light. Matplotlib and pandas are imported where
they are used.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from epsgrid.errors import ExecutionError
from epsgrid.numerics.precision import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Numbers = npt.NDArray[np.float64]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table of texts, which are escaped; those of the first column are left, the others right."""
    sides = ["left", *["right"] * (len(columns) - 1)]
    head = "".join(_cell("th", text, side) for text, side in zip(columns, sides, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell('td', text, side) for text, side in zip(row, sides, strict=True))}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def paragraph(text: str) -> str:
    """Return a text as a paragraph of HTML."""
    return f"<p>{escape(text)}</p>"


def bars(edges: Numbers, shares: Numbers) -> str:
    """Return shares between edges in √v̂ units as bars of HTML, with the range below; "" where there are none."""
    if not len(shares):
        return ""
    drawn = "".join(
        f'<rect x="{6 * number}" y="{40 - height:.1f}" width="5" height="{height:.1f}"/>'
        for number, height in enumerate(40 * shares / shares.max())
    )
    label = f"√v̂ from {power(float(edges[0]))} to {power(float(edges[-1]))}"
    svg = (
        f'<svg role="img" aria-label="{label}" width="{3 * len(shares)}" height="30" fill="currentColor">{drawn}</svg>'
    )
    return f'<div style="opacity: 0.75">{svg}<br><small>{label}</small></div>'


def plot(edges: Numbers, shares: Numbers, ax: Axes | None) -> Axes:
    """Draw shares between edges in √v̂ units, on new axes where none are given, and return the axes."""
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(6, 2.4), layout="constrained")[1]
    ax.set_xscale("log")
    if len(shares):
        ax.stairs(shares, edges, fill=True, color="#666666", alpha=0.5)
    ax.set_xlabel("gradient magnitude √v̂")
    ax.set_ylabel("share per decade")
    return ax


def frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a pandas.DataFrame; ExecutionError where pandas is not installed."""
    try:
        return importlib.import_module("pandas").DataFrame(list(rows))
    except ImportError as error:
        raise ExecutionError(f"to_frame needs pandas ({error}): `pip install pandas`") from error


def _cell(tag: str, text: str, side: str) -> str:
    return f'<{tag} style="text-align: {side}; padding: 0 0.5em">{escape(text)}</{tag}>'
