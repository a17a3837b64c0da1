"""Devices found without CUDA; a stand-in for nvidia-smi answers as machines with GPUs would."""

from pathlib import Path
from typing import Any

import pytest

from epsgrid.executors import _devices
from epsgrid.spec.model import Execution
from tests.executors.fake_gpus import UUIDS, install


def training(device: Any = "cuda", visible: str | None = None) -> tuple[str, ...]:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return _devices.training_devices(Execution(device=device), environment)


@pytest.mark.parametrize(
    ("visible", "chosen"),
    [
        (None, UUIDS),
        ("", ()),
        ("2,1", ("2", "1")),
        ("0, 2", ("0", "2")),
        ("0,2,-1,1", ("0", "2")),  # the example of CUDA's own documentation
        ("0,3,1", ("0",)),
        ("GPU-bbbb,GPU-aaaa1111-0", ("GPU-bbbb", "GPU-aaaa1111-0")),
        ("MIG-c6d4f1ef,GPU-nobody,0", ("MIG-c6d4f1ef",)),
        ("NoDevFiles", ()),
    ],
)
def test_the_environment_chooses_as_it_does_for_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, chosen: tuple[str, ...]
) -> None:
    install(tmp_path, monkeypatch, 3)
    assert training(visible=visible) == chosen


def test_without_the_tool_or_its_answer_device_files_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = install(tmp_path, monkeypatch)
    assert training() == training(visible="0") == ()
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (commands / name).touch()
    assert training() == ("0", "1"), "a container's two devices, whatever their numbers outside"
    assert training(visible="1,0") == ("1", "0")
    (commands / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(_devices, "_TIMEOUT_S", 0.05)
    assert training() == ("0", "1")


def test_devices_are_used_where_trials_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, 3)
    for device, version, count in (
        ("auto", "2.13.0+cu130", 3),
        ("auto", "2.13.0", 3),
        ("cuda", "2.13.0+cpu", 3),
        ("auto", "2.13.0+cpu", 0),
        ("cpu", "2.13.0", 0),
    ):
        monkeypatch.setattr(_devices.metadata, "version", lambda package, version=version: version)
        assert len(training(device)) == count
