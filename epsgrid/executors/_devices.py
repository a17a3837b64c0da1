"""Tell which CUDA devices this machine has and how full they are, without torch and without touching CUDA.

A process that has asked CUDA anything can neither be forked nor see other devices afterwards, and planning a sweep
imports no torch. So the driver's own tool is asked, `nvidia-smi`, and where there is none the device files are counted.
Devices are named as CUDA_VISIBLE_DEVICES takes them: by their UUID, which means the same device to everybody; numbers
count in one order for `nvidia-smi` and, unless CUDA_DEVICE_ORDER says otherwise, in another for CUDA.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path

from epsgrid.spec.model import Execution

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable by which a process is told its devices; it counts until the process first asks CUDA anything."""

_DEVICE_FILES = Path("/dev")
_ANSWER_S = 10.0  # the driver may have to wake its devices up first
_MIB = 2**20
_FIELDS = "index,uuid,name,memory.used,memory.total"
_LISTED = re.compile(r"^\s*(?:GPU|MIG)\b.*\(UUID: ((?:GPU|MIG)-[^)]+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Memory:
    """How full a device is, in bytes; what other programs use is part of it."""

    used: int
    total: int


def training(execution: Execution, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the CUDA devices of this machine on which a spec's trials train; none where they train on processors.

    Args:
        execution: `device: auto` means all visible devices, unless the torch that is installed cannot use any.
        environment: its CUDA_VISIBLE_DEVICES chooses among the devices.
    """
    if execution.device == "cpu" or (execution.device == "auto" and _torch_is_for_processors()):
        return ()
    return visible(environment)


def visible(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the CUDA devices that a process of this environment may use, each as CUDA_VISIBLE_DEVICES names it.

    A device that is partitioned (MIG) counts by its partitions. As for CUDA, the first name in CUDA_VISIBLE_DEVICES
    that means no device ends the list.
    """
    there = _present()
    if environment.get(VISIBLE) is None or not there:
        return there
    chosen: dict[str, None] = {}
    for name in environment[VISIBLE].split(","):
        if not _means_one(name.strip(), there):
            break
        chosen[name.strip()] = None
    return tuple(chosen)


def _present() -> tuple[str, ...]:
    """Return all devices, whatever the environment says."""
    listed = _nvidia_smi("-L")
    if listed is None:
        files = [path for path in _DEVICE_FILES.glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()]
        return tuple(str(number) for number in range(len(files)))
    names = _LISTED.findall(listed)
    partitioned = {whole for whole, part in pairwise(names) if part.startswith("MIG-")}
    return tuple(name for name in names if name.startswith("MIG-") or name not in partitioned)


def _means_one(name: str, there: Iterable[str]) -> bool:
    """Say whether a name of CUDA_VISIBLE_DEVICES means a device: a number, or a UUID or the beginning of one."""
    known = tuple(there)
    return int(name) < len(known) if name.isdecimal() else bool(name) and any(one.startswith(name) for one in known)


def memory(devices: Iterable[str], environment: Mapping[str, str]) -> dict[str, Memory]:
    """Return how full devices are now, by their names as `visible` gives them.

    Left out is what cannot be told: everything where `nvidia-smi` does not answer, partitions, and devices named by a
    number where it is not certain that `nvidia-smi` counts as CUDA does.
    """
    answer = _nvidia_smi(f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits") or ""
    rows = [row for row in (_row(line) for line in answer.splitlines()) if row is not None]
    same_order = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({row.kind for row in rows}) == 1
    found = {}
    for device in devices:
        for row in rows:
            if row.uuid.startswith(device) or (same_order and row.index == device):
                found[device] = row.memory
    return found


@dataclass(frozen=True)
class _Row:
    """What `nvidia-smi` tells of one device; `kind` is the name of its product."""

    index: str
    uuid: str
    kind: str
    memory: Memory


def _row(line: str) -> _Row | None:
    """Return what a line tells; None where a number is missing, as with memory that device and machine share."""
    index, uuid, kind, used, total = ([word.strip() for word in line.split(",")] + [""] * 5)[:5]
    if not (used.isdecimal() and total.isdecimal()):
        return None
    return _Row(index, uuid, kind, Memory(int(used) * _MIB, int(total) * _MIB))


def _nvidia_smi(*arguments: str) -> str | None:
    """Return what `nvidia-smi` prints; None where there is none, it fails, or does not answer.

    It is a session of its own, so that Ctrl-C, which is the command's to answer, does not end it.
    """
    try:
        answer = subprocess.run(
            ["nvidia-smi", *arguments],
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None


def _torch_is_for_processors() -> bool:
    """Say whether the torch that is installed was built without CUDA; its version says so."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False
