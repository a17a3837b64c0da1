"""The image tasks' files: their options, what they prepare, and that plug-ins are read without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epsgrid import tasks
from epsgrid.data import bundled
from epsgrid.errors import DataError
from epsgrid.tasks import TaskPlugin, digits
from tests.data.folders import write_folder

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")


SETTINGS: dict[str, dict[str, Any]] = {
    "cifar10": {"validation": 5},
    "digits": {},
    "images": {"validation": 5},
    "synthetic": {"train": 40, "validation": 10, "test": 10},
}


def on_disk(name: str, cache: Path) -> tuple[Path, TaskPlugin, Any]:
    """Write images where CIFAR-10 is looked for; return their folder, a task's file, and its options."""
    folder = write_folder(cache / "data" / "cifar10-images")
    plugin = tasks.load(name)
    root = {"root": str(folder)} if name == "images" else {}
    return folder, plugin, plugin.Options(name=name, **SETTINGS[name], **root)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_task_prepares_trains_and_scores(name: str, cache: Path) -> None:
    _, plugin, options = on_disk(name, cache)
    data = plugin.prepare(options)
    assert data.has_validation
    assert len(data.checksum) == 64
    assert data.checksum == plugin.prepare(options).checksum
    task = plugin.build(options, data, CPU)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(task.outputs))
    batch = next(task.batches(0, 0, 8))
    assert batch.images.shape == (8, *task.inputs)
    task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
    for split in ("validation", "test"):
        assert set(task.evaluate(model.eval(), split)) == {"loss", "accuracy"}


def test_all_digits_are_there_once_stratified_and_unchanged() -> None:
    images = digits.prepare(digits.Options(name="digits")).images
    assert images.train.pixels.shape == (1437, 1, 8, 8)
    assert images.test.pixels.shape == (360, 1, 8, 8)
    both = np.concatenate([images.train.pixels, images.test.pixels]).reshape(1797, 64)
    assert sorted(map(tuple, both)) == sorted(map(tuple, bundled("digits")["images"].reshape(1797, 64)))
    assert images.classes == tuple("0123456789")
    assert set(np.bincount(images.test.labels)) <= {34, 35, 36, 37}
    assert images.checksum == "350c5f15440504110acc0bdd12e34920f821b1bcae4cd107d7e456a52256b79e"


def test_plug_ins_are_read_and_data_prepared_without_torch(cache: Path) -> None:
    write_folder(cache / "data" / "cifar10-images")
    code = """
import sys
from epsgrid import plugins
for family in ("optimizers", "models", "tasks"):
    for name in plugins.names(family):
        plugins.load(family, name)
assert not {"torch", "torchvision", "PIL", "pooch", "sentencepiece", "sacrebleu"} & set(sys.modules)
for name, settings in (("cifar10", {"validation": 5}), ("synthetic", {}), ("digits", {}), ("nuclei", {})):
    task = plugins.load("tasks", name)
    task.prepare(task.Options(name=name, **settings))
    assert "torch" not in sys.modules, name
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["cifar10", "images"])
def test_a_trial_gets_the_data_it_was_planned_with_or_an_error(name: str, cache: Path) -> None:
    folder, plugin, options = on_disk(name, cache)
    planned: Any = plugin.prepare(options)
    shutil.rmtree(cache / "arrays")
    assert tasks.of_trial(plugin, options, planned.checksum).checksum == planned.checksum, (
        "made again of the same images"
    )
    next(folder.glob("train/*/*")).unlink()
    assert plugin.prepare(options).checksum != planned.checksum
    found: Any = tasks.of_trial(plugin, options, planned.checksum)  # from the cache, whatever became of their source
    assert found.checksum == planned.checksum
    assert found.train.tolist() == planned.train.tolist()
    assert (found.images.train.pixels == planned.images.train.pixels).all()
    shutil.rmtree(cache / "arrays")
    words = rf"their checksum is \w+…, planned were {planned.checksum[:12]}…"
    with pytest.raises(DataError, match=words):
        tasks.of_trial(plugin, options, planned.checksum)
