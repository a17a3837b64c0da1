"""The numbers of the map of adaptable shares: of which share of each layer's entries ε does not decide, over time.

`draw_adaptable` draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from epsgrid.numerics.series import Series
from epsgrid.report.numbers.over_time import TimeUnit, kinds_of, time_of, time_unit, with_histograms


@dataclass(frozen=True)
class AdaptableRow:
    """The share of one layer's entries with √v̂ above ε, in [0, 1], at each time; None where it has no state."""

    layer: str
    kind: str
    entries: int
    shares: tuple[float | None, ...]


@dataclass(frozen=True)
class AdaptableNumbers:
    """Everything the map of adaptable shares shows.

    Attributes:
        rows: the layers, those of a kind together, otherwise in the model's order; not empty.
        total: share of all layers' entries together, at each time.
        times: rising; not empty.
        unit: of time.
        epsilon: the optimizer's ε; None where it is not known.
        optimizer: its name.
    """

    rows: tuple[AdaptableRow, ...]
    total: tuple[float | None, ...]
    times: tuple[float, ...]
    unit: TimeUnit
    epsilon: float | None
    optimizer: str


def adaptable_numbers(
    series: Series, *, optimizer: str, epsilon: float | None = None, magnitude: float | None = None
) -> AdaptableNumbers | None:
    """Return the numbers of the map of adaptable shares; None where no snapshot holds what it needs.

    Args:
        series: what was kept.
        optimizer: its name.
        epsilon: its ε.
        magnitude: count entries above this one, in √v̂ units; None takes each snapshot's own threshold.
    """
    snapshots = [s for s in with_histograms(series) if magnitude is not None or s.threshold is not None]
    if not snapshots:
        return None
    unit = time_unit(series)
    steps = [snapshot.step for snapshot in snapshots]
    rows = []
    for indices in kinds_of(series).values():
        for index in indices:
            shares = _shares(series, series.names[index], magnitude)
            rows.append(
                AdaptableRow(
                    series.names[index],
                    series.kinds[index],
                    series.entries[index],
                    tuple(shares.get(step) for step in steps),
                )
            )
    total = _shares(series, None, magnitude)
    return AdaptableNumbers(
        rows=tuple(rows),
        total=tuple(total.get(step) for step in steps),
        times=tuple(time_of(snapshot, unit) for snapshot in snapshots),
        unit=unit,
        epsilon=epsilon,
        optimizer=optimizer,
    )


def _shares(series: Series, layer: str | None, magnitude: float | None) -> Mapping[int, float]:
    return dict(series.adaptable(layer, magnitude))


def adaptable_by_kind(series: Series) -> dict[str, tuple[float | None, ...]]:
    """Return, for each kind of layer, the share of its entries above ε at each time of `adaptable_numbers`."""
    numbers = adaptable_numbers(series, optimizer="")
    if numbers is None:
        return {}
    rows: dict[str, list[AdaptableRow]] = {}
    for row in numbers.rows:
        rows.setdefault(row.kind, []).append(row)
    return {kind: tuple(_together(held, place) for place in range(len(numbers.times))) for kind, held in rows.items()}


def _together(rows: Sequence[AdaptableRow], place: int) -> float | None:
    """Return the share of several layers' entries together at one time; None where none has state."""
    known = [(row.entries, share) for row in rows if (share := row.shares[place]) is not None]
    return sum(entries * share for entries, share in known) / sum(entries for entries, _ in known) if known else None
