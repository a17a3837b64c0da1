"""The share of the entries with √v̂ above ε over time: those that have a step size of their own."""

from __future__ import annotations

from dataclasses import dataclass

from epsgrid.numerics.series import Series
from epsgrid.report.figures.over_time import TimeUnit, kinds_of, time_of, time_unit, with_histograms

_Shares = tuple[float | None, ...]


@dataclass(frozen=True)
class AdaptableNumbers:
    """Shares of entries with √v̂ above the ε that each snapshot was trained with, in [0, 1].

    Attributes:
        layers: of each layer by its name, at each time; None where it has no state.
        kinds: of all layers of a kind together.
        total: of all layers together.
        times: rising; not empty.
        unit: of time.
    """

    layers: dict[str, _Shares]
    kinds: dict[str, _Shares]
    total: _Shares
    times: tuple[float, ...]
    unit: TimeUnit


def adaptable_numbers(series: Series) -> AdaptableNumbers | None:
    """Return the shares over time; None where no snapshot holds histograms and an ε."""
    snapshots = [snapshot for snapshot in with_histograms(series) if snapshot.threshold is not None]
    if not snapshots:
        return None
    unit = time_unit(series)

    def shares(layer: str | None) -> _Shares:
        by_step = dict(series.adaptable(layer))
        return tuple(by_step.get(snapshot.step) for snapshot in snapshots)

    layers = {name: shares(name) for name in series.names}

    def of_kind(indices: tuple[int, ...], place: int) -> float | None:
        known = [(series.entries[i], share) for i in indices if (share := layers[series.names[i]][place]) is not None]
        entries = sum(count for count, _ in known)
        return sum(count * share for count, share in known) / entries if entries else None

    return AdaptableNumbers(
        layers=layers,
        kinds={
            kind: tuple(of_kind(indices, place) for place in range(len(snapshots)))
            for kind, indices in kinds_of(series).items()
        },
        total=shares(None),
        times=tuple(time_of(snapshot, unit) for snapshot in snapshots),
        unit=unit,
    )
