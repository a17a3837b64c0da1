"""A stand-in for `nvidia-smi` on PATH, which prints what a test wrote down; no GPU is needed for it."""

import os
from pathlib import Path

import pytest

UUIDS = ("GPU-aaaa1111-0", "GPU-bbbb2222-0", "GPU-cccc3333-0")

_SCRIPT = """\
#!/bin/sh
exec cat "{folder}/list"
"""


class FakeGpus:
    """What the stand-in prints; it fails until that is written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self, *lines: str) -> None:
        """Print this when asked for the devices."""
        (self.folder / "list").write_text("".join(f"{line}\n" for line in lines))


def install(folder: Path, patched: pytest.MonkeyPatch, count: int = 0) -> FakeGpus:
    """Put the stand-in on PATH, with so many devices; no real device is seen beside them."""
    commands = folder / "gpu commands"
    commands.mkdir()
    script = commands / "nvidia-smi"
    script.write_text(_SCRIPT.format(folder=commands))
    script.chmod(0o755)
    patched.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    patched.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    patched.setattr("epsgrid.executors._devices._DEVICE_FILES", commands)
    gpus = FakeGpus(commands)
    if count:
        gpus.list(*(f"GPU {number}: NVIDIA H200 (UUID: {uuid})" for number, uuid in enumerate(UUIDS[:count])))
    return gpus
