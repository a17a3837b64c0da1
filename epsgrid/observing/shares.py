"""The adaptable fraction: which share of the weights has a step size of its own at an ε.

Where √v̂ is larger than what ε weighs as much as, an adaptive optimizer adapts; where it is smaller, ε is most of the
denominator, and the optimizer is one without adaptation. The share is counted exactly, entry by entry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from epsgrid.errors import ObservationError
from epsgrid.observing.reading import Reading


@dataclass(frozen=True)
class AdaptableFraction:
    """The share of the finite entries, zeros included, with √v̂ above what ε weighs as much as.

    Attributes:
        layers: by name of layer, in [0, 1]; layers without a finite entry are left out.
        total: of the entries of all layers together; 0 where no entry is finite.
    """

    layers: Mapping[str, float]
    total: float


def adaptable_fraction(readings: Sequence[Reading], epsilon: float | None = None) -> AdaptableFraction:
    """Return the share of the entries above ε, of each layer and of all.

    Args:
        readings: of the layers; those without second moment are left out.
        epsilon: ≥ 0, in the optimizer's own units; None for the ε that each layer is trained with.

    Raises:
        ObservationError: `epsilon` is negative or NaN, or None and a parameter group has no "eps".
    """
    if epsilon is not None and not epsilon >= 0:
        raise ObservationError(f"epsilon must be at least 0, got {epsilon!r}")
    counts = {
        reading.layer.name: _count(reading, _epsilon(reading) if epsilon is None else epsilon)
        for reading in readings
        if reading.values is not None
    }
    above, finite = (sum(pair[which] for pair in counts.values()) for which in (0, 1))
    shares = {name: above / finite for name, (above, finite) in counts.items() if finite}
    return AdaptableFraction(shares, above / finite if finite else 0.0)


def _epsilon(reading: Reading) -> float:
    if reading.epsilon is None:
        raise ObservationError(f'the parameter group of layer {reading.layer.name!r} has no "eps"; say epsilon=…')
    return reading.epsilon


def _count(reading: Reading, epsilon: float) -> tuple[int, int]:
    """Return how many finite entries of a layer lie above ε, and how many finite ones there are."""
    assert reading.values is not None and reading.placement is not None
    magnitude = reading.placement.magnitude_from_epsilon(epsilon)
    threshold = magnitude * magnitude / reading.scale  # √(v · scale) > magnitude, without a root of each entry
    v = reading.values
    finite = torch.isfinite(v)
    return int(((v > _rounded_down(threshold, v.dtype)) & finite).sum()), int(finite.sum())


def _rounded_down(value: float, dtype: torch.dtype) -> float:
    """Return the largest number of a type that is at most `value` ≥ 0; the same entries lie above either.

    A comparison of tensors rounds to nearest, and entries next to the threshold would change sides.
    """
    nearest = torch.tensor(value, dtype=torch.float64).to(dtype)
    if nearest.isinf() and not math.isinf(value):
        return torch.finfo(dtype).max
    if nearest.double() > value:
        nearest = torch.nextafter(nearest, torch.zeros_like(nearest))
    return float(nearest)
