"""Create the folder of an experiment, or find it and check that it holds the same experiment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from epsgrid import tasks
from epsgrid._version import __version__
from epsgrid.errors import ScalingError, SpecError, StoreError, UnknownNameError
from epsgrid.optimizers._scaling import scaling_of
from epsgrid.plugins import nearest, user_errors
from epsgrid.selection.formatting import count
from epsgrid.selection.load import read_experiment
from epsgrid.spec.loading import load_spec, parse_spec, spec_from_json
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial, differences, identity, trial_identity
from epsgrid.spec.writing import spec_to_yaml
from epsgrid.stages.scale import too_large
from epsgrid.store.cells import contents, remove_contents
from epsgrid.store.lease import is_held
from epsgrid.store.paths import ExperimentFolder, latest, remember
from epsgrid.store.records import ExperimentRecord

_PARAMETERS: dict[str, str] = {}
"""Of models of the user's that this process has built."""


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
    `runs_root/EXPERIMENT`, or the latest. Raises SpecError or StoreError where the spec or an override is not usable,
    or there is no such experiment.
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
        SpecError: selection on validation data, and the task keeps none; a batch larger than the data.
        ScalingError: SVAG with an optimizer that has no rule for it.
    """
    if spec.training.svag is not None and spec.training.svag.l > 1:
        try:
            scaling_of(spec.optimizer)
        except ScalingError as error:
            raise ScalingError(f"training.svag takes finer steps by the square-root rule. {error}") from error
    with user_errors(spec.task.name):
        data = tasks.load(spec.task.name).prepare(spec.task)
    if spec.training.selection == "validation" and not data.has_validation:
        raise SpecError(
            "training.selection: validation needs validation data, and the task keeps none (task.validation: 0);"
            " set task.validation, or training.selection=test for the published protocol"
        )
    if excess := too_large(spec.training.batch_size, data):
        raise SpecError(f"training.batch_size: {excess}")
    return data


def parameters_of(spec: Spec, data: tasks.PreparedData | None) -> str:
    """Return the names and shapes of the parameters of a model of the user's, as part of trials' identity; else "".

    Without data the model is not known, and neither are trials. Raises SpecError where it cannot be built.
    """
    if ":" not in spec.model_name or data is None:
        return ""
    import torch  # which such a model needs anyway

    from epsgrid.trials import building

    key = repr((identity(spec), data.checksum))
    if key not in _PARAMETERS:
        device = torch.device("cpu")
        with user_errors(spec.task.name):
            task = tasks.load(spec.task.name).build(spec.task, data, device)
        with building.user_errors(spec, task):
            model = building.build_model(spec, task, 0, device)
        _PARAMETERS[key] = building.parameters_of(model)
    return _PARAMETERS[key]


def trial_of(
    spec: Spec,
    data: tasks.PreparedData | None,
    rate: float,
    epsilon: float | None,
    seed: int,
    grids: tuple[str, ...],
    grid_rate: float | None = None,
) -> Trial:
    """Return the trial of a setting on prepared data; see `Trial.of`."""
    common = identity(spec, parameters_of(spec, data))
    return Trial.of(trial_identity(common, data.checksum if data else "", rate, epsilon, seed), grids, grid_rate)


def vacate(asked: Asked, data: tasks.PreparedData | None, *, force: bool = False, dry_run: bool = False) -> str:
    """Remove what another experiment has left in the folder; return what was worth keeping of that, or "".

    A folder is bound by bounds, results, checkpoints and trials being trained, and by nothing else. Learning rates,
    seeds, grids, probe settings, where to run and code of the user's may change from call to call, since they make
    other trials; what would change the numbers of the same trials may not. Raises StoreError where it is worth keeping,
    and this is not by `force`, or a trial is being trained.
    """
    lines, advice = _differences(asked, data)
    kept = _kept(asked.folder) if lines else ""
    if kept and not force:
        listed = "\n  ".join(lines)
        raise StoreError(
            f"{asked.folder.root} holds another experiment:\n  {listed}\nGive this one a folder of its own with --out"
            f" DIR, or another `experiment:` name{advice}. With --force it takes this folder, and removes what is"
            f" there: {kept}."
        )
    if lines and not dry_run:
        remove_contents(asked.folder)
    return kept


def enter(asked: Asked, data: tasks.PreparedData) -> None:
    """Create the experiment's folder, or check that it may be used, and make it the latest; see `vacate`.

    Raises StoreError where the folder holds another experiment; the message names each field that differs.
    """
    vacate(asked, data)
    folder = asked.folder
    created = datetime.now(UTC).isoformat(timespec="seconds")
    if folder.experiment_json.exists():
        created = read_experiment(folder).created
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


def _differences(asked: Asked, data: tasks.PreparedData | None) -> tuple[list[str], str]:
    """Return each field in which the experiment in the folder is another one, and advice about them."""
    folder = asked.folder
    if not folder.experiment_json.exists():
        return [], ""
    try:
        stored = read_experiment(folder)
        there = spec_from_json(stored.spec, str(folder.experiment_json))
    except (StoreError, SpecError, UnknownNameError) as error:  # such as a model of the user's that is gone
        return [f"its spec cannot be read: {error}"], ""
    old, new = ({**identity(spec), "code": {}} for spec in (there, asked.spec))
    lines = differences(old, new)
    if data is not None and stored.data_checksum != data.checksum:
        lines.append(f"data: checksum {stored.data_checksum[:12]}… there, {data.checksum[:12]}… now")
    more_epochs = "; trials of other epochs are other trials, and are trained from their beginning"
    return lines, more_epochs if there.training.epochs != asked.spec.training.epochs else ""


def _kept(folder: ExperimentFolder) -> str:
    """Say what would be lost with the contents of a folder; "" where that is nothing."""
    found: Counter[str] = Counter()
    for trial in folder.trials():
        if trial.result_json.exists():
            found["finished trial"] += 1
        elif is_held(trial.lease):
            found["trial being trained"] += 1
        elif trial.checkpoint.exists() or trial.has_work:
            found["begun trial"] += 1
    parts = ["the bounds of ε"] if folder.bounds_json.exists() else []
    parts += [count(number, what) for what, number in found.items()]
    if not parts:
        return ""
    files = (path for place in contents(folder) for path in (place, *place.rglob("*")) if path.is_file())
    size = sum(path.stat().st_size for path in files)
    return f"{', '.join(parts)} ({f'{size / 1e6:,.0f} MB' if size >= 1e6 else f'{size / 1e3:.0f} kB'})"
