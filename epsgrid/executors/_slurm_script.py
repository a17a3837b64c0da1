"""Write the script of a job array, and keep its record: which trial each task trains.

`sbatch` reads the lines that begin with #SBATCH by rules of its own: words end at spaces unless quoted, `#` begins a
comment, a backslash escapes. Values are quoted for that; the few characters that could still end a line, a quote or a
word early are refused.

Layout of `ExperimentFolder.slurm_dir`/ARRAY::

    array.json      `Array`
    script.sh       what was handed to sbatch
    job_id          Slurm's number of the array, for people
    I.log           output of task I
    I.started       task I has begun
    I.ended         task I is over for good, with its exit status; missing where it was killed or is queued again
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from epsgrid.errors import ExecutionError
from epsgrid.executors._process import python_environment
from epsgrid.spec.model import Slurm
from epsgrid.store.records import Record

_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@%+-]+")
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\"\\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OPTION = re.compile(r"(--[A-Za-z][A-Za-z-]*|-[A-Za-z])")
_SETTERS = {
    "--array -a --job-name -J --chdir -D --output -o --error -e --open-mode": "epsgrid itself",
    "--requeue --no-requeue --wrap --parsable": "epsgrid itself",
    "--nodes -N --ntasks -n": "epsgrid itself: a trial is one process",
    "--cpus-per-task -c": "execution.slurm.cpus",
    "--time -t": "execution.slurm.time",
    "--partition -p": "execution.slurm.partition",
    "--account -A": "execution.slurm.account",
    "--qos -q": "execution.slurm.qos",
    "--mem": "execution.slurm.memory",
    "--signal": "execution.slurm.signal_s",
}
_SET_BY = {option: setter for options, setter in _SETTERS.items() for option in options.split()}


@final
@dataclass(frozen=True)
class Array(Record):
    """One job array.

    Attributes:
        name: by which Slurm's queue knows it; no other array has it.
        work: the function that runs a job, as "package.module:function".
        experiment: the experiment of the jobs.
        trials: the trials of the jobs, by the index of the task.
    """

    stored_as: ClassVar[str] = "job array"

    name: str
    work: str
    experiment: str
    trials: tuple[str, ...]


def script(array: Array, folder: Path, settings: Slurm, slots: int, environment: Mapping[str, str]) -> str:
    """Return the text of an array's script.

    Args:
        array: the trials.
        folder: the array's folder.
        settings: what each task asks Slurm for.
        slots: tasks at once.
        environment: that of this process. What trials need of it is set in the script, whether or not the site passes
            on the rest.

    Raises:
        ExecutionError: a setting cannot be written into a script, or is set by epsgrid.
    """
    kept = {name: value for name, value in sorted(environment.items()) if name.startswith("EPSGRID_")}
    lines = [
        "#!/bin/bash",
        "# Written by `epsgrid sweep`: each task trains the trial that array.json names at its index.",
        *(f"#SBATCH {option}" for option in _options(array, folder, settings, slots)),
        "",
        *settings.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in (kept | python_environment()).items()),
        f"exec {shlex.quote(sys.executable)} -m epsgrid.executors._slurm_task {shlex.quote(str(folder))}",
    ]
    return "\n".join(lines) + "\n"


def _options(array: Array, folder: Path, settings: Slurm, slots: int) -> Iterator[str]:
    yield f"--job-name={array.name}"
    yield f"--array=0-{len(array.trials) - 1}%{slots}"
    yield _option("chdir", str(Path.cwd()), "the current folder")
    escaped = str(folder).replace("%", "%%")  # Slurm replaces %a by the task's index, and %% by %
    yield _option("output", f"{escaped}/%a.log", "the experiment's folder")
    yield "--open-mode=append"
    yield "--requeue"
    yield f"--signal=B:USR1@{settings.signal_s}"
    yield "--nodes=1"
    yield "--ntasks=1"
    yield f"--cpus-per-task={settings.cpus}"
    if settings.gpus:
        yield f"--gres=gpu:{settings.gpus}"
    for field in ("partition", "account", "qos", "time", "memory"):
        value = getattr(settings, field)
        if value is not None:
            yield _option("mem" if field == "memory" else field, value, f"execution.slurm.{field}")
    for text in settings.directives:
        option = _OPTION.match(text)
        if option is None or _CONTROL.search(text):
            raise ExecutionError(
                f"execution.slurm.directives: expected an option on one line, such as --constraint=a100, not {text!r}"
            )
        if option[0] in _SET_BY:
            raise ExecutionError(
                f"execution.slurm.directives: {option[0]} is set by {_SET_BY[option[0]]}; leave it out here"
            )
        yield text


def _option(name: str, value: str, where: str) -> str:
    if not value or _UNUSABLE.search(value):
        raise ExecutionError(
            f"{where}: {value!r} cannot be written into a Slurm script: it must not be empty, or hold a quotation mark,"
            " a backslash, a line break or another control character"
        )
    return f"--{name}={value}" if _PLAIN.fullmatch(value) else f'--{name}="{value}"'
