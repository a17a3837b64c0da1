"""RMSprop and Adam on a noisy quadratic, as algorithms and as stochastic differential equations, with exact moments.

What Malladi et al. (2022, arXiv 2205.10287) prove in general can be computed here: f(x) = ½·xᵀHx, gradients
g = Hx + σ·z with z of a known covariance Σ. Time is t = k·η², and with σ₀, ε₀, c₁, c₂ of `epsgrid.numerics.scaling`

    RMSprop   dx = −P⁻¹·(Hx dt + σ₀·Σ^½ dW)           P = σ₀·√u + ε₀
    Adam      dx = −(√γ₂/γ₁)·P⁻¹·m dt                  P = σ₀·√u + ε₀·√γ₂      γᵢ = 1 − exp(−cᵢ·t)
              dm = c₁·(Hx − m) dt + σ₀·c₁·Σ^½ dW       m = 0 at t = 0
    both      du = c₂·(diag Σ − u) dt                  u = v/σ²

u depends on nothing that is random, so on a quadratic both equations are linear in x (and m): the means and covariances
obey ordinary differential equations, which `moments` solves to any accuracy. Nothing but the algorithm then has to be
sampled. `descend` runs it, plain or as SVAG, over many paths, and beside each path a twin: the same steps with the same
noise, but with u of the equation in place of v/σ², which is Euler's scheme for it. A twin's moments are exact too
(`euler_moments`), so a path's are estimated by how far it strays from its twin, which varies far less than the path.

An order-1 weak approximation, as the paper proves it, has moments that differ by a multiple of η² from the equation's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from epsgrid.numerics import scaling
from epsgrid.numerics.scaling import Constants, Number, Rule

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
        """What the equations know of it."""
        return scaling.constants(self.learning_rate, self.decays, self.epsilon, self.noise)

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


def moments(problem: Quadratic, equation: Constants, times: Sequence[float], u: Array | None = None) -> list[Moments]:
    """Return mean and covariance of x at some times, to some ten digits.

    The time is replaced by its square root, because √γ₂/γ₁ is infinite at t = 0, as 1/√t.

    Args:
        problem: what is descended.
        equation: σ₀, ε₀ and c₂, or c₁ and c₂ for Adam.
        times: rising, > 0.
        u: v/σ² at time 0, (d,); the long-run value diag Σ by default.
    """
    size = len(problem.start)
    state = _State(problem, equation, problem.variances if u is None else u)
    width = state.width

    def slope(root: float, flat: Array) -> Array:
        mean, spread = flat[:width], flat[width:].reshape(width, width)
        drift, noise = state.coefficients(root)
        change = drift @ spread
        return np.concatenate([drift @ mean, (change + change.T + noise @ noise.T).ravel()])

    begin = np.concatenate([problem.start, np.zeros(width - size), np.zeros(width**2)])
    roots = np.sqrt(np.asarray(times, float))
    solved = solve_ivp(slope, (0, roots[-1]), begin, "DOP853", roots, rtol=_TOLERANCE, atol=_TOLERANCE * 1e-2)
    assert solved.success, solved.message
    return [Moments(flat[:size], flat[width:].reshape(width, width)[:size, :size]) for flat in solved.y.T]


@dataclass(frozen=True, eq=False)
class _State:
    """The linear equation in y = x, or y = (x, m), with √t in the place of t."""

    problem: Quadratic
    equation: Constants
    u: Array

    @property
    def width(self) -> int:
        return len(self.problem.start) * len(self.equation.decays)

    def coefficients(self, root: float) -> tuple[Array, Array]:
        """Return A and B of dy = A·y ds + B dW at s = √t: each is multiplied by dt/ds = 2s, or its root."""
        sigma, pace = self.equation.noise, 2 * root
        hessian, factor = self.problem.hessian, self.problem.factor
        *first, second = self.equation.decays
        u = self.problem.variances + (self.u - self.problem.variances) * np.exp(-second * root**2)
        if not first:
            inverse = 1 / (sigma * np.sqrt(u) + self.equation.epsilon)
            return -pace * inverse[:, None] * hessian, np.sqrt(pace) * sigma * inverse[:, None] * factor
        corrected = np.sqrt(-np.expm1(-second * root**2))
        rate = pace * corrected / -np.expm1(-first[0] * root**2) if root else 2 * np.sqrt(second) / first[0]
        inverse = rate / (sigma * np.sqrt(u) + self.equation.epsilon * corrected)
        zero, one = np.zeros_like(hessian), np.eye(len(hessian))
        drift = np.block([[zero, -inverse[:, None] * one], [pace * first[0] * hessian, -pace * first[0] * one]])
        return drift, np.vstack([zero, np.sqrt(pace) * sigma * first[0] * factor])


def simulate(
    problem: Quadratic,
    equation: Constants,
    time: float,
    steps: int,
    paths: int,
    random: np.random.Generator,
    u: Array | None = None,
) -> Array:
    """Return x at a time by Euler's scheme for the equation, (paths, d).

    Args:
        problem: what is descended.
        equation: σ₀, ε₀ and c₂, or c₁ and c₂ for Adam.
        time: when to stop.
        steps: Euler steps until then, each of `time / steps`; cᵢ times that may not be more than 1.
        paths: how many.
        random: where the noise comes from: (d, paths) standard normal numbers for each step.
        u: v/σ² at time 0; diag Σ by default.
    """
    algorithm = discretised(equation, time / steps)
    return np.asarray(descend(problem, algorithm, [steps], paths, random, u=u).twins[0])


def discretised(equation: Constants, step: float) -> Algorithm:
    """Return the algorithm that has these constants and whose steps are worth so much time, η² = `step`."""
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
    previous: bool = True,
    u: Array | None = None,
) -> Descent:
    """Run an optimizer along many paths, and beside each the twin that has u in the place of v/σ².

    Args:
        problem: what is descended.
        algorithm: plain settings; with SVAG the steps are taken with those of κ = 1/l².
        records: after how many steps to look, rising; with SVAG l² steps stand for one.
        paths: how many.
        random: where the noise comes from: (d, paths) standard normal numbers for each minibatch of each step.
        l: of SVAG: two minibatches a step, weighted; 1 is the plain algorithm with one.
        previous: divide by the v before this step's gradient, as the paper's analysis and code do; else by the one
            with it, as optimizers do.
        u: v/σ² before the first step, (d,); diag Σ by default.
    """
    finer = algorithm.at(Fraction(1, l**2)) if l > 1 else algorithm
    steps = _Steps(problem, finer, paths, problem.variances if u is None else u, previous=previous)
    noise = _noise(problem, algorithm.noise, paths, random, l)
    found = []
    for step in range(records[-1] * l**2):
        steps.take(step, noise())
        if (step + 1) % l**2 == 0 and (step + 1) // l**2 in records:
            found.append((steps.path.x.T.copy(), steps.twin.x.T.copy()))
    return Descent(np.stack([path for path, _ in found]), np.stack([twin for _, twin in found]))


def _noise(
    problem: Quadratic,
    sigma: float,
    paths: int,
    random: np.random.Generator,
    l: int,  # noqa: E741
) -> Callable[[], Array]:
    """Return what draws the noise of one gradient, (d, paths): of one minibatch, or of two combined."""
    plus, minus = scaling.svag_weights(l)
    factor = sigma * problem.factor
    shape = (len(problem.start), paths)

    def draw() -> Array:
        first = random.standard_normal(shape)
        if l > 1:
            first *= plus
            first += minus * random.standard_normal(shape)
        return np.asarray(factor @ first)

    return draw


@dataclass(eq=False)
class _Path:
    """Where paths stand: x and m, (d, paths); v, (d, paths) or for twins (d, 1)."""

    x: Array
    m: Array
    v: Array


class _Steps:
    """Takes the steps of an algorithm and its twin with one noise."""

    def __init__(self, problem: Quadratic, algorithm: Algorithm, paths: int, u: Array, *, previous: bool) -> None:
        self._problem, self._algorithm, self._previous = problem, algorithm, previous
        shape = (len(problem.start), paths)
        v = algorithm.noise**2 * u[:, None]
        start = np.broadcast_to(problem.start[:, None], shape)
        self.path = _Path(start.copy(), np.zeros(shape), np.broadcast_to(v, shape).copy())
        self.twin = _Path(start.copy(), np.zeros(shape), v.copy())
        self._expected_square = algorithm.noise**2 * problem.variances[:, None]

    def take(self, step: int, noise: Array) -> None:
        for path, square in ((self.path, None), (self.twin, self._expected_square)):
            gradient = self._problem.hessian @ path.x
            gradient += noise
            before, after = path.v, self._averaged(path.v, gradient * gradient if square is None else square)
            # The twin is Euler's scheme and looks at the beginning of a step, whatever the optimizer does.
            early = self._previous or square is not None
            self._move(path, gradient, before if early else after, step, step if early else step + 1)
            path.v = after

    def _averaged(self, v: Array, square: Array) -> Array:
        beta = self._algorithm.decays[-1]
        return beta * v + (1 - beta) * square

    def _move(self, path: _Path, gradient: Array, v: Array, step: int, seen: int) -> None:
        """Move x by η·g/(√v + ε), or by η·m̂/(√v̂ + ε) with v̂ of so many gradients."""
        rate, epsilon = self._algorithm.learning_rate, self._algorithm.epsilon
        if len(self._algorithm.decays) == 1:
            gradient *= rate / (np.sqrt(v) + epsilon)
            path.x -= gradient
            return
        beta1, beta2 = self._algorithm.decays
        path.m *= beta1
        gradient *= 1 - beta1
        path.m += gradient
        if not seen:
            return  # v̂ of no gradient is infinite
        corrected = np.sqrt(1 - beta2**seen)
        scale = rate * corrected / (1 - beta1 ** (step + 1))
        path.x -= scale / (np.sqrt(v) + epsilon * corrected) * path.m


def euler_moments(
    problem: Quadratic, algorithm: Algorithm, records: Sequence[int], u: Array | None = None
) -> list[Moments]:
    """Return mean and covariance of twins after some steps, exactly: y' = A·y + B·z step by step.

    Args:
        problem: what is descended.
        algorithm: of the steps that are taken.
        records: after how many steps, rising.
        u: v/σ² before the first step; diag Σ by default.
    """
    size, decays = len(problem.start), algorithm.decays
    v = algorithm.noise**2 * (problem.variances if u is None else u)
    mean = np.concatenate([problem.start, np.zeros(size * (len(decays) - 1))])
    spread = np.zeros((len(mean), len(mean)))
    found = []
    for step in range(records[-1]):
        matrix, noise = _linear_step(problem, algorithm, v, step)
        mean, spread = matrix @ mean, matrix @ spread @ matrix.T + noise @ noise.T
        v = decays[-1] * v + (1 - decays[-1]) * algorithm.noise**2 * problem.variances
        if step + 1 in records:
            found.append(Moments(mean[:size], spread[:size, :size]))
    return found


def _linear_step(problem: Quadratic, algorithm: Algorithm, v: Array, step: int) -> tuple[Array, Array]:
    hessian, factor, one = problem.hessian, algorithm.noise * problem.factor, np.eye(len(problem.start))
    rate, epsilon = algorithm.learning_rate, algorithm.epsilon
    if len(algorithm.decays) == 1:
        scale = (rate / (np.sqrt(v) + epsilon))[:, None]
        return one - scale * hessian, -scale * factor
    beta1, beta2 = algorithm.decays
    corrected = np.sqrt(1 - beta2**step)
    scale = (rate * corrected / (1 - beta1 ** (step + 1)) / (np.sqrt(v) + epsilon * corrected))[:, None]
    fresh = (1 - beta1) * hessian
    matrix = np.block([[one - scale * fresh, -scale * beta1 * one], [fresh, beta1 * one]])
    return matrix, np.vstack([-scale * (1 - beta1) * factor, (1 - beta1) * factor])


def expected_losses(problem: Quadratic, descent: Descent, exact: Sequence[Moments]) -> list[Estimate]:
    """Return the expectation of f along the paths: that of their twins, exact, plus how far the paths stray from it.

    Args:
        problem: what is descended.
        descent: paths and twins at some times.
        exact: the twins' moments at these times, of `euler_moments`.
    """
    strays = problem.loss(descent.paths) - problem.loss(descent.twins)
    errors = strays.std(axis=1, ddof=1) / np.sqrt(strays.shape[1])
    return [
        Estimate(moments.loss(problem) + float(stray), float(error))
        for moments, stray, error in zip(exact, strays.mean(1), errors, strict=True)
    ]
