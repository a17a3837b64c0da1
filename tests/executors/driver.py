"""Be a command that runs jobs: `driver.py EXECUTOR FOLDER TRIAL...`; a main script that its jobs must not run again."""

import signal
import sys
from pathlib import Path

from epsgrid import executors
from tests.executors import jobs

WAS_RUN_AGAIN = True

if __name__ == "__main__":
    executor, folder, *trials = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: (Path(folder) / "stop").touch())
    work = f"tests.executors.jobs:{'facts' if trials == ['facts'] else 'work'}"
    stop = jobs.StopWhen(Path(folder) / "stop")
    print(jobs.run(executors.load(executor), Path(folder), *trials, work=work, stop=stop).statuses)
