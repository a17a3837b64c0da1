"""The process that a Ray cluster on this machine belongs to: `python -m epsgrid.executors._ray_head CPUS FOLDER`.

It starts the cluster, writes its address into the folder, and ends it when standard input is closed: when the command
that started it says so, or is gone, however it ended. It is a session of its own, so Ctrl-C and SIGTERM to the
command's group reach the command alone, and the cluster stands until trials have saved themselves.
"""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

ADDRESS = "address"
_OBJECT_STORE_BYTES = 80 * 2**20  # nearly the least that Ray takes: nothing but a job's name goes through it


def main(arguments: list[str]) -> None:
    """Start the cluster, tell where it is, wait, end it."""
    import ray

    cpus, folder = arguments
    ray.init(
        num_cpus=int(cpus),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=folder,
    )
    told = Path(folder) / f".{ADDRESS}"
    told.write_text(ray.get_runtime_context().gcs_address)
    told.rename(Path(folder) / ADDRESS)
    sys.stdin.read()
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)  # as the command does, unless it was killed


if __name__ == "__main__":
    main(sys.argv[1:])
