"""The figure of the layers' percentiles of √v̂ against batch size, with the slopes of noise and of signal as guides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.numerics.fits import NOISE
from epsgrid.report.batch_exponents import ENDS, Curve, MeasuredBatches, layer_curves
from epsgrid.report.figures import style
from epsgrid.report.text.bounds import percentiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.SKY, "#E69F00", style.GREY)
_HEIGHT_INCH = 4.0


@dataclass(frozen=True)
class MagnitudeLine:
    """One percentile of one layer over batch sizes.

    Attributes:
        name: of the layer.
        kind: of the layer.
        sizes: rising.
        magnitudes: √v̂ at each, the geometric mean over seeds.
    """

    name: str
    kind: str
    sizes: tuple[int, ...]
    magnitudes: tuple[float, ...]


@dataclass(frozen=True)
class MagnitudePanel:
    """One percentile: "low", "median" or "high".

    Attributes:
        end: which.
        lines: of all layers measured at two sizes, in the model's order.
        bound: the bound itself; None for the median.
    """

    end: str
    lines: tuple[MagnitudeLine, ...]
    bound: MagnitudeLine | None


@dataclass(frozen=True)
class MagnitudeNumbers:
    """The numbers of the figure.

    Attributes:
        panels: low tail, median, high tail.
        base_batch_size: the spec's own, where the guides of the two laws meet.
        sizes: all batch sizes, rising.
        kinds: in the model's order.
        tail_fraction: of the tails.
        optimizer: its name.
    """

    panels: tuple[MagnitudePanel, ...]
    base_batch_size: int
    sizes: tuple[int, ...]
    kinds: tuple[str, ...]
    tail_fraction: float
    optimizer: str


def magnitude_numbers(measured: MeasuredBatches) -> MagnitudeNumbers:
    """Return the numbers of the figure."""
    record = measured.record
    first = measured.bounds[record.base_batch_size, record.seeds[0]]
    kinds = {layer.name: layer.kind for layer in first.layers}
    curves = layer_curves(measured)
    bounds: dict[str, dict[int, dict[int, float]]] = {"low": {}, "high": {}}
    for (size, seed), found in measured.bounds.items():
        for end, bound in (("low", found.low), ("high", found.high)):
            bounds[end].setdefault(seed, {})[size] = bound.magnitude
    panels = []
    for end in ENDS:
        lines = [_line(name, kinds[name], of_layer[end]) for name, of_layer in curves.items()]
        shown = tuple(line for line in lines if len(line.sizes) > 1)
        panels.append(MagnitudePanel(end, shown, _line("bound", "", bounds[end]) if end in bounds else None))
    return MagnitudeNumbers(
        panels=tuple(panels),
        base_batch_size=record.base_batch_size,
        sizes=record.batch_sizes,
        kinds=tuple(dict.fromkeys(line.kind for panel in panels for line in panel.lines)),
        tail_fraction=first.tail_fraction,
        optimizer=measured.optimizer,
    )


def _line(name: str, kind: str, curve: Curve) -> MagnitudeLine:
    by_size: dict[int, list[float]] = {}
    for of_seed in curve.values():
        for size, magnitude in of_seed.items():
            by_size.setdefault(size, []).append(math.log(magnitude))
    means = {size: math.exp(math.fsum(logs) / len(logs)) for size, logs in sorted(by_size.items())}
    return MagnitudeLine(name, kind, tuple(means), tuple(means.values()))


def draw_magnitudes(numbers: MagnitudeNumbers) -> Figure:
    """Draw a panel for each of low tail, median and high tail; lines have the colour of their kind of layer."""
    looks = {
        kind: {"color": _COLOURS[place % len(_COLOURS)], "marker": style.MARKERS[place % len(style.MARKERS)]}
        for place, kind in enumerate(numbers.kinds)
    }
    with style.applied():
        figure = style.new_figure(_HEIGHT_INCH)
        panels = figure.subplots(1, len(numbers.panels), sharex=True, sharey=True, squeeze=False)[0]
        low, high = percentiles(numbers.tail_fraction)
        titles = {"low": low, "median": "median", "high": high}
        for axes, panel in zip(panels, numbers.panels, strict=True):
            _draw_panel(axes, panel, numbers, looks)
            axes.set_title(titles[panel.end])
            axes.set_xlabel("batch size")
        panels[0].set_ylabel("√v̂")
        return style.finished(figure, columns=4)


def _draw_panel(axes: Axes, panel: MagnitudePanel, numbers: MagnitudeNumbers, looks: dict[str, dict[str, Any]]) -> None:
    """Draw the layers and the bound, and at a few heights what noise and signal would do from the spec's size on."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(_ticks(numbers.sizes), map(str, _ticks(numbers.sizes)))
    axes.set_xticks([], minor=True)
    style.log_axis(axes.yaxis)
    for line in panel.lines:
        axes.plot(line.sizes, line.magnitudes, ms=3, lw=0.9, alpha=0.8, zorder=3, label=line.kind, **looks[line.kind])
    if panel.bound is not None:
        axes.plot(panel.bound.sizes, panel.bound.magnitudes, "k", lw=2.2, alpha=0.55, zorder=2, label="bound")
    at_base = [dict(zip(line.sizes, line.magnitudes, strict=True)).get(numbers.base_batch_size) for line in panel.lines]
    heights = sorted(magnitude for magnitude in at_base if magnitude is not None)
    guided = {heights[0], heights[len(heights) // 2], heights[-1]} if len(heights) > 2 else set(heights[:1])
    ends = (numbers.sizes[0], numbers.sizes[-1])
    for height in sorted(guided):
        noise = [height * (size / numbers.base_batch_size) ** NOISE for size in ends]
        axes.plot(ends, noise, "k--", lw=0.9, zorder=4, label="noise alone: −1/2")
        axes.plot(ends, [height] * 2, "k:", lw=0.9, zorder=4, label="signal alone: 0")
    axes.axvline(numbers.base_batch_size, color="#cccccc", lw=0.8, zorder=0, label="the spec's batch size")


def _ticks(sizes: tuple[int, ...]) -> list[int]:
    """Return the sizes that can be named without their names touching."""
    span = math.log(sizes[-1] / sizes[0])
    kept = [sizes[0]]
    for size in sizes[1:-1]:
        if min(math.log(size / kept[-1]), math.log(sizes[-1] / size)) >= 0.2 * span:
            kept.append(size)
    return [*kept, sizes[-1]]
