"""Run jobs on a Slurm cluster: one job array, a task per trial, so that no allocation is held idle.

The array's folder is in the experiment's (`ExperimentFolder.slurm_dir`), which every node must see under the same path,
as it must this Python. It holds `array.json` (an `Array`), `script.sh` and, for task I, `I.log`, `I.started` and
`I.ended` with its exit status. The command watches these marks, and asks Slurm's queue now and then for tasks that left
it without one: cancelled by hand, out of memory, on a node that failed.

`execution.slurm.signal_s` before its time limit a task gets SIGUSR1; the trial saves itself and the task goes back into
the queue. On a stop, waiting tasks are cancelled and running ones save themselves; a second stop kills them. When the
command dies, the array goes on: the same command watches what is still queued by the array's name, and submits the
rest, at most `_MOST_TASKS` at a time. It was tried on Slurm 22.05; tests run with a stand-in.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from epsgrid.errors import ExecutionError
from epsgrid.executors import EXPECTED, Job, JobEnded, JobStarted, JobStatus, Notify, StopRequest
from epsgrid.executors._process import python_environment
from epsgrid.spec.model import Execution, Slurm
from epsgrid.store.atomic import make_folder, write_bytes, write_text
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import Record

_MOST_TASKS = 1000
"""Tasks of one array; Slurm's own limit is 1,001 unless a site changes it."""

_COMMANDS = ("sbatch", "squeue", "scancel")
_ANSWER_S = 120.0
_POLL_S = 0.5
_ASK_S = 60.0  # twice: a shared file system may show a mark up to a minute late
_ASK_WHEN_STOPPING_S = 2.0
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\"\\]")
_SHORT = {"J": "job-name", "a": "array", "D": "chdir", "o": "output", "N": "nodes", "n": "ntasks", "c": "cpus-per-task"}
_SHORT |= {"p": "partition", "A": "account", "q": "qos", "t": "time"}


@dataclass(frozen=True)
class Array(Record):
    """One job array: the name that Slurm's queue has for it, what it runs, and the trials by the index of the task."""

    name: str
    work: str
    experiment: str
    trials: tuple[str, ...]


class _Task(NamedTuple):
    """The task of a job: the folder of its array, named as the array is, its number there, and Slurm's of the array."""

    folder: Path
    number: int
    job_id: str


def run(jobs: Sequence[Job], work: str, *, slots: int, notify: Notify, stop: StopRequest, execution: Execution) -> None:
    """Run all jobs, of one experiment, as tasks of a job array, at most `slots` at once; see `ExecutorPlugin.run`.

    Jobs that an earlier call left in the queue are not submitted again. Raises ExecutionError where Slurm's commands
    are missing or do not answer, a setting cannot be written into a script, or sbatch refused it; StoreError where the
    experiment's folder cannot be written.
    """
    if not jobs or stop.level():
        return
    queued = _queued(jobs)
    if queued:
        print(f"{len(queued)} trials are in Slurm's queue already; they are not submitted again", file=sys.stderr)
    left = [job for job in jobs if job not in queued]
    while (queued or left) and not stop.level():
        now, left = left[:_MOST_TASKS], left[_MOST_TASKS:]
        _watch(queued | _submitted(now, work, slots, execution.slurm), notify, stop)
        queued = {}


def already_submitted(jobs: Sequence[Job]) -> frozenset[Job]:
    """Return the jobs that an earlier command submitted and that Slurm still has; `run` watches them."""
    return frozenset(_queued(jobs))


def _queued(jobs: Sequence[Job]) -> dict[Job, _Task]:
    """Return the jobs that an earlier call submitted and that are not over, each with its task."""
    if missing := [command for command in _COMMANDS if shutil.which(command) is None]:
        raise ExecutionError(
            f"execution.executor: slurm needs Slurm's commands, and PATH has no {', '.join(missing)};"
            " run it where jobs are submitted, such as a login node, or use `-o execution.executor=local`"
        )
    slurm_dir = ExperimentFolder(Path(jobs[0].experiment)).slurm_dir
    arrays = {}
    for path in slurm_dir.glob("*/array.json"):
        array = Array.read(path)
        arrays[array.name] = path.parent, array
    if not arrays:
        return {}
    found = _queue(arrays)
    if found is None:
        raise ExecutionError(
            f"squeue does not answer, so what is still queued of {slurm_dir} is not known; try again when it does"
        )
    tasks = {}
    for (name, index), job_id in found.items():
        folder, array = arrays[name]
        if not (folder / f"{index}.ended").exists():
            tasks[Job(array.experiment, array.trials[index])] = _Task(folder, index, job_id)
    return {job: tasks[job] for job in jobs if job in tasks}


