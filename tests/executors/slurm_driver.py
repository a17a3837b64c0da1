"""Be a command that runs jobs on Slurm: `slurm_driver.py FOLDER TRIAL...`."""

import sys

from epsgrid.executors import Job, slurm
from tests.executors import jobs

if __name__ == "__main__":
    folder, *trials = sys.argv[1:]
    recorder = jobs.Recorder()
    slurm.run([Job(folder, trial) for trial in trials], jobs.work, slots=2, notify=recorder, stop=jobs.StopWhen())
    print(recorder.statuses)
