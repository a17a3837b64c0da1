"""Check the square-root rule and SVAG against the stochastic differential equations, on a noisy quadratic.

Prints tables in Markdown:

* how fast SVAG's expected loss approaches the equation's as l grows: to first order in η²/l², that is fourfold for each
  doubling of l. The part of it that is the error of Euler's scheme with the same steps is exact; the rest comes from v
  not being its mean;
* how far an optimizer at κ times the batch size strays from the base run at the same time: little by the square-root
  rule, much by the others.

The equation's moments are exact, those of the algorithms are sampled, with standard errors; a minute on an idle core.

    python scripts/check_sde.py [--paths 20000]

The model: f(x) = ½·xᵀHx, gradients g = Hx + σ·z with z of a known covariance Σ. Time is t = k·η², and with σ₀, ε₀, c₁,
c₂ of `constants` the equations of Malladi et al. (2022, arXiv 2205.10287) are

    RMSprop   dx = −P⁻¹·(Hx dt + σ₀·Σ^½ dW)           P = σ₀·√u + ε₀
    Adam      dx = −(√γ₂/γ₁)·P⁻¹·m dt                  P = σ₀·√u + ε₀·√γ₂      γᵢ = 1 − exp(−cᵢ·t)
              dm = c₁·(Hx − m) dt + σ₀·c₁·Σ^½ dW       m = 0 at t = 0

with u = v/σ² at its long-run value, diag Σ. On a quadratic both are linear in x (and m), so that means and covariances
obey ordinary differential equations, which `moments` solves to any accuracy. `descend` samples the algorithm, plain or
as SVAG, over many paths, and beside each path a twin: the same steps with the same noise, but with u in place of v/σ²,
which is Euler's scheme for the equation. A twin's moments are exact too (`euler_moments`), so a path's are estimated by
how far it strays from its twin, which varies far less than the path.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from epsgrid.numerics import scaling
from epsgrid.numerics.scaling import RULES, Number, Rule

Array = NDArray[np.float64]

_TOLERANCE = 1e-11


@dataclass(frozen=True, eq=False)
class Quadratic:
    """f(x) = ½·xᵀHx and the noise of its gradients, in d dimensions.

    Attributes:
        hessian: H, (d, d), symmetric.
        covariance: Σ, (d, d), positive definite; σ² times it is that of a gradient.
        start: x at time 0, (d,).
    """

    hessian: Array
    covariance: Array
    start: Array

    @property
    def variances(self) -> Array:
        """The diagonal of Σ, (d,)."""
        return np.diag(self.covariance).copy()

    @property
    def factor(self) -> Array:
        """A matrix L with L·Lᵀ = Σ, (d, d)."""
        return np.asarray(np.linalg.cholesky(self.covariance))

    def loss(self, x: Array) -> Array:
        """Return f of points (..., d)."""
        return np.asarray(((x @ self.hessian) * x).sum(-1) / 2)


class Constants(NamedTuple):
    """All that the equations depend on: σ₀ = σ·η, ε₀ = ε·η, and the cᵢ = (1 − βᵢ)/η²."""

    noise: float
    epsilon: float
    decays: tuple[float, ...]


@dataclass(frozen=True)
class Algorithm:
    """The settings of RMSprop or Adam and the noise of the gradients it gets.

    Attributes:
        learning_rate: η.
        decays: (β₂,) for RMSprop without bias correction, (β₁, β₂) for Adam.
        epsilon: ε, outside the root.
        noise: σ.
    """

    learning_rate: float
    decays: tuple[float, ...]
    epsilon: float
    noise: float

    @property
    def constants(self) -> Constants:
        """The constants of its equation."""
        eta = self.learning_rate
        return Constants(self.noise * eta, self.epsilon * eta, tuple((1 - beta) / eta**2 for beta in self.decays))

    def at(self, kappa: Number, rule: Rule = "sqrt") -> Algorithm:
        """Return the algorithm at κ times the batch size: its noise is 1/√κ, its settings are scaled by a rule."""
        return Algorithm(
            scaling.scaled_learning_rate(self.learning_rate, kappa, rule),
            tuple(scaling.scaled_decay(beta, kappa, rule) for beta in self.decays),
            scaling.scaled_epsilon(self.epsilon, kappa, rule),
            scaling.scaled_magnitude(self.noise, kappa),
        )


class Moments(NamedTuple):
    """Mean (d,) and covariance (d, d) of x at one time."""

    mean: Array
    covariance: Array

    def loss(self, problem: Quadratic) -> float:
        """Return the expectation of f."""
        return float(problem.loss(self.mean) + np.sum(problem.hessian * self.covariance) / 2)


class Estimate(NamedTuple):
    """A sampled expectation with its standard error."""

    value: float
    error: float


class Descent(NamedTuple):
    """Where paths stand after some steps, and their twins: each (records, paths, d)."""

    paths: Array
    twins: Array


def moments(problem: Quadratic, equation: Constants, times: Sequence[float]) -> list[Moments]:
    """Return mean and covariance of x at some times, to some ten digits.

    The time is replaced by its square root, because √γ₂/γ₁ is infinite at t = 0, as 1/√t.

    Args:
        problem: the function and its noise.
        equation: σ₀, ε₀ and c₂, or c₁ and c₂ for Adam.
        times: rising, > 0.
    """
    size = len(problem.start)
    width = size * len(equation.decays)

    def slope(root: float, flat: Array) -> Array:
        mean, spread = flat[:width], flat[width:].reshape(width, width)
        drift, noise = _coefficients(problem, equation, root)
        change = drift @ spread
        return np.concatenate([drift @ mean, (change + change.T + noise @ noise.T).ravel()])

    begin = np.concatenate([problem.start, np.zeros(width - size), np.zeros(width**2)])
    roots = np.sqrt(np.asarray(times, float))
    solved = solve_ivp(slope, (0, roots[-1]), begin, "DOP853", roots, rtol=_TOLERANCE, atol=_TOLERANCE * 1e-2)
    assert solved.success, solved.message
    return [Moments(flat[:size], flat[width:].reshape(width, width)[:size, :size]) for flat in solved.y.T]


def _coefficients(problem: Quadratic, equation: Constants, root: float) -> tuple[Array, Array]:
    """Return A and B of dy = A·y ds + B dW with y = x or (x, m), at s = √t: multiplied by dt/ds = 2s, or its root."""
    sigma, pace, hessian, factor = equation.noise, 2 * root, problem.hessian, problem.factor
    *first, second = equation.decays
    if not first:
        inverse = 1 / (sigma * np.sqrt(problem.variances) + equation.epsilon)
        return -pace * inverse[:, None] * hessian, np.sqrt(pace) * sigma * inverse[:, None] * factor
    corrected = np.sqrt(-np.expm1(-second * root**2))
    rate = pace * corrected / -np.expm1(-first[0] * root**2) if root else 2 * np.sqrt(second) / first[0]
    inverse = rate / (sigma * np.sqrt(problem.variances) + equation.epsilon * corrected)
    zero, one = np.zeros_like(hessian), np.eye(len(hessian))
    drift = np.block([[zero, -inverse[:, None] * one], [pace * first[0] * hessian, -pace * first[0] * one]])
    return drift, np.vstack([zero, np.sqrt(pace) * sigma * first[0] * factor])


def discretised(equation: Constants, step: float) -> Algorithm:
    """Return the algorithm that has these constants and whose steps take the time η² = `step`."""
    rate = float(np.sqrt(step))
    decays = tuple(1 - speed * step for speed in equation.decays)
    assert all(0 <= decay < 1 for decay in decays), (equation, step)
    return Algorithm(rate, decays, equation.epsilon / rate, equation.noise / rate)


def descend(
    problem: Quadratic,
    algorithm: Algorithm,
    records: Sequence[int],
    paths: int,
    random: np.random.Generator,
    *,
    l: int = 1,  # noqa: E741 - its name in the papers
) -> Descent:
    """Run an optimizer along many paths, and beside each the twin that has diag Σ in the place of v/σ².

    Each step divides by the v before its gradient, as the paper's analysis and code do.

    Args:
        problem: the function and its noise.
        algorithm: plain settings; with SVAG the steps are taken with those of κ = 1/l².
        records: numbers of steps after which to record, rising; with SVAG l² steps stand for one.
        paths: number of paths.
        random: source of the noise: (d, paths) standard normal numbers for each minibatch of each step.
        l: of SVAG: two minibatches a step, weighted; 1 is the plain algorithm with one.
    """
    finer = algorithm.at(Fraction(1, l**2)) if l > 1 else algorithm
    plus, minus = scaling.svag_weights(l)
    factor, shape = algorithm.noise * problem.factor, (len(problem.start), paths)
    start = np.broadcast_to(problem.start[:, None], shape)
    path, twin = (_Path(start.copy(), np.zeros(shape)) for _ in range(2))
    rest = finer.noise**2 * problem.variances[:, None]
    v, beta2 = np.broadcast_to(rest, shape).copy(), finer.decays[-1]
    found = []
    for step in range(records[-1] * l**2):
        draw = random.standard_normal(shape)
        if l > 1:
            draw = plus * draw + minus * random.standard_normal(shape)
        noise = factor @ draw
        gradient = problem.hessian @ path.x + noise
        square = gradient * gradient
        path.move(finer, gradient, v, step)
        v = beta2 * v + (1 - beta2) * square
        twin.move(finer, problem.hessian @ twin.x + noise, rest, step)
        if (step + 1) % l**2 == 0 and (step + 1) // l**2 in records:
            found.append((path.x.T.copy(), twin.x.T.copy()))
    return Descent(np.stack([path for path, _ in found]), np.stack([twin for _, twin in found]))


@dataclass(eq=False)
class _Path:
    """Where paths stand: x and m, (d, paths)."""

    x: Array
    m: Array

    def move(self, algorithm: Algorithm, gradient: Array, v: Array, step: int) -> None:
        """Move x by η·g/(√v + ε), or by η·m̂/(√v̂ + ε), where v has seen `step` gradients; overwrites the gradient."""
        rate, epsilon = algorithm.learning_rate, algorithm.epsilon
        if len(algorithm.decays) == 1:
            gradient *= rate / (np.sqrt(v) + epsilon)
            self.x -= gradient
            return
        beta1, beta2 = algorithm.decays
        self.m *= beta1
        gradient *= 1 - beta1
        self.m += gradient
        if step:  # at the first step v̂ is infinite
            corrected = np.sqrt(1 - beta2**step)
            scale = rate * corrected / (1 - beta1 ** (step + 1))
            self.x -= scale / (np.sqrt(v) + epsilon * corrected) * self.m


def euler_moments(problem: Quadratic, algorithm: Algorithm, records: Sequence[int]) -> list[Moments]:
    """Return mean and covariance of the twins after some steps, exactly: y' = A·y + B·z step by step."""
    size = len(problem.start)
    mean = np.concatenate([problem.start, np.zeros(size * (len(algorithm.decays) - 1))])
    spread = np.zeros((len(mean), len(mean)))
    found = []
    for step in range(records[-1]):
        matrix, noise = _linear_step(problem, algorithm, step)
        mean, spread = matrix @ mean, matrix @ spread @ matrix.T + noise @ noise.T
        if step + 1 in records:
            found.append(Moments(mean[:size], spread[:size, :size]))
    return found


