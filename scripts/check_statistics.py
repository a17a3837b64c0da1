"""Check the report's statistics by simulation, where the truth is known: run on demand.

    python scripts/check_statistics.py --repeats 2000

First, how often the 95 % intervals of a mean over seeds (Student's t) hold the true mean, for scores that are normal,
skewed or have heavy tails.

Then, how often the verdict "optimum inside: yes / no / cannot tell" is what it should be. Simulated are sweeps of two
learning rates and thirteen ε, four of them inside the bounds. A trial's score is its cell's true score, plus what its
seed adds to every cell, plus what this one training adds (both with a standard deviation of one unit), plus half a unit
of each split's own. In the first case all cells are equally good: every yes and every no is an error, and they would be
5 % together if cells were not chosen. In the others the best ε lies inside or outside, and each decade from it costs so
many units.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from epsgrid.selection.verdict import judge

from epsgrid.numerics.statistics import mean_interval
from epsgrid.selection.cells import Cell, TrialRow, spread_of, tally
from epsgrid.selection.formatting import Metric

METRIC = Metric("score", "max", "")
DECADES = tuple(range(-10, 3))
INSIDE = (-5, -4, -3, -2)
RATES = (0, 1)
SPLIT_SD = 0.5

Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]
SPREADS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed (exponential)": lambda rng, n: rng.exponential(size=n) - 1,
    "heavy tails (t, 3 degrees)": lambda rng, n: rng.standard_t(3, size=n),
}
"""Each with a true mean of zero."""


def coverage(spread: str, seeds: int, repeats: int) -> float:
    """Return how often intervals hold the true mean."""
    rng = np.random.default_rng([seeds, repeats])
    found = (mean_interval(SPREADS[spread](rng, seeds).tolist()) for _ in range(repeats))
    return sum(each.low <= 0 <= each.high for each in found if each.low is not None and each.high is not None) / repeats


def sweep(rng: np.random.Generator, best: int | None, cost: float, seeds: int) -> list[Cell]:
    """Simulate a sweep.

    Args:
        rng: of all that is random.
        best: the decade of the best ε; None where all are equally good.
        cost: what each decade from it costs, in units.
        seeds: trials of each cell.
    """
    common = rng.normal(size=seeds)
    cells = []
    for rate in RATES:
        for decade in DECADES:
            true = 0.0 if best is None else -cost * (abs(decade - best) + rate)
            trained = true + common + rng.normal(size=seeds)
            validation, test = (trained + SPLIT_SD * rng.normal(size=seeds) for _ in range(2))
            cells.append(_cell(rate, decade, validation.tolist(), test.tolist()))
    return cells


def _cell(rate: int, decade: int, validation: Sequence[float], test: Sequence[float]) -> Cell:
    trials = tuple(
        TrialRow(f"{rate} {decade} {seed}", seed, "done", *scores, 1, 1.0, None)
        for seed, scores in enumerate(zip(validation, test, strict=True))
    )
    return Cell(
        learning_rate=10.0**-rate,
        trained_rate=10.0**-rate,
        epsilon=10.0**decade,
        grids=("conventional",),
        inside=decade in INSIDE,
        tally=tally(trials),
        score=spread_of(validation),
        test=spread_of(test),
        trials=trials,
    )


def verdicts(best: int | None, cost: float, seeds: int, repeats: int) -> dict[str, float]:
    """Return how often each answer is given."""
    rng = np.random.default_rng([seeds, repeats, 10 + (best or 0), round(100 * cost)])
    answers = Counter(judge(sweep(rng, best, cost, seeds), METRIC, obstacle=None).answer for _ in range(repeats))
    return {answer: answers[answer] / repeats for answer in ("yes", "no", "cannot tell")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 8, 12, 20])
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"Coverage of 95 % intervals, {options.repeats} samples each")
    print(f"{'scores':<28}" + "".join(f"{f'{n} seeds':>10}" for n in options.seeds))
    for spread in SPREADS:
        rates = [coverage(spread, seeds, options.repeats) for seeds in options.seeds]
        print(f"{spread:<28}" + "".join(f"{100 * rate:>9.1f}%" for rate in rates), flush=True)
    print(f"\nVerdicts, {options.repeats} sweeps each: yes / no / cannot tell, in %")
    print(f"{'truth':<44}" + "".join(f"{f'{n} seeds':>16}" for n in options.seeds))
    cases = [(None, 0.0)] + [(best, cost) for best in (-3, -8) for cost in (0.25, 0.5, 1.0, 2.0)]
    for best, cost in cases:
        where = "inside" if best in INSIDE else "outside"
        named = "all equally good" if best is None else f"best {where}, a decade costs {cost:g} units"
        answers = [verdicts(best, cost, seeds, options.repeats) for seeds in options.seeds]
        print(f"{named:<44}" + "".join(f"{_shown(rates):>16}" for rates in answers), flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


def _shown(rates: dict[str, float]) -> str:
    return " / ".join(f"{100 * rate:.1f}" if rate < 0.0995 else f"{100 * rate:.0f}" for rate in rates.values())


if __name__ == "__main__":
    main()
