"""Every optimizer's update, recomputed in the plainest way: numpy, float64, one loop over the steps.

Each function gets the options, ε, the learning rate, the first weights and the gradients, and returns the last weights
and the magnitudes that ε is compared with: √v̂, or what stands in its place, kept apart from ε.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
Result = tuple[Array, Array]
Rule = Callable[[Any, Any, float, Array, Sequence[Array]], Result]


def _decayed(options: Any, rate: float, theta: Array, gradient: Array) -> tuple[Array, Array]:
    """Return weights and gradient after weight decay."""
    if options.name == "adamw" or getattr(options, "decoupled_weight_decay", False):
        return theta - rate * options.weight_decay * theta, gradient
    return theta, gradient + options.weight_decay * theta


def _with_moments(rule: Callable[[Any, Any, int, Array, list[Array], Array], Result]) -> Rule:
    """Take steps of θ − rate · update; the rule makes update and root from t, m, every v so far, and g."""

    def run(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
        beta1, beta2 = options.betas
        m = root = np.zeros_like(theta)
        vs = [m]
        for t, gradient in enumerate(gradients, 1):
            theta, g = _decayed(options, rate, theta, gradient)
            m = beta1 * m + (1 - beta1) * g
            vs.append(beta2 * vs[-1] + (1 - beta2) * g**2)
            update, root = rule(options, epsilon, t, m, vs, g)
            theta = theta - rate * update
        return theta, root

    return run


@_with_moments
def adam(options: Any, epsilon: Any, t: int, m: Array, vs: list[Array], g: Array) -> Result:
    root = np.sqrt(vs[-1] / (1 - options.betas[1] ** t))
    return m / (1 - options.betas[0] ** t) / (root + epsilon), root


@_with_moments
def amsgrad(options: Any, epsilon: Any, t: int, m: Array, vs: list[Array], g: Array) -> Result:
    root = np.sqrt(np.max(vs, axis=0) / (1 - options.betas[1] ** t))
    return m / (1 - options.betas[0] ** t) / (root + epsilon), root


@_with_moments
def nadam(options: Any, epsilon: Any, t: int, m: Array, vs: list[Array], g: Array) -> Result:
    mu = [options.betas[0] * (1 - 0.5 * 0.96 ** (step * options.momentum_decay)) for step in range(t + 2)]
    root = np.sqrt(vs[-1] / (1 - options.betas[1] ** t))
    ahead = mu[t + 1] * m / (1 - math.prod(mu[1:])) + (1 - mu[t]) * g / (1 - math.prod(mu[1:-1]))
    return ahead / (root + epsilon), root


def _rectification(beta2: float, t: int) -> tuple[float, float]:
    """Return ρₜ and the factor r; the latter means nothing for short averages."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    factor = ((length - 4) * (length - 2) * longest) / ((longest - 4) * (longest - 2) * length)
    return length, abs(factor) ** 0.5


@_with_moments
def radam(options: Any, epsilon: Any, t: int, m: Array, vs: list[Array], g: Array) -> Result:
    beta1, beta2 = options.betas
    correction, (length, factor) = np.sqrt(1 - beta2**t), _rectification(beta2, t)
    adapted = factor * correction / (np.sqrt(vs[-1]) + epsilon) if length > 5 else 1.0
    return m / (1 - beta1**t) * adapted, np.sqrt(vs[-1]) / correction


def rmsprop(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    v = average = buffer = root = np.zeros_like(theta)
    for gradient in gradients:
        theta, g = _decayed(options, rate, theta, gradient)
        v = options.alpha * v + (1 - options.alpha) * g**2
        average = options.alpha * average + (1 - options.alpha) * g
        root = np.sqrt(v - average**2 if options.centered else v)
        buffer = options.momentum * buffer + g / (root + epsilon)
        theta = theta - rate * buffer
    return theta, root


def adagrad(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    total = np.zeros_like(theta)
    for t, gradient in enumerate(gradients, 1):
        theta, g = _decayed(options, rate, theta, gradient)
        total = total + g**2
        theta = theta - rate / (1 + (t - 1) * options.lr_decay) * g / (np.sqrt(total) + epsilon)
    return theta, np.sqrt(total)


def adadelta(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    v = moved = np.zeros_like(theta)
    for gradient in gradients:
        theta, g = _decayed(options, rate, theta, gradient)
        v = options.rho * v + (1 - options.rho) * g**2
        delta = np.sqrt(moved + epsilon) / np.sqrt(v + epsilon) * g
        moved = options.rho * moved + (1 - options.rho) * delta**2
        theta = theta - rate * delta
    return theta, np.sqrt(v)


def adamax(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    beta1, beta2 = options.betas
    m = u = without = np.zeros_like(theta)
    for t, gradient in enumerate(gradients, 1):
        theta, g = _decayed(options, rate, theta, gradient)
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g) + epsilon)
        without = np.maximum(beta2 * without, np.abs(g))
        theta = theta - rate * (m / (1 - beta1**t)) / u
    return theta, without


def _in_place(
    options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array], squared: str, outside: bool
) -> Result:
    """Add ε to v at every step, as published, and keep a second v without it for the magnitudes."""
    beta1, beta2 = options.betas
    rectify = getattr(options, "rectify", False)
    m = v = without = root = np.zeros_like(theta)
    for t, gradient in enumerate(gradients, 1):
        theta, g = _decayed(options, rate, theta, gradient)
        m = beta1 * m + (1 - beta1) * g
        x = {"gradient": g, "momentum": m, "residual": g - m}[squared]
        v = beta2 * v + (1 - beta2) * x**2 + epsilon
        without = beta2 * without + (1 - beta2) * x**2
        correction = np.sqrt(1 - beta2**t)
        root = np.sqrt(without) / correction
        outer = epsilon if outside else 0.0
        length, factor = _rectification(beta2, t)
        adapted = 1 / (np.sqrt(v) / correction + outer)
        if rectify:
            adapted = factor * correction / (np.sqrt(v) + outer) if length >= 5 else 1.0
        theta = theta - rate * (m / (1 - beta1**t)) * adapted
    return theta, root


def sgdm(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    assert epsilon is None
    buffer = np.zeros_like(theta)
    for gradient in gradients:
        theta, g = _decayed(options, rate, theta, gradient)
        buffer = options.momentum * buffer + g
        theta = theta - rate * (g + options.momentum * buffer if options.nesterov else buffer)
    return theta, np.full_like(theta, np.nan)


def adam_atan2(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    assert epsilon is None
    (beta1, beta2), m, v = options.betas, np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        angle = np.arctan2(m / (1 - beta1**t), np.sqrt(v / (1 - beta2**t)))
        theta = theta * (1 - rate * options.weight_decay) - rate * options.scale * angle
    return theta, np.full_like(theta, np.nan)


REFERENCES: dict[str, Rule] = {
    "adabelief": functools.partial(_in_place, squared="residual", outside=True),
    "adadelta": adadelta,
    "adam_atan2": adam_atan2,
    "adagrad": adagrad,
    "adam": adam,
    "adamax": adamax,
    "adamomentum": functools.partial(_in_place, squared="momentum", outside=False),
    "adamw": adam,
    "amsgrad": amsgrad,
    "eadam": functools.partial(_in_place, squared="gradient", outside=False),
    "nadam": nadam,
    "radam": radam,
    "rmsprop": rmsprop,
    "sgdm": sgdm,
}
