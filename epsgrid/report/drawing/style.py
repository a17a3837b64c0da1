"""What drawings share: style, colours, and how a figure becomes bytes.

Figures are for print: colour-blind-safe, legible at two columns' width, and the same bytes every time. Colours are
those of Okabe and Ito; `epsgrid.report.html.inline` makes figures fit for a page, light or dark. matplotlib is imported
inside the functions, and without pyplot, so that no display is needed.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

BLUE, SKY, VERMILION, PURPLE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#CC79A7", "#707070"
VERMILION_TEXT = "#B24E00"
"""Vermilion dark enough to be read on white: 5 to 1."""
WIDTH_INCH = 7.2
PNG_DPI = 200
LABEL_INCH = 0.13
"""Least distance of two names one below the other, in 7 point type."""
_TYPEFACE, _STAND_INS = "DejaVu Sans", "Verdana, Arial, sans-serif"
_VALUE, _KEPT, _BETWEEN = "value", "kept", "\u2016"
_NAMED = re.compile(rf"""<g id=(?P<quote>["'])(?P<class>{_VALUE}|{_KEPT}):(?P<text>.*?)(?P=quote)>""")
_MARKER = re.compile(r"(<use [^>]*)/>")
_STYLE: Any = {
    "font.family": _TYPEFACE,
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
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
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


def hover(artist: Artist, *texts: str, keep: bool = False) -> None:
    """Show a text where a pointer rests on something drawn: as a `<title>` in SVG.

    Args:
        artist: what is drawn.
        texts: in plain words; one for the whole, or several, one for each marker of a line.
        keep: its colours stay as they are on dark pages, see `keep_colours`.
    """
    artist.set_gid(f"{_KEPT if keep else _VALUE}:{_BETWEEN.join(texts)}")


def keep_colours(artist: Artist) -> None:
    """Let something drawn keep its colours on dark pages: where these are a scale, or stand on such a colour."""
    artist.set_gid(f"{_KEPT}:")


def fix_layout(figure: Figure) -> Figure:
    """Lay a finished figure out once and for all, so that saving it twice does not do it twice."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")
    return figure


def to_svg(figure: Figure) -> bytes:
    """Return a figure as SVG, without a date: equal numbers give equal bytes.

    Texts stay texts, so that they can be searched, read aloud and edited; where the typeface that the figure was laid
    out with is missing, others that are no wider stand in.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with style(), _resolution(figure), io.BytesIO() as buffer:
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
        text = buffer.getvalue().decode()
    text = text.replace(f"'{_TYPEFACE}'", f"'{_TYPEFACE}', {_STAND_INS}")
    return _with_titles(text).encode()


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG, likewise."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with style(), _resolution(figure), io.BytesIO() as buffer:
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(buffer, metadata={"Software": None})
        return buffer.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """Return a figure as PDF for a paper, likewise, with its typeface embedded as outlines that journals accept."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    with style(), _resolution(figure), io.BytesIO() as buffer:
        canvas: Any = FigureCanvasPdf(figure)
        canvas.print_pdf(buffer, metadata={"CreationDate": None, "Creator": None, "Producer": None})
        return buffer.getvalue()


@contextmanager
def _resolution(figure: Figure) -> Iterator[None]:
    """Save with our resolution; `savefig` would, too, but draws everything twice to find out what it knows."""
    before, figure.dpi = figure.dpi, PNG_DPI
    try:
        yield
    finally:
        figure.dpi = before


def _with_titles(svg: str) -> str:
    """Turn the ids that `hover` and `keep_colours` left into classes and titles."""
    for found in reversed(list(_NAMED.finditer(svg))):
        before, after = svg[: found.start()], svg[found.end() :]
        texts = html.unescape(found["text"]).split(_BETWEEN)
        titles = [f"<title>{html.escape(text, quote=False)}</title>" for text in texts if text]
        group = f'<g class="{found["class"]}">'
        if len(titles) == 1:
            group += titles.pop()
        svg = before + group + _with_one_each(after, titles)
    return svg


def _with_one_each(svg: str, titles: Sequence[str]) -> str:
    """Give the first markers their titles."""
    rest = iter(titles)
    return _MARKER.sub(lambda use: f"{use[1]}>{next(rest)}</use>", svg, count=len(titles)) if titles else svg
