"""The second stage: train the trials of a plan that have no result yet.

Grids are planned here, other trials in `epsgrid.stages.plans` and `epsgrid.stages.deciding`. `plan_sweep` previews any
plan and `sweep` trains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from epsgrid import grids, optimizers, plugins, tasks
from epsgrid.errors import DataError, NoBoundsError, StoreError
from epsgrid.grids import NARROWED
from epsgrid.grids._plan import Plan, plan
from epsgrid.grids._rates import EffectiveRates
from epsgrid.numerics.placement import Placement
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import differences
from epsgrid.stages.experiment import Asked, enter, parameters_of, prepare_data, vacate
from epsgrid.stages.probe import bounds_identity, given_probe, probe_identity
from epsgrid.stages.pruning import import_optuna
from epsgrid.stages.running import HowToRun, SweepPlan, SweepSummary, train_planned, with_states
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import BatchesRecord, ConfirmRecord, GridRecord, ProbeRecord

GridChoice = Literal["narrowed", "conventional", "both", "default"]


@dataclass(frozen=True)
class Planned:
    """Trials to train that are not those of grids, with a sentence for each thing that the user should know about them.

    `record` describes them in the experiment's folder; None where an earlier sweep has stored that. They `may_prune`
    where the spec prunes.
    """

    plan: Plan
    record: ConfirmRecord | BatchesRecord | None = None
    notes: tuple[str, ...] = ()
    may_prune: bool = False

    def pruned_or_not(self, asked: Asked) -> Asked:
        """Return an experiment that prunes these trials only where they may be pruned."""
        return asked if self.may_prune else asked.with_sweep(prune=None)


def swept(folder: ExperimentFolder) -> GridChoice:
    """Return the grids that were swept in a folder so far; none is a StoreError."""
    record = GridRecord.find(folder.grid_json)
    if record is None:
        raise StoreError(f"{folder.root}: nothing was swept here yet; `epsgrid sweep` does it")
    if "narrowed" in record.epsilons:
        return "both" if "conventional" in record.epsilons else "narrowed"
    return "conventional" if "conventional" in record.epsilons else "default"


def plan_sweep(asked: Asked, what: GridChoice | Planned, workers: int | None) -> SweepPlan:
    """Return what `sweep` would do, without writing into the experiment's folder, downloading or importing torch.

    Where the data are missing, every trial counts as one to run. Where the bounds are not measured yet, the narrowed
    grid is left out, and effective learning rates are replaced by the spec's. The plan's `unknown` says all of it.
    Raises StoreError where stored bounds were measured with other settings.
    """
    if isinstance(what, Planned):
        return replace(with_states(what.plan, what.pruned_or_not(asked), workers), unknown=what.notes)
    spec, unknown, names, data = asked.spec, [], _names(what), None
    if getattr(spec.task, "download", False):
        spec = spec.model_copy(update={"task": spec.task.model_copy(update={"download": False})})
    try:
        data = prepare_data(spec)
    except DataError as error:
        unknown.append(f"the data are not ready, so all trials count as to run: {error}")
    is_unprobed = _placement(spec) is not None and given_probe(asked) is None
    try:
        vacate(asked, data, dry_run=True)
    except StoreError as error:
        unknown.append(str(error))
        is_unprobed = _placement(spec) is not None and not spec.sweep.bounds.endswith(
            ".json"
        )  # what was measured there is another experiment's
    if is_unprobed and NARROWED in names and not asked.spec.sweep.epsilons:
        names = tuple(name for name in names if name != NARROWED)
        how = (
            "from sweep.bounds or sweep.epsilons, and has neither"
            if spec.task.trains_itself
            else "after `epsgrid probe`"
        )
        unknown.append(f"the narrowed grid is known {how}; it is left out here")
    if is_unprobed and asked.spec.sweep.lr_mode == "effective":
        asked = asked.with_sweep(lr_mode="fixed")
        unknown.append("the learning rates to train with are known after `epsgrid probe`; here they are the spec's")
    return replace(with_states(_plan_grids(asked, names, data), asked, workers), unknown=tuple(unknown))


def sweep(asked: Asked, what: GridChoice | Planned, how: HowToRun) -> SweepSummary:
    """Train the trials of grids, or of a plan, that have no result yet; those that failed earlier are tried again.

    Trials that were pruned earlier stay pruned while the spec prunes, and are trained to their end where it does not.

    Raises:
        StoreError: there are no bounds for the narrowed grid, or the folder is another experiment's or not writable.
        DataError, ExecutionError: the data are missing or damaged; the spec prunes, and Optuna is not installed.
    """
    if asked.spec.sweep.prune is not None and (isinstance(what, str) or what.may_prune):
        import_optuna()
    data, folder = prepare_data(asked.spec), asked.folder
    if isinstance(what, Planned):
        planned = what.plan
        enter(asked, data)
        if what.record is not None:
            what.record.write(folder.confirm_json if isinstance(what.record, ConfirmRecord) else folder.batches_json)
        asked = what.pruned_or_not(asked)
    else:
        vacate(asked, data)
        planned = _plan_grids(asked, _names(what), data)
        enter(asked, data)
        if asked.spec.task.trains_itself and (given := given_probe(asked)) is not None:
            given.write(folder.bounds_json)
        _store_grids(asked, _names(what), data)
    return train_planned(asked, planned, how)


def _names(grid: GridChoice) -> tuple[str, ...]:
    """Return the names of the grids; the default ε needs no name, since `plan` adds it where no grid holds it."""
    choices: dict[GridChoice, tuple[str, ...]] = {"both": ("narrowed", "conventional"), "default": ()}
    return choices.get(grid, (grid,))


def _plan_grids(asked: Asked, names: Sequence[str], data: tasks.PreparedData | None) -> Plan:
    spec, placement, bounds, rates = asked.spec, _placement(asked.spec), None, None
    needs = [
        f"the {name} grid needs measured bounds"
        for name in names
        if grids.load(name).NEEDS_BOUNDS and not (name == NARROWED and spec.sweep.epsilons)
    ]
    if spec.sweep.lr_mode == "effective":
        needs.append("sweep.lr_mode: effective needs the measured histograms")
    if placement is not None and needs:
        probe = _stored_probe(asked, data, needs[0])
        bounds = probe.bounds().chosen(spec.sweep.bounds_choice)
        rates = EffectiveRates.of(bounds, probe.placement) if spec.sweep.lr_mode == "effective" else None
    before = GridRecord.find(asked.folder.grid_json)
    return plan(
        spec,
        data.checksum if data else "",
        bounds,
        names,
        placement=placement,
        rates=rates,
        added=before.added_rates if before else (),
        parameters=parameters_of(spec, data),
    )


def _placement(spec: Spec) -> Placement | None:
    """Return where the optimizer adds its ε in the long run; None for one without."""
    optimizer = optimizers.load(spec.optimizer.name)
    return None if optimizer.DEFAULT_EPSILON is None else optimizer.placement(spec.optimizer, math.inf)


def _stored_probe(asked: Asked, data: tasks.PreparedData | None, need: str) -> ProbeRecord:
    """Return the stored probe of exactly these settings; `need` names what it is needed for."""
    record, path = given_probe(asked), asked.folder.bounds_json
    if asked.spec.task.trains_itself:
        if record is None:
            raise NoBoundsError(
                f"{need}, which a training of your own gives to sweep.bounds; `epsgrid probe` of this spec says how."
                " Without bounds, list sweep.epsilons, or sweep with --grid conventional"
            )
        return record
    if record is None:
        raise StoreError(f"{path} is missing, and {need}; run `epsgrid probe SPEC` first")
    wanted = bounds_identity(probe_identity(asked.spec, data))
    if lines := differences(bounds_identity(record.identity), wanted):
        listed = "\n  ".join(lines)
        raise StoreError(f"{path} was measured with other settings:\n  {listed}\nRun `epsgrid probe` with these again.")
    return record


def _store_grids(asked: Asked, names: Sequence[str], data: tasks.PreparedData) -> None:
    """Store which trials belong to which grid: those of this call, and those that were swept before."""
    path = asked.folder.grid_json
    before = GridRecord.find(path)
    wanted = (*(before.epsilons if before else ()), *names)
    planned = _plan_grids(asked, [each for each in plugins.names("grids") if each in wanted], data)
    probe = ProbeRecord.find(asked.folder.bounds_json)
    GridRecord(
        optimizer=asked.spec.optimizer.name,
        epsilons=dict(planned.epsilons),
        default_epsilon=asked.spec.sweep.default_epsilon,
        cells=planned.trials,
        bounds_checksum=probe.checksum if probe is not None else None,
        placement=_placement(asked.spec),
        bounds="listed" if asked.spec.sweep.epsilons else asked.spec.sweep.bounds_choice,
        added_rates=before.added_rates if before else (),
    ).write(path)
