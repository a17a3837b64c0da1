"""Carry one setting to other batch sizes by each rule and train it there, to see which rule keeps the course.

All trials train the same number of epochs with the same seeds. The setting itself, at the spec's own batch size, is
among them: where a grid has trained it, its trials are those of the grid, for a trial's id knows only what can change
its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from epsgrid import optimizers, tasks
from epsgrid.errors import DataError, ScalingError, SpecError
from epsgrid.executors import StopRequest
from epsgrid.grids._plan import REFERENCE, Plan
from epsgrid.numerics.scaling import RULES, Rule, is_square_root
from epsgrid.selection.cells import NARROWED, Choice, best, of_grid, read_cells, read_metric
from epsgrid.selection.formatting import power
from epsgrid.selection.load import load_experiment
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial, trial_identity
from epsgrid.stages.batch_sizes import with_base
from epsgrid.stages.experiment import Asked, enter, prepare_data
from epsgrid.stages.running import SweepEvent, SweepPlan, SweepSummary, train_planned, with_states
from epsgrid.stages.scale import Scaled, scaled_spec
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import BatchesRecord

BASE = "base"
"""The rule of the cells of the setting itself."""

_NOT_TRAINING = ("training.batch_size", "sweep.", "probe.", "observe.")


@dataclass(frozen=True)
class BatchRequest:
    """What to carry where.

    Attributes:
        sizes: batch sizes; the spec's own need not be among them.
        rules: how to carry the setting there.
        learning_rate: of the setting; None: found, see `base_setting`.
        epsilon: likewise, in the optimizer's own ε.
        half_life: scale decays as β^κ, which is possible at every κ.
    """

    sizes: tuple[int, ...]
    rules: tuple[Rule, ...]
    learning_rate: float | None = None
    epsilon: float | None = None
    half_life: bool = False


@dataclass(frozen=True)
class Setting:
    """The setting that is carried; `origin` says in words how it was chosen."""

    learning_rate: float
    epsilon: float | None
    origin: str


@dataclass(frozen=True)
class BatchPlan:
    """What a sweep over batch sizes trains.

    Attributes:
        plan: its trials; those of each batch size and rule as if they were a grid.
        record: the same as it is stored.
        notes: what to tell, a sentence each.
    """

    plan: Plan
    record: BatchesRecord
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """A batch size and a rule, with the spec and the setting as the rule carries them there."""

    batch_size: int
    rule: str
    spec: Spec
    learning_rate: float
    epsilon: float | None
    changes: str

    @property
    def label(self) -> str:
        return f"batch {self.batch_size}, {self.rule}"


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Return the rules that a list such as "sqrt,linear,none" names, each once.

    Raises:
        SpecError: one of them is no rule.
    """
    found: list[Rule] = []
    for name in (part.strip() for part in text.split(",")):
        rule = next((rule for rule in RULES if rule == name), None)
        if rule is None:
            raise SpecError(f"--rules: there is no rule {name!r}; expected some of {', '.join(RULES)}")
        found.append(rule)
    return tuple(dict.fromkeys(found))


def plan_batches(asked: Asked, request: BatchRequest) -> BatchPlan:
    """Return what `sweep_batches` trains, without writing anything or importing torch.

    Args:
        asked: the spec and its folder.
        request: what to carry where.

    Raises:
        SpecError: only one batch size, one larger than the data, or an ε for an optimizer that has none.
        ScalingError: no rule reaches any of the sizes.
    """
    data, unknown = _data(asked)
    sizes = with_base(request.sizes, asked.spec.training.batch_size, data)
    setting = base_setting(asked, request)
    places, skipped = _places(asked.spec, setting, sizes, request)
    if len(places) < 2:
        raise ScalingError("none of the rules reaches any of these batch sizes:\n  " + "\n  ".join(skipped.values()))
    plan, cells = _trials(asked.spec, places, data.checksum if data else "")
    record = BatchesRecord(
        base_batch_size=asked.spec.training.batch_size,
        learning_rate=setting.learning_rate,
        epsilon=setting.epsilon,
        origin=setting.origin,
        cells=cells,
        changes={place.label: place.changes for place in places if place.changes},
        skipped=skipped,
    )
    notes = [f"{_words(setting)}, {setting.origin}, is carried from batch {record.base_batch_size}", *unknown]
    notes += [f"{place} is left out: {why}" for place, why in skipped.items()]
    return BatchPlan(plan, record, tuple(notes))


