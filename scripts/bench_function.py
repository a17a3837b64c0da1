"""Sweep one training function by epsgrid, Ray Tune and Optuna, and kill each in the middle: run on demand.

Each way is a program of its own, a trial on each core, timed with its start-up. Then it is started once more, killed by
SIGKILL when half of the trainings have ended, and started again as its manual says: epsgrid by the same call, a trial's
state in its folder; Ray Tune by `Tuner.restore`, the state in a report's checkpoint; Optuna by the same study of an
SQLite file, where a trial has no place for a state. Printed are, of the killed one, epochs that were trained twice,
points without a result or with another one, and results that are there twice.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

GRID = {"eps": (1e-8, 1e-4, 1e-2), "lr": (1e-3, 3e-3, 1e-2), "seed": (0, 1)}
POINTS = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
EPOCHS, LIMIT_S = 8, 900.0
HERE, CORES = Path(__file__).resolve().parent, len(os.sched_getaffinity(0))

State = dict[str, Any] | None
Found = list[tuple[str, float]]  # points, as JSON, and their accuracies


def train(point: dict[str, Any], state: State, after: Callable[[int, float, State], None]) -> float:
    """Train a point from a state, or from its initial weights; `after` gets each epoch, its score and the state."""
    torch.set_num_threads(1)
    inputs = torch.randn(6000, 64, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, :8] * inputs[:, 8:16]).argmax(1)
    torch.manual_seed(point["seed"])
    model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=point["lr"], eps=point["eps"])
    accuracy, first = 0.0, 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        accuracy, first = state["accuracy"], state["epoch"] + 1
    for epoch in range(first, EPOCHS):
        order = torch.randperm(5000, generator=torch.Generator().manual_seed(1000 * point["seed"] + epoch))
        for rows in order.split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()
        accuracy = float((model(inputs[5000:]).argmax(1) == labels[5000:]).float().mean())
        with Path(os.environ["JOURNAL"]).open("a") as journal:
            journal.write(json.dumps([point, epoch]) + "\n")
        now = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "accuracy": accuracy}
        after(epoch, accuracy, now)
    return accuracy


def train_epsgrid(trial: Any) -> float:
    """Train a trial of epsgrid."""
    kept = trial.folder / "state.pt"

    def after(epoch: int, accuracy: float, state: State) -> None:
        torch.save(state, kept.with_suffix(".new"))
        kept.with_suffix(".new").replace(kept)
        trial.report(accuracy, epoch)

    point = {"eps": trial.epsilon, "lr": trial.learning_rate, "seed": trial.seed}
    return train(point, torch.load(kept) if kept.exists() else None, after)


def be_epsgrid(folder: Path, *, again: bool) -> Found:
    """Be the program that sweeps with epsgrid; it is the same one again."""
    import epsgrid

    grid = {"epsilons": GRID["eps"], "learning_rates": GRID["lr"], "seeds": GRID["seed"], "grid": "narrowed"}
    results = epsgrid.sweep(train_epsgrid, epochs=EPOCHS, out=folder / "run", **grid)
    names = {"epsilon": "eps", "learning_rate": "lr", "seed": "seed"}
    return [(json.dumps({short: row[name] for name, short in names.items()}), row["validation"]) for row in results]


def be_ray(folder: Path, *, again: bool) -> Found:
    """Be the program that tunes with Ray, or goes on."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(HERE), "RAY_AIR_NEW_OUTPUT": "0"}
    import ray
    from ray import tune

    ray.init("local", num_cpus=CORES, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)

    def one(config: dict[str, Any]) -> None:
        import bench_function

        def after(epoch: int, accuracy: float, state: State) -> None:
            with tempfile.TemporaryDirectory() as place:
                torch.save(state, Path(place) / "state.pt")
                tune.report({"accuracy": accuracy}, checkpoint=tune.Checkpoint.from_directory(place))

        kept, state = tune.get_checkpoint(), None
        if kept is not None:
            with kept.as_directory() as place:
                state = torch.load(Path(place) / "state.pt")
        bench_function.train(config["point"], state, after)

    trainable = tune.with_resources(one, {"cpu": 1})
    if again:
        tuner = tune.Tuner.restore(str(folder / "run"), trainable=trainable, resume_errored=True)
    else:
        run = tune.RunConfig(storage_path=str(folder), name="run", verbose=0)
        tuner = tune.Tuner(trainable, param_space={"point": tune.grid_search(POINTS)}, run_config=run)
    return [(json.dumps(each.config["point"]), each.metrics["accuracy"]) for each in tuner.fit() if each.metrics]


