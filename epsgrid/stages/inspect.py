"""Read the stored gradient magnitudes of a probe, or of a trial while it trained."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.errors import StoreError
from epsgrid.selection.formatting import setting
from epsgrid.selection.load import bounds_choice, parsed_bounds, read_experiment
from epsgrid.spec.trial import Trial
from epsgrid.store import observations
from epsgrid.store.cells import stored_cells
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import ExperimentRecord, GridRecord, ProbeRecord
from epsgrid.store.state import trial_state

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.placement import Placement
    from epsgrid.numerics.series import Series

_HOW_TO_OBSERVE = "with `observe: {every: epoch}` in the spec, trials that start from now on keep them"
_SHOWN = 5


@dataclass(frozen=True)
class Inspected:
    """The stored gradient magnitudes of a probe or a trial.

    `trial` and `state` are None and "" for the probe. `bounds` are those of the probe, None without one, and `series`
    is None where a probe kept no snapshots; `observed` are all trials that kept some, and `placement` says where the
    optimizer adds its ε, None where neither probe nor grid was stored.
    """

    folder: ExperimentFolder
    experiment: ExperimentRecord
    bounds: EpsilonBounds | None
    trial: Trial | None
    state: str
    series: Series | None
    observed: tuple[Trial, ...]
    placement: Placement | None


def inspect(folder: ExperimentFolder, trial: str | None) -> Inspected:
    """Read the snapshots of a probe, or of a trial while it trained, named by its id or the beginning of it.

    Raises:
        StoreError: there is no experiment, nothing was measured, no such trial, or it kept nothing.
        CorruptRecordError: a stored file is damaged; the message names it.
    """
    experiment, probe = read_experiment(folder), ProbeRecord.find(folder.bounds_json)
    cells = stored_cells(folder)
    observed = tuple(cell for cell in cells if folder.trial(cell.id).observations_jsonl.exists())
    alternatives = f"\ntrials that kept them:\n  {_listed(observed[:_SHOWN])}" if observed else ""
    chosen, state = None, ""
    if trial is None:
        series = observations.read(folder.observations_jsonl)
        if probe is None and series is None:
            raise StoreError(f"{folder.root}: nothing was probed yet; `epsgrid probe SPEC` does it{alternatives}")
    else:
        chosen = named_trial(folder, cells, trial)
        state = trial_state(folder.trial(chosen.id))
        series = observations.read(folder.trial(chosen.id).observations_jsonl)
        if series is None or not series.snapshots:
            kept = f"nothing was kept of the gradient magnitudes of trial {chosen.id}: {setting(chosen)}, {state}"
            raise StoreError(f"{folder.root}: {kept}; {_HOW_TO_OBSERVE}{alternatives}")
    measured = parsed_bounds(probe, folder.bounds_json)
    bounds = None if measured is None else measured.chosen(bounds_choice(experiment))
    grid = GridRecord.find(folder.grid_json)
    placement = (grid.placement if grid else None) or (probe.placement if probe else None)
    return Inspected(folder, experiment, bounds, chosen, state, series, observed, placement)


def named_trial(folder: ExperimentFolder, cells: Sequence[Trial], name: str) -> Trial:
    """Return the one trial whose id is or begins with a name; a StoreError lists the closest where that is none."""
    if not cells:
        raise StoreError(f"{folder.root}: nothing was swept here yet; `epsgrid sweep` does it")
    fitting = [cell for cell in cells if cell.id == name] or [cell for cell in cells if cell.id.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    by_id = {cell.id: cell for cell in fitting or cells}
    close = [by_id[found] for found in difflib.get_close_matches(name, by_id, n=_SHOWN, cutoff=0.0)]
    what = f"{len(fitting)} trials begin with" if fitting else "no trial begins with"
    raise StoreError(f"{folder.root}: {what} {name!r}; {'they are' if fitting else 'closest'}:\n  {_listed(close)}")


def _listed(cells: Sequence[Trial]) -> str:
    return "\n  ".join(f"{cell.id}  {setting(cell)}" for cell in cells)
