"""What the tests of executors run; a job's `experiment` is a folder to leave notes in, its `trial` says what to do."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from epsgrid.errors import StoreError
from epsgrid.executors import Job, JobEnded, JobEvent, StopRequest
from epsgrid.spec.model import Execution

PATIENCE_S = 60


def note(job: Job, text: str) -> None:
    """Leave a file named for the job and the word, whole from the moment it is there."""
    path = Path(job.experiment) / f"{job.trial}.{text.partition(' ')[0]}"
    path.with_suffix(".tmp").write_text(text)
    path.with_suffix(".tmp").rename(path)


def work(job: Job) -> int:
    """Do what the first word of the trial's name says; end with the number that follows it."""
    what, _, number = job.trial.partition("-")
    note(job, f"began {os.getpid()}")
    if what == "raise":
        raise RuntimeError(f"job {number} fails")
    if what == "full":
        raise StoreError("the disk is full")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(int(number))
    if what == "sleep":
        time.sleep(600)
    if what == "save" or (what == "resume" and not (Path(job.experiment) / f"{job.trial}.saved").exists()):
        asked: list[bool] = []
        signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
        while not asked:
            time.sleep(0.01)
        note(job, "saved")
        return 75
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(job, "ready")
        time.sleep(600)
    time.sleep({"short": 0.05, "long": 2}.get(what, 0))
    note(job, "ended")
    return int(number) if what == "return" else 0


def interrupted(job: Job) -> int:
    raise KeyboardInterrupt


def facts(job: Job) -> int:
    """Note what a job's process finds around itself."""
    main = sys.modules["__main__"]
    blocked = sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    ignored = [signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM)]
    threads = os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]
    note(job, f"facts {blocked} {ignored} {threads} {getattr(main, 'WAS_RUN_AGAIN', False)}")
    return 0


def stay(job: Job) -> int:
    """Note from when to when a job ran, and which devices it saw.

    The first word of the trial's name is how many must have begun before it ends.
    """
    began = time.monotonic()
    note(job, f"began {os.getpid()}")
    wait_for(lambda: len(list(Path(job.experiment).glob("*.began"))) >= int(job.trial.partition("-")[0]))
    time.sleep(0.05)
    note(job, f"stay {began} {time.monotonic()} <{os.environ.get('CUDA_VISIBLE_DEVICES')}>")
    return 0


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so; fail when it takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def pid_of(folder: Path, trial: str) -> int:
    """Return the process of a job, once it has begun."""
    path = folder / f"{trial}.began"
    wait_for(path.exists)
    return int(path.read_text().split()[1])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def driver(
    executor: str, folder: Path, *trials: str, environment: Mapping[str, str] = os.environ
) -> Iterator["subprocess.Popen[str]"]:
    """Run a command of its own process group, as a shell does; see `driver.py`."""
    command = [sys.executable, str(Path(__file__).parent / "driver.py"), executor, str(folder), *trials]
    root, pipe = str(Path(__file__).parents[2]), subprocess.PIPE
    with subprocess.Popen(
        command,
        env={**environment, "PYTHONPATH": root},
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
        cwd=folder,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Recorder:
    """The events of an executor, in order; `most_at_once` is how many jobs ran at once, at most."""

    def __init__(self) -> None:
        self.events: list[JobEvent] = []
        self.most_at_once = 0

    def __call__(self, event: JobEvent) -> None:
        self.events.append(event)
        ended = sum(isinstance(event, JobEnded) for event in self.events)
        self.most_at_once = max(self.most_at_once, len(self.events) - 2 * ended)

    @property
    def started(self) -> list[str]:
        return [event.job.trial for event in self.events if not isinstance(event, JobEnded)]

    @property
    def statuses(self) -> dict[str, int]:
        return {event.job.trial: event.status for event in self.events if isinstance(event, JobEnded)}


class StopWhen:
    """A stop request whose level is the number of these files that exist."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.asked: list[float] = []

    def level(self) -> int:
        self.asked.append(time.monotonic())
        return sum(path.exists() for path in self.paths)


class When:
    """A stop request that acts once a file exists, and is of a level from then on."""

    def __init__(self, path: Path, act: Callable[[], object], level: int = 0) -> None:
        self.path, self.act, self.then, self.has_acted = path, act, level, False

    def level(self) -> int:
        if not self.has_acted and self.path.exists():
            self.has_acted = True
            self.act()
        return self.then if self.has_acted else 0


def run(
    executor: Any,
    folder: Path,
    *trials: str | Job,
    work: str = "tests.executors.jobs:work",
    slots: int = 2,
    notify: Callable[[JobEvent], None] | None = None,
    stop: StopRequest | None = None,
    **execution: Any,
) -> Recorder:
    """Run jobs, on the processors unless asked otherwise; return what was recorded without a `notify`."""
    jobs = [Job(str(folder), trial) if isinstance(trial, str) else trial for trial in trials]
    recorder, settings = Recorder(), Execution(**{"device": "cpu", **execution})
    stop = stop or StopWhen()
    executor.run(jobs, work, slots=slots, notify=notify or recorder, stop=stop, execution=settings)
    return recorder


def answer(job: Job) -> str:
    """Do what the trial's name says, and tell where."""
    if not job.trial.startswith("say"):
        work(job)
    assert multiprocessing.parent_process() is not None
    return f"{job.trial} from another process"
