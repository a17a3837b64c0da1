"""Tables of what the probe found: bounds, reliability, kinds of layers, point estimates, layers."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid.grids import NARROWED
from epsgrid.numerics.estimates import PointEstimate
from epsgrid.numerics.precision import shortened
from epsgrid.report.rows import AdaptiveRow, BoundsRow, ObservedRow
from epsgrid.report.table import Table
from epsgrid.report.trust import KindRow, ReliabilityRow
from epsgrid.selection.formatting import NOTHING, count, percent, power


def bounds_table(bounds: BoundsRow) -> Table:
    """Return both bounds with the layers that set them."""
    low, high = percentiles(bounds.tail_fraction)
    too_few = "too few entries for a percentile"
    ends = (
        ("lower", bounds.low, f"minimum: {too_few}" if bounds.low_is_minimum else low),
        ("upper", bounds.high, f"maximum: {too_few}" if bounds.high_is_maximum else high),
    )
    rows = tuple(
        (
            name,
            *map(power, (bound.magnitude, bound.epsilon, bound.decade)),
            shortened(bound.layers),
            used,
            f"{bound.entries:,}",
        )
        for name, bound, used in ends
    )
    columns = ("bound", "√v̂", "ε", "decade", "set by", "as", "non-zero entries")
    measured = len(bounds.layers) - len(bounds.skipped)
    note = f"{measured} of {count(len(bounds.layers), 'layer')} measured"
    if bounds.skipped:
        note += f", skipped: {shortened([f'{name} ({status})' for name, status in bounds.skipped])}"
    return Table("Bounds", columns, rows, f"{note}; ε enters {bounds.placement}")


def reliability_table(found: ReliabilityRow) -> Table:
    """Return the verdict with its reasons, and the bounds under other choices."""
    points = [*found.reasons]
    if found.noise:
        names = [f"{layer} ({percent(share)} of its entries)" for layer, share in found.noise.items()]
        points.append(f"only rounding noise: {shortened(names, 6)}")
    notes = []
    if found.settled_after is not None:
        notes.append(f"decades settled after {found.settled_after} of {found.steps} batches")
    if found.variants:
        notes.append("moved by: decades from the bounds as measured, before rounding")
    rows = tuple(
        (
            row.choice,
            power(row.low),
            power(row.high),
            str(row.decades),
            f"{signed_decades(row.low_moved)}, {signed_decades(row.high_moved)}" if row.kind else NOTHING,
        )
        for row in found.variants
    )
    columns = ("choice", "low", "high", "decades", "moved by (low, high)")
    return Table(f"Reliability: {found.verdict}", columns, rows, "; ".join(notes) or None, tuple(points))


def signed_decades(decades: float | None, digits: int = 1) -> str:
    """Write a number of decades with its sign.

    >>> signed_decades(-1.04), signed_decades(0.02), signed_decades(0.3), signed_decades(0.02, digits=2)
    ('−1.0', '0', '+0.3', '+0.02')
    """
    if decades is None:
        return NOTHING
    text = f"{abs(decades):.{digits}f}"
    return "0" if not float(text) else f"{'−' if decades < 0 else '+'}{text}"


def kinds_table(kinds: Sequence[KindRow]) -> Table | None:
    """Return the bounds that each kind of layer would set alone; None where kinds are not known."""
    if not kinds:
        return None
    rows = tuple(
        (
            row.kind,
            str(row.layers),
            f"{row.entries:,}",
            power(row.low),
            power(row.high),
            ", ".join(dict.fromkeys((row.low_layer, row.high_layer))),
        )
        for row in kinds
    )
    columns = ("kind of layer", "layers", "non-zero entries", "lower ε", "upper ε", "set by")
    return Table("Bounds of each kind of layer", columns, rows)


def estimates_table(estimates: Sequence[PointEstimate]) -> Table | None:
    """Return the point estimates of ε; None without any."""
    if not estimates:
        return None
    rows = tuple((row.name, row.formula, power(row.epsilon), power(row.decade)) for row in estimates)
    note = "the magnitude b, in √v̂ units, becomes the ε that the optimizer takes"
    return Table("Point estimates of ε, without a sweep", ("estimate", "formula", "ε", "decade"), rows, note, texts=2)


def adaptive_table(rows: Sequence[AdaptiveRow]) -> Table | None:
    """Return, per swept ε, the share of entries that still adapt; None without any."""
    if not rows:
        return None
    texts = tuple((power(row.epsilon), power(row.magnitude), percent(row.share)) for row in rows)
    note = "measured by the probe, before training; zeros count as not adapting"
    return Table("Entries whose step still adapts", ("ε", "weighs as √v̂", "entries with √v̂ above"), texts, note)


def observed_table(rows: Sequence[ObservedRow]) -> Table | None:
    """Return what was observed during training; None where nothing was."""
    if not rows:
        return None
    texts = tuple(
        (
            f"best of the {row.name} grid" if row.name == NARROWED else f"{row.name} ε",
            f"{row.cell}, seed {row.seed}",
            str(row.snapshots),
            *(NOTHING if s is None else percent(s) for s in (row.adaptable_first, row.adaptable_last)),
            *map(signed_decades, (row.low_moved, row.high_moved)),
        )
        for row in rows
    )
    columns = ("setting", "trial", "snapshots", "adapting at first", "at last")
    note = (
        "adapting: entries with √v̂ above the trial's own ε, at the first and the last snapshot; moved: by how many "
        "decades the bounds of the last snapshot differ from the probe's"
    )
    return Table("During training", (*columns, "lower bound moved", "upper bound moved"), texts, note)


def layers_table(bounds: BoundsRow) -> Table:
    """Return what was measured on each layer; with its kind, where kinds are known."""
    has_kinds = any(layer.kind != "other" for layer in bounds.layers)
    rows = tuple(
        (
            layer.name,
            *([layer.kind] if has_kinds else []),
            " × ".join(map(str, layer.shape)) or "scalar",
            f"{layer.entries:,}",
            percent(layer.nonzero / layer.entries) if layer.entries else NOTHING,
            power(layer.low),
            power(layer.high),
            layer.status,
            ", ".join(end for end, bound in (("low", bounds.low), ("high", bounds.high)) if layer.name in bound.layers),
        )
        for layer in bounds.layers
    )
    low, high = percentiles(bounds.tail_fraction)
    head = ("layer", "kind", "shape") if has_kinds else ("layer", "shape")
    return Table("Layers", (*head, "entries", "non-zero", f"{low} of √v̂", f"{high} of √v̂", "status", "sets"), rows)


def percentiles(tail_fraction: float) -> tuple[str, str]:
    """Return the names of the order statistics of a tail.

    >>> percentiles(0.02)
    ('2 % point', '98 % point')
    """
    low, high = (f"{100 * share:.3g} %" for share in (tail_fraction, 1 - tail_fraction))
    return f"{low} point", f"{high} point"
