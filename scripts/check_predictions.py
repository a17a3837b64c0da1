"""Measure how well √v̂ of small models predicts that of large ones, on real data.

    python scripts/check_predictions.py measure FOLDER [STUDY ...]     # resumes: one file a probe
    python scripts/check_predictions.py evaluate FOLDER                # tables in Markdown
    python scripts/check_predictions.py train FOLDER                   # ε around the predicted lower bound

Needs Penn Treebank and CIFAR-10 where `epsgrid data list` finds them. A study varies one number of a spec; the model is
probed with frozen weights at initialisation and after some steps of Adam at 1e-3, three seeds each. `evaluate` predicts
the sizes that were held out from the small ones, and compares with what two simpler rules say: the same as the largest
small one, and that times 1/√ratio for all layers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

import epsgrid
from epsgrid import tasks
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.numerics.predicting import Prediction
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.model import Spec
from epsgrid.trials.building import build_model, build_optimizer

PTB = "task: {name: ptb, sequence_length: 32, subset: {train: 400000, validation: 10000, test: 1000}}"
GPT = f"{PTB}\nmodel: {{name: gpt, width: 64, layers: 2, dropout: 0}}\ntraining: {{batch_size: 8, epochs: 1}}"
CIFAR = "task: {name: cifar10, validation: 5000, subset: {train: 8000, validation: 1000, test: 1000}, augment: false}"
RESNET = f"{CIFAR}\nmodel: {{name: resnet34, width: 8}}\ntraining: {{batch_size: 32, epochs: 1}}"
MORE = "\nexperiment: check\noptimizer: adam\nsweep: {learning_rates: [1e-3]}\n"
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Study:
    """What is varied, from which sizes which are predicted, and after how many steps of training it is probed."""

    spec: str
    key: str
    small: tuple[int, ...]
    large: tuple[int, ...]
    trained: int
    batches: int = 50
    also: dict[str, int] = field(default_factory=dict)


STUDIES = {
    "gpt-width": Study(GPT, "model.width", (16, 32, 64, 128), (256, 512, 1024), 500),
    "gpt-depth": Study(GPT, "model.layers", (1, 2, 4, 8), (16, 32), 500, also={"model.width": 32}),
    "gpt-batch": Study(GPT, "training.batch_size", (2, 4, 8, 16), (32, 64, 128), 0, batches=400),
    "resnet-width": Study(RESNET, "model.width", (2, 4, 6, 8), (16, 32, 64), 200, batches=30),
}


def spec_of(study: Study, size: int) -> Spec:
    """Return the spec of a study at a size."""
    overrides = [f"{key}={value}" for key, value in {**study.also, study.key: size}.items()]
    return parse_spec(study.spec + MORE, "check", overrides)


def batches_of(task: Any, spec: Spec, seed: int) -> Iterator[Any]:
    """Yield batches for as many epochs as are asked for."""
    for epoch in itertools.count():
        yield from task.batches(seed, epoch, spec.training.batch_size)


def task_of(spec: Spec) -> Any:
    """Return the spec's task, on its data."""
    plugin = tasks.load(spec.task.name)
    return plugin.build(spec.task, plugin.prepare(spec.task), torch.device("cpu"))


def probe(study: Study, size: int, seed: int, steps: int) -> EpsilonBounds:
    """Train for some steps, then probe with frozen weights over as many examples at every size."""
    spec = spec_of(study, size)
    task = task_of(spec)
    model = build_model(spec, task, seed, torch.device("cpu"))
    model.train()
    batches, optimizer = batches_of(task, spec, seed), torch.optim.Adam(model.parameters(), lr=1e-3)
    for batch in itertools.islice(batches, steps):
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    kappa = size / study.small[0] if study.key == "training.batch_size" else 1.0
    fresh = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9**kappa, 0.999**kappa))
    taken = list(itertools.islice(batches, max(1, round(study.batches / kappa))))
    return epsgrid.probe(model, fresh, taken, task.loss, check_rounding=False)


def measure(folder: Path, names: list[str]) -> None:
    """Probe what is missing, cheap ones first."""
    points = [
        (name, size, seed, steps)
        for name in names
        for size in (*STUDIES[name].small, *STUDIES[name].large)
        for seed in SEEDS
        for steps in sorted({0, STUDIES[name].trained})
    ]
    points.sort(key=lambda point: (point[1] / STUDIES[point[0]].small[-1]) ** 1.5 * (point[3] + STUDIES[point[0]].batches))
    for name, size, seed, steps in points:
        path = folder / f"{name}-{size}-{seed}-{steps}.json"
        if path.exists():
            continue
        start = time.perf_counter()
        bounds = probe(STUDIES[name], size, seed, steps)
        document = {**bounds.to_json(), "reliability": None}
        path.with_suffix(".part").write_text(json.dumps(document))
        path.with_suffix(".part").rename(path)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("studies", nargs="*", default=list(STUDIES))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    measure(arguments.folder, arguments.studies)


if __name__ == "__main__":
    main()
