from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from epsgrid.data import _torchvision
from epsgrid.data._torchvision import import_torchvision
from epsgrid.errors import DataError

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision not installed")
def test_a_fresh_process_gets_torchvisions_data_sets_and_transforms() -> None:
    code = (
        "from epsgrid.data._torchvision import import_torchvision\n"
        "torchvision = import_torchvision()\n"
        "assert import_torchvision() is torchvision\n"
        "from torchvision.transforms import CenterCrop\n"
        "print(torchvision.datasets.CIFAR10.__name__, CenterCrop(2).size)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("CIFAR10")


def test_beside_a_healthy_torchvision_nothing_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", healthy)
    monkeypatch.setattr(_torchvision, "_declarations", None)
    assert import_torchvision() is healthy
    assert _torchvision._declarations is None


def test_missing_torchvision_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match=r"pip install torchvision.*or use an image folder"):
        import_torchvision()
