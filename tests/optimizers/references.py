"""Every optimizer's update, recomputed in the plainest way: numpy, float64, one loop over the steps.

Each function gets the options, ε, the learning rate, the first weights and the gradients, and returns the last weights
and the magnitudes that ε is compared with: √v̂, or what stands in its place, kept apart from ε.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
Result = tuple[Array, Array]
Rule = Callable[[Any, Any, float, Array, Sequence[Array]], Result]


def _decayed(options: Any, rate: float, theta: Array, gradient: Array) -> tuple[Array, Array]:
    """Return weights and gradient after weight decay."""
    if getattr(options, "decoupled_weight_decay", False):
        return theta - rate * options.weight_decay * theta, gradient
    return theta, gradient + options.weight_decay * theta


def adam(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    beta1, beta2 = options.betas
    m = v = root = np.zeros_like(theta)
    for t, gradient in enumerate(gradients, 1):
        theta, g = _decayed(options, rate, theta, gradient)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        root = np.sqrt(v / (1 - beta2**t))
        theta = theta - rate * (m / (1 - beta1**t)) / (root + epsilon)
    return theta, root


def adamw(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    decay = options.weight_decay
    without = options.model_copy(update={"weight_decay": 0.0})
    moved = theta
    root = np.zeros_like(theta)
    for t in range(1, len(gradients) + 1):  # no decay gets into m and v, so the steps can be taken from plain Adam
        before, _ = adam(without, epsilon, rate, theta, gradients[: t - 1])
        after, root = adam(without, epsilon, rate, theta, gradients[:t])
        moved = moved - rate * decay * moved + (after - before)
    return moved, root


def amsgrad(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    beta1, beta2 = options.betas
    m = v = largest = root = np.zeros_like(theta)
    for t, gradient in enumerate(gradients, 1):
        theta, g = _decayed(options, rate, theta, gradient)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        largest = np.maximum(largest, v)
        root = np.sqrt(largest / (1 - beta2**t))
        theta = theta - rate * (m / (1 - beta1**t)) / (root + epsilon)
    return theta, root


def nadam(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    beta1, beta2 = options.betas
    m = v = root = np.zeros_like(theta)
    product = 1.0

    def mu(t: int) -> float:
        return beta1 * (1 - 0.5 * 0.96 ** (t * options.momentum_decay))

    for t, gradient in enumerate(gradients, 1):
        theta, g = _decayed(options, rate, theta, gradient)
        product *= mu(t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        root = np.sqrt(v / (1 - beta2**t))
        ahead = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        theta = theta - rate * ahead / (root + epsilon)
    return theta, root


def _rectification(beta2: float, t: int) -> tuple[float, float]:
    """Return ρₜ and the factor r; the latter means nothing for short averages."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    factor = ((length - 4) * (length - 2) * longest) / ((longest - 4) * (longest - 2) * length)
    return length, abs(factor) ** 0.5


def radam(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    beta1, beta2 = options.betas
    m = v = root = np.zeros_like(theta)
    for t, gradient in enumerate(gradients, 1):
        theta, g = _decayed(options, rate, theta, gradient)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        correction = np.sqrt(1 - beta2**t)
        length, factor = _rectification(beta2, t)
        adapted = factor * correction / (np.sqrt(v) + epsilon) if length > 5 else 1.0
        theta = theta - rate * (m / (1 - beta1**t)) * adapted
        root = np.sqrt(v) / correction
    return theta, root


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


def adabelief(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    return _in_place(options, epsilon, rate, theta, gradients, "residual", outside=True)


def adamomentum(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    return _in_place(options, epsilon, rate, theta, gradients, "momentum", outside=False)


def eadam(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    return _in_place(options, epsilon, rate, theta, gradients, "gradient", outside=False)


def sgdm(options: Any, epsilon: Any, rate: float, theta: Array, gradients: Sequence[Array]) -> Result:
    assert epsilon is None
    buffer = np.zeros_like(theta)
    for gradient in gradients:
        theta, g = _decayed(options, rate, theta, gradient)
        buffer = options.momentum * buffer + g
        theta = theta - rate * (g + options.momentum * buffer if options.nesterov else buffer)
    return theta, np.full_like(theta, np.nan)


REFERENCES: dict[str, Rule] = {
    "adabelief": adabelief,
    "adadelta": adadelta,
    "adagrad": adagrad,
    "adam": adam,
    "adamax": adamax,
    "adamomentum": adamomentum,
    "adamw": adamw,
    "amsgrad": amsgrad,
    "eadam": eadam,
    "nadam": nadam,
    "radam": radam,
    "rmsprop": rmsprop,
    "sgdm": sgdm,
}