def _submitted(jobs: Sequence[Job], work: str, slots: int, settings: Slurm) -> dict[Job, _Task]:
    """Submit an array of these jobs; return the task of each."""
    if not jobs:
        return {}
    name = f"epsgrid-{secrets.token_hex(6)}"
    array = Array(name, work, jobs[0].experiment, tuple(job.trial for job in jobs))
    folder = ExperimentFolder(Path(jobs[0].experiment)).slurm_dir / name
    make_folder(folder)
    array.write(folder / "array.json")
    path = folder / "script.sh"
    write_bytes(path, os.fsencode(_script(array, folder, settings, slots, os.environ)))
    done = call("sbatch", "--parsable", str(path))
    if done.returncode:
        reason = done.stderr.strip() or f"status {done.returncode}"
        raise ExecutionError(
            f"sbatch refused the job array: {reason}\nThe script is {path}; execution.slurm holds what it asks for"
        )
    job_id = done.stdout.strip().partition(";")[0]  # with several clusters, ";NAME" follows
    write_text(folder / "job_id", job_id + "\n")
    return {job: _Task(folder, index, job_id) for index, job in enumerate(jobs)}


def _script(array: Array, folder: Path, settings: Slurm, slots: int, environment: Mapping[str, str]) -> str:
    """Return the text of an array's script.

    `sbatch` reads the lines that begin with #SBATCH by rules of its own: words end at spaces unless quoted, `#` begins
    a comment, and a backslash escapes. So values are quoted. What trials need of `environment` is set in the script,
    whether or not the site passes on the rest. Raises ExecutionError where a setting cannot be written into a script,
    or a directive is set by epsgrid itself.
    """
    escaped = str(folder).replace("%", "%%")  # Slurm replaces %a by the task's index, and %% by %
    options = {
        "job-name": array.name,
        "array": f"0-{len(array.trials) - 1}%{slots}",
        "chdir": str(Path.cwd()),
        "output": f"{escaped}/%a.log",
        "open-mode": "append",
        "signal": f"B:USR1@{settings.signal_s}",
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(settings.cpus),
        "gres": f"gpu:{settings.gpus}" if settings.gpus else None,
        **{name: getattr(settings, name) for name in ("partition", "account", "qos", "time")},
        "mem": settings.memory,
    }
    where = {"chdir": "the current folder", "output": "the experiment's folder", "mem": "execution.slurm.memory"}
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if not value or _UNUSABLE.search(value):
            raise ExecutionError(
                f"{where.get(name, f'execution.slurm.{name}')}: {value!r} cannot be written into a Slurm script: it"
                " must not be empty, or hold a quotation mark, a backslash, a line break or another control character"
            )
    for text in settings.directives:
        found = re.fullmatch(r"-(?:-([A-Za-z-]+)|([A-Za-z]))(?:[= ]?)[^\x00-\x1f\x7f]*", text)
        if not found:
            raise ExecutionError(
                f"execution.slurm.directives: expected an option on one line, such as --constraint=a100, not {text!r}"
            )
        option = found[1] or _SHORT.get(found[2], "")
        if option in given or option in ("requeue", "no-requeue"):
            raise ExecutionError(
                f"execution.slurm.directives: epsgrid sets --{option} itself, from execution.slurm or for its own use;"
                f" leave out {text!r}"
            )
    kept = {name: value for name, value in sorted(environment.items()) if name.startswith("EPSGRID_")}
    lines = [
        "#!/bin/bash",
        "# Written by `epsgrid sweep`: each task trains the trial that array.json names at its index.",
        *(f"#SBATCH {text}" for text in settings.directives),
        *(f'#SBATCH --{name}="{value}"' for name, value in given.items()),
        "#SBATCH --requeue",
        "",
        *settings.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in (kept | python_environment()).items()),
        f"exec {shlex.quote(sys.executable)} -m epsgrid.executors._slurm_task {shlex.quote(str(folder))}",
    ]
    return "\n".join(lines) + "\n"


