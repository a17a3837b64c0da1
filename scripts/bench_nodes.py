"""Measure one Ray node against two: the same sweep on a cluster of one node, then of two, each with one slot.

    python scripts/bench_nodes.py --trials 12 --epochs 6

Both nodes are on this machine, at the loopback device, each a Ray node of its own with processes of its own; a machine
with two idle cores is needed for the ratio to mean anything. Timed is the whole command `epsgrid sweep --address`, its
start-up included, and beside it what the trials themselves took: where two trials at once slow each other down, by
memory or a shared clock, that shows there and is not the executor's doing. So the trials are of a network that stays in
a processor's own caches: an MLP of two million weights is 8 % slower beside another one. Needs CIFAR-10 and
`pip install 'epsgrid[ray]'`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STORE_BYTES = 80 * 2**20


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """Keep a cluster of so many nodes with one slot each; yield its address."""
    # The second means to Ray that 127.0.0.1 is what is meant, and not an address that others can reach.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        for _ in range(nodes):
            made.add_node(
                num_cpus=1, node_ip_address="127.0.0.1", include_dashboard=False, object_store_memory=_STORE_BYTES
            )
        yield str(made.address)
    finally:
        made.shutdown()


def spec(trials: int, epochs: int) -> dict[str, Any]:
    """Return a narrow ResNet34 on 2,000 images of CIFAR-10, with as many grid points as trials are asked for."""
    rates = [1e-4 * 1.5**number for number in range(trials)]
    return {
        "experiment": "nodes",
        "task": {"name": "cifar10", "subset": {"train": 2000, "validation": 1000, "test": 1000}},
        "model": {"name": "resnet34", "width": 8},
        "optimizer": "adam",
        "training": {"epochs": epochs, "batch_size": 64},
        "sweep": {"grid": "default", "learning_rates": rates, "seeds": [0]},
        "execution": {"executor": "ray"},
    }


def measure(nodes: int, document: dict[str, Any]) -> tuple[float, list[float]]:
    """Return the wall seconds of the sweep, and the seconds of each of its trials."""
    with tempfile.TemporaryDirectory(prefix="nodes-") as folder, cluster(nodes) as address:
        path = Path(folder) / "spec.yaml"
        path.write_text(json.dumps(document))  # JSON is YAML
        command = [sys.executable, "-m", "epsgrid", "sweep", str(path), "--runs", f"{folder}/runs", "--quiet"]
        began = time.perf_counter()
        subprocess.run([*command, "--address", address, "--workers", str(nodes)], check=True)
        seconds = time.perf_counter() - began
        results = Path(folder).glob("runs/*/trials/*/result.json")
        return seconds, [json.loads(result.read_text())["seconds"] for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    document = spec(asked.trials, asked.epochs)
    wall: dict[int, list[float]] = {1: [], 2: []}
    print("| nodes | wall s | mean s of a trial | trials |\n| --- | ---: | ---: | ---: |", flush=True)
    for _, nodes in itertools.product(range(asked.rounds), (1, 2)):
        seconds, trials = measure(nodes, document)
        assert len(trials) == asked.trials, f"{len(trials)} of {asked.trials} trials ended"
        wall[nodes].append(seconds)
        print(f"| {nodes} | {seconds:.1f} | {statistics.fmean(trials):.2f} | {len(trials)} |", flush=True)
    print(f"\ntwo nodes: {statistics.median(wall[1]) / statistics.median(wall[2]):.2f} times one")


if __name__ == "__main__":
    main()
