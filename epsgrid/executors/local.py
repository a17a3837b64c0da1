"""Run jobs on this machine, each in a process of its own, so that one cannot hurt another.

Processes are forked from a server that has imported everything heavy once, so one costs milliseconds instead of the
seconds that importing torch takes. The server never touches CUDA, so that its children may, each with the device chosen
for it. Three things are arranged here because multiprocessing does not:

* Threads: the server starts with one thread per numerical library, before any of them is loaded.
* Signals: Ctrl-C and SIGTERM to a whole process group must not end the server or a job before the command decides. The
  server starts with them blocked; a job's process ignores Ctrl-C and accepts SIGTERM.
* The main script: multiprocessing would run it again in each process, so it is hidden while a process starts.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

from epsgrid.errors import ExecutionError
from epsgrid.executors import Exclusive, Job, JobEnded, JobStarted, Notify, StopRequest, _devices, call_work
from epsgrid.executors._process import end_with_parents, job_status, oom_kills, python_environment, set_variables
from epsgrid.spec.model import Execution

_CANNOT_START = 126
"""Status of a job for which no process could be started; the reason is on stderr."""

_STARTING = threading.Lock()  # what is changed while a process starts belongs to the whole of this one
_POLL_S = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_NO_CUDA_CALL = "PYTORCH_NVML_BASED_CUDA_CHECK"  # with it, torch finds out without calling CUDA whether there is CUDA
_PROCESSORS = ""


class _Slots:
    """Where jobs run: on CUDA devices, or on the processors.

    Args:
        devices: CUDA devices as CUDA_VISIBLE_DEVICES names them; none where jobs run on processors.
        slots: jobs at once, on all devices together.
    """

    def __init__(self, devices: Sequence[str], slots: int) -> None:
        self._slots, self._per_device = slots, math.ceil(slots / max(1, len(devices)))
        self._jobs: dict[str, list[Job]] = {device: [] for device in devices or (_PROCESSORS,)}

    def take(self, job: Job) -> str | None:
        """Return the device with the fewest jobs on which a job can start now ("": the processors); None: it must wait.

        The job counts as running there until `leave`. Where nothing runs, there is always a device.
        """
        running = [one for jobs in self._jobs.values() for one in jobs]
        if running and (
            len(running) >= self._slots or Exclusive.MACHINE in (job.exclusive, *(one.exclusive for one in running))
        ):
            return None
        for device, jobs in sorted(self._jobs.items(), key=lambda item: len(item[1])):
            is_shared = len(jobs) < self._per_device and not any(one.exclusive for one in (job, *jobs))
            if not jobs or is_shared:
                jobs.append(job)
                return device
        return None

    def leave(self, job: Job, device: str) -> None:
        """Note that a job on a device has ended."""
        self._jobs[device].remove(job)


def run(jobs: Sequence[Job], work: str, *, slots: int, notify: Notify, stop: StopRequest, execution: Execution) -> None:
    """Run all jobs, at most `slots` at once; see `ExecutorPlugin.run`.

    Where trials train on CUDA (`execution.device`), jobs are spread over the visible devices, and each sees its own
    alone. At stop level 1 running jobs get SIGTERM, at level 2 SIGKILL. They also end when this process does. The
    server imports the module of `work`; it stays, and later calls use it.

    Raises:
        ExecutionError: the server could not start.
    """
    assert slots >= 1, "a job needs a slot"
    if not jobs or not _server_is_ready(work.partition(":")[0], stop):
        return
    pool = _Pool(work, _Slots(_devices.training_devices(execution, os.environ), slots), notify)
    waiting, level = deque(jobs), 0
    try:
        while pool.running or (waiting and not level):
            if (asked := stop.level()) > level:
                level = asked
                for process in pool.running:
                    if level == 1:
                        process.terminate()
                    else:
                        process.kill()
            if waiting and not level and pool.start(waiting[0]):
                waiting.popleft()
            elif pool.running:
                pool.wait()
    finally:  # nothing runs any more, unless something was raised
        for process in pool.running:
            process.kill()
        for process in pool.running:
            process.join()


class _Pool:
    """The processes of running jobs."""

    def __init__(self, work: str, slots: _Slots, notify: Notify) -> None:
        self.work, self.slots, self.notify = work, slots, notify
        self.running: dict[ForkServerProcess, tuple[Job, str, int | None]] = {}  # job, device, kills for memory before

    def start(self, job: Job) -> bool:
        """Start a job if there is room for it; return False if it must wait."""
        if (device := self.slots.take(job)) is None:
            return False
        self.notify(JobStarted(job))
        kills_before = oom_kills()
        variables = {_NO_CUDA_CALL: os.environ.get(_NO_CUDA_CALL)} | ({_devices.VISIBLE: device} if device else {})
        try:
            process = _started(_run_job, self.work, job, variables)
        except (OSError, EOFError) as error:
            reason = error or "the fork server died"
            print(f"no process could be started for trial {job.trial}: {reason}", file=sys.stderr)
            self.slots.leave(job, device)
            self.notify(JobEnded(job, _CANNOT_START))
        else:
            self.running[process] = job, device, kills_before
        return True

    def wait(self) -> None:
        """Wait a moment for jobs to end, and report those that have."""
        wait([process.sentinel for process in self.running], _POLL_S)
        for process in [process for process in self.running if process.exitcode is not None]:
            job, device, kills_before = self.running.pop(process)
            status = process.exitcode
            process.close()
            assert status is not None
            self.slots.leave(job, device)
            self.notify(JobEnded(job, job_status(status, kills_before)))


def _server_is_ready(module: str, stop: StopRequest) -> bool:
    """Wait until the server has imported a module; return False when a stop is asked for meanwhile.

    The first process can only be forked after the imports, which take seconds. A thread waits for it, so that this one
    can notice a stop.
    """
    forkserver.set_forkserver_preload([module, __name__])  # this module too, which every process needs
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
            f"the server that starts trials could not import {module}; the error is above. Fix it, or run"
            " the trials in this process with `-o execution.executor=inline`"
        ) from errors[0]
    return True


def _started(target: Callable[..., object], *arguments: object) -> ForkServerProcess:
    """Return a started process; the server is started first where there is none, or it has died."""

    def start() -> ForkServerProcess:
        process = multiprocessing.get_context("forkserver").Process(target=target, args=arguments)
        with _STARTING, _server_surroundings():
            process.start()
        return process

    try:
        return start()
    except ConnectionError:  # the server was just dying; by now that can be seen, and another takes its place
        time.sleep(_POLL_S)
        return start()


@contextlib.contextmanager
def _server_surroundings() -> Iterator[None]:
    """Give a server that is started inside its environment and blocked signals, and hide the main script from it.

    A module that it imports may ask torch whether there is CUDA. The answer must not come from CUDA itself, which would
    then fail in every child, or show all of them the same devices.
    """
    variables = {**python_environment(), _NO_CUDA_CALL: "1"}
    main, environment = sys.modules["__main__"], {name: os.environ.get(name) for name in variables}
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        set_variables(variables)
        sys.modules["__main__"] = types.ModuleType("__main__")
        resource_tracker.ensure_running()  # it unblocks signals when it starts, so it starts before they are blocked
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        yield
    finally:
        sys.modules["__main__"] = main
        set_variables(environment)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)


def _run_job(work: str, job: Job, variables: Mapping[str, str | None]) -> None:
    """Run a job in its process, which has not called CUDA yet and so sees the devices that the variables name."""
    set_variables(variables)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    end_with_parents()
    sys.exit(call_work(work, job))
