"""Check the square-root rule and SVAG against the stochastic differential equations, on a noisy quadratic.

Prints tables in Markdown. How fast SVAG's expected loss approaches the equation's as l grows: to first order in η²/l²
it falls fourfold for each doubling of l. What of it is the error of Euler's scheme with the same steps is exact, the
rest comes of v not being its mean. How far an optimizer at κ times the batch size strays from the base run, at the same
time: little by the square-root rule, much by the others. The equation's moments are exact, those of the algorithms are
sampled, with standard errors; a minute on an idle core.

    python scripts/check_sde.py [--paths 20000]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from epsgrid.numerics.scaling import RULES, Constants, Rule
from epsgrid.numerics.sde import (
    Algorithm,
    Estimate,
    Quadratic,
    descend,
    discretised,
    euler_moments,
    expected_losses,
    moments,
)

PROBLEM = Quadratic(
    hessian=np.array([[2.0, 0.3], [0.3, 0.5]]),
    covariance=np.array([[1.0, 0.5], [0.5, 2.0]]),
    start=np.array([1.5, -1.0]),
)
TIME = 2.0
SPEEDS = {"RMSprop": (1.0,), "Adam": (4.0, 1.0)}
"""(1 − βᵢ)/η² by algorithm."""

FACTORS = (1, 2, 4, 8)
COARSE_STEPS = 50
"""Plain steps until `TIME` where SVAG is looked at: η = 0.2."""
SMALL_EPSILON = 0.1
"""ε₀ there, of √v's 1 and 1.4 in the same unit."""

KAPPAS = (2, 4, 8)
FINE_STEPS = 640
"""Steps of the base run that other batch sizes are compared with: η = 0.056."""
LARGE_EPSILON = 0.5
"""ε₀ there: large enough that to forget it shows."""

EVERY = 32
"""Base steps between two looks at it."""

MOST = 4
"""With l times finer steps l times as many paths are taken, but no more than so many times as many."""
AT_ONCE = 10_000
_TWO_SIDED_95 = 1.96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=20_000, metavar="N", help="paths at l = 1; more with SVAG")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    for name in SPEEDS:
        print_orders(name, arguments.paths, arguments.seed)
    for name in SPEEDS:
        print_rules(name, arguments.paths, arguments.seed)
    print(f"{time.perf_counter() - begin:.0f} s")


def print_orders(name: str, paths: int, seed: int) -> None:
    """Print how SVAG's expected loss at the end differs from the equation's, and the fitted order."""
    equation = Constants(noise=1.0, epsilon=SMALL_EPSILON, decays=SPEEDS[name])
    exact = moments(PROBLEM, equation, [TIME])[0].loss(PROBLEM)
    algorithm = discretised(equation, TIME / COARSE_STEPS)
    found = []
    for factor in FACTORS:
        loss = sampled(algorithm, [COARSE_STEPS], paths * min(factor, MOST), [seed, factor], factor=factor)[0]
        found.append(Estimate(loss.value - exact, loss.error))
    print(f"\n{name} by SVAG: E f at t = {TIME:g}, where the equation's is {exact:.6f}\n")
    print_table("l", "η²/l²", "error of E f", "standard error", "order against the l before", "of it Euler's scheme")
    for index, (factor, error) in enumerate(zip(FACTORS, found, strict=True)):
        order = order_between(found[index - 1], error) if index else "—"
        step = f"{TIME / COARSE_STEPS / factor**2:.4g}"
        finer = algorithm.at(Fraction(1, factor**2))
        euler = euler_moments(PROBLEM, finer, [COARSE_STEPS * factor**2])[0].loss(PROBLEM) - exact
        print_row(factor, step, f"{error.value:+.6f}", f"{error.error:.6f}", order, f"{euler:+.6f}")
    print()
    for factors in (FACTORS, FACTORS[1:]):
        slope, half = fitted_order(factors, found[-len(factors) :])
        among = ", ".join(map(str, factors))
        print(f"Order in η²/l² fitted over l = {among}: {slope:.3f} ± {half:.3f} (95 %, of sampling); theory: 1.  ")
    first, half, misfit = leading_term([TIME / COARSE_STEPS / factor**2 for factor in FACTORS], found)
    free = len(FACTORS) - 2
    print(f"As a·h + b·h² with h = η²/l²: a = {first:.3f} ± {half:.3f} (95 %); χ² = {misfit:.1f}, {free} free.")


