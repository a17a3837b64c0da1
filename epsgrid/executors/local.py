"""Run jobs on this machine, each in a process of its own: what one does to memory or to itself cannot hurt another.

Processes are forked from a server that has imported everything heavy once, so one costs milliseconds instead of the
seconds that importing torch takes. The server never touches CUDA, so that its children may, each with the device that
was chosen for it; see `_places`. Three things about it are arranged here because multiprocessing does not:

* Threads: the server is started with one thread per numerical library, before any of them is loaded.
* Signals: Ctrl-C and SIGTERM to a whole process group must not tear the server or a job's process down behind the
  command's back. The server is started with them blocked; a job's process ignores Ctrl-C and takes SIGTERM again.
* The main script: multiprocessing would run it again in each process. It is hidden while one is started; jobs are
  functions of importable modules, never of the main script.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from epsgrid.errors import ExecutionError
from epsgrid.executors import NO_SETTINGS, Job, JobEnded, JobEvent, JobStarted, StopRequest, _devices
from epsgrid.executors._memory import oom_kills, seen_status
from epsgrid.executors._places import Place, Places
from epsgrid.spec.model import Execution

PRELOAD = ("epsgrid.worker",)
"""Imported once, by the server; one that is missing is left to each job's process to import or to do without."""

CANNOT_START = 126
"""Status of a job for which no process could be started; why is on stderr."""

SERVER_DIED = 255
"""Status of a job whose end nobody saw, because the server died, as when memory ran out; the job is killed."""

_STARTING = threading.Lock()  # what is changed while a process starts belongs to the whole of this one
_POLL_S = 0.05
_WATCH_S = 0.5
_BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_NO_CUDA_CALL = "PYTORCH_NVML_BASED_CUDA_CHECK"  # with it, torch tells whether there is CUDA without a call of CUDA
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def run(
    jobs: Sequence[Job],
    work: Callable[[Job], int],
    *,
    slots: int,
    notify: Callable[[JobEvent], None],
    stop: StopRequest,
    execution: Execution = NO_SETTINGS,
    preload: tuple[str, ...] = PRELOAD,
) -> None:
    """Run all jobs, at most `slots` at once; see `ExecutorPlugin.run`.

    At stop level 1 running jobs get SIGTERM, at level 2 SIGKILL; the call returns when all have ended. If anything is
    raised, by `notify` for one, running jobs are killed first. They also end when this process does, however it ends.

    Args:
        jobs: what to run, in order.
        work: a function of an importable module; its return value is the job's exit status.
        slots: at least 1.
        notify: called in the caller's thread.
        stop: asked about 20 times a second.
        execution: its `device` says whether trials train on CUDA devices. Jobs are then spread over those that are
            visible, and each sees its own alone.
        preload: modules that the server imports; only the first call of a process decides, for the server stays.

    Raises:
        ExecutionError: the server could not start.
    """
    assert slots >= 1, "a job needs a slot"
    assert work.__module__ != "__main__", "the main script is not run again in a job's process"
    if jobs and _is_ready(preload, stop):
        devices = _devices.training(execution, os.environ)
        with contextlib.closing(_Pool(work, devices, slots, notify)) as pool:
            pool.run(jobs, stop)


@dataclass(frozen=True)
class _Running:
    """A job that runs: where, and how many processes the system had killed for memory before it began."""

    job: Job
    place: Place
    kills_before: int | None


