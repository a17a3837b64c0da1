"""Be a command that runs jobs: `driver.py EXECUTOR FOLDER TRIAL...`; a main script that its jobs must not run again."""

import signal
import sys
from pathlib import Path

from epsgrid import executors
from epsgrid.executors import Job
from tests.executors import jobs

WAS_RUN_AGAIN = True

if __name__ == "__main__":
    executor, folder, *trials = sys.argv[1:]
    recorder = jobs.Recorder()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: (Path(folder) / "stop").touch())
    executors.load(executor).run(
        [Job(folder, trial) for trial in trials],
        jobs.facts if trials == ["facts"] else jobs.work,
        slots=2,
        notify=recorder,
        stop=jobs.StopWhen(Path(folder) / "stop"),
        **({} if executor == "slurm" else {"preload": jobs.LIGHT}),
    )
    print(recorder.statuses)
