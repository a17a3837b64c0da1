"""A stand-in for `nvidia-smi` on PATH, which prints what a test wrote down; no GPU is needed for it."""

import os
from pathlib import Path

import pytest

UUIDS = ("GPU-aaaa1111-0", "GPU-bbbb2222-0", "GPU-cccc3333-0")


def install(folder: Path, patched: pytest.MonkeyPatch, count: int | None = None) -> Path:
    """Put the stand-in on PATH, with `count` devices, and no real device beside them; it fails without a count."""
    commands = folder / "gpu commands"
    commands.mkdir()
    script = commands / "nvidia-smi"
    script.write_text(f'#!/bin/sh\nexec cat "{commands}/list"\n')
    script.chmod(0o755)
    patched.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    patched.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    patched.setattr("epsgrid.executors._devices._DEVICE_FILES", commands)
    if count is not None:
        (commands / "list").write_text("".join(f"{uuid}\n" for uuid in UUIDS[:count]))
    return commands
