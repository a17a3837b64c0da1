"""Sweep one training function by epsgrid, Ray Tune and Optuna, and kill each in the middle: run on demand.

    python scripts/bench_function.py

The same grid of learning rate × ε × seed with the same function, one torch thread a trial and one trial a core. Each way
is a program of its own, timed from outside, start-up included; then it is started once more, killed by SIGKILL when half
of the trainings have ended, and started again as its manual says that one goes on:

    epsgrid   the same call of `epsgrid.sweep`; the function keeps its state in `trial.folder`
    ray       Ray Tune's grid_search, and `Tuner.restore`; the function keeps its state in a checkpoint of its report
    optuna    Optuna's GridSampler with an SQLite file, the same study loaded; a trial has no place for a state

Printed are wall seconds, epochs that were trained twice, points of the grid without a result, trainings whose result is
another one than without the kill, and results that are there twice. A way that does not end in time is ended and left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
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
from bench_sweep import CORES, HERE
from torch.nn import functional as F

POINTS = [
    {"lr": lr, "eps": eps, "seed": seed}
    for seed, lr, eps in itertools.product((0, 1), (1e-3, 3e-3, 1e-2), (1e-8, 1e-4, 1e-2))
]
EPOCHS = 8
WAYS = ("epsgrid", "ray", "optuna")


def train(
    point: dict[str, Any], state: dict[str, Any] | None, after: Callable[[int, float, dict[str, Any]], None]
) -> float:
    """Train a point from a state, or from its initial weights; `after` gets every epoch, its score and the state."""
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(6000, 64, generator=draw)
    labels = (inputs[:, :8] * inputs[:, 8:16]).argmax(1)
    torch.manual_seed(point["seed"])
    model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=point["lr"], eps=point["eps"])
    accuracy, first = 0.0, 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, accuracy = state["epoch"], state["accuracy"]
    for epoch in range(first, EPOCHS):
        order = torch.randperm(5000, generator=torch.Generator().manual_seed(1000 * point["seed"] + epoch))
        for rows in order.split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()
        accuracy = float((model(inputs[5000:]).argmax(1) == labels[5000:]).float().mean())
        with Path(os.environ["JOURNAL"]).open("a") as journal:
            journal.write(json.dumps([point, epoch]) + "\n")
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        after(epoch, accuracy, {**states, "epoch": epoch + 1, "accuracy": accuracy})
    return accuracy


def train_epsgrid(trial: Any) -> float:
    """Train a trial of epsgrid."""
    kept = trial.folder / "state.pt"

    def after(epoch: int, accuracy: float, state: dict[str, Any]) -> None:
        torch.save(state, kept.with_suffix(".new"))
        kept.with_suffix(".new").replace(kept)
        trial.report(accuracy, epoch)

    point = {"lr": trial.learning_rate, "eps": trial.epsilon, "seed": trial.seed}
    return train(point, torch.load(kept) if kept.exists() else None, after)


def be_epsgrid(folder: Path, *, again: bool) -> list[tuple[str, float]]:
    """Be the program that sweeps with epsgrid; it is the same one again."""
    import epsgrid

    rates, epsilons, seeds = (sorted({point[name] for point in POINTS}) for name in ("lr", "eps", "seed"))
    results = epsgrid.sweep(
        train_epsgrid,
        learning_rates=rates,
        epsilons=epsilons,
        seeds=seeds,
        grid="narrowed",
        epochs=EPOCHS,
        out=folder / "run",
    )
    rows = ({"lr": row["learning_rate"], "eps": row["epsilon"], "seed": row["seed"], **row} for row in results)
    return [(key({name: row[name] for name in POINTS[0]}), row["validation"]) for row in rows if row["state"] == "done"]


def be_ray(folder: Path, *, again: bool) -> list[tuple[str, float]]:
    """Be the program that tunes with Ray, or goes on."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(HERE), "RAY_AIR_NEW_OUTPUT": "0"}
    import ray
    from ray import tune

    ray.init(
        address="local", num_cpus=CORES, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False
    )

    def one(config: dict[str, Any]) -> None:
        import bench_function

        def after(epoch: int, accuracy: float, state: dict[str, Any]) -> None:
            with tempfile.TemporaryDirectory() as place:
                torch.save(state, Path(place) / "state.pt")
                tune.report({"accuracy": accuracy}, checkpoint=tune.Checkpoint.from_directory(place))

        found, state = tune.get_checkpoint(), None
        if found is not None:
            with found.as_directory() as place:
                state = torch.load(Path(place) / "state.pt")
        bench_function.train(config["point"], state, after)

    trainable = tune.with_resources(one, {"cpu": 1})
    if again:
        tuner = tune.Tuner.restore(str(folder / "run"), trainable=trainable, resume_errored=True)
    else:
        run = tune.RunConfig(storage_path=str(folder), name="run", verbose=0)
        tuner = tune.Tuner(trainable, param_space={"point": tune.grid_search(POINTS)}, run_config=run)
    return [
        (key(found.config["point"]), found.metrics["accuracy"]) for found in tuner.fit() if "accuracy" in found.metrics
    ]


