"""Run one stored trial; executors call `run_job`, people `python -m epsgrid.worker EXPERIMENT_FOLDER TRIAL_ID`.

The trial's settings are read from the store and its result is written there; the exit status only says how it went.
Importing this module imports torch and everything else that a trial needs, so that a fork of a process that has done so
starts in milliseconds.
"""

from __future__ import annotations

import dataclasses
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch._dynamo  # the first optimizer would import it, 1.2 s: better once, in the parent of all workers

from epsgrid import plugins, tasks
from epsgrid.errors import CorruptRecordError, EpsgridError, SpecError, UnknownNameError, is_for_memory
from epsgrid.executors import Job, JobStatus
from epsgrid.selection.formatting import setting
from epsgrid.spec.loading import spec_from_json
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial, plugin_names
from epsgrid.store.atomic import read_json, remove_leftovers, unseal
from epsgrid.store.lease import Lease
from epsgrid.store.paths import ExperimentFolder, TrialFolder
from epsgrid.store.provenance import provenance
from epsgrid.store.pruning import is_asked, note_pruned
from epsgrid.store.records import ExperimentRecord, TrialFailure
from epsgrid.streams import open_log
from epsgrid.trials.device import (
    describe,
    keep_freed_memory,
    machine_memory,
    one_thread,
    process_memory,
    resolve_device,
)
from epsgrid.trials.own import run_own
from epsgrid.trials.rehearsal import check_margin, rehearse
from epsgrid.trials.train import Interrupted, Pruned, run_trial


class _LeaseLost(Exception):  # noqa: N818 - not an error: somebody else is at work on the trial
    """Another process has taken the trial over; nothing more may be written."""


def run_job(job: Job) -> int:
    """Run one trial of an experiment to its end.

    Returns:
        A `JobStatus`. FINISHED: a result is stored (`done` or `diverged`), or the trial was pruned. FAILED and
        OUT_OF_MEMORY: failure.json and log.txt say why. STOPPED: it was asked to stop and saved a checkpoint.
        HELD_ELSEWHERE: another living process holds the trial.
    """
    experiment = ExperimentFolder(Path(job.experiment))
    folder = experiment.trial(job.trial)
    if folder.result_json.exists():
        return JobStatus.FINISHED
    lease = Lease.take(folder.lease)
    if lease is None:
        return JobStatus.HELD_ELSEWHERE
    keep_freed_memory()
    try:
        remove_leftovers(folder.checkpoint)
        with open_log(folder.log) as log, _stop_on_signal() as stopped, one_thread():

            def note(text: str) -> None:
                log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")

            return _run_held(experiment, folder, lease, stopped, note, is_exclusive=job.exclusive)
    finally:
        lease.release()


def rehearse_job(job: Job) -> tuple[str, int, int]:
    """Rehearse a trial without storing anything, in a process that has done nothing else and has no other beside it.

    Where trials train on other machines, this one tells about the spec alone, and `_run_held` rehearses there.

    Returns:
        Why no trial like it can be trained, or ""; the bytes of memory that one takes, 0 where that is unknown; and
        those that its GPU has, or this machine.
    """
    experiment = ExperimentFolder(Path(job.experiment))
    folder, is_here, device = experiment.trial(job.trial), False, torch.device("cpu")
    keep_freed_memory()
    before, _ = process_memory()
    try:
        spec, trial = _read_trial(experiment, folder)
        is_here = spec.execution.is_here
        if is_here:
            device = resolve_device(spec.execution.device, spec.training.precision)
        with one_thread():
            _rehearse(spec, trial, folder, device, to_the_end=is_here)
    except EpsgridError as error:  # one that the user's code caused may have to do with this machine
        on = f"on {describe(device)}: " if is_here and error.__cause__ is not None else ""
        return (f"{on}{error}" if is_here or error.__cause__ is None else ""), 0, 0
    if spec.task.trains_itself:  # its first step is the user's own
        return "", 0, 0
    if device.type == "cuda":
        return "", torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
    return "", max(0, process_memory()[1] - before) if is_here else 0, machine_memory()


