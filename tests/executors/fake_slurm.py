"""Stand in for Slurm: `sbatch`, `squeue`, `scancel` and `scontrol`, named by the first argument.

An array is kept by a controller, a process of its own that `sbatch` leaves behind: it runs the script's tasks as bash
does, at most as many at once as the array allows, in the environment that Slurm gives them, and sends the signal that
the script asks for before a time limit. Everything is in the folder FAKE_SLURM: one folder per array with its options,
one file per task that holds its state, and requests to the controller as files.

FAKE_SLURM_LIMIT_S is the time limit in seconds, and FAKE_SLURM_REFUSE what sbatch refuses with. A file `lose` in an
array's folder lets its controller kill the tasks and go, as when a node fails; `down` in FAKE_SLURM lets no command be
answered.
"""

import json
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
    found = {}
    for line in script.read_text().splitlines():
        if line.startswith("#SBATCH"):
            for word in shlex.split(line.removeprefix("#SBATCH"), comments=True):
                name, _, value = word.partition("=")
                found[name] = value
        elif line and not line.startswith("#"):
            break
    return found


def sbatch(arguments: list[str]) -> int:
    if refusal := os.environ.get("FAKE_SLURM_REFUSE"):
        print(f"sbatch: error: {refusal}", file=sys.stderr)
        return 1
    assert arguments[0] == "--parsable"
    script = Path(arguments[1])
    number = 100 + len(list(ROOT.glob("[0-9]*")))
    folder = ROOT / str(number)
    folder.mkdir()
    (folder / "script.sh").write_bytes(script.read_bytes())  # Slurm keeps a copy
    (folder / "options.json").write_text(json.dumps(options_of(script)))
    for index in indices(folder):
        set_state(folder, index, "PD")
    log = (folder / "controller.log").open("w")
    controller = subprocess.Popen(
        [sys.executable, __file__, "controller", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    (folder / "controller.pid").write_text(str(controller.pid))
    print(number)
    return 0


def options(folder: Path) -> dict[str, str]:
    return json.loads((folder / "options.json").read_text())


def indices(folder: Path) -> range:
    first, last = options(folder)["--array"].partition("%")[0].split("-")
    return range(int(first), int(last) + 1)


def set_state(folder: Path, index: int, state: str) -> None:
    path = folder / f"{index}.state"
    path.with_suffix(".tmp").write_text(state)
    path.with_suffix(".tmp").rename(path)


def state(folder: Path, index: int) -> str:
    return (folder / f"{index}.state").read_text()


def squeue(arguments: list[str]) -> int:
    given = dict(argument.partition("=")[::2] for argument in arguments)
    assert set(given) == {"--noheader", "--array", "--name", "--format"}
    names = given["--name"].split(",")
    for folder in sorted(ROOT.glob("[0-9]*")):
        name = options(folder)["--job-name"]
        for index in indices(folder) if name in names else ():
            if state(folder, index) in ("PD", "R", "CG"):
                row = given["--format"].replace("%F", folder.name).replace("%K", str(index)).replace("%j", name)
                print(row)
    return 0


def scancel(arguments: list[str]) -> int:
    flags = {argument.partition("=")[0]: argument.partition("=")[2] for argument in arguments if argument[0] == "-"}
    for job in (argument for argument in arguments if argument[0] != "-"):
        folder = ROOT / job
        if not folder.is_dir():
            print(f"scancel: error: Kill job error on job id {job}: Invalid job id specified", file=sys.stderr)
            return 1
        if flags.get("--state") == "PENDING":
            request = "cancel-waiting"
        elif name := flags.get("--signal"):
            if name != "KILL" and "--batch" not in flags:
                continue  # Slurm spares the batch script, and here is nothing else
            request = f"signal-{int(signal.Signals[f'SIG{name}'])}"
        else:
            request = "cancel"
        ask(folder, request)
    return 0


def scontrol(arguments: list[str]) -> int:
    assert arguments[0] == "requeue"
    job, _, index = arguments[1].partition("_")
    ask(ROOT / job, f"requeue-{index}")
    return 0


def ask(folder: Path, request: str) -> None:
    """Leave a request and wait until it is done, as Slurm's commands do."""
    path = folder / f"request.{time.time_ns()}.{os.getpid()}"
    path.with_suffix(".tmp").write_text(request)
    path.with_suffix(".tmp").rename(path)
    while path.exists() and is_alive(int((folder / "controller.pid").read_text())):
        time.sleep(POLL_S)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Controller:
    """What runs the tasks of one array."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.options = folder, options(folder)
        self.most = int(self.options["--array"].partition("%")[2])
        self.waiting = list(indices(folder))
        self.running: dict[int, tuple[subprocess.Popen, float]] = {}
        self.signalled: set[int] = set()
        self.requeued: set[int] = set()
        self.restarts = dict.fromkeys(self.waiting, 0)
        self.limit_s = float(os.environ.get("FAKE_SLURM_LIMIT_S", "inf"))

    def run(self) -> None:
        while self.waiting or self.running:
            if (self.folder / "lose").exists():
                self.lose()
                return
            for request in sorted(self.folder.glob("request.*[0-9]")):
                self.obey(request.read_text())
                request.unlink()
            while self.waiting and len(self.running) < self.most:
                self.start(self.waiting.pop(0))
            for index in list(self.running):
                self.watch(index)
            time.sleep(POLL_S)

    def start(self, index: int) -> None:
        pattern = self.options["--output"]
        log = Path(re.sub("%[%a]", lambda match: "%" if match[0] == "%%" else str(index), pattern))
        assert self.options["--open-mode"] == "append"
        environment = {
            **os.environ,
            "SLURM_JOB_ID": str(int(self.folder.name) * 1000 + index),
            "SLURM_ARRAY_JOB_ID": self.folder.name,
            "SLURM_ARRAY_TASK_ID": str(index),
            "SLURM_RESTART_COUNT": str(self.restarts[index]),
        }
        if not self.restarts[index]:
            del environment["SLURM_RESTART_COUNT"]
        with log.open("a") as output:
            process = subprocess.Popen(
                ["/bin/bash", str(self.folder / "script.sh")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self.options["--chdir"],
                start_new_session=True,
            )
        self.running[index] = process, time.monotonic()
        self.signalled.discard(index)
        set_state(self.folder, index, "R")
        (self.folder / f"{index}.pid").write_text(str(process.pid))

    def watch(self, index: int) -> None:
        process, begun = self.running[index]
        ran_s = time.monotonic() - begun
        if process.poll() is not None and index in self.requeued:
            self.end(index, "PD")
            self.requeued.discard(index)
            self.restarts[index] += 1
            self.waiting.append(index)
        elif process.poll() is not None:
            self.end(index, "CD" if process.returncode == 0 else "F")
        elif ran_s > self.limit_s:
            self.kill(index)
            self.end(index, "TO")
        elif ran_s > self.limit_s - SIGNAL_BEFORE_S and index not in self.signalled:
            self.signalled.add(index)
            whom, _, rest = self.options["--signal"].partition(":")
            assert whom == "B", "the batch script alone"
            process.send_signal(signal.Signals[f"SIG{rest.partition('@')[0]}"])

    def end(self, index: int, how: str) -> None:
        process, _ = self.running.pop(index)
        process.wait()
        set_state(self.folder, index, how)

    def kill(self, index: int) -> None:
        """Kill all processes of a task, which are a session."""
        os.killpg(self.running[index][0].pid, signal.SIGKILL)

    def obey(self, request: str) -> None:
        what, _, number = request.partition("-")
        if request in ("cancel-waiting", "cancel"):
            for index in self.waiting:
                set_state(self.folder, index, "CA")
            self.waiting.clear()
        if request == "cancel":
            for index in list(self.running):
                self.kill(index)
                self.end(index, "CA")
        if what == "signal":
            for process, _ in self.running.values():
                process.send_signal(int(number))
        if what == "requeue":
            assert "--requeue" in self.options
            self.requeued.add(int(number))
            self.running[int(number)][0].send_signal(signal.SIGTERM)

    def lose(self) -> None:
        for index in list(self.running):
            self.kill(index)
            self.end(index, "NF")
        for index in self.waiting:
            set_state(self.folder, index, "CA")


def main() -> int:
    if sys.argv[1:2] == ["controller"]:
        Controller(Path(sys.argv[2])).run()
        return 0
    if (ROOT / "down").exists():
        print("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", file=sys.stderr)
        return 1
    commands = {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "scontrol": scontrol}
    return commands[sys.argv[1]](sys.argv[2:])


def install(folder: Path) -> None:
    """Put the commands into a folder, for PATH."""
    for command in ("sbatch", "squeue", "scancel", "scontrol"):
        path = folder / command
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {command} "$@"\n')
        path.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