def with_trial_states(asked: Asked, planned: BatchPlan, workers: int | None) -> SweepPlan:
    """Return a plan with the states of its trials, for a dry run."""
    return replace(with_states(planned.plan, _unpruned(asked), workers), unknown=planned.notes)


def sweep_batches(
    asked: Asked,
    planned: BatchPlan,
    *,
    workers: int | None,
    fail_fast: bool,
    notify: Callable[[SweepEvent], None],
    stop: StopRequest,
) -> SweepSummary:
    """Train the trials of a plan that have no result yet; arguments, result and errors as of `sweep`."""
    enter(asked, prepare_data(asked.spec))
    _joined(planned.record, asked.folder).write(asked.folder.batches_json)
    return train_planned(_unpruned(asked), planned.plan, workers=workers, fail_fast=fail_fast, notify=notify, stop=stop)


def planned_again(asked: Asked) -> tuple[Trial, ...]:
    """Return the trials that were planned here for other batch sizes; none where there are none."""
    if not asked.folder.batches_json.exists():
        return ()
    record = BatchesRecord.read(asked.folder.batches_json)
    names = dict.fromkeys(cell.rule for cell in record.cells if cell.rule != BASE)
    setting = Setting(record.learning_rate, record.epsilon, record.origin)
    sizes = tuple(sorted({cell.batch_size for cell in record.cells}))
    checksum = prepare_data(asked.spec).checksum
    trials: dict[str, Trial] = {}
    for half_life in (False, True):
        rules = tuple(rule for rule in RULES if _name(rule, half_life=half_life) in names)
        places, _ = _places(asked.spec, setting, sizes, BatchRequest(sizes, rules, half_life=half_life))
        trials |= {trial.id: trial for trial in _trials(asked.spec, places, checksum)[0].trials}
    return tuple(trials.values())


def base_setting(asked: Asked, request: BatchRequest) -> Setting:
    """Return the setting to carry.

    That is what was asked for; what was not is that of the best cell of the narrowed grid, where it was swept and a
    cell of it is complete, and else the default ε and the first learning rate.

    Raises:
        SpecError: an ε is asked for and the optimizer has none.
    """
    spec = asked.spec
    has_epsilon = optimizers.load(spec.optimizer.name).HAS_EPSILON
    if request.epsilon is not None and not has_epsilon:
        raise SpecError(f"--epsilon: optimizer {spec.optimizer.name!r} has no epsilon; leave it out")
    found = _best(asked.folder, has_epsilon=has_epsilon) or Setting(
        spec.sweep.learning_rates[0],
        spec.sweep.default_epsilon if has_epsilon else None,
        "the default ε and the first learning rate, for no narrowed grid has a complete cell"
        if has_epsilon
        else "the first learning rate, for none was swept",
    )
    rate, epsilon = request.learning_rate, request.epsilon
    if rate is None and epsilon is None:
        return found
    if rate is not None and (epsilon is not None or not has_epsilon):
        return Setting(rate, epsilon, "as asked for")
    if rate is None:
        return replace(found, epsilon=epsilon, origin=f"with the ε asked for; otherwise {found.origin}")
    return replace(found, learning_rate=rate, origin=f"with the learning rate asked for; otherwise {found.origin}")


def _best(folder: ExperimentFolder, *, has_epsilon: bool) -> Setting | None:
    """Return the best complete cell of the narrowed grid, or of the reference of an optimizer without ε."""
    if not folder.grid_json.exists():
        return None
    stored = load_experiment(folder)
    grid = NARROWED if has_epsilon else REFERENCE
    choice: Choice = best(of_grid(grid, read_cells(stored)), read_metric(stored))
    if choice.cell is None:
        return None
    lacking = f", of which {choice.incomplete} cells lack trials" if choice.incomplete else ""
    return Setting(choice.cell.trained_rate, choice.cell.epsilon, f"the best of the {grid} grid{lacking}")


