"""The first stage: measure the gradient magnitudes of the first epoch and store the ε bounds.

At several batch sizes, the epochs stay the same and so does the average in time that v is: with the batch κ times
larger, β₂ becomes β₂^κ (the square-root rule of arXiv 2205.10287 agrees to first order). Every size then sees the same
examples with the same weights. With equal steps instead, a larger batch would see more examples and more tiny entries
that are zero elsewhere, and the low tail would fall as 1/B.

Equal epochs mean κ times fewer gradients in v̂, so that log √v̂ scatters by about 1/√(2t) after t of them; from eight
steps on that is small against the decade over which a layer is spread. Batches are drawn without replacement, so that
at a size that is a large part of the data their noise is smaller than σ²/B by (N − B)/(N − 1). Reports mention both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epsgrid import optimizers, plugins, tasks
from epsgrid.errors import NoBoundsError, ScalingError, SpecError, StoreError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.scaling import scaled_steps
from epsgrid.optimizers._conversion import SAME_SECOND_MOMENT
from epsgrid.optimizers._scaling import scaling_of
from epsgrid.spec.model import Probe, Spec
from epsgrid.spec.trial import identity, plugin_names
from epsgrid.stages.experiment import Asked, enter, parameters_of, prepare_data
from epsgrid.stages.scale import scaled_spec, with_base
from epsgrid.store import observations
from epsgrid.store.atomic import read_json, store_errors
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.provenance import provenance
from epsgrid.store.records import BatchBoundsRecord, ProbeRecord
from epsgrid.tasks._divide import DividedImages

if TYPE_CHECKING:
    from epsgrid.numerics.series import Series

_OnStep = Callable[[int, int], None]

_BOUNDS_DEPEND_ON = ("epochs", "batches", "update_weights", "learning_rate", "tail_fraction", "seed", "leave_out")
_OBSERVE = """task {task!r} trains by your own code, so nothing here can probe it. Observe its first epoch instead:

    with epsgrid.observe(optimizer, model=model) as observer:
        ...  # one epoch of your training
    observer.bounds().save("bounds.json")

and name the file in the spec: `sweep: {{bounds: bounds.json, ...}}`. Without it, list `sweep.epsilons`, or sweep the
conventional grid alone: `sweep: {{grid: conventional, ...}}`."""
_NEVER = 2**31
"""Steps between two snapshots where only the histograms at the end are wanted."""


@dataclass(frozen=True)
class BatchProbe:
    """The spec's own probe, and how many probes at other sizes and seeds were measured just now or reused."""

    base: ProbeRecord
    base_is_new: bool
    measured: int
    reused: int


def probe(asked: Asked, command: Sequence[str], *, force: bool, on_step: _OnStep) -> tuple[ProbeRecord, bool]:
    """Measure and store the bounds of a spec, or return those already stored for exactly these settings.

    Progress is reported as `on_step(done, of)`. Returns also whether the bounds were measured just now.

    Raises:
        NoBoundsError: the optimizer has no ε, or nothing could be measured.
        DataError, StoreError: see `prepare_data` and `enter`.
    """
    optimizers.require_epsilon(asked.spec.optimizer.name)
    if asked.spec.task.trains_itself:
        return _probe_from_file(asked)
    data = prepare_data(asked.spec)
    enter(asked, data)
    if not force:
        stored = read_probe(asked.folder)
        if stored is not None and stored.identity == probe_identity(asked.spec, data):
            return stored, False
    ((record, series),) = _measure([asked.spec], data, command, on_step)
    observations.write(asked.folder.observations_jsonl, series)
    record.write(asked.folder.bounds_json)
    return record, True


