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
from statistics import fmean, median, stdev
from types import SimpleNamespace
from typing import Any

import torch

import epsgrid
from epsgrid import tasks
from epsgrid.numerics import predicting
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.predicting import Prediction
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.model import Spec
from epsgrid.trials.building import build_model

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
    "gpt-depth": Study(GPT, "model.layers", (2, 4, 6, 8), (16, 32), 500, also={"model.width": 32}),
    "gpt-batch": Study(GPT, "training.batch_size", (2, 4, 8, 16), (32, 64, 128), 0, batches=400),
    "resnet-width": Study(RESNET, "model.width", (2, 4, 6, 8), (16, 32, 64), 500, batches=30),
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
    points.sort(
        key=lambda point: (point[1] / STUDIES[point[0]].small[-1]) ** 1.5 * (point[3] + STUDIES[point[0]].batches)
    )
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


def stored(folder: Path, name: str, size: int, steps: int) -> list[EpsilonBounds]:
    """Return the bounds of all seeds that were measured at a size."""
    paths = (folder / f"{name}-{size}-{seed}-{steps}.json" for seed in SEEDS)
    return [EpsilonBounds.from_json(json.loads(path.read_text())) for path in paths if path.exists()]


def predicted(folder: Path, name: str, steps: int, at: int, target: EpsilonBounds) -> Prediction:
    """Predict a held-out size, whose layers `target` has, from the small ones."""
    measured = {size: stored(folder, name, size, steps) for size in STUDIES[name].small}
    model = SimpleNamespace(named_parameters=lambda: [(layer.name, layer) for layer in target.layers])
    return epsgrid.predict(measured, at, model=model, batch_sizes=name == "gpt-batch")


def evaluate(folder: Path) -> None:
    """Print errors in decades: of √v̂ over layers, tails and median, and seeds; and of both bounds over seeds."""
    print("| study | after | at (seeds) | ratio | √v̂: law | same | 1/√ratio | inside 95 % | refused", end="")
    print(" | lower, upper bound: law | same | 1/√ratio |\n|" + " --- |" * 12)
    covered: list[bool] = []
    for name, study in STUDIES.items():
        for steps, size in itertools.product(sorted({0, study.trained}), study.large):
            found = stored(folder, name, size, steps)
            if not found or not all(len(stored(folder, name, each, steps)) == len(SEEDS) for each in study.small):
                continue
            prediction = predicted(folder, name, steps, size, found[0])
            largest, ratio = stored(folder, name, study.small[-1], steps), size / study.small[-1]
            before = [predicting._logs(bounds) for bounds in largest]
            families = [predicting._families([layer.name for layer in each[0].layers]) for each in (largest, found)]
            errors: dict[str, list[float]] = {"law": [], "same": [], "root": []}
            inside = []
            for law in prediction.laws:
                place = predicting._place(law.layer, families[1], families[:1])
                assert place is not None
                same = fmean(predicting._points([before], place, law.statistic)[0])
                for bounds in found:
                    actual = predicting._logs(bounds)[law.layer, law.statistic]
                    errors["same"].append(abs(same - actual))
                    errors["root"].append(abs(same - math.log10(ratio) / 2 - actual))
                    if not law.refused:
                        errors["law"].append(abs(math.log10(law.predicted) - actual))
                        inside.append(errors["law"][-1] <= law.decades)
            covered += inside
            ends = []
            for shift, rule in ((0.0, prediction.bounds), (0.0, None), (math.log10(ratio) / 2, None)):
                for end in ("low", "high"):
                    given = [rule] if rule else largest
                    value = fmean(math.log10(getattr(bounds, end).magnitude) for bounds in given) - shift
                    ends.append(max(abs(value - math.log10(getattr(bounds, end).magnitude)) for bounds in found))
            cells = [f"{median(each):.2f}, {max(each):.2f}" for each in errors.values()]
            cells += [f"{100 * fmean(inside):.0f} %", f"{len(prediction.refused)} of {len(prediction.laws)}"]
            cells += [f"{low:.2f}, {high:.2f}" for low, high in zip(ends[::2], ends[1::2], strict=True)]
            print(f"| {name} | {steps} | {size} ({len(found)}) | {ratio:g} | " + " | ".join(cells) + " |")
    print(f"\nAll intervals: {100 * fmean(covered):.1f} % of {len(covered):,} inside")


def train(folder: Path, size: int = 256, steps: int = 300) -> None:
    """Train a GPT with ε a decade below and above its predicted lower bound, and at the upper one; print losses."""
    study = STUDIES["gpt-width"]
    spec = spec_of(study, size)
    task = task_of(spec)
    layers = build_model(spec, task, 0, torch.device("cpu"))
    bounds = epsgrid.predict({s: stored(folder, "gpt-width", s, 0) for s in study.small}, size, model=layers).bounds
    low, high = bounds.low.magnitude, bounds.high.magnitude
    print(f"predicted at width {size}: {low:.2g} to {high:.2g}", flush=True)
    for label, epsilon in (("lower / 10", low / 10), ("lower x 10", low * 10), ("upper", high)):
        losses = []
        for seed in SEEDS:
            path = folder / f"train-{size}-{steps}-{label.replace(' ', '').replace('/', 'over')}-{seed}.json"
            if not path.exists():
                model = build_model(spec, task, seed, torch.device("cpu"))
                model.train()
                optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=epsilon)
                for batch in itertools.islice(batches_of(task, spec, seed), steps):
                    optimizer.zero_grad()
                    task.loss(model, batch).backward()
                    optimizer.step()
                model.eval()
                path.write_text(json.dumps(task.evaluate(model, "validation")["loss"]))
            losses.append(json.loads(path.read_text()))
        spread = stdev(losses)
        print(f"ε {label} = {epsilon:.2g}: validation loss {fmean(losses):.4f} ± {spread:.4f} of {losses}", flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "evaluate", "train"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("studies", nargs="*", default=list(STUDIES))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if arguments.what == "measure":
        measure(arguments.folder, arguments.studies)
    else:
        (evaluate if arguments.what == "evaluate" else train)(arguments.folder)


if __name__ == "__main__":
    main()
