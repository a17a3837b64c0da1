"""Decide what becomes of a trial for which memory ran out, and say so: it is tried again alone while retries last."""

from __future__ import annotations

from epsgrid.executors import Alone, JobEnded, JobStatus
from epsgrid.spec.model import Execution

NEEDS = {
    JobStatus.OUT_OF_MEMORY: Alone.ON_MACHINE,
    JobStatus.KILLED_FOR_MEMORY: Alone.ON_MACHINE,
    JobStatus.DEVICE_OUT_OF_MEMORY: Alone.ON_DEVICE,
}
"""What a job that ended for want of memory has for itself when it is tried again."""

_WHERE = {Alone.ON_MACHINE: "of the machine", Alone.ON_DEVICE: "of the CUDA device"}


def words(event: JobEnded, execution: Execution, *, again: bool) -> str:
    """Return what to tell of a job that ended for want of memory: what happens next, or what the user can do.

    Args:
        event: the job's end; its status is one of `NEEDS`.
        execution: how the spec runs trials.
        again: whether it is tried again.
    """
    needs = NEEDS[JobStatus(event.status)]
    what = f"out of memory {_WHERE[needs]}"
    alone = event.job.alone >= needs or execution.executor in ("inline", "slurm")  # there a trial always is
    if again:
        return f"{what}{', though it ran alone; it is tried again' if alone else '; it is tried again alone'}"
    trial = event.job.trial
    if execution.executor == "slurm" and needs == Alone.ON_MACHINE:
        return f"{what}: ask for more with execution.slurm.memory, or take a smaller training.batch_size"
    if alone:
        return (
            f"{what}, though it ran alone: it needs a smaller training.batch_size or model, or more memory, and then"
            f" `epsgrid retry {trial}`"
        )
    fewer = "execution.trials_per_device" if needs == Alone.ON_DEVICE else "execution.workers"
    return (
        f"{what} beside other trials, and no retry was left: `epsgrid retry {trial} --workers 1` trains it alone; a"
        f" smaller {fewer} leaves more for each, execution.retries tries again"
    )
