"""The first stage: measure the gradient magnitudes of the first epoch and store the ε bounds.

They may be measured at other values of numbers of the spec too, such as the width, and be predicted from there for a
model that is too large to probe; `epsgrid.numerics.laws` has the laws.

At several batch sizes, the epochs stay the same and so does the average in time that v is: with the batch κ times
larger, β₂ becomes β₂^κ (the square-root rule of arXiv 2205.10287 agrees to first order). Every size then sees the same
examples with the same weights. With equal steps instead, a larger batch would see more examples and more tiny entries
that are zero elsewhere, and the low tail would fall as 1/B.

Equal epochs mean κ times fewer gradients in v̂, so that log √v̂ scatters by about 1/√(2t) after t of them; from eight
steps on that is small against the decade over which a layer is spread. Batches are drawn without replacement, so that
at a size that is a large part of the data their noise is smaller than σ²/B by (N − B)/(N − 1). Reports mention both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import linear_regression
from typing import TYPE_CHECKING, Any

from epsgrid import models, optimizers, plugins, tasks
from epsgrid.codec import shown
from epsgrid.errors import NoBoundsError, ScalingError, SpecError, StoreError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.laws import FEWEST_SIZES
from epsgrid.numerics.predicting import Prediction, predict
from epsgrid.numerics.scaling import scaled_steps
from epsgrid.optimizers._conversion import SAME_SECOND_MOMENT
from epsgrid.optimizers._scaling import scaling_of
from epsgrid.spec import BATCH_SIZE
from epsgrid.spec.loading import parse_spec, spec_from_json
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import identity, plugin_names
from epsgrid.spec.writing import spec_to_yaml
from epsgrid.stages.experiment import Asked, enter, parameters_of, prepare_data
from epsgrid.stages.scale import scaled_spec, with_base
from epsgrid.store import observations
from epsgrid.store.atomic import read_json, store_errors
from epsgrid.store.provenance import provenance
from epsgrid.store.records import ProbeRecord, VariedRecord
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
_ASTRAY = 1.25
"""Factor by which the value of a key may lie beside the common line of keys in step."""
_NEVER = 2**31
"""Steps between two snapshots where only the histograms at the end are wanted."""


@dataclass(frozen=True)
class Varied:
    """Which probes there are at other values of some keys, and how many were measured just now or reused.

    `base` is the spec's own probe, with which other batch sizes are compared; None for other keys.
    """

    record: VariedRecord
    base: ProbeRecord | None
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
    path, data = asked.folder.bounds_json, prepare_data(asked.spec)
    if asked.spec.task.trains_itself:  # what a file of the spec holds counts as measured
        given = given_probe(asked)
        if given is None:
            raise NoBoundsError(_OBSERVE.format(task=asked.spec.task.name))
        enter(asked, data)
        stored = ProbeRecord.find(path)
        if stored is not None and stored.checksum == given.checksum:
            return stored, False
        given.write(path)
        return given, True
    enter(asked, data)
    stored = None if force else ProbeRecord.find(path)
    if stored is not None and stored.identity == probe_identity(asked.spec, data):
        return stored, False
    ((record, series),) = _measure([(asked.spec, data)], command, on_step)
    observations.write(asked.folder.observations_jsonl, series)
    record.write(path)
    return record, True


def vary_probe(
    asked: Asked, target: Sequence[float] | None, command: Sequence[str], *, force: bool, on_step: _OnStep
) -> Varied:
    """Measure the bounds at all values of the keys that `probe.vary` names, with every seed of it.

    `target` has a value for each key, to `predict_at`, and is checked before anything is measured. Where the batch size
    alone is varied, the spec's own is one of the points, and measured as its bounds. A point and seed that is stored
    with the same settings is not measured again unless with `force`, so that a call that was interrupted continues with
    what is missing. Progress starts again after the spec's own probe.

    Raises:
        SpecError: a key, a value or the target is no good; there is only one batch size, or one that is larger than
            the data.
        NoBoundsError, DataError, StoreError: see `probe`.
    """
    optimizers.require_epsilon(asked.spec.optimizer.name)
    if asked.spec.task.trains_itself:
        raise NoBoundsError(
            f"task {asked.spec.task.name!r} trains by your own code; vary it there, and predict by epsgrid.predict"
        )
    spec, folder, settings, varied = asked.spec, asked.folder, asked.spec.probe, asked.spec.probe.varied
    data, keys = prepare_data(spec), tuple(varied)
    own = tuple(_own_value(spec, key) for key in keys)
    points, has_own = tuple(sorted(zip(*varied.values(), strict=True))), keys == (BATCH_SIZE,)
    if has_own:
        points = tuple((float(size),) for size in with_base([int(size) for (size,) in points], int(own[0]), data))
    seeds = tuple(range(settings.seed, settings.seed + settings.seeds))
    examples = len(data.train) if isinstance(data, DividedImages) else None
    record = VariedRecord(keys, points, own, seeds, examples)
    if target is not None:
        _check_target(record, target)
    for point in (*points, *([tuple(target)] if target else [])):  # all mistakes are told before anything runs
        prepare_data(_at(spec, record.written(point), seeds[0], 1))
    places = [(point, seed) for point in points for seed in seeds if not (has_own and (point, seed) == (own, seeds[0]))]
    base, base_is_new = probe(asked, command, force=force, on_step=on_step) if has_own else (None, False)
    if base is None:
        enter(asked, data)
    missing = []
    for point, seed in places:
        there, path = _at(spec, record.written(point), seed, _steps(spec, base)), record.probe(folder, point, seed)
        own_data = data if there.task == spec.task else prepare_data(there)
        if force or not path.exists() or ProbeRecord.read(path).identity != probe_identity(there, own_data):
            missing.append((there, own_data, path))
    stored = folder.varied(keys)
    if missing:  # until all are measured, nobody may take old and new probes for one measurement
        with store_errors("remove", stored):
            stored.unlink(missing_ok=True)
    if base is not None:
        base.write(record.probe(folder, own, seeds[0]))
    jobs = [(there, own_data) for there, own_data, _ in missing]
    for (_, _, path), (found, _) in zip(missing, _measure(jobs, command, on_step), strict=True):
        found.write(path)
    record.write(stored)
    return Varied(record, base, base_is_new, len(missing), len(places) - len(missing))


def _check_target(record: VariedRecord, target: Sequence[float]) -> None:
    """Raise a SpecError where nothing can be predicted at a target."""
    if len(target) != len(record.keys):
        raise SpecError(
            f"--predict: expected a value for each of {', '.join(record.keys)}, in this order, got {len(target)}"
        )
    if not all(0 < value < math.inf for value in target):
        raise SpecError(f"--predict: expected numbers above 0, got {', '.join(f'{value:g}' for value in target)}")
    if len(record.points) < FEWEST_SIZES:
        raise SpecError(
            f"--predict: a power law needs {FEWEST_SIZES} values of {record.keys[0]}, and a fourth tells whether it"
            f" holds; got {len(record.points)}"
        )
    columns = [*zip(*record.points, strict=True)]
    for key, values, value in zip(record.keys[1:], columns[1:], target[1:], strict=True):
        slope, offset = linear_regression([*map(math.log, columns[0])], [*map(math.log, values)])
        straight = math.exp(offset + slope * math.log(target[0]))
        if not 1 / _ASTRAY <= value / straight <= _ASTRAY:
            raise SpecError(
                f"--predict: where {record.keys[0]} goes on to {target[0]:g}, {key} goes on to {straight:.3g}, not to"
                f" {value:g}: keys in step have one law together, along the line of their values"
            )


def predict_at(
    asked: Asked, varied: Varied, target: Sequence[float], command: Sequence[str]
) -> tuple[ProbeRecord, Prediction]:
    """Predict the bounds at a target, a value for each varied key, and store them.

    Raises NoBoundsError where no layer's law fits, SpecError where the spec cannot have these values.
    """
    spec, folder, record, at = asked.spec, asked.folder, varied.record, tuple(map(float, target))
    there = _at(spec, record.written(at), spec.probe.seed, _steps(spec, varied.base))
    data = prepare_data(there)
    probes = {
        point: [ProbeRecord.read(record.probe(folder, point, s)) for s in record.seeds] for point in record.points
    }
    last = probes[record.points[-1]][0]
    steps = last.steps
    if BATCH_SIZE in record.keys:
        steps = scaled_steps(steps, Fraction(there.training.batch_size, last.batch_size))
    placement = optimizers.load(spec.optimizer.name).placement(there.optimizer, steps)
    measured = {point[0]: [each.bounds() for each in found] for point, found in probes.items()}
    model, is_batch = _meta_model(there, data), list(record.keys) == [BATCH_SIZE]
    prediction = predict(measured, at[0], model=model, placement=placement, batch_sizes=is_batch)
    stored = ProbeRecord(
        identity=probe_identity(there, data),
        bounds_json=prediction.bounds.to_json(),
        placement=placement,
        cost_seconds=math.fsum(each.cost_seconds for found in probes.values() for each in found),
        steps=steps,
        batch_size=there.training.batch_size,
        data_description=data.description,
        provenance=provenance(command),
        predicted_at=record.written(at),
    )
    stored.write(folder.predicted_json)
    return stored, prediction


def probe_identity(spec: Spec, data: tasks.PreparedData | None) -> dict[str, Any]:
    """Return everything that can change the result of probing this spec."""
    common = identity(spec, parameters_of(spec, data))
    unused = {"batch_sizes", "vary"}  # they have records of their own
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


def given_probe(asked: Asked) -> ProbeRecord | None:
    """Return the bounds that a spec's file holds, in the ε of its optimizer, or what was stored of one that is gone.

    None where the spec names no file, and nothing is stored.

    Raises:
        StoreError, CorruptRecordError: the file cannot be read, or does not say where its bounds come from.
        SpecError: they are of an optimizer with another second moment.
    """
    path = Path(asked.spec.sweep.bounds)
    if not asked.spec.task.trains_itself or path.suffix != ".json" or not path.exists():
        stored = ProbeRecord.find(asked.folder.bounds_json)
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


def _measure(
    jobs: Sequence[tuple[Spec, tasks.PreparedData]], command: Sequence[str], on_step: _OnStep
) -> Iterator[tuple[ProbeRecord, Series]]:
    """Probe specs on their data, one after another."""
    if not jobs:
        return
    from epsgrid.trials.building import user_errors  # torch, only now that there is something to run
    from epsgrid.trials.device import resolve_device
    from epsgrid.trials.probe import run_probe
    from epsgrid.trials.rehearsal import rehearse

    first = jobs[0][0]
    device, built = resolve_device(first.execution.device, first.training.precision), None
    for place, (spec, data) in enumerate(jobs):
        if built != spec.task:
            with plugins.user_errors(spec.task.name):
                task = tasks.load(spec.task.name).build(spec.task, data, device)
            built = spec.task

        def on_part(done: int, of: int, place: int = place) -> None:
            on_step(100 * place + 100 * done // of, 100 * len(jobs))

        rate, epsilon = spec.sweep.learning_rates[0], spec.sweep.default_epsilon
        rehearse(spec, task, device, rate, epsilon, spec.probe.seed, to_the_end=False)
        own_identity, names = probe_identity(spec, data), plugin_names(spec)
        plugins.check_imports(own_identity.get("code", {}), *names)
        with user_errors(spec, task):
            outcome = run_probe(spec, task, device, on_step if len(jobs) == 1 else on_part)
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


def _place(document: Any, key: str) -> tuple[Any, str | int]:
    """Return the mapping or list of a spec's document that holds a dotted key, and the key or the index in it."""
    *outer, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
    for part in outer:
        document = document[part]
    return document, last