def _watch(tasks: dict[Job, _Task], notify: Notify, stop: StopRequest) -> None:
    """Report tasks that begin and end until none is left.

    A task marks both in its array's folder. Slurm's queue is asked now and then for those that left it without a mark.
    """
    begun: set[Job] = set()
    missing: set[Job] = set()  # those that the queue did not have when it was last asked
    level, asked = 0, time.monotonic()

    def begin(job: Job) -> None:
        if job not in begun:
            begun.add(job)
            notify(JobStarted(job))

    def end(job: Job, status: int, why: str) -> None:
        begin(job)
        folder, index, _ = tasks.pop(job)
        if status not in EXPECTED:
            print(f"trial {job.trial}: {why}; its output is in {folder}/{index}.log", file=sys.stderr)
        notify(JobEnded(job, status))

    def read_marks() -> None:
        """Report, of two tasks that shared a slot, the end of one before the beginning of the other."""
        folders = {task.folder for task in tasks.values()}
        started = {path for folder in folders for path in folder.glob("*.started")}
        ended = {path for folder in folders for path in folder.glob("*.ended")}  # later: it has all ends before a start
        over = [job for job, task in tasks.items() if task.folder / f"{task.number}.ended" in ended]
        for job in sorted(over, key=lambda job: job not in begun):
            status = int((tasks[job].folder / f"{tasks[job].number}.ended").read_text())
            end(job, status, f"ended with status {status}")
        for job, task in tasks.items():
            if task.folder / f"{task.number}.started" in started:
                begin(job)

    while tasks:
        before, level = level, max(level, stop.level())
        is_time = time.monotonic() - asked >= (_ASK_WHEN_STOPPING_S if level else _ASK_S)
        if (
            level
            and (level > before or is_time)
            and not _end_tasks(sorted({task.job_id for task in tasks.values()}), level)
        ):
            return
        found = _queue({task.folder.name for task in tasks.values()}) if is_time else None
        read_marks()  # a task marks its end before it leaves the queue
        if is_time:
            asked = time.monotonic()
        if found is not None:
            now_missing = {job for job, task in tasks.items() if (task.folder.name, task.number) not in found}
            for job in now_missing if level else now_missing & missing:
                if not level:
                    end(
                        job,
                        JobStatus.LOST,
                        "its task left Slurm's queue early: cancelled, out of memory, or node failure",
                    )
                elif job in begun:
                    end(job, JobStatus.STOPPED if level == 1 else -signal.SIGKILL, "killed on request")
                else:
                    del tasks[job]
            missing = now_missing
        if tasks:
            time.sleep(_POLL_S)


def _end_tasks(job_ids: Sequence[str], level: int) -> bool:
    """Cancel the waiting tasks, and let the running ones save (1) or kill them (2); return False if it cannot be."""
    if level == 1:
        call("scancel", "--quiet", "--state=PENDING", *job_ids)
        # To the batch script alone, which is the task itself and which Slurm would leave out otherwise.
        call("scancel", "--quiet", "--batch", "--signal=TERM", *job_ids)
        return True
    call("scancel", "--quiet", "--signal=KILL", *job_ids)
    if not call("scancel", "--quiet", *job_ids).returncode:
        return True
    print(f"scancel failed; to end the trials, call `scancel {' '.join(job_ids)}`", file=sys.stderr)
    return False


def _queue(names: Iterable[str]) -> dict[tuple[str, int], str] | None:
    """Return the tasks that Slurm has of arrays of these names: (name, index) -> the array's number.

    None where squeue does not answer. A task that is just ending is still in the queue.
    """
    done = call("squeue", "--noheader", "--array", f"--name={','.join(names)}", "--format=%F|%K|%j")
    rows = (line.strip().split("|", 2) for line in done.stdout.splitlines() if line.strip())
    found = {(name, int(index)): job_id for job_id, index, name in rows if index.isdecimal()}
    return None if done.returncode else found


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands; where it cannot be run or does not answer, the status is not 0 either."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_ANSWER_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", f"it did not answer ({error})")