def _rehearse(
    spec: Spec,
    trial: Trial,
    folder: TrialFolder,
    device: torch.device,
    *,
    to_the_end: bool = True,
    is_alone: bool = True,
) -> None:
    """Rehearse a trial; a SpecError says why none like it can be trained on this device.

    An error about memory stays what it is where other trials may be on the device.
    """
    try:
        plugin: Any = tasks.load(spec.task.name)
        if spec.task.trains_itself:
            check_margin(spec, plugin.metric(spec.task))
            if to_the_end:
                plugin.rehearse(spec.task)
            return
        with plugins.user_errors(spec.task.name):
            task = plugin.build(spec.task, tasks.of_trial(plugin, spec.task, trial.identity["data"]), device)
        rehearse(spec, task, device, trial.learning_rate, trial.epsilon, trial.seed, to_the_end=to_the_end)
    except EpsgridError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        if is_for_memory(error):
            if not is_alone:
                raise
            raise SpecError(
                f"a trial alone runs out of memory ({what}); take a smaller training.batch_size"
                f" than {spec.training.batch_size:,}, training.precision: bfloat16, or another execution.device"
            ) from error
        with open_log(folder.log) as log:
            log.write(traceback.format_exc())
        raise SpecError(
            f"the first step of training, or the scoring after it, fails: {what}; its trace is in {folder.log}"
        ) from error


def _rehearse_there(spec: Spec, trial: Trial, folder: TrialFolder, *, is_alone: bool) -> None:
    """Rehearse a trial that has not begun on a machine of a cluster, which a SpecError names."""
    if folder.checkpoint.exists():
        return
    node, device = platform.node(), ""
    try:
        found = resolve_device(spec.execution.device, spec.training.precision)
        device = f", {describe(found)}"
        _rehearse(spec, trial, folder, found, is_alone=is_alone)
    except EpsgridError as error:
        advice = ""
        if spec.execution.executor == "slurm":
            advice = f"; where only this node is at fault, leave it out: execution.slurm.directives: [--exclude={node}]"
        raise SpecError(f"on {node}{device}: {error}{advice}") from error


def _run_held(
    experiment: ExperimentFolder,
    folder: TrialFolder,
    lease: Lease,
    stopped: Callable[[], bool],
    note: Callable[[str], None],
    *,
    is_exclusive: bool,
) -> int:
    """Run the trial whose lease we hold; where the lease is lost on the way, leave everything to the new holder."""

    def should_stop() -> bool:
        if lease.lost():
            raise _LeaseLost
        return stopped()

    try:
        spec, trial = _read_trial(experiment, folder)
        note(f"start: {setting(trial)}")
        if not spec.execution.is_here and not experiment.trained.exists():
            _rehearse_there(spec, trial, folder, is_alone=is_exclusive or spec.execution.executor == "slurm")
        device = resolve_device(spec.execution.device, spec.training.precision)
        options: dict[str, Any] = {
            "should_stop": should_stop,
            "provenance": provenance(["epsgrid.worker", str(experiment.root), folder.id]),
            "warn": note,
            "should_prune": lambda: is_asked(folder),
        }
        try:
            if spec.task.trains_itself:
                result = run_own(spec, trial, folder, str(device), **options)
            else:
                plugin = tasks.load(spec.task.name)
                task = plugin.build(spec.task, tasks.of_trial(plugin, spec.task, trial.identity["data"]), device)
                result = run_trial(spec, trial, task, folder, device, **options)
        finally:
            if lease.lost(max_age_s=0):
                raise _LeaseLost
        plugins.check_imports(trial.identity.get("code", {}), *plugin_names(spec))
        if device.type == "cuda":  # what torch held; CUDA itself takes some hundred megabytes more
            peak = {"cuda_peak_bytes": torch.cuda.max_memory_reserved(device)}
            result = dataclasses.replace(result, provenance={**result.provenance, **peak})
        result.write(folder.result_json)
        if not spec.execution.is_here:
            with suppress(OSError):  # then the next trial is rehearsed as well
                experiment.trained.touch()
        folder.failure_json.unlink(missing_ok=True)
        folder.checkpoint.unlink(missing_ok=True)
        note(f"{result.state}{f': {result.reason}' if result.reason else ''}")
    except _LeaseLost:
        note("lease lost: this process was away for so long that another took the trial over")
        return JobStatus.HELD_ELSEWHERE
    except Interrupted as interrupted:
        note(str(interrupted))
        return JobStatus.STOPPED
    except Pruned as pruned:
        note(note_pruned(folder, pruned.epochs).label)
        folder.failure_json.unlink(missing_ok=True)
    except Exception as error:  # whatever went wrong in a trial is stored with it and must not end the sweep
        is_told = isinstance(error, EpsgridError) and error.__cause__ is None
        note(str(error) if is_told else traceback.format_exc())
        _store_failure(folder, error)
        if isinstance(error, SpecError | UnknownNameError):
            return JobStatus.REFUSED
        return JobStatus.OUT_OF_MEMORY if is_for_memory(error) else JobStatus.FAILED
    return JobStatus.FINISHED


