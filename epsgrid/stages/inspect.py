"""Look at what is stored of gradient magnitudes: a probe's, or those of a trial while it trained."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from epsgrid.errors import StoreError, UnknownNameError
from epsgrid.plugins import nearest
from epsgrid.report.load import parsed_bounds
from epsgrid.report.words import power
from epsgrid.stages.experiment import read_experiment
from epsgrid.stages.probe import read_probe
from epsgrid.store import observations
from epsgrid.store.cells import meant, stored_cells
from epsgrid.store.latest import latest
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import ExperimentRecord, GridCell, ProbeRecord
from epsgrid.store.state import trial_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.series import Series

HOW_TO_OBSERVE = "with `observe: {every: epoch}` in the spec, trials that start from now on keep them"
PROBE_AT_ITS_END = (
    "only the histograms at the probe's end are stored; `epsgrid probe SPEC --force` keeps them over its steps"
)
_SHOWN = 5


@dataclass(frozen=True)
class InspectedTrial:
    """A trial whose snapshots are looked at.

    Attributes:
        cell: its id and setting.
        state: such as "done".
    """

    cell: GridCell
    state: str

    @property
    def words(self) -> str:
        """The trial in words."""
        left_behind = "" if self.cell.grids else ", of a grid that was swept before"
        return f"{self.cell.id}: {setting(self.cell)}, {self.state}{left_behind}"


@dataclass(frozen=True)
class Inspected:
    """What is stored of gradient magnitudes.

    Attributes:
        folder: the experiment's.
        experiment: what was asked.
        probe: what the probe measured; None where nothing was probed.
        bounds: the probe's bounds, parsed; None likewise.
        trial: the trial that was asked for; None: the probe.
        series: its snapshots, or the probe's; None where a probe kept none.
        observed: all trials that kept snapshots.
    """

    folder: ExperimentFolder
    experiment: ExperimentRecord
    probe: ProbeRecord | None
    bounds: EpsilonBounds | None
    trial: InspectedTrial | None
    series: Series | None
    observed: tuple[GridCell, ...]

    @property
    def optimizer(self) -> str:
        """Name of the optimizer."""
        return str(self.experiment.spec["optimizer"]["name"])

    @property
    def epsilon(self) -> float | None:
        """The trial's ε; None of a probe, whose ε means nothing."""
        return self.trial.cell.epsilon if self.trial else None


def find_run(run: Path | None, runs_root: Path) -> ExperimentFolder:
    """Return the folder of an experiment.

    Args:
        run: its folder, or its name under `runs_root`; None means the latest.
        runs_root: where experiments live by default.

    Raises:
        StoreError: there is none.
    """
    if run is None:
        return ExperimentFolder(latest(runs_root))
    for folder in (run, runs_root / run):
        if (folder / "experiment.json").exists():
            return ExperimentFolder(folder.absolute())
    known = sorted(path.parent.name for path in runs_root.glob("*/experiment.json"))
    close = nearest(str(run), known)
    hint = f"; did you mean {close!r}?" if close else ""
    there = f" (there: {', '.join(known)})" if known else ""
    raise StoreError(f"no experiment {str(run)!r}, neither as a folder nor in {runs_root}{hint}{there}")


def inspect(folder: ExperimentFolder, trial: str | None) -> Inspected:
    """Read what is stored of a probe, or of a trial while it trained.

    Args:
        folder: the experiment's.
        trial: an id, or the beginning of one that no other has; None: the probe.

    Raises:
        StoreError: there is no experiment, nothing was measured, no such trial, or it kept nothing.
        CorruptRecordError: a stored file is damaged; the message names it.
    """
    experiment, probe = read_experiment(folder), read_probe(folder)
    cells = stored_cells(folder)
    observed = tuple(cell for cell in cells if folder.trial(cell.id).observations_jsonl.exists())
    chosen = None if trial is None else _chosen(folder, cells, trial)
    if chosen is None:
        series = observations.read(folder.observations_jsonl)
        if probe is None and series is None:
            raise StoreError(f"{folder.root}: nothing was probed yet; `epsgrid probe SPEC` does it{_also(observed)}")
    else:
        series = observations.read(folder.trial(chosen.cell.id).observations_jsonl)
        if series is None or not series.snapshots:
            kept = f"nothing was kept of the gradient magnitudes of trial {chosen.words}"
            raise StoreError(f"{folder.root}: {kept}; {HOW_TO_OBSERVE}{_also(observed)}")
    return Inspected(folder, experiment, probe, parsed_bounds(probe, folder.bounds_json), chosen, series, observed)


