"""Run jobs on a Ray cluster: any number of machines, GPUs shared by fractions, workers and nodes that may be lost.

Each slot is an actor that holds the resources of one trial (`execution.ray.cpus`, `gpus`) and gets one trial after
another. Actors and not tasks: a task's worker would import torch for every trial, could not be asked to save, and could
not say when it really began. Ray's own retries are off, since a sweep has its own: the trial of a lost worker or node
is reported as killed, and another slot is made where there is room. An exclusive trial takes whole GPUs, or all
processors of the largest node, and runs after the other trials of the same call.

All state is in the store. The experiment's folder, epsgrid and the data must be the same on every node. When this
process dies, Ray ends its slots, and the same command goes on from the checkpoints. When the cluster's head dies, Ray
ends this process within a minute. A trial whose holder was lost with its node waits until its lease is stale, a minute.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

from epsgrid.errors import ExecutionError
from epsgrid.executors import (
    EXPECTED,
    Exclusive,
    Job,
    JobEnded,
    JobEvent,
    JobStarted,
    JobStatus,
    Notify,
    StopRequest,
    _devices,
    _ray_cluster,
    local,
)
from epsgrid.executors._process import set_variables
from epsgrid.spec.model import Execution

_SLOT_LOST = -9
"""Status of a job whose slot was lost, with its worker or its whole node: as if it was killed. Why is on stderr."""

_RAY_COUNTS_IN = 10_000
_POLL_S = 0.1
_CHECK_S = 10.0
_MAX_LOST_STARTS = 3  # per slot, in a row: a lost node takes many slots along at once
_STDERR_BYTES = 4000


def run(jobs: Sequence[Job], work: str, *, slots: int, notify: Notify, stop: StopRequest, execution: Execution) -> None:
    """Run all jobs, at most `slots` at once and as many as the cluster has room for; see `ExecutorPlugin.run`.

    Every node must be able to import the module of `work`; each slot does so once. At stop level 1 running jobs get
    SIGTERM, at level 2 SIGKILL.

    Raises:
        ExecutionError: Ray is not installed, no cluster can be joined or started, no node has the resources of a trial,
            or slots cannot start there.
    """
    if not jobs or stop.level():
        return
    slots = min(slots, len(jobs))
    with _ray_cluster.joined(execution.ray, slots, stop) as ray:
        for exclusive in Exclusive:
            some = [job for job in jobs if job.exclusive == exclusive]
            if some and ray is not None and not stop.level():
                needs = _needed_resources(execution, ray.nodes(), exclusive)
                _require_room(ray.nodes(), needs)
                pool = _Pool(ray, work, needs, min(slots, len(some)), notify)
                try:
                    pool.run(some, stop)
                finally:
                    pool.end_slots(and_running=True)  # none is left, unless something was raised


@dataclass(frozen=True)
class _Resources:
    """Processors and GPUs of a trial, a node or a cluster."""

    cpus: float
    gpus: float

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Self:
        """Return the resources that Ray calls CPU and GPU."""
        return cls(resources.get("CPU", 0), resources.get("GPU", 0))

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU"


def _needed_resources(execution: Execution, nodes: Sequence[Mapping[str, Any]], exclusive: Exclusive) -> _Resources:
    """Return the resources of one trial.

    Args:
        execution: `ray.cpus` and `ray.gpus`. Without the latter it is a share of a GPU that leaves room for
            `trials_per_device` trials, where trials train on GPUs and the cluster has any.
        nodes: `ray.nodes()`.
        exclusive: `DEVICE` rounds up to whole GPUs. `MACHINE`, or `DEVICE` where no GPU is taken, also takes all
            processors of the largest living node that has those GPUs.
    """
    cpus, gpus = execution.ray.cpus, execution.ray.gpus
    if gpus is None:
        has_gpus = any(node.gpus for node in _alive(nodes))
        on_gpus = execution.device == "cuda" or (execution.device == "auto" and has_gpus)
        gpus = _RAY_COUNTS_IN // execution.trials_per_device / _RAY_COUNTS_IN if on_gpus else 0.0
    if exclusive:
        gpus = float(math.ceil(gpus))
        if exclusive == Exclusive.MACHINE or not gpus:
            cpus = max([cpus, *(node.cpus for node in _alive(nodes) if node.gpus >= gpus)])
    return _Resources(cpus, gpus)


def _alive(nodes: Sequence[Mapping[str, Any]]) -> list[_Resources]:
    return [_Resources.of(node["Resources"]) for node in nodes if node["Alive"]]


def _require_room(nodes: Sequence[Mapping[str, Any]], needs: _Resources) -> None:
    """Check that a living node is large enough for a trial; Ray itself would never stop waiting.

    Raises:
        ExecutionError: none is, or Ray cannot share GPUs so.
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
        """Prepare this process's environment and its stderr, which trials inherit."""
        if (home := os.environ.pop(_ray_cluster.TRUE_HOME, None)) is not None:
            set_variables({"HOME": home or None})
        if not uses_gpus:  # whether Ray then shows all GPUs or none differs from version to version
            set_variables({_devices.VISIBLE: ""})
        with tempfile.TemporaryFile() as errors:  # it has no name, so none is left should the slot be killed
            os.dup2(errors.fileno(), 2)
        self._level = 0

    def ready(self) -> None:
        """Return once the slot exists, which is when a trial can start."""

    def run(self, work: str, job: Job) -> tuple[int, str]:
        """Run one trial; return its exit status and, where it went wrong, the end of what it wrote to stderr."""
        ended: list[int] = []

        def notify(event: JobEvent) -> None:
            if isinstance(event, JobEnded):
                ended.append(event.status)

        begin = os.fstat(2).st_size
        here = Execution(device="cpu")  # Ray has chosen the device, and a trial sees what its slot sees
        local.run([job], work, slots=1, notify=notify, stop=self, execution=here)
        status = ended[0] if ended else JobStatus.STOPPED  # asked to stop before it began
        errors = os.pread(2, _STDERR_BYTES, max(begin, os.fstat(2).st_size - _STDERR_BYTES))
        return status, "" if status in EXPECTED else errors.decode(errors="replace").strip()

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
                for slot, job in self.calls.values():
                    if job is not None:
                        slot.stop.remote(level)
            if self.level:
                waiting.clear()
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
                free = _Resources.of(self.ray.available_resources())
                print(
                    f"waiting for room on the Ray cluster: a trial takes {self.needs}; free are {free}", file=sys.stderr
                )

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
            status, errors = self.ray.get(call)
        except self.ray.exceptions.RayTaskError as error:  # the slot itself could not run the job
            raise ExecutionError(f"a slot of the Ray cluster cannot run trials: {error.cause or error}") from error
        except self.ray.exceptions.RayError as error:
            errors = f"its worker or node was lost ({_ray_cluster.first_line(error)})"
            is_for_memory = isinstance(error, self.ray.exceptions.OutOfMemoryError)
            status = JobStatus.KILLED_FOR_MEMORY if is_for_memory else _SLOT_LOST
        else:
            self.idle.append(slot)
        if errors:
            print(f"trial {job.trial}: {errors}", file=sys.stderr)
        self.notify(JobEnded(job, status))
