"""The origin of a record: command, versions, hardware and git commit, so that a number can be traced."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("epsgrid", "torch", "torchvision", "numpy")
_GIT_TIMEOUT_S = 5


def provenance(command: Sequence[str], folder: Path | None = None) -> dict[str, Any]:
    """Return the origin of a record, as plain JSON values; nothing heavy is imported.

    These are command, started (ISO 8601, UTC), packages (versions; None for one not installed), python, platform, cpu,
    cores (those this process may use), host, and git of `folder`, by default the current one: {commit, changed}, or
    None outside a repository. Of absolute paths the command keeps the last part: a report that is handed on names no
    folders of the machine.
    """
    return {
        "command": shlex.join(_last_part(argument) for argument in command),
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "packages": {
            name: next((found.version for found in metadata.distributions(name=name)), None) for name in _PACKAGES
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(Path("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "host": socket.gethostname(),
        "git": _git(folder or Path.cwd()),
    }


def _last_part(argument: str) -> str:
    path = Path(argument)
    if path.name == "__main__.py":  # python -m epsgrid
        return path.parent.name
    return path.name if path.is_absolute() else argument


def _cpu(cpuinfo: Path) -> str:
    """Return the processor's name, from Linux's own list where there is one."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(folder: Path) -> dict[str, Any] | None:
    """Return commit and whether tracked files differ from it, or None without git, repository or commit."""

    def ask(*arguments: str) -> str | None:
        command = ["git", "-C", str(folder), "--no-optional-locks", *arguments]
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return None
    changes = ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changes is None else bool(changes)}