def batch_probe(asked: Asked, command: Sequence[str], *, force: bool, on_step: _OnStep) -> BatchProbe:
    """Measure the bounds at every batch size of `probe.batch_sizes` and at the spec's own, with every seed of it.

    A size and seed that is stored with the same settings is not measured again unless with `force`, so that a call that
    was interrupted continues with what is missing. Progress starts again after the spec's own probe.

    Raises:
        SpecError: there is only one batch size, or one that is larger than the data.
        NoBoundsError, DataError, StoreError: see `probe`.
    """
    optimizers.require_epsilon(asked.spec.optimizer.name)
    if asked.spec.task.trains_itself:
        raise NoBoundsError(f"task {asked.spec.task.name!r} has batches of its own, so they cannot be made larger here")
    data, folder, settings = prepare_data(asked.spec), asked.folder, asked.spec.probe
    own_size = asked.spec.training.batch_size
    sizes = with_base(settings.batch_sizes, own_size, data)
    base, base_is_new = probe(asked, command, force=force, on_step=on_step)
    seeds = tuple(range(settings.seed, settings.seed + settings.seeds))
    examples = len(data.train) if isinstance(data, DividedImages) else None
    points = [(size, seed) for size in sizes for seed in seeds if (size, seed) != (own_size, seeds[0])]
    missing = []
    for size, seed in points:
        spec, path = _at(asked.spec, size, seed, base.steps), folder.batch_probe(size, seed)
        is_stored = path.exists() and ProbeRecord.read(path).identity == probe_identity(spec, data)
        if force or not is_stored:
            missing.append((spec, path))
    if missing:  # until all are measured, nobody may take old and new probes for one measurement
        with store_errors("remove", folder.batch_bounds_json):
            folder.batch_bounds_json.unlink(missing_ok=True)
    base.write(folder.batch_probe(own_size, seeds[0]))
    for (_, path), (found, _) in zip(
        missing, _measure([spec for spec, _ in missing], data, command, on_step), strict=True
    ):
        replace(found, bounds_json={**found.bounds_json, "reliability": None}).write(path)
    BatchBoundsRecord(own_size, sizes, seeds, examples).write(folder.batch_bounds_json)
    return BatchProbe(base, base_is_new, len(missing), len(points) - len(missing))


def probe_identity(spec: Spec, data: tasks.PreparedData | None) -> dict[str, Any]:
    """Return everything that can change the result of probing this spec."""
    common = identity(spec, parameters_of(spec, data))
    unused = {"batch_sizes"}  # they have records of their own
    if not spec.probe.leave_out:
        unused.add("leave_out")
    return {
        "data": data.checksum if data else "",
        **{part: common[part] for part in common if part != "training"},
        "batch_size": spec.training.batch_size,
        "precision": spec.training.precision,
        # Earlier versions stored `beta2`, empty where it was not used.
        "probe": {**spec.probe.model_dump(mode="json", exclude=unused), "beta2": []},
    }


