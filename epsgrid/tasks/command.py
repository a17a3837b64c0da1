"""A command of yours: any program, in any language, that takes the learning rate, ε and seed and writes its score.

    run: python train.py --lr {learning_rate} --eps {epsilon} --seed {seed} --out {folder}
    score: {file: metrics.json, key: eval_loss, direction: min}

No shell reads it: the text is split into words as a shell would, then the placeholders of each word are filled in. It
runs in `folder`, that of the spec, with the variables of the sweep, and one thread for each numerical library; what it
prints goes to the trial's log. A trial that was interrupted runs the same command again, with the same {folder}, so
that a program that finds its checkpoint there can go on from it.

The score's file lies in {folder}. Lines of JSON in a file that ends in .jsonl are the epochs, each with its score,
followed while the command runs, and the last one is the result; any other file is one JSON document, read in the end.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import shutil
import signal
import string
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from epsgrid import plugins
from epsgrid.errors import ExecutionError, SpecError
from epsgrid.spec.options import Frozen
from epsgrid.tasks import Metric
from epsgrid.tasks._own import FunctionTrial, NoData, OwnOptions, number

_POLL_S = 0.1
_GRACE_S = 30.0
"""Seconds from SIGTERM to SIGKILL, in which a command may save itself."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_PLACEHOLDERS = ("learning_rate", "epsilon", "seed", "folder", "epochs")
_ALIASES = {"eps": "epsilon", "lr": "learning_rate", "out": "folder", "output": "folder", "dir": "folder"}
_NEEDED = {"epsilon": "every ε would train the same", "folder": "trials would overwrite each other's score"}


def _run(text: str) -> str:
    """Refuse a command that cannot be split, or names a placeholder that there is not."""
    try:
        words = shlex.split(text)
        parts = [part for word in words for part in string.Formatter().parse(word) if part[1] is not None]
    except ValueError as error:
        raise ValueError(
            f"cannot read the command {text!r}: {error}; a brace that is no placeholder is doubled"
        ) from error
    named = [f"{field}!{conversion}" if conversion else str(field) for _, field, _, conversion in parts]
    for field in named:
        if field not in _PLACEHOLDERS:
            meant = _ALIASES.get(field)
            hint = f"; did you mean {{{meant}}}?" if meant else plugins.suggestion(field, _PLACEHOLDERS)
            raise ValueError(f"unknown placeholder {{{field}}}{hint}; a brace that is no placeholder is doubled")
    for field, why in _NEEDED.items():
        if field not in named:
            raise ValueError(f"there is no {{{field}}} in the command, so {why}; pass it on")
    return text


class Score(Frozen):
    """Where the command writes its score."""

    file: str = Field(min_length=1)
    """File in {folder}: one JSON document, or, where its name ends in .jsonl, a line for each epoch."""
    key: str = Field(min_length=1)
    """The key of the score; one within another is written `eval.loss`."""
    direction: Literal["max", "min"]
    """Whether larger or smaller is better."""
    test_key: str | None = None
    """The key of a score on test data, by which settings are compared once they are chosen. null: none."""
    unit: Literal["%", ""] = ""
    """"%" is for a fraction that is shown in percent."""


START = {"model": None, "training": None, "sweep": {"grid": "narrowed", "epsilons": [1e-8, 1e-6, 1e-4, 1e-2]}}


class Options(OwnOptions):
    """The command and its score."""

    location_fields: ClassVar[frozenset[str]] = OwnOptions.location_fields | {"time_limit_s"}

    run: Annotated[
        str,
        AfterValidator(_run),
        Field(examples=["python train.py --lr {learning_rate} --eps {epsilon} --seed {seed} --out {folder}"]),
    ]
    """The command, with {learning_rate}, {epsilon}, {seed}, {folder} and, if wanted, {epochs} to fill in. No shell
    reads it."""
    score: Score = Field(examples=[{"file": "metrics.json", "key": "eval_loss", "direction": "min"}])
    time_limit_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which a command is ended, and tried again as one that failed. null: no limit."""
    diverged_exit: Annotated[int, Field(ge=1, le=255)] | None = None
    """The exit status by which the command says that it diverged. null: none."""

    @classmethod
    def code(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the script files in the command."""
        return plugins.scripts(options["run"], options["folder"])


def metric(options: Options) -> Metric:
    """Return what the command's score is."""
    return Metric(options.score.key, options.score.direction, options.score.unit)


def prepare(options: Options) -> NoData:
    """Check that the folder and the script are there."""
    words, folder = shlex.split(options.run), Path(options.folder)
    if not folder.is_dir():
        raise SpecError(f"task.folder: there is no folder {folder}")
    is_script = Path(words[0]).name.startswith("python") and len(words) > 1 and words[1].endswith(".py")
    if is_script and not (folder / words[1]).is_file():
        raise SpecError(f"task.run: there is no file {words[1]} in {folder}; correct it, or set task.folder")
    return NoData()


def rehearse(options: Options) -> None:
    """Check that the program is there."""
    _program(options)


