"""Create the folder of an experiment, or find it and check that it holds the same experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from epsgrid import __version__, tasks
from epsgrid.errors import ScalingError, SpecError, StoreError
from epsgrid.optimizers._scaling import scaling_of
from epsgrid.plugins import nearest
from epsgrid.selection.load import read_experiment
from epsgrid.spec.loading import load_spec, parse_spec, spec_from_json
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import differences, identity
from epsgrid.spec.writing import spec_to_yaml
from epsgrid.store.paths import ExperimentFolder, latest, remember
from epsgrid.store.records import ExperimentRecord


@dataclass(frozen=True)
class Asked:
    """The effective spec that a command acts on, its folder, which need not exist yet, and the folder around that."""

    spec: Spec
    folder: ExperimentFolder
    runs_root: Path

    def with_sweep(self, **changes: Any) -> Asked:
        """Return the same experiment with other values of some fields of the spec's `sweep`."""
        sweep = self.spec.sweep.model_copy(update=changes)
        return replace(self, spec=self.spec.model_copy(update={"sweep": sweep}))


def resolve(spec_path: Path | None, out: Path | None, overrides: Sequence[str], runs_root: Path) -> Asked:
    """Return the spec, with overrides such as `key=value`, and the folder that a command line names.

    Without a file the spec is that stored in `out`, or in the latest experiment; without `out` the folder is
    `runs_root/EXPERIMENT`, or the latest.

    Raises:
        SpecError, StoreError: the spec or an override is not usable, or there is no such experiment.
    """
    if spec_path is not None:
        spec = load_spec(spec_path, overrides)
        return Asked(spec, ExperimentFolder((out or runs_root / spec.experiment).absolute()), runs_root)
    folder = find_run(out, runs_root)
    record = read_experiment(folder)
    source = str(folder.experiment_json)
    spec = spec_from_json(record.spec, source)
    if overrides:
        spec = parse_spec(spec_to_yaml(spec), source, overrides)
    return Asked(spec, folder, runs_root)


def find_run(run: Path | None, runs_root: Path) -> ExperimentFolder:
    """Return the folder of an experiment: `run`, or that name under `runs_root`, or the latest; else a StoreError."""
    if run is None:
        return ExperimentFolder(latest(runs_root))
    for folder in (run, runs_root / run):
        if (folder / "experiment.json").exists():
            return ExperimentFolder(folder.absolute())
    known = sorted(path.parent.name for path in runs_root.glob("*/experiment.json"))
    close = nearest(str(run), known)
    hint = f"; did you mean {close!r}?" if close else ""
    there = f" (there: {', '.join(known)})" if known else ""
    raise StoreError(f"no experiment {str(run)!r}, neither as a folder nor in {runs_root}{hint}{there}")


def prepare_data(spec: Spec) -> tasks.PreparedData:
    """Prepare the task's data and check that the spec can select and train with them.

    Raises:
        DataError: the data are missing or damaged; the message says how to get them.
        SpecError: selection on validation data, and the task keeps none.
        ScalingError: SVAG with an optimizer that has no rule for it.
    """
    if spec.training.svag is not None and spec.training.svag.l > 1:
        try:
            scaling_of(spec.optimizer)
        except ScalingError as error:
            raise ScalingError(f"training.svag takes finer steps by the square-root rule. {error}") from error
    data = tasks.load(spec.task.name).prepare(spec.task)
    if spec.training.selection == "validation" and not data.has_validation:
        raise SpecError(
            "training.selection: validation needs validation data, and the task keeps none (task.validation: 0);"
            " set task.validation, or training.selection=test for the published protocol"
        )
    return data


def enter(asked: Asked, data: tasks.PreparedData) -> None:
    """Create the experiment's folder, or check that it belongs to the same spec and data; make it the latest.

    Learning rates, seeds, grids, probe settings and where to run may change from call to call; what would change a
    trial's numbers may not.

    Raises:
        StoreError: the folder holds another experiment; the message names each field that differs.
    """
    folder = asked.folder
    created = datetime.now(UTC).isoformat(timespec="seconds")
    if folder.experiment_json.exists():
        stored = read_experiment(folder)
        there = spec_from_json(stored.spec, str(folder.experiment_json))
        lines = differences(identity(there), identity(asked.spec))
        if stored.data_checksum != data.checksum:
            lines.append(f"data: checksum {stored.data_checksum[:12]}… there, {data.checksum[:12]}… now")
        if lines:
            advice = "Give this one a folder of its own with --out DIR, or another `experiment:` name."
            if there.training.epochs != asked.spec.training.epochs:
                advice += " Trials of other epochs are other trials, and are trained from their beginning."
            listed = "\n  ".join(lines)
            raise StoreError(f"{folder.root} holds another experiment:\n  {listed}\n{advice}")
        created = stored.created
    record = ExperimentRecord(
        name=asked.spec.experiment,
        spec=asked.spec.model_dump(mode="json"),
        data_checksum=data.checksum,
        data_description=data.description,
        created=created,
        epsgrid_version=__version__,
    )
    record.write(folder.experiment_json)
    remember(folder.root, asked.runs_root)