def bounds_identity(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a probe's identity that can change the bounds, and not only their reliability."""
    return {**settings, "probe": {field: settings["probe"].get(field) for field in _BOUNDS_DEPEND_ON}}


def _probe_from_file(asked: Asked) -> tuple[ProbeRecord, bool]:
    """Store the bounds that a spec's file holds, as what a probe of it has measured."""
    record = given_probe(asked)
    if record is None:
        raise NoBoundsError(_OBSERVE.format(task=asked.spec.task.name))
    enter(asked, prepare_data(asked.spec))
    stored = read_probe(asked.folder)
    if stored is not None and stored.checksum == record.checksum:
        return stored, False
    record.write(asked.folder.bounds_json)
    return record, True


def given_probe(asked: Asked) -> ProbeRecord | None:
    """Return the bounds that a spec's file holds, in the ε of its optimizer, or what was stored of one that is gone.

    None where the spec names no file, and nothing is stored.

    Raises:
        StoreError, CorruptRecordError: the file cannot be read, or does not say where its bounds come from.
        SpecError: they are of an optimizer with another second moment.
    """
    path = Path(asked.spec.sweep.bounds)
    if not asked.spec.task.trains_itself or path.suffix != ".json" or not path.exists():
        stored = read_probe(asked.folder)
        if stored is not None or path.suffix != ".json":
            return stored
        raise StoreError(
            f"sweep.bounds: there is no file {path}; `bounds.save({path.name!r})` in your training writes it"
        )
    document = read_json(path)
    if isinstance(document, dict) and "bounds_json" in document:  # the bounds.json of another experiment
        probe = ProbeRecord.from_json(document, path)
        name, placement = probe.identity["optimizer"]["name"], probe.placement
        bounds = probe.bounds().measured_on(name, [placement], probe.steps)
    else:
        bounds = EpsilonBounds.from_json(document)
    return probe_of(asked.spec, bounds, str(path))


def probe_of(spec: Spec, bounds: EpsilonBounds, source: str) -> ProbeRecord:
    """Return bounds of the user's own as a probe of a spec, in the ε of its optimizer; raises as `given_probe`."""
    origin = bounds.origin
    if origin is None:
        raise StoreError(f"{source} does not say of which optimizer its bounds are; write it with `bounds.save`")
    plugin = optimizers.require_epsilon(spec.optimizer.name)
    placement, name = plugin.placement(spec.optimizer, origin.steps or math.inf), origin.optimizer.lower()
    is_same = name == spec.optimizer.name or {name, spec.optimizer.name} <= SAME_SECOND_MOMENT
    is_known = name in plugins.names("optimizers") and spec.optimizer.name in plugins.names("optimizers")
    if not is_same and (is_known or placement != origin.placement):
        raise SpecError(
            f"optimizer {spec.optimizer.name!r}: {source} has bounds of {origin.optimizer}, which divides by another"
            f" quantity, so they do not hold here; observe a training with {spec.optimizer.name}"
        )
    return ProbeRecord(
        identity={"optimizer": spec.optimizer.identity(), "probe": {}, "bounds_of": origin.optimizer},
        bounds_json=replace(bounds.converted(placement), origin=None).to_json(),
        placement=placement,
        cost_seconds=0.0,
        steps=origin.steps,
        batch_size=0,
        data_description=f"a training of your own with {origin.optimizer}",
        provenance={"bounds from": source},
    )


def read_probe(folder: ExperimentFolder) -> ProbeRecord | None:
    """Return the stored probe, or None where there is none; a damaged one is a CorruptRecordError."""
    return ProbeRecord.read(folder.bounds_json) if folder.bounds_json.exists() else None


def _measure(
    specs: Sequence[Spec], data: tasks.PreparedData, command: Sequence[str], on_step: _OnStep
) -> Iterator[tuple[ProbeRecord, Series]]:
    """Probe specs of one task, one after another."""
    if not specs:
        return
    from epsgrid.trials.building import user_errors  # torch, only now that there is something to run
    from epsgrid.trials.device import resolve_device
    from epsgrid.trials.probe import run_probe
    from epsgrid.trials.rehearsal import rehearse

    device = resolve_device(specs[0].execution.device, specs[0].training.precision)
    with plugins.user_errors(specs[0].task.name):
        task = tasks.load(specs[0].task.name).build(specs[0].task, data, device)
    for place, spec in enumerate(specs):

        def on_part(done: int, of: int, place: int = place) -> None:
            on_step(100 * place + 100 * done // of, 100 * len(specs))

        rate, epsilon = spec.sweep.learning_rates[0], spec.sweep.default_epsilon
        rehearse(spec, task, device, rate, epsilon, spec.probe.seed, to_the_end=False)
        own_identity, names = probe_identity(spec, data), plugin_names(spec)
        plugins.check_imports(own_identity.get("code", {}), *names)
        with user_errors(spec, task):
            outcome = run_probe(spec, task, device, on_step if len(specs) == 1 else on_part)
        plugins.check_imports(own_identity.get("code", {}), *names)
        record = ProbeRecord(
            identity=own_identity,
            bounds_json=outcome.bounds.to_json(),
            placement=optimizers.load(spec.optimizer.name).placement(spec.optimizer, outcome.steps),
            cost_seconds=outcome.seconds,
            steps=outcome.steps,
            batch_size=spec.training.batch_size,
            data_description=data.description,
            provenance=provenance(command),
        )
        yield record, outcome.series


def _at(spec: Spec, batch_size: int, seed: int, base_steps: int) -> Spec:
    """Return the spec of a probe at another batch size or seed, without the settings about reliability.

    Its averages span as many epochs as at the spec's own batch size; where no rule is derived for the optimizer, its
    decays stay. `base_steps` is the number of steps of the spec's own probe, fixed or until the bounds had settled.
    """
    try:
        scaled = scaled_spec(spec, batch_size, "sqrt", half_life=True).spec
        if scaling_of(spec.optimizer).is_residual:  # with another β₁, √v̂ of noise would not go as 1/√κ
            own, there = (each.model_dump()["betas"] for each in (spec.optimizer, scaled.optimizer))
            options = scaled.optimizer.model_copy(update={"betas": (own[0], there[1])})
            scaled = scaled.model_copy(update={"optimizer": options})
    except (ScalingError, SpecError):
        training = spec.training.model_copy(update={"batch_size": batch_size})
        scaled = spec.model_copy(update={"training": training})
    batches = None
    if spec.probe.batches is not None:
        batches = scaled_steps(base_steps, Fraction(batch_size, spec.training.batch_size))
    settings = Probe(
        epochs=spec.probe.epochs,
        batches=batches,
        tail_fraction=spec.probe.tail_fraction,
        leave_out=spec.probe.leave_out,
        seed=seed,
        check_rounding=False,
        every=_NEVER,
    )
    return scaled.model_copy(update={"probe": settings})
