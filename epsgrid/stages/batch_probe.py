"""Measure the bounds at several batch sizes, to see whether they may be carried from one to another.

With the batch κ times larger, an epoch has κ times fewer steps. What is kept the same at all sizes is the epochs, and
the average in time that v is: β₂ becomes β₂^κ, which spans as many epochs as before. So every size sees the same
examples, each with the same weight, and what differs is only how many of them go into one gradient. This is also how
the square-root rule carries a training (arXiv 2205.10287; its 1 − β₂ times κ is the same to first order, and ends at
κ·(1 − β₂) = 1).

With the same number of steps instead, a larger batch would see more examples. Exact zeros are left out of the
percentiles, and gradients are sparse: a word or a pixel that occurs once has an entry that is not zero, and tiny. The
more examples are seen, the more such entries come in, and the low tail falls as 1/B, twice as steep as the law it is
to be compared with. And v of an optimizer that does not correct it for starting at zero would be compared at different
points of its rise, were β₂ not carried along: √v at t steps holds a factor √(1 − β₂ᵗ).

What equal epochs cost: v̂ is the mean square of κ times fewer gradients, and scatters more about its expected value
s² + σ²/B. That draws the tails of a layer apart and its median down. Averaged over t gradients the logarithm of √v̂
scatters by about 1/√(2t), against the decade or more over which a layer is spread: from some eight steps on that is
hardly seen, and with fewer it is told. A training that follows the rule scatters alike.

Batches are drawn without replacement, as in training. At a size that is a large part of the data their noise is
smaller than σ²/B by (N − B)/(N − 1): that is no error of the measurement, training sees it too, but it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from epsgrid import optimizers, tasks
from epsgrid.errors import ScalingError, SpecError
from epsgrid.numerics.scaling import scaled_steps
from epsgrid.spec.model import Probe, Spec
from epsgrid.stages.batch_sizes import training_examples, with_base
from epsgrid.stages.experiment import Asked, prepare_data
from epsgrid.stages.probe import ProbeReport, probe, probe_identity
from epsgrid.stages.scale import scaled_spec
from epsgrid.store.atomic import store_errors
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.provenance import provenance
from epsgrid.store.records import BatchBoundsRecord, ProbeRecord

_NEVER = 2**31
"""Steps between two snapshots that are never reached: only what there is in the end is asked for."""


@dataclass(frozen=True)
class BatchProbeReport:
    """Bounds at several batch sizes.

    Attributes:
        base: the spec's own probe.
        record: which sizes and seeds there are; the probes themselves lie in the folder.
        folder: the experiment's folder.
        measured: probes measured just now, that of the spec left out.
        reused: probes that were already stored.
    """

    base: ProbeReport
    record: BatchBoundsRecord
    folder: ExperimentFolder
    measured: int
    reused: int


@dataclass(frozen=True)
class _Point:
    """One probe to take."""

    batch_size: int
    seed: int


def batch_probe(
    asked: Asked, command: Sequence[str], *, force: bool, on_step: Callable[[int, int], None]
) -> BatchProbeReport:
    """Measure the bounds at every batch size of `probe.batch_sizes` and at the spec's own, with every seed of it.

    A size and seed that is stored with the same settings is not measured again, so that a call that was interrupted
    goes on with what is missing.

    Args:
        asked: the spec and its folder.
        command: the command line, for the records.
        force: measure all again.
        on_step: told the progress, as `on_step(done, of)`; first over the spec's own probe, then over the others.

    Raises:
        SpecError: only one batch size, or one that is larger than the data.
        NoBoundsError: the optimizer has no ε, or nothing could be measured at some size.
        DataError, StoreError: as `probe`.
    """
    optimizers.require_epsilon(asked.spec.optimizer.name)
    data = prepare_data(asked.spec)
    sizes = with_base(asked.spec.probe.batch_sizes, asked.spec.training.batch_size, data)
    base = probe(asked, command, force=force, on_step=on_step)
    settings = asked.spec.probe
    record = BatchBoundsRecord(
        base_batch_size=asked.spec.training.batch_size,
        batch_sizes=sizes,
        seeds=tuple(range(settings.seed, settings.seed + settings.seeds)),
        examples=training_examples(data),
    )
    own = _Point(record.base_batch_size, record.seeds[0])
    points = [_Point(size, seed) for size in sizes for seed in record.seeds if _Point(size, seed) != own]
    specs = {point: _at(asked.spec, point, base.record.steps) for point in points}
    missing = {point: spec for point, spec in specs.items() if force or not _is_stored(asked, data, point, spec)}
    if missing:  # until all are there, nobody is to take some of these and some of before for one measurement
        with store_errors("remove", asked.folder.batch_bounds_json):
            asked.folder.batch_bounds_json.unlink(missing_ok=True)
    base.record.write(asked.folder.batch_probe(own.batch_size, own.seed))
    _measure_all(asked, data, missing, command, on_step)
    record.write(asked.folder.batch_bounds_json)
    return BatchProbeReport(base, record, asked.folder, len(missing), len(points) - len(missing))


def _is_stored(asked: Asked, data: tasks.PreparedData, point: _Point, spec: Spec) -> bool:
    path = asked.folder.batch_probe(point.batch_size, point.seed)
    return path.exists() and ProbeRecord.read(path).identity == probe_identity(spec, data.checksum)


def _at(spec: Spec, point: _Point, base_steps: int) -> Spec:
    """Return the spec of one probe: the spec's own carried there, without what only tells how far to trust a probe.

    Args:
        spec: of the experiment.
        point: where to.
        base_steps: that the spec's own probe took, be it bounded in number or until the bounds had settled.
    """
    carried = _carried(spec, point.batch_size)
    batches = None
    if spec.probe.batches is not None:
        batches = scaled_steps(base_steps, Fraction(point.batch_size, spec.training.batch_size))
    probe_settings = Probe(
        epochs=spec.probe.epochs,
        batches=batches,
        tail_fraction=spec.probe.tail_fraction,
        seed=point.seed,
        check_rounding=False,
        every=_NEVER,
    )
    return carried.model_copy(update={"probe": probe_settings})


def _carried(spec: Spec, batch_size: int) -> Spec:
    """Return the spec at another batch size, its averages over as many epochs; where no rule says how, as they are."""
    try:
        return scaled_spec(spec, batch_size, "sqrt", half_life=True).spec
    except (ScalingError, SpecError):
        training = spec.training.model_copy(update={"batch_size": batch_size})
        return spec.model_copy(update={"training": training})


def _measure_all(
    asked: Asked,
    data: tasks.PreparedData,
    specs: Mapping[_Point, Spec],
    command: Sequence[str],
    on_step: Callable[[int, int], None],
) -> None:
    """Probe one point after another and store each as soon as it is there."""
    if not specs:
        return
    from epsgrid.trials.device import resolve_device  # torch, only now that there is something to run
    from epsgrid.trials.probe import run_probe

    device = resolve_device(asked.spec.execution.device, asked.spec.training.precision)
    task = tasks.load(asked.spec.task.name).build(asked.spec.task, data, device)
    for place, (point, spec) in enumerate(specs.items()):
        outcome = run_probe(spec, task, device, _Share(on_step, place, len(specs)))
        ProbeRecord(
            identity=probe_identity(spec, data.checksum),
            bounds_json=replace(outcome.bounds, reliability=None).to_json(),
            placement=optimizers.load(spec.optimizer.name).placement(spec.optimizer, outcome.steps),
            cost_seconds=outcome.seconds,
            steps=outcome.steps,
            batch_size=point.batch_size,
            data_description=data.description,
            provenance=provenance(command),
        ).write(asked.folder.batch_probe(point.batch_size, point.seed))


@dataclass(frozen=True)
class _Share:
    """Tells the progress of one of several probes that cost alike, as hundredths of the whole."""

    on_step: Callable[[int, int], None]
    place: int
    probes: int

    def __call__(self, done: int, of: int) -> None:
        self.on_step(100 * self.place + 100 * done // of, 100 * self.probes)
