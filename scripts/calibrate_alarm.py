"""Calibrate the alarm of `epsgrid.observe`: does it go where the metric suffers, and nowhere else? Run on demand.

    python scripts/calibrate_alarm.py --out runs-calibration     # hours on two cores; resumes; needs the real data

Every task is trained with ε from far too small to far too large, several learning rates and three seeds, and √v̂ is
counted every 25 steps. Compared are the trainings at the learning rate that is best for the smallest ε, by validation
scores: an ε that dominates is a smaller learning rate in disguise. An ε is too large where it is above the best one at
that rate and its mean test score is worse than that by more than the margin, 1 point or 2 %. One below the best that
costs as much is too small; no alarm claims to see that, so it is counted by itself. With three seeds a mean may be
worse by luck: where Student's one-sided 95 % interval of the differences, paired by seed, holds zero, it says
"perhaps". The alarm looks at the stored histograms of every seed, by its own code.

The damping below which steps count as shortened is chosen on every other task and judged on the rest: of those with
at most 5 % false alarms the one that finds most.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from epsgrid import optimizers
from epsgrid.numerics.precision import power
from epsgrid.numerics.statistics import t_quantile
from epsgrid.observing.diagnosis import SHORTENED, Alarm, Diagnosis, diagnose_layer, finding_of
from epsgrid.selection.load import load_experiment
from epsgrid.spec.loading import spec_from_json
from epsgrid.store import observations
from epsgrid.store.paths import ExperimentFolder

ADAM = "[1e-10, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]"
CIFAR = "{name: cifar10, validation: 2000, subset: {train: 3000, validation: 1500, test: 3000}}"
SMALL_CIFAR = "{name: cifar10, validation: 1000, subset: {train: 1500, validation: 1000, test: 2000}}"
PTB = "{name: ptb, sequence_length: 35, subset: {train: 40000, validation: 8000, test: 8000}}"
IWSLT = "{name: translation, root: iwslt14-subset, subset: {train: 1500, validation: 200, test: 50}, vocabulary: 1000}"
VIT = "{name: vit, patch: 8, width: 48, depth: 2, heads: 2, dropout: 0.0}"
TRANSFORMER = (
    "{name: transformer, encoder_layers: 1, decoder_layers: 1, width: 48, ffn: 96, heads: 4, dropout: 0.1, norm: pre,"
    " key_bias: false}"
)
TASKS = {  # task, model, optimizer, training, learning rates, ε
    "digits": (
        "digits",
        "{name: mlp, hidden: [256]}",
        "adam",
        "{epochs: 6, batch_size: 32}",
        "[1e-3, 3e-3, 1e-2, 3e-2]",
        ADAM,
    ),
    "nuclei": (
        "nuclei",
        "{name: mlp, hidden: [128]}",
        "adam",
        "{epochs: 12, batch_size: 32}",
        "[2e-4, 1e-3, 5e-3, 2.5e-2]",
        "[1e-16, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-7]",
    ),
    "rmsprop": (
        "digits",
        "{name: mlp, hidden: [64, 64]}",
        "rmsprop",
        "{epochs: 6, batch_size: 32}",
        "[3e-4, 1e-3, 3e-3]",
        ADAM,
    ),
    "adabelief": (
        "nuclei",
        "{name: mlp, hidden: [64, 64]}",
        "adabelief",
        "{epochs: 12, batch_size: 32}",
        "[1e-3, 5e-3, 2.5e-2]",
        "[1e-32, 1e-28, 1e-26, 1e-24, 1e-22, 1e-20, 1e-18]",
    ),
    "cifarmlp": (CIFAR, "mlp", "{name: adam}", "{epochs: 4, batch_size: 64}", "[3e-4, 1e-3, 3e-3]", ADAM),
    "ptb": (
        PTB,
        "{name: lstm, embedding: 48, hidden: 48, layers: 1}",
        "adam",
        "{epochs: 2, batch_size: 20, clip_norm: 1.0}",
        "[3e-3, 1e-2, 3e-2]",
        ADAM,
    ),
    "vit": (CIFAR, VIT, "adamw", "{epochs: 5, batch_size: 64}", "[1e-3, 3e-3, 1e-2]", ADAM),
    "iwslt": (
        IWSLT,
        TRANSFORMER,
        "{name: adam, betas: [0.9, 0.98]}",
        "{epochs: 5, batch_size: 1024}",
        "[3e-3, 1e-2]",
        ADAM,
    ),
    "gpt": (
        PTB,
        "{name: gpt, width: 48, layers: 2, heads: 2, dropout: 0.0}",
        "adamw",
        "{epochs: 4, batch_size: 20, clip_norm: 1.0}",
        "[1e-3, 3e-3, 1e-2]",
        ADAM,
    ),
    "resnet": (SMALL_CIFAR, "{name: resnet34, width: 4}", "adam", "{epochs: 5, batch_size: 64}", "[3e-3, 1e-2]", ADAM),
}
SPEC = """\
experiment: calibration-{name}
task: {task}
model: {model}
optimizer: {optimizer}
training: {training}
observe: {{every: 25}}
sweep: {{grid: narrowed, epsilons: {epsilons}, learning_rates: {rates}, seeds: [0, 1, 2]}}
"""
CANDIDATES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True)
class Trained:
    """The three seeds of one ε: its cost against the best ε, in points or percent, and the looks at each seed."""

    task: str
    epsilon: float
    cost: float
    fault: Literal["", "too large", "perhaps too large", "too small"]
    looks: tuple[tuple[Diagnosis, ...], ...]

    def alarms(self, shortened: float) -> int:
        """Return for how many seeds the alarm goes, where steps count as shortened below a damping."""
        found = 0
        for looks in self.looks:
            alarm = Alarm()
            found += any(alarm.look(_judged(each, shortened)) is not None for each in looks)
        return found


def _judged(look: Diagnosis, shortened: float) -> Diagnosis:
    layers = tuple(replace(layer, finding=finding_of(layer.damping, shortened)) for layer in look.layers)
    return replace(look, layers=layers)


def scores(folder: ExperimentFolder) -> dict[tuple[float, float], dict[str, list[float]]]:
    """Return the validation and test scores of the seeds of the last planned grid, by ε and rate; larger is better."""
    stored, found = load_experiment(folder), {}
    assert stored.grid is not None
    for cell in stored.grid.cells:
        result = stored.results[cell.id]
        sign = 1 if result.metric_direction == "max" else -1
        of_setting = found.setdefault((cell.epsilon, cell.learning_rate), {"validation": [], "test": []})
        for split, values in of_setting.items():
            score = getattr(result, split)
            values.append(-math.inf if score is None else sign * score.metric)
    return found


def best_rate(folder: ExperimentFolder) -> float:
    """Return the learning rate that is best for the smallest ε, on validation data."""
    by_setting = scores(folder)
    smallest = min(epsilon for epsilon, _ in by_setting)
    of_smallest = {rate: each["validation"] for (epsilon, rate), each in by_setting.items() if epsilon == smallest}
    return max(of_smallest, key=lambda rate: fmean(of_smallest[rate]))


def train(root: Path, name: str) -> None:
    """Train the smallest ε at all rates, then all ε at the rate that is best for it."""
    task, model, optimizer, training, learning_rates, epsilons = TASKS[name]
    path, smallest = root / f"{name}.yaml", epsilons.partition(",")[0] + "]"
    settings = {"name": name, "task": task, "model": model, "optimizer": optimizer, "training": training}
    path.write_text(SPEC.format(**settings, rates=learning_rates, epsilons=epsilons))
    sweep = [sys.executable, "-m", "epsgrid", "sweep", str(path), "--runs", str(root)]
    subprocess.run([*sweep, "-o", f"sweep.epsilons={smallest}"], check=True)
    rate = best_rate(ExperimentFolder(root / f"calibration-{name}"))
    subprocess.run([*sweep, "-o", f"sweep.learning_rates=[{rate}]"], check=True)


def read(root: Path, task: str) -> list[Trained]:
    """Return the trainings of a sweep at the learning rate that is best for the smallest ε."""
    folder = ExperimentFolder(root / f"calibration-{task}")
    stored = load_experiment(folder)
    spec = spec_from_json(stored.experiment.spec, str(folder.experiment_json))
    optimizer, rate = optimizers.load(spec.optimizer.name), best_rate(folder)
    assert stored.grid is not None
    settings: dict[float, list[str]] = {}
    for cell in stored.grid.cells:
        assert cell.epsilon is not None
        if cell.learning_rate == rate:
            settings.setdefault(cell.epsilon, []).append(cell.id)
    is_share = next(iter(stored.results.values())).metric_unit == "%"
    by_epsilon = {epsilon: each["test"] for (epsilon, own), each in scores(folder).items() if own == rate}
    tests = {epsilon: fmean(scored) for epsilon, scored in by_epsilon.items()}
    best_epsilon, found = max(tests, key=lambda epsilon: tests[epsilon]), []
    best = tests[best_epsilon]
    for epsilon, score in sorted(tests.items()):
        looks = []
        for trial in settings[epsilon]:
            series = observations.read(folder.trial(trial).observations_jsonl)
            assert series is not None
            of_trial = []
            for snapshot in series.snapshots:
                placement = optimizer.placement(spec.optimizer, snapshot.step)
                layers = (
                    diagnose_layer(name, kind, layer.histogram, placement, epsilon, rate)
                    for name, kind, layer in zip(series.names, series.kinds, snapshot.layers, strict=True)
                    if layer is not None and layer.histogram is not None
                )
                of_trial.append(Diagnosis("", snapshot.step, tuple(each for each in layers if each is not None)))
            looks.append(tuple(of_trial))
        cost = 100 * (best - score) if is_share else 100 * (best - score) / abs(best)
        fault = "" if cost <= (1 if is_share else 2) else "too large" if epsilon > best_epsilon else "too small"
        lost = [a - b for a, b in zip(by_epsilon[best_epsilon], by_epsilon[epsilon], strict=True)]
        if fault == "too large" and fmean(lost) <= t_quantile(len(lost) - 1, 0.95) * stdev(lost) / math.sqrt(len(lost)):
            fault = "perhaps too large"
        found.append(Trained(task, epsilon, cost, fault, tuple(looks)))
    return found


def rates(
    trainings: Sequence[Trained], shortened: float, large: Sequence[str] = ("too large", "perhaps too large")
) -> tuple[int, int, int, int]:
    """Return alarms among the seeds at ε that are too large and these seeds, then false alarms and the other seeds."""
    counts = []
    for faults in (large, ("",)):
        own = [each for each in trainings if each.fault in faults]
        counts += [sum(each.alarms(shortened) for each in own), sum(len(each.looks) for each in own)]
    found, harmed, false, others = counts
    return found, harmed, false, others


def share(part: int, whole: int) -> str:
    """Write a share with Wilson's 95 % interval."""
    if not whole:
        return "none"
    p, z = part / whole, 1.96
    centre, half = (p + z**2 / (2 * whole)), z * math.sqrt(p * (1 - p) / whole + z**2 / (4 * whole**2))
    low, high = ((centre + side * half) / (1 + z**2 / whole) for side in (-1, 1))
    return f"{part} of {whole}, {100 * p:.0f} % ({100 * max(low, 0):.0f} to {100 * min(high, 1):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs-calibration"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--no-training", action="store_true", help="only read what was trained")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in () if options.no_training else options.tasks:
        train(options.out, name)
    trainings = {name: read(options.out, name) for name in options.tasks}
    print("| task | ε | costs | damping, first and last look | adapting | alarms |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, own in trainings.items():
        for each in own:
            totals = [look.damping for looks in each.looks for look in (looks[0], looks[-1])]
            first, last = (fmean(total.mean for total in totals[side::2] if total) for side in (0, 1))
            adapting = fmean(total.adapting for total in totals[1::2] if total)
            cost = f"{each.cost:.2f}{f', {each.fault}' if each.fault else ''}"
            alarms = f"{each.alarms(SHORTENED)} of {len(each.looks)}"
            print(f"| {name} | {power(each.epsilon)} | {cost} | {first:.3f}, {last:.3f} | {adapting:.2f} | {alarms} |")
    every = [each for own in trainings.values() for each in own]
    print("\nat the alarm's own thresholds:")
    for large in (("too large", "perhaps too large"), ("too large",)):
        found, harmed, false, others = rates(every, SHORTENED, large)
        print(f"found {share(found, harmed)} of those {' or '.join(large)}; false {share(false, others)}")
    names = list(trainings)
    halves = [[each for name in names[side::2] for each in trainings[name]] for side in (0, 1)]
    print(
        "\n| damping below | found, first half | false | found, second half | false |\n| --- | --- | --- | --- | --- |"
    )
    for shortened in CANDIDATES:
        columns = []
        for half in halves:
            found, large, false, others = rates(half, shortened)
            columns += [share(found, large), share(false, others)]
        print(f"| {shortened:g} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
