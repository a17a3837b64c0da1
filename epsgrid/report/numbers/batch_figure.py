"""The numbers of the figure of magnitudes against batch size, without drawing them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from epsgrid.report.batch_exponents import ENDS, Curve, MeasuredBatches, layer_curves


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
        bound: the bound itself; None for the median, which is none.
    """

    end: str
    lines: tuple[MagnitudeLine, ...]
    bound: MagnitudeLine | None


@dataclass(frozen=True)
class MagnitudeNumbers:
    """Everything the figure shows.

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
    panels = []
    for end in ENDS:
        lines = [_line(name, kinds[name], of_layer[end]) for name, of_layer in curves.items()]
        shown = tuple(line for line in lines if len(line.sizes) > 1)
        panels.append(MagnitudePanel(end, shown, _bound(end, measured)))
    shown_kinds = dict.fromkeys(line.kind for panel in panels for line in panel.lines)
    return MagnitudeNumbers(
        panels=tuple(panels),
        base_batch_size=record.base_batch_size,
        sizes=record.batch_sizes,
        kinds=tuple(shown_kinds),
        tail_fraction=first.tail_fraction,
        optimizer=measured.optimizer,
    )


def _bound(end: str, measured: MeasuredBatches) -> MagnitudeLine | None:
    if end == "median":
        return None
    curve: dict[int, dict[int, float]] = {}
    for (size, seed), bounds in measured.bounds.items():
        curve.setdefault(seed, {})[size] = (bounds.low if end == "low" else bounds.high).magnitude
    return _line("bound", "", curve)


def _line(name: str, kind: str, curve: Curve) -> MagnitudeLine:
    by_size: dict[int, list[float]] = {}
    for of_seed in curve.values():
        for size, magnitude in of_seed.items():
            by_size.setdefault(size, []).append(math.log(magnitude))
    means: Mapping[int, float] = {size: math.exp(math.fsum(logs) / len(logs)) for size, logs in by_size.items()}
    sizes = tuple(sorted(means))
    return MagnitudeLine(name, kind, sizes, tuple(means[size] for size in sizes))
