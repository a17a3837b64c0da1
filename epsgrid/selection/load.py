"""Read an experiment's folder into one frozen value, for whoever selects, plans or reports."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from epsgrid import plugins
from epsgrid.errors import CorruptRecordError, EpsgridError, StoreError
from epsgrid.selection.formatting import count
from epsgrid.spec.trial import code_names
from epsgrid.store.atomic import store_errors
from epsgrid.store.cells import stored_identity
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import (
    BatchesRecord,
    ConfirmRecord,
    ExperimentRecord,
    GridRecord,
    ProbeRecord,
    TrialFailure,
    TrialResult,
)
from epsgrid.store.state import FINISHED, trial_state

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import BoundsChoice, EpsilonBounds

_EndT = TypeVar("_EndT", TrialResult, TrialFailure)
_Trials = tuple[dict[str, str], dict[str, TrialResult], dict[str, TrialFailure]]
"""States, results and failures of trials by id."""


@dataclass(frozen=True)
class StoredExperiment:
    """Everything that is stored of an experiment, checked; what does not exist yet is None.

    Attributes:
        measured: the probe's bounds, parsed.
        grid: which trials belong to which grid.
        states: state of each trial of the grids by id; "pending" where nothing is stored.
        results, failures: by id, of the trials of the grids that are done or diverged, and of those that failed.
        orphaned: ids of stored trials that no record asks for any more; the report leaves them out.
        batches, confirm: the trials of one setting at other batch sizes, and of contenders on fresh seeds. Those that
            belong to no grid are not among `states`, `results` and `failures`; see `of_trials`.
    """

    folder: ExperimentFolder
    experiment: ExperimentRecord
    probe: ProbeRecord | None
    measured: EpsilonBounds | None
    grid: GridRecord | None
    states: Mapping[str, str]
    results: Mapping[str, TrialResult]
    failures: Mapping[str, TrialFailure]
    orphaned: tuple[str, ...]
    batches: BatchesRecord | None = None
    confirm: ConfirmRecord | None = None

    @property
    def is_listed(self) -> bool:
        """Whether the narrowed grid is a list of ε in the spec, made from no bounds."""
        return self.grid is not None and self.grid.bounds == "listed"

    @property
    def bounds_choice(self) -> BoundsChoice:
        """The bounds that made the narrowed grid; before a sweep, or with a list, those that the spec asks for."""
        if self.grid is not None and self.grid.bounds != "listed":
            return self.grid.bounds
        return bounds_choice(self.experiment)

    @property
    def bounds(self) -> EpsilonBounds | None:
        """The bounds of `bounds_choice`; None where nothing was probed."""
        return None if self.measured is None else self.measured.chosen(self.bounds_choice)

    @property
    def missing(self) -> tuple[str, ...]:
        """What does not exist yet: for each part the name of its file and the command that makes it."""
        has_epsilon = self.grid is None or any(cell.epsilon is not None for cell in self.grid.cells)
        parts = []
        if self.probe is None and has_epsilon and not self.is_listed:
            parts.append(f"{self.folder.bounds_json.name}: no bounds were measured; `epsgrid probe` does it")
        if self.grid is None:
            parts.append(f"{self.folder.grid_json.name}: no grid was swept; `epsgrid sweep` does it")
        elif not self.results:
            parts.append("result.json: no trial has finished; `epsgrid sweep` goes on with them")
        return tuple(parts)


def load_experiment(folder: ExperimentFolder) -> StoredExperiment:
    """Read an experiment; parts that do not exist yet are None or empty.

    Raises:
        StoreError, CorruptRecordError: there is no experiment, or the record that the message names cannot be read.
    """
    experiment = read_experiment(folder)
    probe = ProbeRecord.find(folder.bounds_json)
    grid = GridRecord.find(folder.grid_json)
    batches = BatchesRecord.find(folder.batches_json)
    confirm = ConfirmRecord.find(folder.confirm_json)
    asked = tuple(dict.fromkeys(cell.id for cell in grid.cells)) if grid else ()
    stored = _stored_trials(folder)
    elsewhere = {cell.id for record in (batches, confirm) if record for cell in record.cells}
    states, results, failures = _read_trials(folder, asked, stored)
    return StoredExperiment(
        folder=folder,
        experiment=experiment,
        probe=probe,
        measured=parsed_bounds(probe, folder.bounds_json),
        grid=grid,
        states=states,
        results=results,
        failures=failures,
        orphaned=tuple(sorted(stored - set(asked) - elsewhere)),
        batches=batches,
        confirm=confirm,
    )


def read_experiment(folder: ExperimentFolder) -> ExperimentRecord:
    """Return the record of an experiment; a StoreError where there is none in this folder."""
    if not folder.experiment_json.exists():
        raise StoreError(f"{folder.root}: no experiment here; `epsgrid probe SPEC` or `epsgrid sweep SPEC` starts one")
    return ExperimentRecord.read(folder.experiment_json)


def bounds_choice(experiment: ExperimentRecord) -> BoundsChoice:
    """Return which bounds an experiment's spec asks for; earlier versions had the published ones alone."""
    return "published" if experiment.spec["sweep"].get("bounds", "published") == "published" else "trusted"


