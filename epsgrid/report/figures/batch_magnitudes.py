"""The figure of the layers' percentiles of √v̂ against batch size, with the slopes of noise and of signal as guides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from epsgrid.numerics.fits import NOISE
from epsgrid.report.batch_exponents import ENDS, Curve, MeasuredBatches, bound_curve, layer_curves
from epsgrid.report.figures import style
from epsgrid.report.text.bounds import percentiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.SKY, "#E69F00", style.GREY)
_HEIGHT_INCH = 4.0


def draw_magnitudes(measured: MeasuredBatches) -> Figure:
    """Draw a panel for each of low tail, median and high tail; lines have the colour of their kind of layer.

    Layers that are measured at fewer than two sizes have no line.
    """
    curves = layer_curves(measured)
    kinds = {layer.name: layer.kind for layer in measured.first.layers}
    lines = {
        end: [(kinds[name], line) for name, ends in curves.items() if len(line := _mean_by_size(ends[end])) > 1]
        for end in ENDS
    }
    looks = {
        kind: {"color": _COLOURS[place % len(_COLOURS)], "marker": style.MARKERS[place % len(style.MARKERS)]}
        for place, kind in enumerate(dict.fromkeys(kind for own in lines.values() for kind, _ in own))
    }
    low, high = percentiles(measured.first.tail_fraction)
    with style.applied():
        figure = style.new_figure(_HEIGHT_INCH)
        panels = figure.subplots(1, len(ENDS), sharex=True, sharey=True, squeeze=False)[0]
        for axes, end, title in zip(panels, ENDS, (low, "median", high), strict=True):
            axes.set_xscale("log")
            axes.set_yscale("log")
            sizes = _ticks(measured.record.batch_sizes)
            axes.set_xticks(sizes, map(str, sizes))
            axes.set_xticks([], minor=True)
            style.log_axis(axes.yaxis)
            for kind, line in lines[end]:
                axes.plot(*_points(line), ms=3, lw=0.9, alpha=0.8, zorder=3, label=kind, **looks[kind])
            if end != "median":
                bound = _mean_by_size(bound_curve(measured, end))
                axes.plot(*_points(bound), "k", lw=2.2, alpha=0.55, zorder=2, label="bound")
            base = measured.record.base_batch_size
            _draw_guides(axes, sorted(line[base] for _, line in lines[end] if base in line), measured)
            axes.set_title(title)
            axes.set_xlabel("batch size")
        panels[0].set_ylabel("√v̂")
        return style.finished(figure, columns=4)


def _mean_by_size(curve: Curve) -> dict[int, float]:
    """Return the geometric mean over seeds of the magnitudes at each batch size; sizes rising."""
    by_size: dict[int, list[float]] = {}
    for of_seed in curve.values():
        for size, magnitude in of_seed.items():
            by_size.setdefault(size, []).append(math.log(magnitude))
    return {size: math.exp(math.fsum(logs) / len(logs)) for size, logs in sorted(by_size.items())}


def _points(line: Mapping[int, float]) -> tuple[list[int], list[float]]:
    return list(line), list(line.values())


def _draw_guides(axes: Axes, heights: list[float], measured: MeasuredBatches) -> None:
    """Draw what noise and signal would do from the spec's size on, at the least, the middle and the greatest height."""
    base, sizes = measured.record.base_batch_size, measured.record.batch_sizes
    guided = {heights[0], heights[len(heights) // 2], heights[-1]} if len(heights) > 2 else set(heights[:1])
    ends = (sizes[0], sizes[-1])
    look: dict[str, Any] = {"lw": 0.9, "zorder": 4}
    for height in sorted(guided):
        noise = [height * (size / base) ** NOISE for size in ends]
        axes.plot(ends, noise, "k--", label="noise alone: −1/2", **look)
        axes.plot(ends, [height] * 2, "k:", label="signal alone: 0", **look)
    axes.axvline(base, color="#cccccc", lw=0.8, zorder=0, label="the spec's batch size")


def _ticks(sizes: tuple[int, ...]) -> list[int]:
    """Return the sizes that can be named without their names touching."""
    span = math.log(sizes[-1] / sizes[0])
    kept = [sizes[0]]
    for size in sizes[1:-1]:
        if min(math.log(size / kept[-1]), math.log(sizes[-1] / size)) >= 0.2 * span:
            kept.append(size)
    return [*kept, sizes[-1]]
