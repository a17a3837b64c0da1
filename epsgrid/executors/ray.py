"""Run jobs on a Ray cluster: any number of machines, GPUs shared by fractions, workers and nodes that may be lost.

Each slot is an actor that holds the resources of one trial (`execution.ray.cpus`, `gpus`) and gets one trial after
another. A task's worker would import torch for every trial, could not be asked to save, and could not say when it
really began. Ray's own retries are off, since a sweep has its own: the trial of a lost worker or node is reported as
lost, and another slot is made where there is room. An exclusive trial takes whole GPUs and all processors of a node,
and runs after the other trials of the same call.

All state is in the store. The experiment's folder, epsgrid and the data must be the same on every node. When this
process dies, Ray ends its slots, and the same command goes on from the checkpoints. When the cluster's head dies, Ray
ends this process within a minute. A trial of a lost node waits a minute until its lease is stale.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from epsgrid.errors import ExecutionError
from epsgrid.executors import Job, JobEnded, JobEvent, JobStarted, JobStatus, Notify, StopRequest, _devices, local
from epsgrid.extras import require
from epsgrid.spec.model import Execution, Ray

_ANSWER_S = 10.0
_RAY_COUNTS_IN = 10_000
_POLL_S = 0.1
_CHECK_S = 10.0
_MAX_LOST_STARTS = 3  # per slot, in a row: a lost node takes many slots along at once
_OBJECT_STORE_BYTES = 80 * 2**20  # nearly the least that Ray accepts: only names of jobs go through it
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def run(jobs: Sequence[Job], work: str, *, slots: int, notify: Notify, stop: StopRequest, execution: Execution) -> None:
    """Run all jobs, at most `slots` at once and as many as the cluster has room for; see `ExecutorPlugin.run`.

    Each slot imports the module of `work` once. At stop level 1 running jobs get SIGTERM, at level 2 SIGKILL. Raises
    ExecutionError where Ray is not installed, no cluster can be joined or started, no node has the resources of a
    trial, or slots cannot start there.
    """
    if not jobs or stop.level():
        return
    with _joined(execution.ray, min(slots, len(jobs))) as ray:
        for exclusive in (False, True):
            some = [job for job in jobs if job.exclusive == exclusive]
            if some and not stop.level():
                needs = _needed_resources(execution, ray.nodes(), exclusive=exclusive)
                _require_room(ray.nodes(), needs)
                pool = _Pool(ray, work, needs, 1 if exclusive else min(slots, len(some)), notify)
                try:
                    pool.run(some, stop)
                finally:
                    pool.end_slots(and_running=True)  # none is left, unless something was raised


@contextlib.contextmanager
def _joined(settings: Ray, slots: int) -> Iterator[ModuleType]:
    """Connect to the cluster at `settings.address` while inside, or to one on this machine, made for that time.

    One of this machine has processors for `slots` trials; Ray counts them, they need not exist. It listens on the
    loopback device only and asks a token of whoever connects (Ray 2.52 and newer). A connection that this process has
    already is used and kept, whatever `settings` say. Raises ExecutionError where there is no Ray or no cluster.
    """
    if settings.address is None and "ray" not in sys.modules:  # Ray reads these when it is loaded
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # means to Ray: this machine alone, so 127.0.0.1
    ray = require("ray", "ray", "by execution.executor: ray")
    if ray.is_initialized():
        yield ray
        return
    with contextlib.ExitStack() as stack:
        # `log_to_driver=False` is about workers. This is about Ray's daemons, which write pages where a node is lost.
        stack.enter_context(_changed(ray._private.worker, "_worker_logs_enabled", False))
        if settings.address is None:
            stack.enter_context(_changed(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False))
            # Ray makes sockets some 64 characters below this folder, and a socket's path ends at 107: hence /tmp.
            folder = tempfile.TemporaryDirectory(prefix="epsgrid-ray-", dir="/tmp", ignore_cleanup_errors=True)
            options = {"num_cpus": math.ceil(slots * settings.cpus), "_temp_dir": stack.enter_context(folder)}
            options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
            _initialize(ray, "local", options, "started on this machine")
        else:
            advice = "see that it runs, with the same versions of Python and Ray as here, or leave out"
            advice += " execution.ray.address to have one on this machine"
            _initialize(ray, settings.address, {}, f"joined at {settings.address}; {advice}")
        stack.callback(ray.shutdown)
        yield ray


def _initialize(ray: ModuleType, address: str, options: Mapping[str, Any], what: str) -> None:
    """Call `ray.init`; an error says that no cluster could be `what`.

    Signals wait meanwhile, and their handlers stay the command's, which Ray would replace. The daemons of a new cluster
    never see signals, so that one to the whole process group leaves it up until trials have saved.
    """
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdecimal() and "/" not in host:  # Ray would try for minutes to reach HOST:PORT
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises many types
        raise ExecutionError(f"no Ray cluster could be {what} ({_first_line(error)})") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _changed(module: Any, name: str, value: object) -> Iterator[None]:
    """Give a module's variable another value while inside."""
    before = getattr(module, name, None)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's text; Ray adds paragraphs."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@dataclass(frozen=True)
