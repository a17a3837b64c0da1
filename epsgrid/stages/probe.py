"""The first stage: measure the gradient magnitudes of the first epoch and store the ε bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid import optimizers, tasks
from epsgrid.spec import identity
from epsgrid.spec.model import Spec
from epsgrid.stages.experiment import Asked, enter, prepare_data
from epsgrid.store import observations
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.provenance import provenance
from epsgrid.store.records import ProbeRecord

if TYPE_CHECKING:
    from epsgrid.numerics.series import Series

_SETTING_BOUNDS = ("epochs", "batches", "update_weights", "learning_rate", "tail_fraction", "seed")
"""The fields of a spec's `probe` that the bounds depend on; the others tell how far these can be trusted."""


@dataclass(frozen=True)
class ProbeReport:
    """A stored probe, and whether it was measured just now."""

    record: ProbeRecord
    folder: ExperimentFolder
    measured_now: bool


def probe(asked: Asked, command: Sequence[str], *, force: bool, on_step: Callable[[int, int], None]) -> ProbeReport:
    """Measure and store the bounds of a spec, or return those already stored for exactly these settings.

    Args:
        asked: the spec and its folder.
        command: the command line, for the record.
        force: measure again even if stored bounds fit.
        on_step: told the progress, as `on_step(done, of)`.

    Raises:
        NoBoundsError: the optimizer has no ε, or nothing could be measured.
        DataError, StoreError: see `prepare_data` and `enter`.
    """
    optimizers.require_epsilon(asked.spec.optimizer.name)
    data = prepare_data(asked.spec)
    enter(asked, data)
    settings = probe_identity(asked.spec, data.checksum)
    if not force:
        stored = read_probe(asked.folder)
        if stored is not None and stored.identity == settings:
            return ProbeReport(stored, asked.folder, measured_now=False)
    record, series = _measure(asked.spec, data, settings, command, on_step)
    observations.write(asked.folder.observations_jsonl, series)
    record.write(asked.folder.bounds_json)
    return ProbeReport(record, asked.folder, measured_now=True)


def probe_identity(spec: Spec, data_checksum: str) -> dict[str, Any]:
    """Return everything that can change what a probe of this spec finds."""
    asked = identity(spec)
    return {
        "data": data_checksum,
        "task": asked["task"],
        "model": asked["model"],
        "optimizer": asked["optimizer"],
        "batch_size": spec.training.batch_size,
        "precision": spec.training.precision,
        "probe": spec.probe.model_dump(mode="json", exclude={"batch_sizes"}),  # those have records of their own
    }


def bounds_identity(settings: dict[str, Any]) -> dict[str, Any]:
    """Return, of a probe's identity, what can change the bounds themselves, and not only what is known of them."""
    probe = {field: settings["probe"].get(field) for field in _SETTING_BOUNDS}
    return {**settings, "probe": probe}


def read_probe(folder: ExperimentFolder) -> ProbeRecord | None:
    """Return the stored probe, or None where there is none.

    Raises:
        CorruptRecordError: bounds.json is truncated or altered.
    """
    if not folder.bounds_json.exists():
        return None
    return ProbeRecord.read(folder.bounds_json)


def _measure(
    spec: Spec,
    data: tasks.PreparedData,
    settings: dict[str, Any],
    command: Sequence[str],
    on_step: Callable[[int, int], None],
) -> tuple[ProbeRecord, Series]:
    from epsgrid.trials.device import resolve_device  # torch, only now that there is something to run
    from epsgrid.trials.probe import run_probe

    device = resolve_device(spec.execution.device, spec.training.precision)
    task = tasks.load(spec.task.name).build(spec.task, data, device)
    outcome = run_probe(spec, task, device, on_step)
    record = ProbeRecord(
        identity=settings,
        bounds_json=outcome.bounds.to_json(),
        placement=optimizers.load(spec.optimizer.name).placement(spec.optimizer, outcome.steps),
        cost_seconds=outcome.seconds,
        steps=outcome.steps,
        batch_size=spec.training.batch_size,
        data_description=data.description,
        provenance=provenance(command),
    )
    return record, outcome.series
