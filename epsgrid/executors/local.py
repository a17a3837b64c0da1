"""Run jobs on this machine, each in a process of its own, so that one cannot hurt another.

Processes are forked from a server that has imported everything heavy once, so one costs milliseconds instead of the
seconds that importing torch takes. The server never touches CUDA, so that its children may, each with the device chosen
for it. Three things are arranged here because multiprocessing does not:

* Threads: the server starts with one thread per numerical library, before any of them is loaded.
* Signals: Ctrl-C, SIGTERM and the SIGHUP of a closed terminal, which a whole process group gets, must not end the
  server or a job before the command decides. The server starts with them blocked; a job's process accepts SIGTERM only.
* The main script: multiprocessing would run it again in each process, so it is hidden while a process starts.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import types
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

from epsgrid import plugins
from epsgrid.errors import ExecutionError
from epsgrid.executors import Job, JobEnded, JobStarted, JobStatus, Notify, StopRequest, _devices, call_work
from epsgrid.executors._process import end_with_parents, python_environment
from epsgrid.spec.model import Execution
from epsgrid.streams import protect_standard_streams

_POLL_S = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def run(jobs: Sequence[Job], work: str, *, slots: int, notify: Notify, stop: StopRequest, execution: Execution) -> None:
    """Run all jobs, at most `slots` at once; see `ExecutorPlugin.run`.

    Where trials train on CUDA (`execution.device`), each job sees only the visible device with the fewest jobs. At stop
    level 1 running jobs get SIGTERM, at level 2 SIGKILL. They also end when this process does. The server imports the
    module of `work`, and later calls use it; ExecutionError where it could not start.
    """
    if not jobs or stop.level():
        return
    _start_server(work.partition(":")[0])
    devices = _devices.training_devices(execution, os.environ)
    running: dict[ForkServerProcess, tuple[Job, str]] = {}  # on which device; "": on a processor
    waiting, level = deque(jobs), 0
    try:
        while running or (waiting and not level):
            if (asked := stop.level()) > level:
                level = asked
                for process in running:
                    if level == 1:
                        process.terminate()
                    else:
                        process.kill()
            if waiting and not level and _fits(waiting[0], [job for job, _ in running.values()], slots):
                job, load = waiting.popleft(), Counter(device for _, device in running.values())
                device = min(devices or ("",), key=lambda device: load[device])
                notify(JobStarted(job))
                try:
                    process = _started(_run_job, work, job, {_devices.VISIBLE: device} if device else {})
                except (OSError, EOFError) as error:
                    print(f"no process could be started for trial {job.trial}: {error!r}", file=sys.stderr)
                    notify(JobEnded(job, JobStatus.LOST))
                else:
                    running[process] = job, device
                continue
            wait([process.sentinel for process in running], _POLL_S)
            for process in [process for process in running if process.exitcode is not None]:
                job, _ = running.pop(process)
                notify(JobEnded(job, process.exitcode or 0))
    finally:  # nothing runs any more, unless something was raised
        for process in running:
            process.kill()
        for process in running:
            process.join()


def answer(work: str, job: Job, stop: StopRequest) -> Any:
    """Return what the function `work` returns for a job, in a process like those of `run`.

    Where the process dies, as without memory or after a stop, that is its exit status.
    """
    _start_server(work.partition(":")[0])
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = _started(_send_answer, work, job, sender)
    sender.close()
    try:
        while not receiver.poll(_POLL_S):
            if stop.level():
                process.kill()
        return receiver.recv()
    except EOFError:
        process.join()
        return process.exitcode
    finally:
        process.join()


def _send_answer(work: str, job: Job, sender: Connection) -> None:
    _begin_process()
    sender.send(plugins.load("executors", work)(job))


def _fits(job: Job, running: Sequence[Job], slots: int) -> bool:
    """Return whether a job can start beside those that run."""
    return not running or (len(running) < slots and not any(one.exclusive for one in (job, *running)))


def _start_server(module: str) -> None:
    """Start the server and wait until it has imported a module."""
    forkserver.set_forkserver_preload([module, __name__])  # this module too, which every process needs
    try:
        _started(int).join()
    except (OSError, EOFError) as error:
        raise ExecutionError(
            f"the server that starts trials could not import {module}; the error is above. Fix it, or run"
            " the trials in this process with `-o execution.executor=inline`"
        ) from error


def _started(target: Callable[..., object], *arguments: object) -> ForkServerProcess:
    """Return a started process; the server is started first where there is none, or it has died."""

    def start() -> ForkServerProcess:
        process = multiprocessing.get_context("forkserver").Process(target=target, args=arguments)
        with _server_surroundings():
            process.start()
        return process

    try:
        return start()
    except ConnectionError:  # the server was just dying; by now that can be seen, and another takes its place
        time.sleep(_POLL_S)
        return start()


@contextlib.contextmanager
def _server_surroundings() -> Iterator[None]:
    """Give a server that is started inside its environment and blocked signals, and hide the main script from it."""
    values = python_environment()
    main, before = sys.modules["__main__"], {name: os.environ.get(name) for name in values}
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        os.environ.update(values)
        sys.modules["__main__"] = types.ModuleType("__main__")
        resource_tracker.ensure_running()  # it unblocks signals when it starts, so it starts before they are blocked
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)


def _run_job(work: str, job: Job, variables: Mapping[str, str]) -> None:
    """Run a job in its process, which has not called CUDA yet and so sees the device that the variables name."""
    os.environ.update(variables)
    _begin_process()
    sys.exit(call_work(work, job))


def _begin_process() -> None:
    """Take signals as a job does, write streams that cannot fail, and end with the command."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    end_with_parents()
    protect_standard_streams()
