"""Train one setting on CIFAR-10 the way most people would write it: a DataLoader, a loop, one process per grid point.

    python scripts/plain_cifar.py --data FOLDER --model mlp --images 5000 --epochs 2 --lr 1e-3 --eps 1e-8 --seed 0

`scripts/bench_sweep.py` measures epsgrid against this, and hands the same `train` to Ray Tune and to Optuna. The recipe
is that of the published CIFAR-10 runs: batch 128, random crop with 4 pixels of border and flip, weight decay 5e-4,
learning rate ×0.1 after three quarters of the epochs, test accuracy after each epoch and the best of them reported.
It trains on a CUDA device where there is one.
FOLDER holds train_images.npy (n, 32, 32, 3), train_labels.npy, test_images.npy and test_labels.npy.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from epsgrid.data._torchvision import import_torchvision

import_torchvision()  # a plain import, but for a CPU-only torch beside a torchvision that was built for CUDA
from torchvision import transforms  # noqa: E402

MEAN, SD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class Cifar10(Dataset[Any]):
    """As torchvision's CIFAR10: arrays in memory, each image turned into a PIL image and transformed when asked for."""

    def __init__(self, folder: Path, split: str, count: int, transform: Any) -> None:
        self.images = np.load(folder / f"{split}_images.npy")[:count]
        self.labels = np.load(folder / f"{split}_labels.npy")[:count]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def vgg11() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"):
        if isinstance(width, int):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, (2 / (9 * layer.out_channels)) ** 0.5)
            nn.init.zeros_(layer.bias)
    head = [nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(512, 10))


class Block(nn.Module):
    """Two convolutions with a way around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.body = nn.Sequential(first, nn.BatchNorm2d(after), nn.ReLU(inplace=True), second, nn.BatchNorm2d(after))
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            narrow = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(narrow, nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the convolutions add to the images, and the images."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


def resnet34(width: int = 64) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
    before = width
    for stage, count in enumerate((3, 4, 6, 3)):
        after = width * 2**stage
        for number in range(count):
            layers.append(Block(before, after, 2 if stage and not number else 1))
            before = after
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(before, 10))


MODELS = {"mlp": mlp, "vgg11": vgg11, "resnet34": resnet34, "resnet34-16": lambda: resnet34(width=16)}


def train(
    *,
    data: str,
    model: str,
    images: int,
    epochs: int,
    lr: float,
    eps: float,
    seed: int,
    loader_workers: int = 2,
    bfloat16: bool = False,
) -> float:
    """Return the best test accuracy over the epochs, in [0, 1]."""
    torch.manual_seed(seed)
    normalise = [transforms.ToTensor(), transforms.Normalize(MEAN, SD)]
    vary = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    training = Cifar10(Path(data), "train", images, transforms.Compose([*vary, *normalise]))
    testing = Cifar10(Path(data), "test", max(100, images // 5), transforms.Compose(normalise))
    batches = DataLoader(training, batch_size=128, shuffle=True, num_workers=loader_workers)
    tests = DataLoader(testing, batch_size=100, num_workers=loader_workers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = MODELS[model]().to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, eps=eps, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [max(1, math.ceil(0.75 * epochs))], gamma=0.1)
    loss_function, best = nn.CrossEntropyLoss(), 0.0
    for _ in range(epochs):
        net.train()
        for inputs, labels in batches:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss = loss_function(net(inputs.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
        scheduler.step()
        net.eval()
        correct = 0
        with torch.no_grad():
            for inputs, labels in tests:
                correct += int((net(inputs.to(device)).argmax(1) == labels.to(device)).sum())
        best = max(best, correct / len(testing))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", choices=tuple(MODELS), default="mlp")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--eps", type=float, default=1e-8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loader-workers", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="autocast, as training.precision: bfloat16 does")
    print(json.dumps({"accuracy": train(**vars(parser.parse_args()))}))


if __name__ == "__main__":
    main()
