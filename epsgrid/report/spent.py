"""What each search costs, and what it saves against the conventional grid: trials, training time, wall time, probe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from epsgrid.report.cells import Cell, Tally, TrialRow, tally
from epsgrid.report.words import count


@dataclass(frozen=True)
class CostRow:
    """What it costs to choose a setting in one way, as if that were the only one.

    Attributes:
        trials: all it asks for.
        device_seconds: of training, summed over its trials with a result: the time devices were busy.
        wall_seconds: how long at least one of them was training, as far as known; it depends on how many ran at once.
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


def trials_of(cells: Iterable[Cell]) -> list[TrialRow]:
    """Return the trials of some cells."""
    return [trial for cell in cells for trial in cell.trials]


def cost_row(
    cells: Sequence[Cell], conventional: Tally | None, probe_seconds: float | None, *, needs_probe: bool
) -> CostRow:
    """Return what it costs to choose among some cells.

    Args:
        cells: all that have to be trained for it.
        conventional: the conventional grid's trials; None where it was not swept.
        probe_seconds: what the probe cost; None where it was not measured.
        needs_probe: whether the cells are known from the probe alone.
    """
    own, probe = tally(trials_of(cells)), probe_seconds if needs_probe else 0.0
    unknown = unknown_saving([("conventional grid", conventional), ("search", own)]) or (
        "the probe's record is missing" if probe is None else None
    )
    saved_seconds = None
    if conventional is not None and probe is not None and unknown is None:
        saved_seconds = conventional.seconds - own.seconds - probe
    return CostRow(
        trials=own.trials,
        device_seconds=own.seconds,
        wall_seconds=own.wall_seconds,
        probe_seconds=probe,
        saved_trials=None if conventional is None else conventional.trials - own.trials,
        saved_seconds=saved_seconds,
        unknown=unknown,
    )


def unknown_saving(parts: Sequence[tuple[str, Tally | None]]) -> str | None:
    """Say why the seconds of some sets of trials cannot be compared; None where they can.

    Args:
        parts: what each set is called, and its trials; None where it was not swept.
    """
    for name, trials in parts:
        if trials is None:
            return f"the {name} was not swept"
    for name, trials in parts:
        if trials is not None and not trials.complete:
            open_trials = f"{trials.trials - trials.done - trials.diverged} of {count(trials.trials, 'trial')}"
            return f"{open_trials} of the {name} have no result"
    return None