def _read_trial(experiment: ExperimentFolder, folder: TrialFolder) -> tuple[Spec, Trial]:
    """Return the spec and the trial; training and optimizer are the trial's own, which differ at other batch sizes."""
    record = ExperimentRecord.read(experiment.experiment_json)
    identity = unseal(read_json(folder.spec_json), folder.spec_json)
    trial = Trial.of(identity)
    if trial.id != folder.id:
        raise CorruptRecordError(f"{folder.spec_json} is of trial {trial.id}; remove the folder to plan it again")
    own = {"optimizer": identity["optimizer"], "training": identity["training"]}
    spec = spec_from_json({**record.spec, **own}, str(experiment.experiment_json))
    planned, here = identity.get("code", {}), plugins.sources(*plugin_names(spec))
    if files := sorted(name for name in {*planned, *here} if planned.get(name) != here.get(name)):
        raise SpecError(
            f"{', '.join(files)} changed after this trial was planned, or differs on this machine; put it back, or run"
            " `epsgrid sweep` again, which plans trials of the code as it is now"
        )
    plugins.check_imports(planned, *plugin_names(spec))
    return spec, trial


def _store_failure(folder: TrialFolder, error: Exception) -> None:
    """Store what went wrong beside the trial; where that cannot be written either, the exit status must do."""
    trace = str(error) if isinstance(error, EpsgridError) else traceback.format_exc()
    earlier = folder.failure_json.exists()
    failure = TrialFailure(
        id=folder.id,
        error=f"{type(error).__name__}: {error}".splitlines()[0],
        trace=trace,
        log=str(folder.log),
        attempts=1 + (TrialFailure.read(folder.failure_json).attempts if earlier else 0),
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        failure.write(folder.failure_json)
    except EpsgridError as unwritable:
        print(f"trial {folder.id}: {failure.error}; and {unwritable}", file=sys.stderr)


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Notice signals to stop inside, other than ignored ones; handlers that were there are called as well."""
    asked = threading.Event()
    before: dict[int, Any] = {}

    def handler(number: int, frame: FrameType | None) -> None:
        asked.set()
        earlier = before[number]
        if callable(earlier) and earlier is not signal.default_int_handler:
            earlier(number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield asked.is_set
    finally:
        for taken, earlier in before.items():
            signal.signal(taken, earlier)


def main(arguments: list[str]) -> int:
    """Run the trial that the command line names."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    return run_job(Job(experiment=arguments[0], trial=arguments[1]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