def _unpruned(asked: Asked) -> Asked:
    """Return the same without pruning: a curve that ends early cannot be compared with the others."""
    return asked.with_sweep(prune=None)


def _data(asked: Asked) -> tuple[tasks.PreparedData | None, list[str]]:
    try:
        return prepare_data(asked.spec), []
    except DataError as error:
        return None, [f"the data are not ready, so all trials count as to run: {error}"]


def _places(
    spec: Spec, setting: Setting, sizes: Sequence[int], request: BatchRequest
) -> tuple[list[_Place], dict[str, str]]:
    """Return where the setting is trained, the base first, and where a rule does not reach."""
    base = spec.training.batch_size
    places, skipped = [_Place(base, BASE, spec, setting.learning_rate, setting.epsilon, "")], {}
    one_point = spec.sweep.model_copy(
        update={
            "learning_rates": (setting.learning_rate,),
            "default_epsilon": setting.epsilon or spec.sweep.default_epsilon,
        }
    )
    carried = spec.model_copy(update={"sweep": one_point})
    for size in sizes:
        for rule in request.rules if size != base else ():
            name = _name(rule, half_life=request.half_life)
            try:
                scaled = scaled_spec(carried, size, rule, half_life=request.half_life)
            except ScalingError as error:
                skipped[f"batch {size}, {name}"] = str(error)
                continue
            places.append(_place(scaled, size, name, has_epsilon=setting.epsilon is not None))
    return places, skipped


def _name(rule: Rule, *, half_life: bool) -> str:
    """Return what a rule is called in the record: the half-life form is another rule."""
    return f"{rule}, half-life" if half_life and is_square_root(rule) else rule


def _place(scaled: Scaled, size: int, name: str, *, has_epsilon: bool) -> _Place:
    sweep = scaled.spec.sweep
    changes = [
        f"{change.path} {change.after}" for change in scaled.changes if not change.path.startswith(_NOT_TRAINING)
    ]
    epsilon = sweep.default_epsilon if has_epsilon else None
    return _Place(size, name, scaled.spec, sweep.learning_rates[0], epsilon, ", ".join(changes))


def _trials(spec: Spec, places: Sequence[_Place], checksum: str) -> tuple[Plan, tuple[Trial, ...]]:
    """Return the trials, each distinct one once, seed by seed, and the cells they stand for."""
    trials: dict[str, Trial] = {}
    cells = []
    for trial, place in _in_order(spec, places, checksum):
        known = trials.get(trial.id, trial)
        trials[trial.id] = replace(known, grids=tuple(dict.fromkeys((*known.grids, place.label))))
        cells.append(replace(trial, batch_size=place.batch_size, rule=place.rule))
    epsilons = {place.label: () if place.epsilon is None else (place.epsilon,) for place in places}
    return Plan(epsilons, tuple(trials.values())), tuple(cells)


def _in_order(spec: Spec, places: Sequence[_Place], checksum: str) -> Iterator[tuple[Trial, _Place]]:
    for seed in spec.sweep.seeds:
        for place in places:
            settings = trial_identity(place.spec, checksum, place.learning_rate, place.epsilon, seed)
            yield Trial.of(settings, (place.label,)), place


def _joined(record: BatchesRecord, folder: ExperimentFolder) -> BatchesRecord:
    """Return a record with what was trained of the same setting before; of another setting nothing is kept."""
    if not folder.batches_json.exists():
        return record
    before = BatchesRecord.read(folder.batches_json)
    is_same = (before.base_batch_size, before.learning_rate, before.epsilon) == (
        record.base_batch_size,
        record.learning_rate,
        record.epsilon,
    )
    base_ids = {cell.id for cell in record.cells if cell.rule == BASE}
    if not is_same or not base_ids & {cell.id for cell in before.cells}:
        return record
    kept = {(cell.batch_size, cell.rule, cell.seed): cell for cell in (*before.cells, *record.cells)}
    return replace(
        record,
        cells=tuple(kept.values()),
        changes={**before.changes, **record.changes},
        skipped={**before.skipped, **record.skipped},
    )


def _words(setting: Setting) -> str:
    rate = f"lr {power(setting.learning_rate)}"
    return rate if setting.epsilon is None else f"{rate}, ε {power(setting.epsilon)}"