def be_optuna(folder: Path, *, again: bool) -> Found:
    """Be the program that tunes with Optuna, or goes on."""
    import optuna

    def objective(trial: Any) -> float:
        return train(POINTS[trial.suggest_categorical("point", numbers)], None, lambda *told: None)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    numbers = list(range(len(POINTS)))
    sampler, storage = optuna.samplers.GridSampler({"point": numbers}), f"sqlite:///{folder / 'study.db'}"
    study = optuna.create_study(storage=storage, study_name="run", sampler=sampler, load_if_exists=again)
    study.optimize(objective, n_jobs=CORES)  # until the sampler says that the grid is trained
    return [(json.dumps(POINTS[each.params["point"]]), each.value) for each in study.trials if each.value is not None]


ROLES = {"epsgrid": be_epsgrid, "ray": be_ray, "optuna": be_optuna}


def run(way: str, folder: Path, *options: str, kill_after: float = math.inf) -> tuple[float, Found]:
    """Run the program of a way to its end, or kill it after some trainings; return its seconds and what it found."""
    (journal := folder / "journal").touch()
    command = [sys.executable, str(Path(__file__)), "--as", way, "--folder", str(folder), *options]
    environment = {**os.environ, "JOURNAL": str(journal), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("ab") as log:
        start = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        while process.poll() is None:
            if sum(line.endswith(f" {EPOCHS - 1}]") for line in journal.read_text().splitlines()) >= kill_after:
                process.kill()
                time.sleep(5)  # in which what it started ends by itself, or not
                return time.monotonic() - start, []
            if time.monotonic() - start > LIMIT_S:
                raise subprocess.TimeoutExpired(command, LIMIT_S)
            time.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not process.returncode, (folder / "log.txt").read_text()[-2000:]
    return time.monotonic() - start, json.loads((folder / "results.json").read_text())


def main() -> None:
    """Compare the ways that are installed, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--as", dest="role", choices=ROLES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.role:
        found = ROLES[asked.role](asked.folder, again=asked.again)
        (asked.folder / "results.json").write_text(json.dumps(found))
        return
    print(f"{len(POINTS)} trainings of {EPOCHS} epochs on {CORES} cores\n")
    print(
        f"| way | wall s | killed + again | epochs twice | missing | differ | results twice |\n|{' --- |' * 7}",
        flush=True,
    )
    for way in filter(importlib.util.find_spec, ROLES):
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as place:
            whole, killed = (Path(tempfile.mkdtemp(dir=place)) for _ in range(2))
            try:
                seconds, results = run(way, whole)
                before, _ = run(way, killed, kill_after=len(POINTS) // 2)
                after, found = run(way, killed, "--again")
            except subprocess.TimeoutExpired:
                print(f"| {way} | did not end within {LIMIT_S:g} s |")
                continue
            epochs = Counter((killed / "journal").read_text().splitlines())
        got, twice = dict(found), sum(epochs.values()) - len(epochs)
        differ = sum(got.get(name, score) != score for name, score in results)
        cells = (way, f"{seconds:.0f}", f"{before:.0f} + {after:.0f}", twice, len(POINTS) - len(got), differ)
        print(f"| {' | '.join(map(str, cells))} | {len(found) - len(got)} |", flush=True)


if __name__ == "__main__":
    main()
