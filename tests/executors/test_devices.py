"""Devices found without CUDA; a stand-in for nvidia-smi answers as machines with GPUs would."""

from pathlib import Path

import pytest

from epsgrid.executors import _devices
from epsgrid.spec.model import Execution
from tests.executors.fake_gpus import UUIDS, FakeGpus, install


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    return install(tmp_path, monkeypatch, 3)


@pytest.mark.parametrize(
    ("visible", "chosen"),
    [
        (None, UUIDS),
        ("", ()),
        ("0", ("0",)),
        ("2,1", ("2", "1")),
        ("0, 2", ("0", "2")),
        ("0,2,-1,1", ("0", "2")),  # the example of CUDA's own documentation
        ("0,3,1", ("0",)),
        ("1,1", ("1",)),
        ("GPU-bbbb,GPU-aaaa1111-0", ("GPU-bbbb", "GPU-aaaa1111-0")),
        ("GPU-nobody,0", ()),
        ("NoDevFiles", ()),
    ],
)
def test_the_environment_chooses_as_it_does_for_cuda(
    gpus: FakeGpus, visible: str | None, chosen: tuple[str, ...]
) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert _devices.visible(environment) == chosen


def test_a_partitioned_device_counts_by_its_partitions(gpus: FakeGpus) -> None:
    gpus.list(
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)",
        "  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)",
        "  MIG 2g.10gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)",
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-0d8c1b1e-0000-1111-2222-333344445555)",
    )
    assert _devices.visible({}) == (
        "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
        "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb",
        "GPU-0d8c1b1e-0000-1111-2222-333344445555",
    )


def test_without_the_tool_device_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = install(tmp_path, monkeypatch)  # it fails: nothing was written down
    assert _devices.visible({}) == _devices.visible({"CUDA_VISIBLE_DEVICES": "0"}) == ()
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm", "nvidia-caps"):
        (gpus.folder / name).touch()
    assert _devices.visible({}) == ("0", "1"), "a container's two devices, whatever their numbers outside"
    assert _devices.visible({"CUDA_VISIBLE_DEVICES": "1,0"}) == ("1", "0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _devices.visible({}) == ("0", "1"), "as where there is no such tool"


def test_a_tool_that_does_not_answer_is_given_up(gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    (gpus.folder / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(_devices, "_TIMEOUT_S", 0.05)
    assert _devices.visible({}) == ()


def test_devices_are_used_where_trials_can(gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def training(device: str, version: str) -> int:
        monkeypatch.setattr(_devices.metadata, "version", lambda package: version)
        return len(_devices.training_devices(Execution(device=device), {}))  # type: ignore[arg-type]

    assert training("auto", "2.13.0+cu130") == training("auto", "2.13.0") == training("cuda", "2.13.0+cpu") == 3
    assert training("auto", "2.13.0+cpu") == training("cpu", "2.13.0") == 0

    def not_installed(package: str) -> str:
        raise _devices.metadata.PackageNotFoundError

    monkeypatch.setattr(_devices.metadata, "version", not_installed)
    assert len(_devices.training_devices(Execution(), {})) == 3