class _Resources:
    """Processors and GPUs of a trial or a node."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU"


def _alive(nodes: Sequence[Mapping[str, Any]]) -> list[_Resources]:
    found = [node["Resources"] for node in nodes if node["Alive"]]
    return [_Resources(resources.get("CPU", 0), resources.get("GPU", 0)) for resources in found]


def _needed_resources(execution: Execution, nodes: Sequence[Mapping[str, Any]], *, exclusive: bool) -> _Resources:
    """Return the resources of one trial: `execution.ray.cpus` and `gpus`.

    Without the latter it is a share of a GPU that leaves room for `trials_per_device` trials, where trials train on
    GPUs and the cluster has any. An exclusive trial takes whole GPUs, and all processors of the largest node with them.
    """
    cpus, gpus = execution.ray.cpus, execution.ray.gpus
    if gpus is None:
        has_gpus = any(node.gpus for node in _alive(nodes))
        on_gpus = execution.device == "cuda" or (execution.device == "auto" and has_gpus)
        gpus = _RAY_COUNTS_IN // execution.trials_per_device / _RAY_COUNTS_IN if on_gpus else 0.0
    if exclusive:
        gpus = float(math.ceil(gpus))
        cpus = max([cpus, *(node.cpus for node in _alive(nodes) if node.gpus >= gpus)])
    return _Resources(cpus, gpus)


def _require_room(nodes: Sequence[Mapping[str, Any]], needs: _Resources) -> None:
    """Check that a living node is large enough for a trial; Ray itself would never stop waiting.

    Raises ExecutionError where none is, or Ray cannot share GPUs so.
    """
    if needs.gpus > 1 and needs.gpus != int(needs.gpus):
        raise ExecutionError(f"execution.ray.gpus: {needs.gpus:g} is neither at most 1 nor a whole number of GPUs")
    alive = _alive(nodes)
    if not any(node.cpus >= needs.cpus and node.gpus >= needs.gpus for node in alive):
        listed = "; ".join(map(str, alive)) or "none"
        raise ExecutionError(
            f"no node of the Ray cluster has what a trial takes: {needs}. Its nodes: {listed}."
            " Change execution.ray.cpus or execution.ray.gpus, or add such a node"
        )


class _Slot:
    """An actor that runs one trial at a time, as `local` does, in a process of its own on the actor's node."""

    def __init__(self, *, uses_gpus: bool) -> None:
        if not uses_gpus:  # whether Ray then shows all GPUs or none differs from version to version
            os.environ[_devices.VISIBLE] = ""
        self._level = 0

    def ready(self) -> None:
        """Return once the slot exists, which is when a trial can start."""

    def run(self, work: str, job: Job) -> int:
        """Run one trial; return its exit status."""
        ended: list[int] = []

        def notify(event: JobEvent) -> None:
            if isinstance(event, JobEnded):
                ended.append(event.status)

        here = Execution(device="cpu")  # Ray has chosen the device, and a trial sees what its slot sees
        local.run([job], work, slots=1, notify=notify, stop=self, execution=here)
        return ended[0] if ended else JobStatus.STOPPED  # asked to stop before it began

    def level(self) -> int:
        """Return the stop level; `local` asks while a trial runs."""
        return self._level

    def stop(self, level: int) -> None:
        """Let the running trial save and end (1), or kill it (2); called in another thread than `run`."""
        self._level = max(self._level, level)


