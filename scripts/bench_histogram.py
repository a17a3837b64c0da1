"""Time counting √v̂ against sorting it, side by side on this machine.

    python scripts/bench_histogram.py --sizes 1e4 1e6 2e7 --rounds 9

Every round runs all methods on the same v, one after another, on one thread, so that other load on the machine affects
them equally; times are processor time. Read the ratios rather than the times. The exact order statistics are compared
with the sort's each time.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from epsgrid.numerics import tables
from epsgrid.numerics.counting import count, order_statistics
from epsgrid.numerics.magnitudes import TAIL_FRACTION, high_rank, low_rank

ENTRIES_PER_TIMING = 200_000


def count_and_order_statistics(v: torch.Tensor) -> list[float]:
    histogram = count(v)
    ranks = (low_rank(histogram.nonzero, TAIL_FRACTION), high_rank(histogram.nonzero, TAIL_FRACTION))
    return order_statistics(v, ranks, histogram)


def published(v: torch.Tensor) -> list[float]:
    """The published way: drop zeros, take roots, sort."""
    ordered = v[v != 0].sqrt().sort().values
    n = ordered.numel()
    return [ordered[low_rank(n, TAIL_FRACTION)].item(), ordered[high_rank(n, TAIL_FRACTION)].item()]


METHODS: dict[str, Callable[[torch.Tensor], object]] = {
    "one read of v (sum)": torch.sum,
    "count": count,
    "count + exact order statistics": count_and_order_statistics,
    "log10 + torch.histc": lambda v: v.log10().histc(bins=8192, min=-38, max=38),
    "numpy sort": lambda v: np.sort(v.numpy()),
    "non-zero, sqrt + torch.sort": published,
}


def second_moment(entries: int, zero_fraction: float, seed: int) -> torch.Tensor:
    """Draw magnitudes over some ten decades, a share of them zero."""
    generator = torch.Generator().manual_seed(seed)
    v = (4 * torch.randn(entries, generator=generator) - 14).exp()
    return v * (torch.rand(entries, generator=generator) >= zero_fraction)


def timed(method: Callable[[torch.Tensor], object], v: torch.Tensor) -> float:
    """Return nanoseconds per entry, over enough calls to be measurable."""
    calls = max(1, ENTRIES_PER_TIMING // v.numel())
    start = time.process_time()
    for _ in range(calls):
        method(v)
    return (time.process_time() - start) / calls / v.numel() * 1e9


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor() or platform.machine()


def check(v: torch.Tensor) -> None:
    """Compare both ways to the order statistics; the published one takes roots in float32."""
    exact = torch.tensor(count_and_order_statistics(v), dtype=torch.float32).sqrt().tolist()
    assert exact == published(v), (exact, published(v))


def bench(entries: int, arguments: argparse.Namespace) -> None:
    v = second_moment(entries, arguments.zeros, arguments.seed)
    check(v)
    rounds = [{name: timed(method, v) for name, method in METHODS.items()} for _ in range(arguments.rounds)]
    slowest = statistics.median(times["non-zero, sqrt + torch.sort"] for times in rounds)
    print(f"\n{entries:,} entries, {arguments.zeros:.0%} zeros, {arguments.rounds} rounds")
    print(f"{'':32}{'median':>9}{'least':>9}{'most':>9}  ns per entry{'sort is':>12}")
    for name in METHODS:
        times = [each[name] for each in rounds]
        median = statistics.median(times)
        print(f"{name:32}{median:9.2f}{min(times):9.2f}{max(times):9.2f}{'':14}{slowest / median:11.1f}x")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time counting against sorting, side by side.")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e4, 1e6, 2e7], help="numbers of entries")
    parser.add_argument("--rounds", type=int, default=7, help="timings of each method; the median is shown")
    parser.add_argument("--zeros", type=float, default=0.1, help="share of entries that are zero")
    parser.add_argument("--seed", type=int, default=0, help="seed of the entries")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    print("compiled counting" if tables.compiled() else "no compiled counting: see the warning")
    print(f"{processor()}; {platform.platform()}; torch {torch.__version__}, numpy {np.__version__}; one thread")
    for size in arguments.sizes:
        bench(int(size), arguments)


if __name__ == "__main__":
    main()
