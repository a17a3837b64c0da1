"""Build small copies of CIFAR-10's two layouts."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def draw(seed: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def write_folder(root: Path, train: int = 2, test: int = 1) -> Path:
    """Write `train` and `test` images of each class as PNG; image i of class c is `draw(100 * c + i)`."""
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                seed = 100 * label + number + (50 if split == "test" else 0)
                Image.fromarray(draw(seed)).save(folder / f"{number}.png")
    return root


def write_batches(folder: Path) -> dict[str, str]:
    """Write what torchvision reads, two images per file; return the MD5 of each file."""
    folder.mkdir(parents=True)
    sums = {}
    for index, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        pixels = np.stack([draw(1000 + 2 * index + each).transpose(2, 0, 1).reshape(-1) for each in range(2)])
        content = pickle.dumps({"data": pixels, "labels": [index, index + 1]})
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    content = pickle.dumps({"label_names": list(CLASSES)})
    (folder / "batches.meta").write_bytes(content)
    return sums | {"batches.meta": hashlib.md5(content).hexdigest()}
