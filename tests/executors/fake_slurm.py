"""Stand in for Slurm: `sbatch`, `squeue`, `scancel` and `scontrol`, named by the first argument.

An array is kept by a controller, a process of its own that `sbatch` leaves behind: it runs the script's tasks as bash
does, at most as many at once as the array allows, in the environment that Slurm gives them, and sends the signal that
the script asks for before a time limit. Everything is in the folder FAKE_SLURM: one folder per array with its script,
one file per task that holds its state, and requests to the controller as files.

FAKE_SLURM_LIMIT_S is the time limit in seconds, and FAKE_SLURM_REFUSE what sbatch refuses with. A file `lose` in an
array's folder lets its controller kill the tasks and go, as when a node fails; `down` in FAKE_SLURM lets no command be
answered.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ.get("FAKE_SLURM", "."))
SIGNAL_BEFORE_S = 1.0
POLL_S = 0.02


def options_of(script: Path) -> dict[str, str]:
    """Read the #SBATCH lines: words end at spaces unless quoted, `#` begins a comment."""
    lines = [line.removeprefix("#SBATCH") for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    words = [word.partition("=") for line in lines for word in shlex.split(line, comments=True)]
    return {name: value for name, _, value in words}


def indices(options: dict[str, str]) -> range:
    first, last = options["--array"].partition("%")[0].split("-")
    return range(int(first), int(last) + 1)


def write(path: Path, text: str) -> None:
    """Write a file that is whole from the moment it is there."""
    path.with_suffix(".tmp").write_text(text)
    path.with_suffix(".tmp").rename(path)


def state(folder: Path, index: int) -> str:
    return (folder / f"{index}.state").read_text()


def request(folder: Path, *words: object) -> None:
    """Leave a request to the controller and wait until it is done, as Slurm's commands do."""
    path = folder / f"request.{time.time_ns()}.{os.getpid()}"
    write(path, " ".join(map(str, words)))
    while path.exists() and not (folder / "over").exists():
        time.sleep(POLL_S)


def sbatch(parsable: str, script: str) -> None:
    if refusal := os.environ.get("FAKE_SLURM_REFUSE"):
        sys.exit(f"sbatch: error: {refusal}")
    number = 100 + len(list(ROOT.glob("[0-9]*")))
    folder = ROOT / str(number)
    folder.mkdir()
    (folder / "script.sh").write_bytes(Path(script).read_bytes())  # Slurm keeps a copy
    for index in indices(options_of(folder / "script.sh")):
        write(folder / f"{index}.state", "PD")
    log = (folder / "controller.log").open("w")
    command = [sys.executable, __file__, "controller", str(folder)]
    controller = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (folder / "controller.pid").write_text(str(controller.pid))
    print(number)


def squeue(*arguments: str) -> None:
    given = dict(argument.partition("=")[::2] for argument in arguments)
    assert set(given) == {"--noheader", "--array", "--name", "--format"}
    for folder in sorted(ROOT.glob("[0-9]*")):
        options = options_of(folder / "script.sh")
        name = options["--job-name"]
        for index in indices(options) if name in given["--name"].split(",") else ():
            if state(folder, index) in ("PD", "R"):
                print(given["--format"].replace("%F", folder.name).replace("%K", str(index)).replace("%j", name))


def scancel(*arguments: str) -> None:
    flags = {argument.partition("=")[0]: argument.partition("=")[2] for argument in arguments if argument[0] == "-"}
    for job in (argument for argument in arguments if argument[0] != "-"):
        if flags.get("--state") == "PENDING":
            request(ROOT / job, "cancel", "waiting")
        elif name := flags.get("--signal"):
            if name == "KILL" or "--batch" in flags:  # others spare the batch script, and here is nothing else
                request(ROOT / job, "signal", int(signal.Signals[f"SIG{name}"]))
        else:
            request(ROOT / job, "cancel", "all")


def scontrol(what: str, task: str) -> None:
    assert what == "requeue"
    job, _, index = task.partition("_")
    request(ROOT / job, "requeue", index)


class Controller:
    """What runs the tasks of one array."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.options = folder, options_of(folder / "script.sh")
        assert self.options["--open-mode"] == "append" and "--requeue" in self.options
        self.most = int(self.options["--array"].partition("%")[2])
        self.waiting = list(indices(self.options))
        self.running: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self.signalled: set[int] = set()
        self.requeued: set[int] = set()
        self.limit_s = float(os.environ.get("FAKE_SLURM_LIMIT_S", "inf"))

    def run(self) -> None:
        while self.waiting or self.running:
            if (self.folder / "lose").exists():
                self.cancel()
            for path in sorted(self.folder.glob("request.*[0-9]")):
                self.obey(*path.read_text().split())
                path.unlink()
            while self.waiting and len(self.running) < self.most:
                self.start(self.waiting.pop(0))
            for index in list(self.running):
                self.watch(index)
            time.sleep(POLL_S)
        (self.folder / "over").touch()

    def start(self, index: int) -> None:
        pattern = self.options["--output"]
        log = Path(re.sub("%[%a]", lambda match: "%" if match[0] == "%%" else str(index), pattern))
        array = {"SLURM_ARRAY_JOB_ID": self.folder.name, "SLURM_ARRAY_TASK_ID": str(index)}
        with log.open("a") as output:
            process = subprocess.Popen(
                ["/bin/bash", str(self.folder / "script.sh")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **array},
                cwd=self.options["--chdir"],
                start_new_session=True,
            )
        self.running[index] = process, time.monotonic()
        self.signalled.discard(index)
        write(self.folder / f"{index}.state", "R")

    def watch(self, index: int) -> None:
        process, begun = self.running[index]
        ran_s = time.monotonic() - begun
        if process.poll() is not None and index in self.requeued:
            self.requeued.discard(index)
            self.waiting.append(index)
            self.end(index, "PD")
        elif process.poll() is not None or ran_s > self.limit_s:
            self.end(index, "over")
        elif ran_s > self.limit_s - SIGNAL_BEFORE_S and index not in self.signalled:
            self.signalled.add(index)
            whom, _, rest = self.options["--signal"].partition(":")
            assert whom == "B", "the batch script alone"
            process.send_signal(signal.Signals[f"SIG{rest.partition('@')[0]}"])

    def end(self, index: int, how: str) -> None:
        """Note the end of a task; kill all of its processes, which are a session, if it still runs."""
        process, _ = self.running.pop(index)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        write(self.folder / f"{index}.state", how)

    def cancel(self, *, waiting_only: bool = False) -> None:
        for index in self.waiting:
            write(self.folder / f"{index}.state", "CA")
        self.waiting.clear()
        for index in () if waiting_only else list(self.running):
            self.end(index, "CA")

    def obey(self, what: str, whom: str) -> None:
        if what == "cancel":
            self.cancel(waiting_only=whom == "waiting")
        elif what == "signal":
            for process, _ in self.running.values():
                process.send_signal(int(whom))
        else:
            self.requeued.add(int(whom))
            self.running[int(whom)][0].send_signal(signal.SIGTERM)


def install(folder: Path) -> None:
    """Put the commands into a folder, for PATH."""
    for command in ("sbatch", "squeue", "scancel", "scontrol"):
        path = folder / command
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {command} "$@"\n')
        path.chmod(0o755)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == "controller":
        Controller(Path(arguments[0])).run()
    elif (ROOT / "down").exists():
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    else:
        {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "scontrol": scontrol}[name](*arguments)
