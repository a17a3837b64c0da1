"""Be a command that runs jobs: `driver.py FOLDER TRIAL...`; a main script that must not be run again by its jobs."""

import signal
import sys
from pathlib import Path

from epsgrid.executors import Job, local
from tests.executors import jobs

WAS_RUN_AGAIN = True

if __name__ == "__main__":
    folder, *trials = sys.argv[1:]
    recorder = jobs.Recorder()
    stop = jobs.StopWhen(Path(folder) / "stop")
    signal.signal(signal.SIGINT, lambda *_: (Path(folder) / "stop").touch())
    signal.signal(signal.SIGTERM, lambda *_: (Path(folder) / "stop").touch())
    function = jobs.facts if trials == ["facts"] else jobs.work
    local.run(
        [Job(folder, trial) for trial in trials],
        function,
        slots=2,
        notify=recorder,
        stop=stop,
        preload=("tests.executors.jobs",),
    )
    print(recorder.statuses)
