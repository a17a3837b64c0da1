"""Measure how well an executor keeps its slots busy: real processes that only sleep, as many as a large machine runs.

A trial sleeps instead of training, so that two cores can stand for sixty-four; what starts, watches and reaps it is the
executor itself. Use is the time that trials slept over slots × wall time, the executor's start-up and the emptying of
slots at the end included. Beside it stands the use of an ideal scheduler, which starts the same trials in the same
order with no delay at all: what is between the two is the executor's.

    python scripts/simulate_slots.py --trials 1000 --slots 64 --seconds 10
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from epsgrid import executors
from epsgrid.executors import Job, JobEnded, JobEvent, JobStarted
from epsgrid.spec.model import Execution

WANTED = 0.95


def sleep_through(job: Job) -> int:
    """Be a trial: sleep for the seconds that its name says."""
    time.sleep(float(job.trial.partition(" ")[2]))
    return 0


class Watch:
    """What the executor told, and when."""

    def __init__(self) -> None:
        self.started: dict[Job, float] = {}
        self.ended: dict[Job, float] = {}
        self.failed = 0

    def __call__(self, event: JobEvent) -> None:
        """Note the time."""
        if isinstance(event, JobStarted):
            self.started[event.job] = time.perf_counter()
        elif isinstance(event, JobEnded):
            self.ended[event.job] = time.perf_counter()
            self.failed += event.status != 0

    def most_at_once(self) -> int:
        """Return how many trials were between start and end at once, at most."""
        changes = [(at, 1) for at in self.started.values()] + [(at, -1) for at in self.ended.values()]
        running = most = 0
        for _, change in sorted(changes):
            running += change
            most = max(most, running)
        return most


class NeverStop:
    """Nobody asks to stop."""

    def level(self) -> int:
        """Go on."""
        return 0


def ideal_seconds(lengths: Sequence[float], slots: int) -> float:
    """Return the wall time of trials that start in order, each at once when a slot is free."""
    free = [0.0] * slots
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how well an executor keeps its slots busy.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0, help="mean length of a trial")
    parser.add_argument("--spread", type=float, default=0.2, help="lengths are uniform in seconds × (1 ± spread)")
    parser.add_argument("--executor", default="local", choices=("local", "ray"))
    asked = parser.parse_args()
    chance = random.Random(0)
    lengths = [asked.seconds * chance.uniform(1 - asked.spread, 1 + asked.spread) for _ in range(asked.trials)]
    jobs = [Job("nowhere", f"{number} {length}") for number, length in enumerate(lengths)]
    watch = Watch()
    begun_cpu, begun = os.times(), time.perf_counter()
    executor = executors.load(asked.executor)
    options = {"slots": asked.slots, "notify": watch, "stop": NeverStop(), "execution": Execution(device="cpu")}
    executor.run(jobs, "simulate_slots:sleep_through", **options)
    seconds = time.perf_counter() - begun
    cpu = sum(os.times()[:2]) - sum(begun_cpu[:2])
    use, ideal = (sum(lengths) / (asked.slots * wall) for wall in (seconds, ideal_seconds(lengths, asked.slots)))
    spread = f"{asked.seconds:g} s ± {100 * asked.spread:g} %"
    print(f"{asked.executor}: {len(jobs)} trials of {spread}, {asked.slots} slots")
    print(f"  wall {seconds:.1f} s, at most {watch.most_at_once()} at once, {watch.failed} failed")
    print(f"  use of slots {100 * use:.2f} % (an ideal scheduler: {100 * ideal:.2f} %; wanted: {100 * WANTED:g} %)")
    print(f"  this process took {1000 * cpu / len(jobs):.2f} ms of processor time per trial")
    print(f"  load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    return 0 if use >= WANTED and not watch.failed else 1


if __name__ == "__main__":
    sys.exit(main())