def write_figures(seen: Inspected, folder: Path, layer: str | None) -> tuple[Path, ...]:
    """Draw what is looked at, and write it as SVG and PNG.

    A probe gets the trajectory of its bounds and its percentiles over time, a trial its percentiles and the map of
    adaptable shares; a figure that has nothing to show is left out.

    Args:
        seen: what is looked at.
        folder: where the files go; it is made if missing.
        layer: draw the percentiles of this one alone; None: those of each kind.

    Returns:
        The files.

    Raises:
        StoreError: the folder cannot be written.
    """
    from epsgrid.report.figures.style import to_png, to_svg
    from epsgrid.store.atomic import write_bytes

    of = seen.trial.cell.id if seen.trial else "probe"
    paths = []
    for name, figure in _figures(seen, layer):
        for suffix, content in (("svg", to_svg(figure)), ("png", to_png(figure))):
            paths.append(folder / f"{of}-{name}.{suffix}")
            write_bytes(paths[-1], content)
    return tuple(paths)


def _figures(seen: Inspected, layer: str | None) -> Iterator[tuple[str, Figure]]:
    """Yield name and drawing of each figure that has something to show."""
    from epsgrid.report.figures.adaptable import adaptable_numbers, draw_adaptable
    from epsgrid.report.figures.percentiles import draw_percentiles, percentile_numbers
    from epsgrid.report.figures.trajectory import draw_trajectory, trajectory_numbers

    trajectory = None if seen.trial else trajectory_numbers(seen.bounds, seen.optimizer)
    if trajectory is not None:
        yield "trajectory", draw_trajectory(trajectory)
    if seen.series is None:
        return
    numbers = percentile_numbers(seen.series, seen.bounds, optimizer=seen.optimizer, epsilon=seen.epsilon, layer=layer)
    if numbers is not None:
        of_layer = "" if layer is None else f"-{re.sub(r'[^A-Za-z0-9._-]', '_', layer)}"
        yield f"percentiles{of_layer}", draw_percentiles(numbers)
    shares = adaptable_numbers(seen.series, optimizer=seen.optimizer, epsilon=seen.epsilon) if seen.trial else None
    if shares is not None:
        yield "adaptable", draw_adaptable(shares)


def check_layer(seen: Inspected, name: str) -> None:
    """Refuse the name of a layer that there is not, or any where nothing was kept over time.

    Raises:
        StoreError: nothing was kept over time.
        UnknownNameError: names the closest, and some of those that there are.
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


def setting(cell: GridCell) -> str:
    """Return a trial's setting in words."""
    epsilon = "" if cell.epsilon is None else f", ε {power(cell.epsilon)}"
    return f"lr {power(cell.learning_rate)}{epsilon}, seed {cell.seed}"


def _chosen(folder: ExperimentFolder, cells: tuple[GridCell, ...], name: str) -> InspectedTrial:
    """Return the one trial whose id begins with a name."""
    if not cells:
        raise StoreError(f"{folder.root}: nothing was swept here yet; `epsgrid sweep` does it")
    by_id = {cell.id: cell for cell in cells}
    fitting = meant(tuple(by_id), name)
    if len(fitting) == 1:
        return InspectedTrial(by_id[fitting[0]], trial_state(folder.trial(fitting[0])))
    close = [by_id[found] for found in difflib.get_close_matches(name, fitting or by_id, n=_SHOWN, cutoff=0.0)]
    what = f"{len(fitting)} trials begin with" if fitting else "no trial begins with"
    raise StoreError(f"{folder.root}: {what} {name!r}; {'they are' if fitting else 'closest'}:\n  {_listed(close)}")


def _also(observed: tuple[GridCell, ...]) -> str:
    """Say which trials can be looked at instead."""
    if not observed:
        return ""
    more = f"\n  and {len(observed) - _SHOWN} more" if len(observed) > _SHOWN else ""
    return f"\ntrials that kept them:\n  {_listed(observed[:_SHOWN])}{more}"


def _listed(cells: tuple[GridCell, ...] | list[GridCell]) -> str:
    return "\n  ".join(f"{cell.id}  {setting(cell)}" for cell in cells)
