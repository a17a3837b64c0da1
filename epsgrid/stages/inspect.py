"""Read the stored gradient magnitudes of a probe, or of a trial while it trained, and draw them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from epsgrid.errors import StoreError, UnknownNameError
from epsgrid.selection.formatting import power
from epsgrid.selection.load import parsed_bounds
from epsgrid.spec.trial import Trial
from epsgrid.stages.experiment import read_experiment
from epsgrid.stages.probe import read_probe
from epsgrid.store import observations
from epsgrid.store.atomic import write_bytes
from epsgrid.store.cells import stored_cells
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import ExperimentRecord, ProbeRecord
from epsgrid.store.state import trial_state

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.series import Series

PROBE_AT_ITS_END = (
    "only the histograms at the probe's end are stored; `epsgrid probe SPEC --force` keeps them over its steps"
)
_HOW_TO_OBSERVE = "with `observe: {every: epoch}` in the spec, trials that start from now on keep them"
_SHOWN = 5


@dataclass(frozen=True)
class Inspected:
    """The stored gradient magnitudes of a probe or a trial.

    Attributes:
        folder: the experiment's.
        experiment: its record.
        probe: the stored probe; None where nothing was probed.
        bounds: the probe's bounds, parsed; None where nothing was probed.
        trial: id and setting of the trial; None for the probe.
        state: the trial's state, such as "done"; "" for the probe.
        series: the snapshots of the trial or the probe; None where a probe kept none.
        observed: all trials that kept snapshots.
    """

    folder: ExperimentFolder
    experiment: ExperimentRecord
    probe: ProbeRecord | None
    bounds: EpsilonBounds | None
    trial: Trial | None
    state: str
    series: Series | None
    observed: tuple[Trial, ...]

    @property
    def optimizer(self) -> str:
        """Name of the optimizer."""
        return str(self.experiment.spec["optimizer"]["name"])

    @property
    def epsilon(self) -> float | None:
        """The trial's ε; None for a probe, which does not depend on it."""
        return self.trial.epsilon if self.trial else None


def inspect(folder: ExperimentFolder, trial: str | None) -> Inspected:
    """Read the snapshots of a probe, or of a trial while it trained.

    Args:
        folder: the experiment's.
        trial: an id, or the beginning of one that no other has; None means the probe.

    Raises:
        StoreError: there is no experiment, nothing was measured, no such trial, or it kept nothing.
        CorruptRecordError: a stored file is damaged; the message names it.
    """
    experiment, probe = read_experiment(folder), read_probe(folder)
    cells = stored_cells(folder)
    observed = tuple(cell for cell in cells if folder.trial(cell.id).observations_jsonl.exists())
    alternatives = ""
    if observed:
        more = f"\n  and {len(observed) - _SHOWN} more" if len(observed) > _SHOWN else ""
        alternatives = f"\ntrials that kept them:\n  {_listed(observed[:_SHOWN])}{more}"
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
    bounds = parsed_bounds(probe, folder.bounds_json)
    return Inspected(folder, experiment, probe, bounds, chosen, state, series, observed)


def write_figures(seen: Inspected, folder: Path, layer: str | None) -> tuple[Path, ...]:
    """Draw the percentiles over time, of a trial with the shares that adapt, and write them as SVG and PNG.

    Args:
        seen: the stored magnitudes.
        folder: where the files go; it is made if missing.
        layer: draw the percentiles of this layer alone; None means those of each kind.

    Returns:
        The files; none without any data.

    Raises:
        StoreError: the folder cannot be written.
    """
    from epsgrid.report.figures.percentiles import draw_percentiles, percentile_numbers
    from epsgrid.report.figures.style import to_png, to_svg

    shown = percentile_numbers(seen.series, seen.bounds, epsilon=seen.epsilon, layer=layer) if seen.series else None
    if shown is None:
        return ()
    figure = draw_percentiles(shown)
    name = "percentiles" if layer is None else f"percentiles-{re.sub(r'[^A-Za-z0-9._-]', '_', layer)}"
    paths = []
    for suffix, content in (("svg", to_svg(figure)), ("png", to_png(figure))):
        paths.append(folder / f"{seen.trial.id if seen.trial else 'probe'}-{name}.{suffix}")
        write_bytes(paths[-1], content)
    return tuple(paths)


def check_layer(seen: Inspected, name: str) -> None:
    """Refuse the name of a layer that the model does not have, or any where nothing was kept over time.

    Raises:
        StoreError: nothing was kept over time.
        UnknownNameError: there is no such layer; names the closest ones.
    """
    if seen.series is None or not seen.series.snapshots:
        raise StoreError(f"{seen.folder.root}: no layer can be shown over time: {PROBE_AT_ITS_END}")
    names = seen.series.names
    if name in names:
        return
    close = difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.4)
    hint = f"; closest: {', '.join(close)}" if close else f"; it has {', '.join(names[:_SHOWN])}"
    more = f" ({len(names)} layers in all)" if len(names) > _SHOWN else ""
    raise UnknownNameError(f"the model has no layer {name!r}{hint}{more}")


def setting(cell: Trial) -> str:
    """Return a trial's setting as text, such as "lr 1e-3, ε 1e-8, seed 0"."""
    epsilon = "" if cell.epsilon is None else f", ε {power(cell.epsilon)}"
    return f"lr {power(cell.learning_rate)}{epsilon}, seed {cell.seed}"


def named_trial(folder: ExperimentFolder, cells: Sequence[Trial], name: str) -> Trial:
    """Return the one trial that has a name as its id, or whose id begins with it.

    Args:
        folder: the experiment's.
        cells: its trials.
        name: as a user wrote it.

    Raises:
        StoreError: nothing was swept, or no trial or several begin with it; lists the closest ones.
    """
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
