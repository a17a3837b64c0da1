"""Hand the bounds of a run over to another search tool."""

from __future__ import annotations

from dataclasses import dataclass

from epsgrid import exporters
from epsgrid.errors import StoreError
from epsgrid.exporters._space import Kind, Space, space_of
from epsgrid.selection.load import parsed_bounds
from epsgrid.stages.experiment import read_experiment
from epsgrid.stages.export_target import target_of
from epsgrid.stages.probe import read_probe
from epsgrid.store.paths import ExperimentFolder


@dataclass(frozen=True)
class Exported:
    """What is handed over.

    Attributes:
        space: the search space.
        text: of the file for the tool.
        usage: what to do with it, in one line.
    """

    space: Space
    text: str
    usage: str


def export_bounds(
    folder: ExperimentFolder,
    tool: str,
    kind: Kind,
    *,
    framework: str | None,
    epsilon_name: str,
    learning_rate_name: str,
) -> Exported:
    """Return a run's bounds as another tool takes them.

    Args:
        folder: of the run.
        tool: an exporter.
        kind: the range or the grid.
        framework: whose ε; see `target_of`.
        epsilon_name: what the user's training calls ε.
        learning_rate_name: what it calls the learning rate.

    Raises:
        StoreError: there is no experiment, or nothing was probed.
        CorruptRecordError: a stored record is damaged.
        UnknownNameError, SpecError, NoBoundsError: see `target_of` and `space_of`.
    """
    exporter = exporters.load(tool)
    experiment, probe = read_experiment(folder), read_probe(folder)
    bounds = parsed_bounds(probe, folder.bounds_json)
    if probe is None or bounds is None:
        raise StoreError(f"{folder.root}: no bounds were measured here; `epsgrid probe SPEC` does it")
    space = space_of(
        experiment,
        probe,
        bounds,
        kind,
        target_of(framework, experiment.spec["optimizer"], probe),
        epsilon_name=epsilon_name,
        learning_rate_name=learning_rate_name,
    )
    return Exported(space, exporter.export(space), exporter.USAGE)
