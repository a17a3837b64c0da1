"""Run a command, and kill it with all its processes when whoever started it is gone: `python _guard.py PROGRAM ARG...`.

The other end of the pipe that stdin is lies with the one who started it. Signals are for the command, which is in the
same process group; this process only hands on its exit status, or 128 + N where signal N ended it.
"""

import os
import signal
import subprocess
import sys
import threading


def _watch() -> None:
    os.read(0, 1)  # returns when the other end is closed
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: None)  # not ignored, which the command would inherit
    threading.Thread(target=_watch, daemon=True).start()
    try:
        status = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{sys.argv[1]}: {error.strerror}", file=sys.stderr)
        status = 127
    os._exit(status if status >= 0 else 128 - status)