def code_now(folder: ExperimentFolder, experiment: ExperimentRecord) -> dict[str, Any]:
    """Return the code of the user's that a trial would be planned with now, as in its identity; empty where none is.

    A plug-in is imported only where files of stored trials are not found without it: it may append to `sys.path`.
    """
    names = code_names(experiment.spec)
    code = plugins.sources(*names)
    stored = {name for each in folder.trials()[:1] for name in stored_identity(each).get("code", {})}
    if stored - code.keys():
        for part in ("task", "model", "optimizer"):
            if experiment.spec.get(part):
                with suppress(EpsgridError):
                    plugins.load(f"{part}s", experiment.spec[part]["name"])
        code = plugins.sources(*names)
    return {"code": code} if code else {}


def code_changes(folder: ExperimentFolder, now: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what of the user's code has changed since trials were trained, or bounds measured.

    `now` are `code` and, where it is known, `parameters` of a trial's identity; without code there is nothing to say.
    """
    if "code" not in now:
        return ()

    def change(then: Mapping[str, Any]) -> str:
        """Name the files that differ; "" where all is as it was."""
        code = then.get("code", {})
        files = sorted(name for name in {*code, *now["code"]} if code.get(name) != now["code"].get(name))
        if not code:
            return "the code of the user's, which earlier versions did not note, may have changed"
        if files:
            return f"{', '.join(files)} changed"
        is_other_model = "parameters" in now and then.get("parameters") != now["parameters"]
        return "the names or shapes of the model's parameters changed" if is_other_model else ""

    begun = (each for each in folder.trials() if each.result_json.exists() or each.checkpoint.exists())
    changes = Counter(filter(None, (change(stored_identity(each)) for each in begun)))
    found = [
        f"{what} since {count(trials, 'trial')} here {'was' if trials == 1 else 'were'} trained: kept under their own"
        " ids and never averaged with new ones; to count them again, put the code back (`git diff` shows the change)"
        for what, trials in changes.items()
    ]
    probe = ProbeRecord.find(folder.bounds_json)
    if probe is not None and "bounds_of" not in probe.identity and (what := change(probe.identity)):
        found.append(f"{what} since the bounds were measured; `epsgrid probe` measures them again")
    return tuple(found)


def of_trials(stored: StoredExperiment, grid: GridRecord) -> StoredExperiment:
    """Return the experiment as if it had swept another grid: with the states, results and failures of its trials."""
    asked = tuple(dict.fromkeys(cell.id for cell in grid.cells))
    states, results, failures = _read_trials(stored.folder, asked, _stored_trials(stored.folder))
    return replace(stored, grid=grid, states=states, results=results, failures=failures)


def parsed_bounds(probe: ProbeRecord | None, path: Path) -> EpsilonBounds | None:
    """Return a probe's bounds, None without a probe; an error about them names the file at `path`."""
    try:
        return None if probe is None else probe.bounds()
    except CorruptRecordError as error:
        raise CorruptRecordError(f"{path}: {error}; run `epsgrid probe --force` to measure again") from error
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error


def _read_trials(folder: ExperimentFolder, asked: Sequence[str], stored: Collection[str]) -> _Trials:
    """Read the trials asked for that have a folder, each once."""
    states = dict.fromkeys(asked, "pending")
    results, failures = {}, {}
    for trial in asked:
        if trial not in stored:
            continue
        place = folder.trial(trial)
        result = TrialResult.find(place.result_json)  # first: a finished trial costs one look at the disk
        if result is None:
            states[trial] = trial_state(place)
            if states[trial] == "failed":
                failures[trial] = _same_id(TrialFailure.read(place.failure_json), place.failure_json)
            elif states[trial] in FINISHED:  # it finished between the two looks
                result = TrialResult.read(place.result_json)
        if result is not None:
            results[trial] = _same_id(result, place.result_json)
            states[trial] = result.state
    return states, results, failures


def _same_id(record: _EndT, path: Path) -> _EndT:
    """Refuse a record that was copied in from another trial: its numbers would be shown under wrong settings."""
    if record.id != path.parent.name:
        raise CorruptRecordError(f"{path} is of trial {record.id}, not {path.parent.name}; remove the file to retrain")
    return record


def _stored_trials(folder: ExperimentFolder) -> set[str]:
    """Return the ids of the trials that have a folder, in one look at the disk."""
    if not folder.trials_dir.is_dir():
        return set()
    with store_errors("list", folder.trials_dir), os.scandir(folder.trials_dir) as entries:
        return {entry.name for entry in entries if entry.is_dir()}
