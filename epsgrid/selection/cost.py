"""What each search costs, and what it saves against the conventional grid: trials, training time, wall time, probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from epsgrid.selection.cells import Cell, Tally, tally
from epsgrid.selection.formatting import count


@dataclass(frozen=True)
class CostRow:
    """What it costs to choose a setting in one way, as if that were the only one.

    Attributes:
        trials: all it asks for.
        device_seconds: of training, summed over its trials with a result: the time devices were busy.
        wall_seconds: how long at least one of them was training; it depends on how many ran at once. None where that is
            not known.
        probe_seconds: of the probe that it needs; 0 where it needs none, None where it was not measured.
        saved_trials: those of the conventional grid − these; None where that was not swept.
        saved_seconds: device seconds of the conventional grid − these − the probe's; may be negative. None where it is
            not known.
        unknown: why it is not known; None where it is.
    """

    trials: int
    device_seconds: float
    wall_seconds: float | None
    probe_seconds: float | None
    saved_trials: int | None
    saved_seconds: float | None
    unknown: str | None


def tally_cells(cells: Iterable[Cell]) -> Tally:
    """Tally the trials of some cells."""
    return tally(trial for cell in cells for trial in cell.trials)


def cost_row(own: Tally, conventional: Tally | None, probe_seconds: float | None) -> CostRow:
    """Return what a search costs and saves.

    Args:
        own: the trials it asks for.
        conventional: the conventional grid's trials; None where it was not swept.
        probe_seconds: what the probe it needs cost; 0 where it needs none, None where it was not measured.
    """
    unknown = unknown_saving({"conventional grid": conventional, "search": own})
    if unknown is None and probe_seconds is None:
        unknown = "the probe's record is missing"
    saved = None
    if conventional is not None and probe_seconds is not None and unknown is None:
        saved = conventional.seconds - own.seconds - probe_seconds
    return CostRow(
        trials=own.trials,
        device_seconds=own.seconds,
        wall_seconds=own.wall_seconds,
        probe_seconds=probe_seconds,
        saved_trials=None if conventional is None else conventional.trials - own.trials,
        saved_seconds=saved,
        unknown=unknown,
    )


def unknown_saving(parts: Mapping[str, Tally | None]) -> str | None:
    """Return why the seconds of some sets of trials cannot be compared; None where they can.

    Args:
        parts: the trials of each set by its name; None where it was not swept.
    """
    for name, trials in parts.items():
        if trials is None:
            return f"the {name} was not swept"
    for name, trials in parts.items():
        if trials is not None and not trials.complete:
            without = f"{trials.trials - trials.done - trials.diverged} of {count(trials.trials, 'trial')}"
            return f"{without} of the {name} have no result"
    return None