def _own_value(spec: Spec, key: str) -> float:
    """Return the number that a spec has at a key; what is none is a SpecError."""
    try:
        inner, last = _place(spec.model_dump(mode="json"), key)
        found = inner[last]
    except (LookupError, TypeError):
        parse_spec(spec_to_yaml(spec), "the spec", [f"{key}=1"])  # says what is wrong with the key
        raise
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise SpecError(f"--vary {key}: the spec has {shown(found)} there, and only a number can be varied")
    return float(found)


def _steps(spec: Spec, base: ProbeRecord | None) -> int | None:
    """Return the steps that the spec's own probe takes, or would; None where it takes all of its epochs."""
    if base is not None and spec.probe.batches is not None:
        return base.steps
    if spec.probe.batches == "settled":
        raise SpecError(
            "probe.batches: settled: all sizes are compared over the same batches; give their number, as --batches 50"
        )
    return spec.probe.batches


def _at(spec: Spec, values: Mapping[str, str], seed: int, base_steps: int | None) -> Spec:
    """Return the spec of a probe at other values of some keys, as they are written, or another seed.

    `base_steps` is the number of steps of the spec's own probe, fixed or until the bounds had settled; None is all.
    Settings about reliability are left out. At another batch size averages span as many epochs; where no rule is
    derived for the optimizer, its decays stay.
    """
    document = spec.model_dump(mode="json")
    for key, value in values.items():
        inner, last = _place(document, key)
        inner[last] = json.loads(value)
    there = spec_from_json(document, f"the spec at {', '.join(f'{key} = {value}' for key, value in values.items())}")
    batch_size, batches = there.training.batch_size, base_steps
    if BATCH_SIZE in values:
        own = there.model_copy(update={"training": spec.training})
        with suppress(ScalingError, SpecError):  # where no rule is derived, the decays stay
            scaled = scaled_spec(own, batch_size, "sqrt", half_life=True).spec
            if scaling_of(own.optimizer).is_residual:  # with another β₁, √v̂ of noise would not go as 1/√κ
                before, after = (each.model_dump()["betas"] for each in (own.optimizer, scaled.optimizer))
                options = scaled.optimizer.model_copy(update={"betas": (before[0], after[1])})
                scaled = scaled.model_copy(update={"optimizer": options})
            there = scaled
        if base_steps is not None:
            batches = scaled_steps(base_steps, Fraction(batch_size, spec.training.batch_size))
    settings = spec.probe.model_copy(
        update={
            "batches": batches,
            "seed": seed,
            "seeds": 1,
            "compare_weights": None,
            "check_rounding": spec.probe.check_rounding and BATCH_SIZE not in values,
            "every": _NEVER,
            "batch_sizes": (),
            "vary": {},
        }
    )
    return there.model_copy(update={"probe": settings})


def _meta_model(spec: Spec, data: tasks.PreparedData) -> Any:
    """Return a spec's model without its numbers, for the names and shapes of its parameters."""
    import torch

    from epsgrid.trials import building

    with plugins.user_errors(spec.task.name):
        task = tasks.load(spec.task.name).build(spec.task, data, torch.device("cpu"))
    try:
        with torch.device("meta"):
            return models.load(spec.model_name).build(spec.model, task.inputs, task.outputs)
    except (NotImplementedError, RuntimeError):  # a model that looks at its numbers while it is built
        with building.user_errors(spec, task):
            return building.build_model(spec, task, spec.probe.seed, torch.device("cpu"))
