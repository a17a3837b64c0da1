"""The second stage: train every cell of the grids that has no result yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from epsgrid import grids, optimizers, plugins
from epsgrid.errors import DataError, SpecError, StoreError
from epsgrid.executors import StopRequest
from epsgrid.grids._plan import Plan, plan
from epsgrid.grids._rates import EffectiveRates
from epsgrid.spec import differences
from epsgrid.spec.model import Spec
from epsgrid.stages.experiment import Asked, enter, prepare_data
from epsgrid.stages.probe import bounds_identity, probe_identity, read_probe
from epsgrid.stages.pruning import import_optuna
from epsgrid.stages.running import SweepEvent, SweepPlan, SweepSummary, train_planned, with_states
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import GridRecord, ProbeRecord

GridChoice = Literal["narrowed", "conventional", "both", "default"]
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}")


def swept(folder: ExperimentFolder) -> GridChoice:
    """Return the grids that were swept here so far.

    Raises:
        StoreError: none was.
    """
    if not folder.grid_json.exists():
        raise StoreError(f"{folder.root}: nothing was swept here yet; `epsgrid sweep` does it")
    names = GridRecord.read(folder.grid_json).epsilons
    if "narrowed" in names:
        return "both" if "conventional" in names else "narrowed"
    return "conventional" if "conventional" in names else "default"


def on_ray(asked: Asked, address: str) -> Asked:
    """Return the same with its trials on the Ray cluster at an address.

    Args:
        asked: the spec and its folder.
        address: HOST:PORT of the cluster's head.

    Raises:
        SpecError: it is no address, or the spec names an executor that has nothing to do with Ray.
    """
    execution = asked.spec.execution
    if execution.executor not in ("local", "ray"):
        raise SpecError(
            f"--address joins a Ray cluster, but execution.executor is {execution.executor!r}: leave --address out, or"
            " take the other out of the spec"
        )
    if not _ADDRESS.fullmatch(address):
        raise SpecError(
            f"--address: expected HOST:PORT of a Ray cluster's head, such as 10.0.0.1:6379, got {address!r}"
        )
    ray = execution.ray.model_copy(update={"address": address})
    joined = execution.model_copy(update={"executor": "ray", "ray": ray})
    return replace(asked, spec=asked.spec.model_copy(update={"execution": joined}))


def plan_sweep(asked: Asked, grid: GridChoice, workers: int | None) -> SweepPlan:
    """Return what `sweep` would do, without writing into the experiment's folder, downloading or importing torch.

    Where the data are not here yet, every trial counts as one to run; where the bounds are not measured yet, the
    narrowed grid is left out, and effective learning rates are taken to be the spec's. All of it is told.

    Raises:
        StoreError: stored bounds were measured with other settings.
    """
    unknown, names, checksum = [], _chosen(grid), ""
    try:
        checksum = prepare_data(_offline(asked.spec)).checksum
    except DataError as error:
        unknown.append(f"the data are not ready, so all trials count as to run: {error}")
    has_epsilon = optimizers.load(asked.spec.optimizer.name).HAS_EPSILON
    is_unprobed = has_epsilon and read_probe(asked.folder) is None
    if is_unprobed and "narrowed" in names:
        names = tuple(name for name in names if name != "narrowed")
        unknown.append("the narrowed grid is known after `epsgrid probe`; it is left out here")
    if is_unprobed and asked.spec.sweep.lr_mode == "effective":
        asked = asked.with_sweep(lr_mode="fixed")
        unknown.append("the learning rates to train with are known after `epsgrid probe`; here they are the spec's")
    planned = with_states(_plan(asked, names, checksum), asked, workers)
    return replace(planned, unknown=tuple(unknown))


def sweep(
    asked: Asked,
    grid: GridChoice,
    *,
    workers: int | None,
    fail_fast: bool,
    notify: Callable[[SweepEvent], None],
    stop: StopRequest,
) -> SweepSummary:
    """Train the trials that have no result yet; those that failed earlier are tried again.

    Trials that were pruned earlier are left so while the spec prunes, and trained to their end where it does not.

    Args:
        asked: the spec and its folder.
        grid: which grids to train.
        workers: trials at once; None means as the spec says, or one per core or GPU slot.
        fail_fast: start nothing more after the first failure.
        notify: told the plan, then each trial's start and end.
        stop: asked whether to stop.

    Returns:
        The states of all trials at the end, whether or not the sweep was stopped.

    Raises:
        StoreError: no bounds for the narrowed grid, or the folder is another experiment's or cannot be written.
        DataError: the data are missing or damaged.
        ExecutionError: the spec prunes, and Optuna is not installed.
    """
    if asked.spec.sweep.prune is not None:
        import_optuna()
    data = prepare_data(asked.spec)
    planned = _plan(asked, _chosen(grid), data.checksum)
    enter(asked, data)
    _store_grids(asked, _chosen(grid), data.checksum)
    return train_planned(asked, planned, workers=workers, fail_fast=fail_fast, notify=notify, stop=stop)


def _offline(spec: Spec) -> Spec:
    """Return the spec with its data to be found here and not downloaded."""
    if not getattr(spec.task, "download", False):
        return spec
    return spec.model_copy(update={"task": spec.task.model_copy(update={"download": False})})


def _chosen(grid: GridChoice) -> tuple[str, ...]:
    """Return the names of the grids; the default ε needs no name, for `plan` adds it where no grid holds it."""
    choices: dict[GridChoice, tuple[str, ...]] = {"both": ("narrowed", "conventional"), "default": ()}
    return choices.get(grid, (grid,))


def _plan(asked: Asked, names: Sequence[str], data_checksum: str) -> Plan:
    spec = asked.spec
    has_epsilon = optimizers.load(spec.optimizer.name).HAS_EPSILON
    needs = [f"the {name} grid needs measured bounds" for name in names if grids.load(name).NEEDS_BOUNDS]
    if spec.sweep.lr_mode == "effective":
        needs.append("sweep.lr_mode: effective needs the measured median magnitude")
    if not has_epsilon or not needs:
        return plan(spec, data_checksum, None, names, has_epsilon=has_epsilon)
    probe = _probe(asked, data_checksum, needs[0])
    bounds = probe.bounds()
    rates = EffectiveRates.of(bounds, probe.placement) if spec.sweep.lr_mode == "effective" else None
    return plan(spec, data_checksum, bounds, names, has_epsilon=has_epsilon, rates=rates)


def _probe(asked: Asked, data_checksum: str, need: str) -> ProbeRecord:
    """Return the stored probe of exactly these settings; `need` says what for."""
    record = read_probe(asked.folder)
    path = asked.folder.bounds_json
    if record is None:
        raise StoreError(f"{path} is missing, and {need}; run `epsgrid probe SPEC` first")
    asked_for = bounds_identity(probe_identity(asked.spec, data_checksum))
    lines = differences(bounds_identity(record.identity), asked_for)
    if lines:
        listed = "\n  ".join(lines)
        raise StoreError(f"{path} was measured with other settings:\n  {listed}\nRun `epsgrid probe` with these again.")
    return record


def _store_grids(asked: Asked, names: Sequence[str], data_checksum: str) -> None:
    """Write down which trials belong to which grid: those of this call, and those swept here before."""
    before = GridRecord.read(asked.folder.grid_json).epsilons if asked.folder.grid_json.exists() else {}
    swept = [name for name in plugins.names("grids") if name in (*before, *names)]
    probe = read_probe(asked.folder)
    planned = _plan(asked, swept, data_checksum)
    record = GridRecord(
        optimizer=asked.spec.optimizer.name,
        epsilons=dict(planned.epsilons),
        default_epsilon=asked.spec.sweep.default_epsilon,
        cells=planned.trials,
        bounds_checksum=probe.checksum if probe is not None else None,
    )
    record.write(asked.folder.grid_json)
