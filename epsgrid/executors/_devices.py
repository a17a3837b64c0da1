"""Find the CUDA devices of this machine without torch and without touching CUDA.

A process that has called CUDA can neither be forked nor see other devices afterwards, and planning a sweep imports no
torch. So `nvidia-smi` is asked, and where there is none the device files are counted. Devices are named by UUID where
possible, as CUDA_VISIBLE_DEVICES takes them: `nvidia-smi` and CUDA may count devices in different orders.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from itertools import pairwise
from pathlib import Path

from epsgrid.spec.model import Execution

VISIBLE = "CUDA_VISIBLE_DEVICES"

_DEVICE_FILES = Path("/dev")
_TIMEOUT_S = 10.0  # the driver may have to wake its devices up first
_LISTED = re.compile(r"^\s*(?:GPU|MIG)\b.*\(UUID: ((?:GPU|MIG)-[^)]+)\)", re.MULTILINE)


def training_devices(execution: Execution, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the CUDA devices of this machine on which trials train; none where they train on processors.

    Args:
        execution: `device: auto` means all visible devices, unless the installed torch was built without CUDA.
        environment: its CUDA_VISIBLE_DEVICES chooses among the devices.
    """
    uses_cuda = execution.device != "cpu"
    if execution.device == "auto":
        with contextlib.suppress(metadata.PackageNotFoundError):
            uses_cuda = not metadata.version("torch").endswith("+cpu")
    return visible(environment) if uses_cuda else ()


def visible(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the CUDA devices that a process of this environment may use, each as CUDA_VISIBLE_DEVICES names it.

    A partitioned device (MIG) counts by its partitions. As in CUDA, the first name in CUDA_VISIBLE_DEVICES that means
    no device ends the list.
    """
    present = _present()
    if VISIBLE not in environment or not present:
        return present
    chosen: dict[str, None] = {}
    for name in map(str.strip, environment[VISIBLE].split(",")):
        is_device = int(name) < len(present) if name.isdecimal() else any(one.startswith(name) for one in present)
        if not name or not is_device:
            break
        chosen[name] = None
    return tuple(chosen)


def _present() -> tuple[str, ...]:
    """Return all devices, whatever the environment says."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "-L"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the command, not for this process
        )
    except (OSError, subprocess.TimeoutExpired):
        answer = None
    if answer is None or answer.returncode:
        files = [path for path in _DEVICE_FILES.glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()]
        return tuple(str(number) for number in range(len(files)))
    names = _LISTED.findall(answer.stdout)
    partitioned = {whole for whole, part in pairwise(names) if part.startswith("MIG-")}
    return tuple(name for name in names if name.startswith("MIG-") or name not in partitioned)