def train(options: Options, trial: FunctionTrial) -> Any:
    """Run the command to its end, and return the score that it wrote.

    Raises:
        ExecutionError: it ended with another status than 0, took too long, or wrote what cannot be read.
        SpecError: it wrote no such score.
    """
    values = {name: getattr(trial, name) for name in _PLACEHOLDERS}
    _, *words = (word.format(**values) for word in shlex.split(options.run))
    command = [_program(options), *words]
    print(f"$ {shlex.join(command)}", file=trial.log, flush=True)
    start, printed = time.monotonic(), trial.log.fileno()
    log_start = os.fstat(printed).st_size
    guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_guard.py")), *command]
    process = subprocess.Popen(
        guard,
        cwd=options.folder,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=printed,
        stderr=printed,
        start_new_session=True,
    )
    lines = _Lines(trial.folder / options.score.file, options.score.key, trial.reported)
    try:
        while process.poll() is None:
            trial.check()
            lines.report(trial)
            if options.time_limit_s is not None and time.monotonic() - start > options.time_limit_s:
                raise ExecutionError(f"the command ran longer than task.time_limit_s, {options.time_limit_s:g} s")
            time.sleep(_POLL_S)
    finally:
        _end(process)
    lines.report(trial)
    if options.diverged_exit is not None and process.returncode == options.diverged_exit:
        return math.nan
    if process.returncode:
        said = _last_line(Path(trial.log.name), log_start)
        by_signal = f", by signal {process.returncode - 128}" if process.returncode > 128 else ""
        raise ExecutionError(
            f"the command ended with status {process.returncode}{by_signal}{f': {said}' if said else ''}"
        )
    return _score(trial.folder / options.score.file, options.score)


def _program(options: Options) -> str:
    """Return the path of the command's program; a `python` that is not on the path is the one that runs epsgrid."""
    word = shlex.split(options.run)[0]
    own = Path(options.folder, word)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    found = shutil.which(str(own) if "/" in word else word, path=path)
    if found is None:
        where = f"{own} is no program that may be run" if "/" in word else f"there is no program {word!r} on the path"
        raise SpecError(f"task.run: {where}; install it, or write its whole path")
    return found


def _environment() -> dict[str, str]:
    """Return the variables of the sweep without those that it sets for its own processes, and one thread a library."""
    found = dict(os.environ)
    if "EPSGRID_PYTHONPATH" in found:
        found["PYTHONPATH"] = found.pop("EPSGRID_PYTHONPATH")
        for name in ("PYTHONSAFEPATH", "PYTORCH_NVML_BASED_CUDA_CHECK"):
            found.pop(name, None)
    if not found.get("PYTHONPATH"):
        found.pop("PYTHONPATH", None)
    return {**found, **dict.fromkeys(_THREADS, "1"), "PYTHONUNBUFFERED": "1"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a command that still runs, with all its processes, to end; kill them where it does not."""
    assert process.stdin is not None
    is_stopped = process.poll() is None
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        if is_stopped:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        if is_stopped or process.returncode < 0:  # what it started may be left, or what the guard was to watch
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()


class _Lines:
    """The epochs that a command writes into a file of JSON lines; none where its score is no such file."""

    def __init__(self, path: Path, key: str, reported: int) -> None:
        self._path, self._key, self._reported, self._size = path, key, reported, -1

    def report(self, trial: FunctionTrial) -> None:
        """Report the epochs that are new since the last call; all of them where the file was begun again."""
        if self._path.suffix != ".jsonl" or not self._path.is_file() or self._path.stat().st_size == self._size:
            return
        self._size = self._path.stat().st_size
        scores = [value for row in _rows(self._path) if (value := _at(row, self._key)) is not None]
        if len(scores) < self._reported:
            self._reported = 0
        for place in range(self._reported, len(scores)):
            self._reported = place + 1
            trial.report(number(scores[place], f"{self._path.name}: {self._key}"), place)


def _rows(path: Path) -> Iterator[Any]:
    """Yield the documents of the whole lines of a file of JSON lines."""
    for place, line in enumerate(path.read_bytes().split(b"\n")[:-1]):
        if line.strip():
            yield _parsed(line, f"{path}, line {place + 1}")


def _parsed(text: bytes, source: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ExecutionError(f"{source} is not JSON: {error}") from error


def _at(document: Any, key: str) -> Any:
    """Return the value of a key, or of one within others where it has dots; None where there is none."""
    if isinstance(document, Mapping) and key in document:
        return document[key]
    for part in key.split("."):
        if not isinstance(document, Mapping) or part not in document:
            return None
        document = document[part]
    return document


def _score(path: Path, score: Score) -> dict[str, float]:
    """Return the scores of a file; a SpecError, which ends a sweep that has no result yet, says what it lacks."""
    if not path.is_file():
        there = ", ".join(sorted(each.name for each in path.parent.iterdir())) if path.parent.is_dir() else ""
        raise SpecError(
            f"the command ended well and wrote no {score.file} into {{folder}}, {path.parent}"
            f" ({f'there is {there}' if there else 'which is empty'}); correct task.score.file, or the command"
        )
    found = {}
    for name, key in (("validation", score.key), ("test", score.test_key)):
        if key is None:
            continue
        rows = [*_rows(path)] if path.suffix == ".jsonl" else [_parsed(path.read_bytes(), str(path))]
        values = [value for row in rows if (value := _at(row, key)) is not None]
        if not values:
            known = ", ".join(rows[-1]) if rows and isinstance(rows[-1], Mapping) else "no keys"
            raise SpecError(f"{path} has no {key!r}: it has {known}; correct task.score")
        found[name] = number(values[-1], f"{path}: {key}")
    return found


def _last_line(path: Path, start: int) -> str:
    """Return the last line that a command has printed; "" where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, os.fstat(file.fileno()).st_size - 2000))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
