"""More epochs in an experiment that was swept: what shorter trials there are, and which longer ones go on from them.

A folder's experiment may be asked for again with more epochs. Trials of another length are other trials, with ids of
their own; those of the earlier length stay in the folder, and the experiment's record remembers how they were trained,
so that a longer trial finds the checkpoint of the shorter one by its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epsgrid.grids._plan import PlannedTrial
from epsgrid.selection.formatting import count
from epsgrid.spec import identity, spec_from_json, trial_id
from epsgrid.spec.model import Spec, Training
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import ExperimentRecord
from epsgrid.trials.extending import longest_first, why_anew


def earlier_trainings(spec: Spec, stored: ExperimentRecord) -> tuple[dict[str, Any], ...]:
    """Return the trainings that trials of a folder had before, given the record and the spec that is asked for now."""
    before = identity(spec_from_json(stored.spec, stored.name))["training"]
    return stored.earlier if before == identity(spec)["training"] else (*stored.earlier, before)


def extending(
    spec: Spec, folder: ExperimentFolder, trials: Sequence[PlannedTrial], states: Mapping[str, str]
) -> tuple[str, ...]:
    """Say what becomes of the trials that were trained for fewer epochs; nothing where there are none.

    Args:
        spec: the experiment as it is asked for now.
        folder: its folder; it need not exist.
        trials: those of the plan.
        states: by id.
    """
    if not folder.experiment_json.exists():
        return ()
    shorter = longest_first(earlier_trainings(spec, ExperimentRecord.read(folder.experiment_json)), spec.training)
    left = [trial for trial in trials if states[trial.id] == "pending"]
    lines: list[str] = []
    for settings, training in shorter:
        finished = {trial.id: folder.trial(_id(trial, settings)) for trial in left}
        finished = {trial: there for trial, there in finished.items() if there.result_json.exists()}
        kept = sum(there.checkpoint.exists() for there in finished.values())
        lines += _told(training, spec.training, len(finished), kept)
        left = [trial for trial in left if trial.id not in finished]
    return tuple(lines)


def _id(trial: PlannedTrial, settings: Mapping[str, Any]) -> str:
    return trial_id({**trial.identity, "training": settings})


def _told(shorter: Training, longer: Training, finished: int, kept: int) -> list[str]:
    done = f"of those trained for {count(shorter.epochs, 'epoch')} before"
    if not finished:
        return []
    if why := why_anew(shorter, longer):
        return [f"{finished} {done} start anew: {why}"]
    lines = [f"{kept} {done} go on from there"] if kept else []
    if kept < finished:
        lines.append(
            f"{finished - kept} {done} start anew: they kept no checkpoint, as execution.keep_checkpoints says"
        )
    return lines
