"""Be a process that takes leases and holds on to them: each line `FOLDER AT` is answered by 1 (taken) or 0.

`AT` is the moment, in seconds of the system's clock, until which it waits in a loop, so that several take at once.
"""

import sys
import time
from pathlib import Path

from epsgrid.store.lease import Lease


def main() -> None:
    held = []
    print("ready", flush=True)
    for line in sys.stdin:
        folder, moment = line.split()
        while time.time() < float(moment):
            pass
        lease = Lease.take(Path(folder))
        held.append(lease)
        print(int(lease is not None), flush=True)


if __name__ == "__main__":
    main()