class _Pool:
    """The processes of running jobs, and what was asked of them."""

    def __init__(
        self, work: Callable[[Job], int], devices: Sequence[str], slots: int, notify: Callable[[JobEvent], None]
    ) -> None:
        self.work, self.notify = work, notify
        self.running: dict[ForkServerProcess, _Running] = {}
        self.places = Places(devices, slots, self._pids, os.environ)
        self.level = 0

    def run(self, jobs: Sequence[Job], stop: StopRequest) -> None:
        waiting = deque(jobs)
        while True:
            self._obey(stop.level())
            if self.level:
                waiting.clear()
            if waiting and (place := self.places.take(waiting[0])) is not None:
                self._start(waiting.popleft(), place)
                continue
            if not self.running:
                return
            self._reap(_POLL_S)

    def close(self) -> None:
        """Kill what still runs: nothing does, unless something was raised."""
        for process in self.running:
            process.kill()
        for process in self.running:
            process.join()

    def _obey(self, level: int) -> None:
        """Pass a rising stop level on to the jobs, once per level."""
        if level > self.level:
            self.level = level
            for process in self.running:
                if level == 1:
                    process.terminate()
                else:
                    process.kill()

    def _pids(self) -> list[int]:
        return [process.pid for process in self.running if process.pid is not None]

    def _start(self, job: Job, place: Place) -> None:
        self.notify(JobStarted(job))
        kills_before = oom_kills()
        try:
            process = _started(_run_job, self.work, job, _variables(place.device))
        except (OSError, EOFError) as error:
            print(
                f"no process could be started for trial {job.trial}: {error or 'the fork server died'}", file=sys.stderr
            )
            self.places.leave(job, place)
            self.notify(JobEnded(job, CANNOT_START))
        else:
            self.running[process] = _Running(job, place, kills_before)

    def _reap(self, timeout_s: float) -> None:
        wait([process.sentinel for process in self.running], timeout_s)
        for process in [process for process in self.running if process.exitcode is not None]:
            ended, status = self.running.pop(process), process.exitcode
            process.close()
            assert status is not None
            self.places.leave(ended.job, ended.place)
            self.notify(JobEnded(ended.job, seen_status(status, ended.kills_before)))


def _variables(device: str | None) -> dict[str, str | None]:
    """Return the variables of a job's environment that are not those of the server; None for one to remove."""
    chosen = {} if device is None else {_devices.VISIBLE: device}
    return {_NO_CUDA_CALL: os.environ.get(_NO_CUDA_CALL), **chosen}


def _is_ready(preload: tuple[str, ...], stop: StopRequest) -> bool:
    """Wait until the server has imported what it should; False when a stop is asked for meanwhile.

    The first process can only be forked when the imports, seconds of them, are done; to wait for it in a thread keeps
    this one free to notice a stop.
    """
    forkserver.set_forkserver_preload([*preload, __name__])  # this module too, which every process needs
    errors: list[Exception] = []

    def start_one() -> None:
        try:
            _started(int).join()
        except (OSError, EOFError) as error:
            errors.append(error)

    thread = threading.Thread(target=start_one, name="fork server start", daemon=True)
    thread.start()
    while thread.is_alive():
        if stop.level():
            return False
        thread.join(_POLL_S)
    if errors:
        raise ExecutionError(
            f"the server that starts trials could not import {', '.join(preload)}; its own words are above. "
            "Mend that, or run the trials in this process with `-o execution.executor=inline`"
        ) from errors[0]
    return True


def _started(target: Callable[..., object], *arguments: object) -> ForkServerProcess:
    """Return a started process; the server is started first where there is none, or it has died."""
    try:
        return _started_once(target, arguments)
    except ConnectionError:  # the server was just dying; by now that can be seen, and another takes its place
        time.sleep(_POLL_S)
        return _started_once(target, arguments)


def _started_once(target: Callable[..., object], arguments: tuple[object, ...]) -> ForkServerProcess:
    process = multiprocessing.get_context("forkserver").Process(target=target, args=arguments)
    with _STARTING, _server_environment(), _main_hidden(), _signals_blocked():
        process.start()
    return process


@contextlib.contextmanager
def _server_environment() -> Iterator[None]:
    """Set what the server inherits: one thread per library, and our own module path instead of the current folder.

    Whatever it imports may ask torch whether there is CUDA; the answer must not come from CUDA itself, which would then
    fail in every child, or show all of them the same devices.
    """
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    wanted = {**dict.fromkeys(_ONE_THREAD, "1"), "PYTHONPATH": path, "PYTHONSAFEPATH": "1", _NO_CUDA_CALL: "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Let multiprocessing see an empty main module, so that no process runs the main script again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals in this thread, and so in a server that is started inside; what comes meanwhile comes after."""
    resource_tracker.ensure_running()  # it unblocks signals when it starts: let it do so before
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_job(work: Callable[[Job], int], job: Job, variables: Mapping[str, str | None]) -> None:
    """Be a job's process; no call of CUDA has been made in it yet, so that it sees the devices it is told."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
    threading.Thread(target=_die_with_the_command, name="watch the command", daemon=True).start()
    sys.exit(work(job))


def _die_with_the_command() -> None:
    """Kill this process when the command that asked for it, or the server that forked it, is gone."""
    command, server = multiprocessing.parent_process(), os.getppid()
    assert command is not None
    while command.is_alive() and os.getppid() == server:
        command.join(_WATCH_S)
    os.kill(os.getpid(), signal.SIGKILL)
