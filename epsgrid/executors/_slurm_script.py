"""Write the script of a job array: what the spec asks of Slurm, and the call that trains one trial.

`sbatch` reads the lines that begin with #SBATCH by rules of its own: words end at spaces unless quoted, `#` begins a
comment, a backslash escapes. Values are quoted for that; the few characters that could still end a line, a quote or a
word early are refused.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from epsgrid.errors import ExecutionError
from epsgrid.executors._slurm_array import Array
from epsgrid.spec.model import Slurm

_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@%+-]+")
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\"\\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OPTION = re.compile(r"(--[A-Za-z][A-Za-z-]*|-[A-Za-z])")
_OURS = {
    **dict.fromkeys(("--array", "-a", "--job-name", "-J", "--chdir", "-D"), "epsgrid itself"),
    **dict.fromkeys(("--output", "-o", "--error", "-e", "--open-mode"), "epsgrid itself"),
    **dict.fromkeys(("--requeue", "--no-requeue", "--wrap", "--parsable"), "epsgrid itself"),
    **dict.fromkeys(("--nodes", "-N", "--ntasks", "-n"), "epsgrid itself: a trial is one process"),
    **dict.fromkeys(("--cpus-per-task", "-c"), "execution.slurm.cpus"),
    **dict.fromkeys(("--time", "-t"), "execution.slurm.time"),
    **dict.fromkeys(("--partition", "-p"), "execution.slurm.partition"),
    **dict.fromkeys(("--account", "-A"), "execution.slurm.account"),
    **dict.fromkeys(("--qos", "-q"), "execution.slurm.qos"),
    "--mem": "execution.slurm.memory",
    "--signal": "execution.slurm.signal_s",
}
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def script(array: Array, settings: Slurm, slots: int, environment: Mapping[str, str]) -> str:
    """Return the text of an array's script.

    Args:
        array: which trials it trains.
        settings: what each task asks Slurm for.
        slots: tasks at once.
        environment: that of this process; what trials need of it is set in the script, whether or not the site hands
            on the rest.

    Raises:
        ExecutionError: a setting cannot be written into a script, or is epsgrid's own to choose.
    """
    lines = [
        "#!/bin/bash",
        "# Written by `epsgrid sweep`: each task trains the trial that array.json names at its index.",
        *(f"#SBATCH {option}" for option in _options(array, settings, slots)),
        "",
        *settings.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in _variables(environment).items()),
        f"exec {shlex.quote(sys.executable)} -m epsgrid.executors._slurm_task {shlex.quote(str(array.folder))}",
    ]
    return "\n".join(lines) + "\n"


def _options(array: Array, settings: Slurm, slots: int) -> Iterator[str]:
    yield f"--job-name={array.name}"
    yield f"--array=0-{len(array.trials) - 1}%{slots}"
    yield _option("--chdir", str(Path.cwd()), "the current folder")
    folder = str(array.folder).replace("%", "%%")  # Slurm puts something in the place of %a, and of %% a %
    yield _option("--output", f"{folder}/%a.log", "the experiment's folder")
    yield "--open-mode=append"
    yield "--requeue"
    yield f"--signal=B:USR1@{settings.signal_s}"
    yield "--nodes=1"
    yield "--ntasks=1"
    yield f"--cpus-per-task={settings.cpus}"
    if settings.gpus:
        yield f"--gres=gpu:{settings.gpus}"
    named = {"partition": "partition", "account": "account", "qos": "qos", "time": "time", "memory": "mem"}
    for field, option in named.items():
        value = getattr(settings, field)
        if value is not None:
            yield _option(f"--{option}", value, f"execution.slurm.{field}")
    for directive in settings.directives:
        yield _directive(directive)


def _option(name: str, value: str, where: str) -> str:
    if not value or _UNUSABLE.search(value):
        raise ExecutionError(
            f"{where}: {value!r} cannot be written into a Slurm script: it must hold something, and no quotation mark,"
            " backslash, line break or other control character"
        )
    return f"{name}={value}" if _PLAIN.fullmatch(value) else f'{name}="{value}"'


def _directive(text: str) -> str:
    """Return one of the user's own options as it stands, quotation marks and all."""
    option = _OPTION.match(text)
    if option is None or _CONTROL.search(text):
        raise ExecutionError(
            f"execution.slurm.directives: expected an option on one line, such as --constraint=a100, not {text!r}"
        )
    if option[0] in _OURS:
        raise ExecutionError(f"execution.slurm.directives: {option[0]} is set by {_OURS[option[0]]}; leave it out here")
    return text


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in sorted(environment.items()) if name.startswith("EPSGRID_")}
    return {**kept, **dict.fromkeys(_ONE_THREAD, "1"), "PYTHONPATH": _path(), "PYTHONSAFEPATH": "1"}


def _path() -> str:
    """Return where modules are found here, in places that do not depend on the current folder."""
    entries = [Path(entry).absolute() for entry in sys.path]
    return os.pathsep.join(str(entry) for entry in entries if entry.exists())