def sampled(
    algorithm: Algorithm,
    records: Sequence[int],
    paths: int,
    seed: Sequence[int],
    *,
    factor: int = 1,
) -> list[Estimate]:
    """Return the expected losses of an algorithm after some steps, a chunk of paths at a time."""
    finer = algorithm.at(Fraction(1, factor**2))
    exact = euler_moments(PROBLEM, finer, [record * factor**2 for record in records])
    random = np.random.default_rng(seed)
    chunks = [
        expected_losses(PROBLEM, descend(PROBLEM, algorithm, records, count, random, l=factor), exact)
        for count in sizes(paths)
    ]
    weights = np.array(list(sizes(paths))) / paths
    return [
        Estimate(
            sum(weight * each.value for weight, each in zip(weights, at_once, strict=True)),
            math.sqrt(sum((weight * each.error) ** 2 for weight, each in zip(weights, at_once, strict=True))),
        )
        for at_once in zip(*chunks, strict=True)
    ]


def sizes(paths: int) -> Iterator[int]:
    """Yield how many paths to take at a time: arrays that stay in the processor's cache."""
    for first in range(0, paths, AT_ONCE):
        yield min(AT_ONCE, paths - first)


def order_between(coarse: Estimate, fine: Estimate) -> str:
    """Return log₄ of the ratio of two errors with its standard error."""
    if coarse.value * fine.value <= 0:
        return "sign changes"
    order = math.log(coarse.value / fine.value, 4)
    spread = math.hypot(coarse.error / coarse.value, fine.error / fine.value) / math.log(4)
    return f"{order:.2f} ± {spread:.2f}"


def fitted_order(factors: Sequence[int], errors: Sequence[Estimate]) -> tuple[float, float]:
    """Fit log|error| against log(1/l²) by weighted least squares; return the slope and half its 95 % interval."""
    x = -2 * np.log(factors)
    y = np.log(np.abs([error.value for error in errors]))
    weight = np.array([(error.value / error.error) ** 2 for error in errors])
    centred = x - np.average(x, weights=weight)
    slope = (weight * centred * y).sum() / (weight * centred**2).sum()
    return float(slope), float(_TWO_SIDED_95 / math.sqrt((weight * centred**2).sum()))


def leading_term(steps: Sequence[float], errors: Sequence[Estimate]) -> tuple[float, float, float]:
    """Fit a·h + b·h² by weighted least squares; return a, half its 95 % interval, and χ²."""
    h, value, weight = (np.array(each) for each in (steps, *zip(*errors, strict=True)))
    design = np.stack([h, h**2], 1) / weight[:, None]
    inverse = np.linalg.inv(design.T @ design)
    terms = inverse @ design.T @ (value / weight)
    misfit = ((design @ terms - value / weight) ** 2).sum()
    return float(terms[0]), float(_TWO_SIDED_95 * math.sqrt(inverse[0, 0])), float(misfit)


def print_rules(name: str, paths: int, seed: int) -> None:
    """Print how far the whole course of E f strays from that of the base batch size, by rule and κ."""
    base = discretised(Constants(noise=1.0, epsilon=LARGE_EPSILON, decays=SPEEDS[name]), TIME / FINE_STEPS)
    begin = float(PROBLEM.loss(PROBLEM.start))
    records = range(EVERY, FINE_STEPS + 1, EVERY)
    course = sampled(base, records, paths, [seed])
    print(
        f"\n{name}: greatest distance of E f from the base run's (η = {base.learning_rate:.3f}) at {len(records)} equal"
        f" times, in % of its {begin:.3f} at the start\n"
    )
    print_table("rule", *(f"κ = {kappa}" for kappa in KAPPAS))
    for rule in RULES:
        gaps = [distance(base, kappa, rule, course, paths, seed) for kappa in KAPPAS]
        print_row(rule, *(f"{100 * gap.value / begin:.2f} ± {100 * gap.error / begin:.3f}" for gap in gaps))


def print_table(*heads: str) -> None:
    print_row(*heads)
    print_row(*["---"] * len(heads))


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def distance(base: Algorithm, kappa: int, rule: Rule, course: Sequence[Estimate], paths: int, seed: int) -> Estimate:
    """Return the greatest distance between two courses at equal times, with its standard error there."""
    every = EVERY // kappa
    records = range(every, FINE_STEPS // kappa + 1, every)
    other = sampled(base.at(kappa, rule), records, paths, [seed, kappa])
    gaps = [Estimate(abs(a.value - b.value), math.hypot(a.error, b.error)) for a, b in zip(course, other, strict=True)]
    return max(gaps)


if __name__ == "__main__":
    main()
