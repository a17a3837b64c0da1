"""Plans for a sweep that are not grids: one setting at other batch sizes, chosen trials again.

At other batch sizes all trials train the same number of epochs with the same seeds. Where they agree with those of a
grid they are the same trials, since a trial's id depends only on what can change its numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from epsgrid import optimizers
from epsgrid.errors import DataError, ScalingError, SpecError, StoreError
from epsgrid.grids import REFERENCE
from epsgrid.grids._plan import Plan
from epsgrid.numerics.scaling import RULES, Rule, is_square_root
from epsgrid.plugins import nearest
from epsgrid.selection.cells import best, of_grid, read_cells, read_metric
from epsgrid.selection.formatting import power
from epsgrid.selection.load import load_experiment
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial
from epsgrid.stages.experiment import Asked, prepare_data, trial_of
from epsgrid.stages.inspect import named_trial
from epsgrid.stages.scale import scaled_spec, with_base
from epsgrid.stages.sweep import Planned, plan_sweep, swept
from epsgrid.store import cells as stored_cells
from epsgrid.store.cells import asked_cells
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.pruning import unprune
from epsgrid.store.records import BatchesRecord, ConfirmRecord
from epsgrid.store.state import trial_state

_BASE = "base"
"""The rule of the trials at the spec's own batch size."""
_BY_STATE = ("failed", "diverged", "pruned", "interrupted")
"""The states by which trials can be named together."""
_NOT_TRAINING = ("training.batch_size", "sweep.", "probe.", "observe.")


