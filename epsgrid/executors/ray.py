"""Run jobs on a Ray cluster: any number of machines, GPUs shared by fractions, workers and nodes that may be lost.

Each slot is an actor that holds what one trial takes (`execution.ray.cpus`, `gpus`) and is handed one trial after
another; see `_ray_slot`. Actors and not tasks: a task's worker would import torch for every trial, could not be told to
save, and could not say when it really began. Ray's own retries are off, since a sweep has its own: what a worker or a
node took along when it was lost is reported as killed, and another slot is made where there is room.

Ray reserves fractions of a GPU and does not watch its memory. A trial that is to be alone takes whole GPUs, or all
processors of the largest node, and runs after the others of the same call.

All state is in the store. The folder must be the same on every node, and so must epsgrid and its data; when the driver
dies, Ray ends its slots, and the same command goes on from the checkpoints. When the cluster's head dies, Ray ends the
driver within a minute. A trial whose holder was lost with its node is left alone while its lease still looks alive, a
minute at most.

Without an address a cluster is made on this machine for the time of the call; see `_ray_cluster`.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from epsgrid.errors import ExecutionError
from epsgrid.executors import (
    NO_SETTINGS,
    Alone,
    Job,
    JobEnded,
    JobEvent,
    JobStarted,
    JobStatus,
    StopRequest,
    _ray_cluster,
    local,
)
from epsgrid.executors._ray_slot import Slot
from epsgrid.spec.model import Execution

SLOT_LOST = -9
"""Status of a job whose slot was lost, with its worker or its whole node: as good as killed. Why is on stderr."""

_RAY_COUNTS_IN = 10_000
_POLL_S = 0.1
_LOOK_AGAIN_S = 10.0
_MOST_LOST_STARTS = 3  # per slot and one after another: a node that is lost takes many slots along at once


def run(
    jobs: Sequence[Job],
    work: Callable[[Job], int],
    *,
    slots: int,
    notify: Callable[[JobEvent], None],
    stop: StopRequest,
    execution: Execution = NO_SETTINGS,
    preload: tuple[str, ...] = local.PRELOAD,
) -> None:
    """Run all jobs, at most `slots` at once and as many as the cluster has room for; see `ExecutorPlugin.run`.

    At stop level 1 running jobs get SIGTERM, at level 2 SIGKILL; the call returns when all have ended. If anything is
    raised, running jobs are killed.

    Args:
        jobs: what to run, in order.
        work: a function of a module that every node can import; its return value is the job's exit status.
        slots: at least 1.
        notify: called in the caller's thread.
        stop: asked about 10 times a second.
        execution: its `ray` says where, and what one trial takes.
        preload: modules that each slot imports once for all its trials.

    Raises:
        ExecutionError: Ray is not installed, no cluster can be joined or started, no node has what a trial takes, or
            slots cannot start there.
    """
    assert slots >= 1, "a job needs a slot"
    assert work.__module__ != "__main__", "the main script is not run again in a job's process"
    if not jobs or stop.level():
        return
    slots = min(slots, len(jobs))
    with _ray_cluster.joined(execution.ray, slots, stop) as environment:
        if environment is None:
            return
        ray = _ray_cluster.import_ray()
        for alone in Alone:
            some = [job for job in jobs if job.alone == alone]
            if not some or stop.level():
                continue
            takes = what_one_takes(execution, ray.nodes(), alone)
            require_room(ray.nodes(), takes)
            make = _slot_maker(ray, takes, environment, preload)
            with contextlib.closing(_Pool(ray, make, work, takes, min(slots, len(some)), notify)) as pool:
                pool.run(some, stop)


@dataclass(frozen=True)
class Takes:
    """What one trial takes of a node."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU"