class _Pool:
    """The slots of a cluster, by what they are doing."""

    def __init__(self, ray: ModuleType, work: str, needs: _Resources, slots: int, notify: Notify) -> None:
        self.ray, self.work, self.needs, self.slots, self.notify = ray, work, needs, slots, notify
        # `_Slot.stop` needs the second of the two threads.
        options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "max_concurrency": 2, "max_restarts": 0}
        self.make = functools.partial(ray.remote(**options)(_Slot).remote, uses_gpus=bool(needs.gpus))
        self.idle: list[Any] = []
        self.calls: dict[Any, tuple[Any, Job | None]] = {}  # of each call its slot, and the job; None: `ready`
        self.level = self.lost_starts = 0
        self.checked, self.has_warned = time.monotonic(), False

    def run(self, jobs: Sequence[Job], stop: StopRequest) -> None:
        waiting = deque(jobs)
        while True:
            if (level := stop.level()) > self.level:
                self.level = level
                waiting.clear()
                for slot, job in self.calls.values():
                    if job is not None:
                        slot.stop.remote(level)
            while waiting and self.idle:
                slot, job = self.idle.pop(), waiting.popleft()
                self.notify(JobStarted(job))
                self.calls[slot.run.remote(self.work, job)] = slot, job
            if not waiting:
                self.end_slots(and_running=False)
                if not self.calls:
                    return
            for _ in range(min(self.slots, len(waiting) + self._running()) - len(self.calls)):
                slot = self.make()
                self.calls[slot.ready.remote()] = slot, None
            self._wait()

    def end_slots(self, *, and_running: bool) -> None:
        """End the slots that have no job, or all of them."""
        ended = {call: slot for call, (slot, job) in self.calls.items() if job is None or and_running}
        for slot in (*self.idle, *ended.values()):
            self.ray.kill(slot)
        self.idle.clear()
        self.calls = {call: rest for call, rest in self.calls.items() if call not in ended}

    def _running(self) -> int:
        return sum(job is not None for _, job in self.calls.values())

    def _wait(self) -> None:
        """Wait a moment for slots to start and jobs to end; check now and then that slots can start at all."""
        for call in self.ray.wait([*self.calls], num_returns=1, timeout=_POLL_S)[0]:
            slot, job = self.calls.pop(call)
            if job is None:
                self._on_ready(call, slot)
            else:
                self._on_end(call, slot, job)
        if self.idle or self._running():
            self.checked = time.monotonic()
        elif time.monotonic() - self.checked > _CHECK_S:
            self.checked = time.monotonic()
            _require_room(self.ray.nodes(), self.needs)
            if not self.has_warned:
                self.has_warned = True
                print(f"waiting for room on the Ray cluster: a trial takes {self.needs}", file=sys.stderr)

    def _on_ready(self, call: Any, slot: Any) -> None:
        try:
            self.ray.get(call)
        except self.ray.exceptions.RayError as error:
            self.lost_starts += 1
            _require_room(self.ray.nodes(), self.needs)
            if getattr(error, "actor_init_failed", False) or self.lost_starts > _MAX_LOST_STARTS * self.slots:
                raise ExecutionError(
                    f"slots cannot start on the Ray cluster; every node needs this epsgrid and its packages:\n{error}"
                ) from error
        else:
            self.lost_starts = 0
            self.idle.append(slot)

    def _on_end(self, call: Any, slot: Any, job: Job) -> None:
        try:
            status = self.ray.get(call)
        except self.ray.exceptions.RayTaskError as error:  # the slot itself could not run the job
            raise ExecutionError(f"a slot of the Ray cluster cannot run trials: {error.cause or error}") from error
        except self.ray.exceptions.RayError as error:
            print(f"trial {job.trial}: its worker or node was lost ({_first_line(error)})", file=sys.stderr)
            is_for_memory = isinstance(error, self.ray.exceptions.OutOfMemoryError)
            status = JobStatus.OUT_OF_MEMORY if is_for_memory else JobStatus.LOST
        else:
            self.idle.append(slot)
        self.notify(JobEnded(job, status))
