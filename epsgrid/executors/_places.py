"""Choose where on this machine a job runs: on which CUDA device, or among the processors, and whether it may yet.

Trials go to the device with the fewest, never more to one than its share of the slots. A job that is to run alone waits
until its device, or all of the machine, is free, and keeps it free of others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from epsgrid.executors import Alone, Job
from epsgrid.executors._memory import DeviceMemory, DeviceMeter, MachineMemory, Watch


class Place:
    """Where jobs run beside each other.

    Attributes:
        device: a CUDA device as CUDA_VISIBLE_DEVICES names it; None for the processors.
        jobs: what runs there.
        memory: the device's, where several may share one.
    """

    def __init__(self, device: str | None, meter: DeviceMeter | None = None) -> None:
        self.device = device
        self.jobs: list[Job] = []
        self.memory: Watch | None = None
        if device is not None and meter is not None:
            looks = DeviceMemory(device, lambda: len(self.jobs), meter)
            self.memory = Watch(f"the memory of CUDA device {device}", looks.look)

    def has_room(self, job: Job, most: int) -> bool:
        """Say whether a job may start here now, of which at most `most` may run."""
        if not self.jobs:
            return True
        if job.alone or any(one.alone for one in self.jobs) or len(self.jobs) >= most:
            return False
        return self.memory is None or self.memory.allows_another()


class Places:
    """All places of this machine.

    Args:
        devices: the CUDA devices that trials use; none where they train on processors.
        slots: jobs at once, on all together.
        pids: tells the processes of the jobs that run.
        environment: that of this process.
    """

    def __init__(
        self,
        devices: Sequence[str],
        slots: int,
        pids: Callable[[], Collection[int]],
        environment: Mapping[str, str],
    ) -> None:
        self._most = math.ceil(slots / max(1, len(devices)))
        meter = DeviceMeter(devices, environment) if devices and self._most > 1 else None
        self._slots = slots
        self._all = [Place(device, meter) for device in devices] or [Place(None)]
        self._memory = Watch("this machine's memory", MachineMemory(pids).look)

    def take(self, job: Job) -> Place | None:
        """Return the place where a job can start now, which is then counted to run there; None where it must wait.

        Where nothing runs, there always is one.
        """
        running = [one for place in self._all for one in place.jobs]
        if running and not self._may_join(job, running):
            return None
        for place in sorted(self._all, key=lambda place: len(place.jobs)):
            if place.has_room(job, self._most):
                self._memory.note_started()
                if place.memory is not None:
                    place.memory.note_started()
                place.jobs.append(job)
                return place
        return None

    def leave(self, job: Job, place: Place) -> None:
        """Note that a job has ended."""
        place.jobs.remove(job)

    def _may_join(self, job: Job, running: Sequence[Job]) -> bool:
        alone = Alone.ON_MACHINE in (job.alone, *(one.alone for one in running))
        return not alone and len(running) < self._slots and self._memory.allows_another()
