"""Talk to Slurm through its commands: submit, look, signal, cancel, queue again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from epsgrid.errors import ExecutionError

_COMMANDS = ("sbatch", "squeue", "scancel")
_ANSWER_S = 120.0


@dataclass(frozen=True)
class Queued:
    """A task of a job array that waits, runs or is just ending.

    Attributes:
        array: the array's name.
        job_id: Slurm's number of the array.
        index: the task's.
    """

    array: str
    job_id: str
    index: int


def require_slurm() -> None:
    """See that Slurm can be talked to.

    Raises:
        ExecutionError: a command is missing.
    """
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if missing:
        raise ExecutionError(
            f"execution.executor: slurm needs Slurm's commands, and PATH has no {', '.join(missing)};"
            " run it where jobs are submitted, such as a login node, or use `-o execution.executor=local`"
        )


def submit(script: Path) -> str:
    """Submit a script; return Slurm's number of its job.

    Raises:
        ExecutionError: it was refused; the message holds sbatch's words.
    """
    done = _call("sbatch", "--parsable", str(script))
    if done is None or done.returncode:
        words = "it did not answer" if done is None else done.stderr.strip() or f"status {done.returncode}"
        raise ExecutionError(
            f"sbatch refused the job array: {words}\nThe script is {script}; execution.slurm holds what it asks for"
        )
    return done.stdout.strip().partition(";")[0]  # with several clusters, ";NAME" follows


def look(names: Iterable[str]) -> tuple[Queued, ...] | None:
    """Return the tasks of arrays of these names that Slurm still has in its queue; None when it does not answer."""
    done = _call("squeue", "--noheader", "--array", f"--name={','.join(names)}", "--format=%F|%K|%j")
    if done is None or done.returncode:
        return None
    rows = (line.strip().split("|", 2) for line in done.stdout.splitlines() if line.strip())
    return tuple(Queued(name, job_id, int(index)) for job_id, index, name in rows if index.isdecimal())


def let_save(job_ids: Collection[str]) -> bool:
    """Cancel the tasks that wait and send SIGTERM to those that run; say whether Slurm took it.

    The signal goes to the batch script alone, which is the task itself; Slurm would leave that out otherwise.
    """
    cancelled = _call("scancel", "--quiet", "--state=PENDING", *job_ids)
    signalled = _call("scancel", "--quiet", "--batch", "--signal=TERM", *job_ids)
    return cancelled is not None and signalled is not None


def kill(job_ids: Collection[str]) -> bool:
    """Kill the tasks that run, now, and cancel all; say whether Slurm took it."""
    _call("scancel", "--quiet", "--signal=KILL", *job_ids)
    done = _call("scancel", "--quiet", *job_ids)
    return done is not None and not done.returncode


def requeue(task: str) -> bool:
    """Put a running task back into the queue, which ends it; say whether Slurm took it."""
    done = _call("scontrol", "requeue", task)
    return done is not None and not done.returncode


def _call(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Run a command of Slurm's; None where it cannot be run or does not come back."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_ANSWER_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
