"""Find the CUDA devices of this machine without torch and without touching CUDA.

A process that has called CUDA can neither be forked nor see other devices afterwards. Devices are named by UUID where
possible: `nvidia-smi` and CUDA may count devices in different orders.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from importlib import metadata
from itertools import takewhile
from pathlib import Path

from epsgrid.spec.model import Execution

VISIBLE = "CUDA_VISIBLE_DEVICES"

_DEVICE_FILES = Path("/dev")
_TIMEOUT_S = 10.0  # the driver may have to wake its devices up first


def training_devices(execution: Execution, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the CUDA devices on which trials train, as CUDA_VISIBLE_DEVICES names them; none: on processors.

    Args:
        execution: `device: auto` means all visible devices, unless the installed torch was built without CUDA.
        environment: its CUDA_VISIBLE_DEVICES chooses among the devices. As in CUDA, the first name there that means no
            device ends the list. A part of a device (MIG) counts where it is named there.
    """
    if execution.device == "cpu":
        return ()
    if execution.device == "auto":
        with contextlib.suppress(metadata.PackageNotFoundError):
            if metadata.version("torch").endswith("+cpu"):
                return ()
    present = _present()
    if VISIBLE not in environment or not present:
        return present

    def is_device(name: str) -> bool:
        if name.isdecimal():
            return int(name) < len(present)
        return name.startswith("MIG-") or (name != "" and any(one.startswith(name) for one in present))

    names = map(str.strip, environment[VISIBLE].split(","))
    return tuple(dict.fromkeys(takewhile(is_device, names)))


def _present() -> tuple[str, ...]:
    """Return all devices, whatever the environment says; without `nvidia-smi` the device files are counted."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the command, not for this process
            check=True,
        )
        return tuple(line.strip() for line in answer.stdout.splitlines() if line.startswith("GPU-"))
    return tuple(str(number) for number in range(len(list(_DEVICE_FILES.glob("nvidia[0-9]*")))))