def _linear_step(problem: Quadratic, algorithm: Algorithm, step: int) -> tuple[Array, Array]:
    hessian, factor, one = problem.hessian, algorithm.noise * problem.factor, np.eye(len(problem.start))
    rate, epsilon, root = algorithm.learning_rate, algorithm.epsilon, algorithm.noise * np.sqrt(problem.variances)
    if len(algorithm.decays) == 1:
        scale = (rate / (root + epsilon))[:, None]
        return one - scale * hessian, -scale * factor
    beta1, beta2 = algorithm.decays
    corrected = np.sqrt(1 - beta2**step)
    scale = (rate * corrected / (1 - beta1 ** (step + 1)) / (root + epsilon * corrected))[:, None]
    fresh = (1 - beta1) * hessian
    matrix = np.block([[one - scale * fresh, -scale * beta1 * one], [fresh, beta1 * one]])
    return matrix, np.vstack([-scale * (1 - beta1) * factor, (1 - beta1) * factor])


def expected_losses(problem: Quadratic, descent: Descent, exact: Sequence[Moments]) -> list[Estimate]:
    """Return the expectation of f along the paths: that of their twins, exact, plus how far the paths stray from it.

    Args:
        problem: the function and its noise.
        descent: paths and twins at some times.
        exact: the twins' moments at these times, of `euler_moments`.
    """
    strays = problem.loss(descent.paths) - problem.loss(descent.twins)
    errors = strays.std(axis=1, ddof=1) / np.sqrt(strays.shape[1])
    return [
        Estimate(moments.loss(problem) + float(stray), float(error))
        for moments, stray, error in zip(exact, strays.mean(1), errors, strict=True)
    ]


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
"""SVAG with l takes min(l, this) times as many paths."""
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
    """Print how far E f strays at all times from that of the base batch size, by rule and κ."""
    base = discretised(Constants(noise=1.0, epsilon=LARGE_EPSILON, decays=SPEEDS[name]), TIME / FINE_STEPS)
    begin = float(PROBLEM.loss(PROBLEM.start))
    records = range(EVERY, FINE_STEPS + 1, EVERY)
    losses = sampled(base, records, paths, [seed])
    print(
        f"\n{name}: greatest distance of E f from the base run's (η = {base.learning_rate:.3f}) at {len(records)} equal"
        f" times, in % of its {begin:.3f} at the start\n"
    )
    print_table("rule", *(f"κ = {kappa}" for kappa in KAPPAS))
    for rule in RULES:
        gaps = [distance(base, kappa, rule, losses, paths, seed) for kappa in KAPPAS]
        print_row(rule, *(f"{100 * gap.value / begin:.2f} ± {100 * gap.error / begin:.3f}" for gap in gaps))


def print_table(*heads: str) -> None:
    print_row(*heads)
    print_row(*["---"] * len(heads))


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def distance(base: Algorithm, kappa: int, rule: Rule, losses: Sequence[Estimate], paths: int, seed: int) -> Estimate:
    """Return the greatest distance between two optimizers' losses at equal times, with its standard error there."""
    every = EVERY // kappa
    records = range(every, FINE_STEPS // kappa + 1, every)
    other = sampled(base.at(kappa, rule), records, paths, [seed, kappa])
    gaps = [Estimate(abs(a.value - b.value), math.hypot(a.error, b.error)) for a, b in zip(losses, other, strict=True)]
    return max(gaps)


if __name__ == "__main__":
    main()