@dataclass(frozen=True)
class _Point:
    """A setting as a rule scales it to a batch size."""

    batch_size: int
    rule: str
    spec: Spec
    learning_rate: float
    epsilon: float | None
    changes: str = ""

    @property
    def label(self) -> str:
        return f"batch {self.batch_size}, {self.rule}"


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Return the rules that a list such as "sqrt,linear,none" names, each once; any other name is a SpecError."""
    names = [part.strip() for part in text.split(",")]
    if unknown := [name for name in names if name not in RULES]:
        raise SpecError(f"--rules: there is no rule {unknown[0]!r}; expected some of {', '.join(RULES)}")
    return tuple(cast(Rule, name) for name in dict.fromkeys(names))


def plan_batches(
    asked: Asked,
    sizes: Sequence[int],
    rules: Sequence[Rule],
    learning_rate: float | None = None,
    epsilon: float | None = None,
    *,
    half_life: bool = False,
) -> Planned:
    """Plan one setting at several batch sizes, without writing or importing torch.

    A learning rate or ε (in the optimizer's own) of None means the best one found; see `_base_setting`.

    Raises:
        SpecError: there is only one batch size, one larger than the data, or an ε for an optimizer that has none.
        ScalingError: no rule reaches any of the sizes.
    """
    spec, unknown, data = asked.spec, [], None
    try:
        data = prepare_data(spec)
    except DataError as error:
        unknown.append(f"the data are not ready, so all trials count as to run: {error}")
    own_size = spec.training.batch_size
    sizes = with_base(sizes, own_size, data)
    rate, epsilon, origin = _base_setting(asked, learning_rate, epsilon)
    points, skipped = [_point(spec, rate, epsilon, own_size, _BASE)], {}
    for size, rule in itertools.product([size for size in sizes if size != own_size], rules):
        name = f"{rule}, half-life" if half_life and is_square_root(rule) else rule
        try:
            points.append(_point(spec, rate, epsilon, size, name))
        except ScalingError as error:
            skipped[f"batch {size}, {name}"] = str(error)
    if len(points) < 2:
        raise ScalingError("none of the rules reaches any of these batch sizes:\n  " + "\n  ".join(skipped.values()))
    trials: dict[str, Trial] = {}
    cells = []
    for seed, point in itertools.product(spec.sweep.seeds, points):
        trial = trial_of(point.spec, data, point.learning_rate, point.epsilon, seed, (point.label,))
        grids = trials[trial.id].grids if trial.id in trials else ()
        trials[trial.id] = replace(trial, grids=tuple(dict.fromkeys((*grids, *trial.grids))))
        cells.append(replace(trial, batch_size=point.batch_size, rule=point.rule))
    record = BatchesRecord(
        base_batch_size=own_size,
        learning_rate=rate,
        epsilon=epsilon,
        origin=origin,
        cells=tuple(cells),
        changes={point.label: point.changes for point in points if point.changes},
        skipped=skipped,
    )
    words = f"lr {power(rate)}" + ("" if epsilon is None else f", ε {power(epsilon)}")
    notes = [f"{words}, {origin}, is scaled from batch {own_size}", *unknown]
    notes += [f"{label} is left out: {why}" for label, why in skipped.items()]
    epsilons = {point.label: () if point.epsilon is None else (point.epsilon,) for point in points}
    return Planned(Plan(epsilons, tuple(trials.values())), _joined(record, asked.folder), tuple(notes))


def _base_setting(asked: Asked, learning_rate: float | None, epsilon: float | None) -> tuple[float, float | None, str]:
    """Return the learning rate and ε to scale, and how they were chosen.

    What is not asked for comes from the best cell of the narrowed grid, or where that has no complete cell, from the
    default ε and the first learning rate.
    """
    spec = asked.spec
    has_epsilon = optimizers.load(spec.optimizer.name).DEFAULT_EPSILON is not None
    if epsilon is not None and not has_epsilon:
        raise SpecError(f"--epsilon: optimizer {spec.optimizer.name!r} has no epsilon; leave it out")
    if learning_rate is not None and (epsilon is not None or not has_epsilon):
        return learning_rate, epsilon, "as asked for"
    found_rate, found_epsilon = spec.sweep.learning_rates[0], spec.sweep.default_epsilon if has_epsilon else None
    origin = "the first learning rate, for none was swept"
    if has_epsilon:
        origin = "the default ε and the first learning rate, for no narrowed grid has a complete cell"
    if asked.folder.grid_json.exists():
        stored, grid = load_experiment(asked.folder), "narrowed" if has_epsilon else REFERENCE
        choice = best(of_grid(grid, read_cells(stored)), read_metric(stored))
        if choice.cell is not None:
            lacking = f", of which {choice.incomplete} cells lack trials" if choice.incomplete else ""
            found_rate, found_epsilon = choice.cell.trained_rate, choice.cell.epsilon
            origin = f"the best of the {grid} grid{lacking}"
    if epsilon is not None:
        return found_rate, epsilon, f"with the ε asked for; otherwise {origin}"
    if learning_rate is not None:
        return learning_rate, found_epsilon, f"with the learning rate asked for; otherwise {origin}"
    return found_rate, found_epsilon, origin


def chosen(folder: ExperimentFolder, names: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the trials that a user names, each by a state of `_BY_STATE`, its id or the beginning of that.

    Raises StoreError where nothing was swept here, or a name means no trial or several.
    """
    cells = asked_cells(folder)
    if not cells:
        raise StoreError(f"{folder.root}: nothing was swept here yet; `epsgrid sweep` does it")
    found: list[str] = []
    for name in names:
        if name in _BY_STATE:
            found += [cell.id for cell in cells if trial_state(folder.trial(cell.id)) == name]
        elif (close := nearest(name, _BY_STATE)) and not any(cell.id.startswith(name) for cell in cells):
            raise StoreError(f"no trial {name!r} here; did you mean {close!r}?")
        else:
            found.append(named_trial(folder, cells, name).id)
    return tuple(dict.fromkeys(found))


def archive(folder: ExperimentFolder, ids: Sequence[str]) -> tuple[Path, ...]:
    """Move the folders of trials away, so that the next sweep trains them again; a StoreError for one being trained."""
    return tuple(stored_cells.archive(folder, trial) for trial in ids if folder.trial(trial).path.is_dir())


def start_over(folder: ExperimentFolder, ids: Sequence[str]) -> tuple[Path, ...]:
    """Archive the trials that have a result; let the others continue from their checkpoints, to their end."""
    for trial in ids:
        unprune(folder.trial(trial))
    return archive(folder, [trial for trial in ids if folder.trial(trial).result_json.exists()])


def plan_again(asked: Asked, ids: Sequence[str]) -> Planned:
    """Plan chosen trials and no others: of the grids, of contenders on fresh seeds, or of other batch sizes.

    Raises StoreError where one of them would now be another trial.
    """
    folder, spec, data = asked.folder, asked.spec, prepare_data(asked.spec)
    trials: list[Trial] = []
    if batches := BatchesRecord.find(folder.batches_json):
        for cell in batches.cells:
            if cell.id in ids:
                point = _point(spec, batches.learning_rate, batches.epsilon, cell.batch_size, cell.rule)
                setting = point.learning_rate, point.epsilon
                trials.append(trial_of(point.spec, data, *setting, cell.seed, (point.label,)))
    if confirm := ConfirmRecord.find(folder.confirm_json):
        trials += [
            trial_of(spec, data, cell.learning_rate, cell.epsilon, cell.seed, cell.grids, cell.grid_rate)
            for cell in confirm.cells
        ]
    if folder.grid_json.exists():
        trials += plan_sweep(asked, swept(folder), None).plan.trials
    by_id = {trial.id: trial for trial in trials}
    if gone := [trial for trial in ids if trial not in by_id]:
        raise StoreError(
            f"{', '.join(gone)}: planned with other code, data or bounds than there are now, so `epsgrid sweep` plans"
            " others in their place; `epsgrid status` says what of your code has changed"
        )
    return Planned(Plan({}, tuple(by_id[trial] for trial in ids)), may_prune=True)


def _point(spec: Spec, learning_rate: float, epsilon: float | None, size: int, name: str) -> _Point:
    """Return a setting as a rule scales it; the half-life form of a rule counts as another rule."""
    if name == _BASE:
        return _Point(size, _BASE, spec, learning_rate, epsilon)
    default = epsilon or spec.sweep.default_epsilon
    update = {"learning_rates": (learning_rate,), "default_epsilon": default}
    one_point = spec.model_copy(update={"sweep": spec.sweep.model_copy(update=update)})
    rule, _, form = name.partition(", ")
    scaled = scaled_spec(one_point, size, cast(Rule, rule), half_life=bool(form))
    changed = [f"{each.path} {each.after}" for each in scaled.changes if not each.path.startswith(_NOT_TRAINING)]
    sweep = scaled.spec.sweep
    scaled_epsilon = None if epsilon is None else sweep.default_epsilon
    return _Point(size, name, scaled.spec, sweep.learning_rates[0], scaled_epsilon, ", ".join(changed))


def _joined(record: BatchesRecord, folder: ExperimentFolder) -> BatchesRecord:
    """Return a record together with the stored trials of the same setting; those of another setting are dropped."""
    before = BatchesRecord.find(folder.batches_json)
    if before is None:
        return record
    settings = [(each.base_batch_size, each.learning_rate, each.epsilon) for each in (before, record)]
    base_ids = {cell.id for cell in record.cells if cell.rule == _BASE}
    if settings[0] != settings[1] or not base_ids & {cell.id for cell in before.cells}:
        return record
    kept = {(cell.batch_size, cell.rule, cell.seed): cell for cell in (*before.cells, *record.cells)}
    return replace(
        record,
        cells=tuple(kept.values()),
        changes={**before.changes, **record.changes},
        skipped={**before.skipped, **record.skipped},
    )