def be_optuna(folder: Path, *, again: bool) -> list[tuple[str, float]]:
    """Be the program that tunes with Optuna, or goes on."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    numbers = list(range(len(POINTS)))

    def objective(trial: Any) -> float:
        return train(POINTS[trial.suggest_categorical("point", numbers)], None, lambda *told: None)

    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name="run",
        sampler=optuna.samplers.GridSampler({"point": numbers}),
        direction="maximize",
        load_if_exists=again,
    )
    study.optimize(objective, n_jobs=CORES)  # until the sampler says that the grid is trained
    return [(key(POINTS[each.params["point"]]), each.value) for each in study.trials if each.value is not None]


def key(point: dict[str, Any]) -> str:
    """Return the name of a point."""
    return json.dumps(point, sort_keys=True)


def run(way: str, folder: Path, limit_s: float, *, again: bool = False, kill_after: int = 0) -> tuple[float, list[Any]]:
    """Run the program of a way to its end, or kill it after some trainings; return its seconds and what it found.

    Raises TimeoutExpired where it takes longer than the limit; nothing of it is left then, nor after a kill.
    """
    journal, printed = folder / "journal", folder / "results.json"
    command = [
        sys.executable,
        str(Path(__file__)),
        "--as",
        way,
        "--folder",
        str(folder),
        *(["--again"] if again else []),
    ]
    environment = {**os.environ, "JOURNAL": str(journal), "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        while process.poll() is None:
            ended = (
                sum(json.loads(line)[1] == EPOCHS - 1 for line in journal.read_text().splitlines()) if kill_after else 0
            )
            if kill_after and ended >= kill_after:
                process.kill()
                time.sleep(5)  # what it started ends by itself, or not
                return time.monotonic() - start, []
            if time.monotonic() - start > limit_s:
                raise subprocess.TimeoutExpired(command, limit_s)
            time.sleep(0.1)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    if process.returncode:
        raise SystemExit(f"{way}: {(folder / 'log.txt').read_text()[-2000:]}")
    return time.monotonic() - start, json.loads(printed.read_text())


def row(way: str, limit_s: float) -> str:
    """Return what a way did, undisturbed and killed, as a row of the table."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as whole,
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as killed,
    ):
        for folder in (whole, killed):
            (Path(folder) / "journal").touch()
        seconds, results = run(way, Path(whole), limit_s)
        before, _ = run(way, Path(killed), limit_s, kill_after=len(POINTS) // 2)
        after, again = run(way, Path(killed), limit_s, again=True)
        epochs = Counter((Path(killed) / "journal").read_text().splitlines())
    found, counted = dict(again), Counter(name for name, _ in again)
    differ = sum(found[name] != score for name, score in results if name in found)
    missing = len({key(point) for point in POINTS} - found.keys())
    cells = (f"{seconds:.0f}", f"{before:.0f} + {after:.0f}", sum(epochs.values()) - len(epochs), missing, differ)
    return f"| {way} | {' | '.join(map(str, cells))} | {sum(counted.values()) - len(counted)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that one program may take")
    parser.add_argument("--as", dest="role", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.role:
        found = {"epsgrid": be_epsgrid, "ray": be_ray, "optuna": be_optuna}[asked.role](asked.folder, again=asked.again)
        (asked.folder / "results.json").write_text(json.dumps(found))
        return
    print(f"{len(POINTS)} trainings of {EPOCHS} epochs on {CORES} cores\n")
    print("| way | wall s | killed + again, s | epochs twice | points missing | differ | results twice |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for way in asked.ways:
        if importlib.util.find_spec(way) is None:
            print(f"{way} is not installed: left out", file=sys.stderr)
            continue
        try:
            print(row(way, asked.limit), flush=True)
        except subprocess.TimeoutExpired as error:
            print(f"{way} did not end within {error.timeout:g} s: left out", file=sys.stderr)


if __name__ == "__main__":
    main()
