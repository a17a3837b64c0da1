"""A stand-in for `nvidia-smi` on PATH, which prints what a test wrote down; no GPU is needed for it."""

import os
from pathlib import Path

import pytest

UUIDS = ("GPU-aaaa1111-0", "GPU-bbbb2222-0", "GPU-cccc3333-0")

_SCRIPT = """\
#!/bin/sh
echo "$*" >> "{folder}/asked"
case "$1" in
-L) exec cat "{folder}/list" ;;
--query-gpu=*) exec cat "{folder}/memory" ;;
esac
exit 2
"""


class FakeGpus:
    """What the stand-in says; where a file of it is missing, it fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self, *lines: str) -> None:
        """Say this when asked for the devices."""
        (self.folder / "list").write_text("".join(f"{line}\n" for line in lines))

    def memory(self, *lines: str) -> None:
        """Say this when asked for their memory."""
        (self.folder / "memory").write_text("".join(f"{line}\n" for line in lines))

    @property
    def asked(self) -> int:
        """How often it was called."""
        path = self.folder / "asked"
        return len(path.read_text().splitlines()) if path.exists() else 0


def install(folder: Path, patched: pytest.MonkeyPatch, count: int = 0) -> FakeGpus:
    """Put the stand-in on PATH, with so many devices; no real device is seen beside them."""
    commands = folder / "gpu commands"
    commands.mkdir()
    script = commands / "nvidia-smi"
    script.write_text(_SCRIPT.format(folder=commands))
    script.chmod(0o755)
    patched.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    patched.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    patched.delenv("CUDA_DEVICE_ORDER", raising=False)
    patched.setattr("epsgrid.executors._devices._DEVICE_FILES", commands)
    gpus = FakeGpus(commands)
    if count:
        gpus.list(*(f"GPU {number}: NVIDIA H200 (UUID: {uuid})" for number, uuid in enumerate(UUIDS[:count])))
    return gpus