def what_one_takes(execution: Execution, nodes: Sequence[Mapping[str, Any]], alone: Alone) -> Takes:
    """Return what a trial takes.

    Args:
        execution: `ray.cpus` and `ray.gpus` say it; without the latter it is a share of a GPU, where trials train on
            GPUs and the cluster has any.
        nodes: what `ray.nodes()` tells.
        alone: `ON_DEVICE` rounds up to whole GPUs; `ON_MACHINE`, or where no GPU is taken, also takes all processors of
            the largest living node that has those GPUs.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    settings = execution.ray
    gpus = settings.gpus if settings.gpus is not None else _gpu_share(execution, alive)
    if not alone:
        return Takes(settings.cpus, gpus)
    gpus = float(math.ceil(gpus))
    if alone == Alone.ON_DEVICE and gpus:
        return Takes(settings.cpus, gpus)
    cpus = [node.get("CPU", 0.0) for node in alive if node.get("GPU", 0) >= gpus]
    return Takes(max([settings.cpus, *cpus]), gpus)


def _gpu_share(execution: Execution, alive: Sequence[Mapping[str, float]]) -> float:
    """Return the part of a GPU that leaves room for as many trials as the spec wants; Ray counts in 1/10,000."""
    has_gpus = any(node.get("GPU", 0) for node in alive)
    wanted = execution.device == "cuda" or (execution.device == "auto" and has_gpus)
    return _RAY_COUNTS_IN // execution.trials_per_device / _RAY_COUNTS_IN if wanted else 0.0


class _Pool:
    """The slots that were asked for, by what they are doing."""

    def __init__(
        self,
        ray: ModuleType,
        make: Callable[[], Any],
        work: Callable[[Job], int],
        takes: Takes,
        slots: int,
        notify: Callable[[JobEvent], None],
    ) -> None:
        self.ray, self.make, self.work, self.takes = ray, make, work, takes
        self.slots, self.notify = slots, notify
        self.starting: dict[Any, Any] = {}  # what tells that a slot is ready, and the slot
        self.idle: list[Any] = []
        self.running: dict[Any, tuple[Any, Job]] = {}  # what tells that a job has ended, its slot, the job
        self.level = self.lost_starts = 0
        self.looked, self.hinted = time.monotonic(), False

    def run(self, jobs: Sequence[Job], stop: StopRequest) -> None:
        waiting = deque(jobs)
        while True:
            self._obey(stop.level())
            if self.level:
                waiting.clear()
            while waiting and self.idle:
                self._start(waiting.popleft(), self.idle.pop())
            if not waiting:
                self._give_back_unused()
            if not waiting and not self.running:
                return
            while len(self.starting) + len(self.running) < min(self.slots, len(waiting) + len(self.running)):
                slot = self.make()
                self.starting[slot.ready.remote()] = slot
            self._wait()

    def close(self) -> None:
        """End all slots, and with them what still runs: nothing does, unless something was raised."""
        for slot, _ in self.running.values():
            self.ray.kill(slot)
        self._give_back_unused()

    def _give_back_unused(self) -> None:
        for slot in (*self.starting.values(), *self.idle):
            self.ray.kill(slot)
        self.starting.clear()
        self.idle.clear()

    def _obey(self, level: int) -> None:
        """Pass a rising stop level on to the jobs, once per level."""
        if level > self.level:
            self.level = level
            for slot, _ in self.running.values():
                slot.stop.remote(level)

    def _start(self, job: Job, slot: Any) -> None:
        self.notify(JobStarted(job))
        self.running[slot.run.remote(self.work, job)] = slot, job

    def _wait(self) -> None:
        """Take in what happened; look now and then whether anything still can."""
        told, _ = self.ray.wait([*self.starting, *self.running], num_returns=1, timeout=_POLL_S)
        for one in told:
            if one in self.starting:
                self._take_in(one, self.starting.pop(one))
            else:
                self._end(one, *self.running.pop(one))
        if self.running or self.idle:
            self.looked = time.monotonic()
        elif time.monotonic() - self.looked > _LOOK_AGAIN_S:
            self.looked = time.monotonic()
            self._see_why_nothing_runs()

    def _take_in(self, ready: Any, slot: Any) -> None:
        try:
            self.ray.get(ready)
        except self.ray.exceptions.RayError as error:
            self.lost_starts += 1
            require_room(self.ray.nodes(), self.takes)
            if getattr(error, "actor_init_failed", False) or self.lost_starts > _MOST_LOST_STARTS * self.slots:
                raise ExecutionError(
                    f"slots cannot start on the Ray cluster; every node needs this epsgrid and its packages:\n{error}"
                ) from error
        else:
            self.lost_starts = 0
            self.idle.append(slot)

    def _end(self, ended: Any, slot: Any, job: Job) -> None:
        try:
            status, words = self.ray.get(ended)
        except self.ray.exceptions.RayTaskError as error:  # the slot itself could not run the job
            raise ExecutionError(f"a slot of the Ray cluster cannot run trials: {error.cause or error}") from error
        except self.ray.exceptions.RayError as error:
            reason = _ray_cluster.first_line(error)
            print(f"trial {job.trial}: its worker or node was lost ({reason})", file=sys.stderr)
            by_ray_for_memory = isinstance(error, self.ray.exceptions.OutOfMemoryError)
            self.notify(JobEnded(job, JobStatus.KILLED_FOR_MEMORY if by_ray_for_memory else SLOT_LOST))
        else:
            self.idle.append(slot)
            if words:
                print(f"trial {job.trial}: {words}", file=sys.stderr)
            self.notify(JobEnded(job, status))

    def _see_why_nothing_runs(self) -> None:
        require_room(self.ray.nodes(), self.takes)
        if not self.hinted:
            self.hinted = True
            print(
                f"waiting for room on the Ray cluster: a trial takes {self.takes}; free are"
                f" {_listed(self.ray.available_resources())}",
                file=sys.stderr,
            )


def require_room(nodes: Sequence[Mapping[str, Any]], takes: Takes) -> None:
    """See that some living node is large enough for a trial; Ray itself would wait for one for ever.

    Args:
        nodes: what `ray.nodes()` tells.
        takes: what a trial takes.

    Raises:
        ExecutionError: there is none, or Ray cannot share GPUs so.
    """
    if takes.gpus > 1 and takes.gpus != int(takes.gpus):
        raise ExecutionError(f"execution.ray.gpus: {takes.gpus:g} is neither at most 1 nor a whole number of GPUs")
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(node.get("CPU", 0) >= takes.cpus and node.get("GPU", 0) >= takes.gpus for node in alive):
        there = "; ".join(_listed(node) for node in alive) or "none"
        raise ExecutionError(
            f"no node of the Ray cluster has what a trial takes: {takes}. Its nodes: {there}."
            " Change execution.ray.cpus or execution.ray.gpus, or add such a node"
        )


def _listed(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPU and {resources.get('GPU', 0):g} GPU"


def _slot_maker(
    ray: ModuleType, takes: Takes, environment: Mapping[str, str | None], preload: tuple[str, ...]
) -> Callable[[], Any]:
    """Return a function that asks for another slot; `stop` needs the second of its two threads."""
    options = {"num_cpus": takes.cpus, "num_gpus": takes.gpus, "max_concurrency": 2, "max_restarts": 0}
    remote = ray.remote(**options)(Slot)
    if not takes.gpus:  # what Ray makes of no GPU asked for differs from version to version: all of them, or none
        environment = {**environment, "CUDA_VISIBLE_DEVICES": ""}
    return lambda: remote.remote(environment, preload)
