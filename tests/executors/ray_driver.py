"""Be a command that runs jobs on a Ray cluster of its own: `ray_driver.py FOLDER TRIAL...`; SIGTERM stops it."""

import signal
import sys
from pathlib import Path

from epsgrid.executors import Job, ray
from tests.executors import jobs

if __name__ == "__main__":
    folder, *trials = sys.argv[1:]
    recorder = jobs.Recorder()
    signal.signal(signal.SIGTERM, lambda *_: (Path(folder) / "stop").touch())
    ray.run(
        [Job(folder, trial) for trial in trials],
        jobs.work,
        slots=2,
        notify=recorder,
        stop=jobs.StopWhen(Path(folder) / "stop"),
        preload=("no_such_module",),
    )
    print(recorder.statuses)
