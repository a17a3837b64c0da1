"""The same mathematics in plain numpy: slower, obvious, and sharing no code with what is tested."""

from __future__ import annotations

import numpy as np
import torch

from epsgrid.numerics.placement import Placement


def edges(mantissa_bits: int) -> np.ndarray:
    """Bin edges of v from arithmetic, not from bits: 0, the denormals' steps, then 2^m equal steps in each octave."""
    steps = np.arange(1, 2**mantissa_bits + 1) / 2**mantissa_bits
    octaves = [steps * 2.0**-126] + [(1 + steps) * 2.0**exponent for exponent in range(-126, 128)]
    return np.concatenate([[0.0], *octaves])


def binned(v: np.ndarray, mantissa_bits: int) -> np.ndarray:
    """Counts over bins closed above, of the finite entries within float32's range."""
    v = v.astype(np.float64).ravel()
    inside = np.isfinite(v) & ((v == 0) | (v >= 2.0**-149)) & (v <= float(np.finfo(np.float32).max))
    bins = np.searchsorted(edges(mantissa_bits), v[inside], side="left")
    return np.bincount(bins, minlength=len(edges(mantissa_bits)))


def magnitudes(v: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """√v̂ of the finite non-zero entries, sorted."""
    v = v.astype(np.float64).ravel()
    return np.sort(np.sqrt(v[np.isfinite(v) & (v != 0)] * scale))


def published_bounds(layers: list[np.ndarray], scale: float) -> tuple[float, float]:
    """The published rule: the lowest 2nd and the highest 98th percentile over the layers, as √v̂."""
    lows, highs = [], []
    for v in layers:
        ordered = magnitudes(v, scale)
        lows.append(ordered[int(0.02 * len(ordered))])
        highs.append(ordered[int(0.98 * len(ordered))])
    return min(lows), max(highs)


def exact_damping(v: torch.Tensor, scale: float, placement: Placement, epsilon: float) -> float | None:
    """The mean damping of the moving entries, entry by entry; None where no entry moves."""
    moving = magnitudes(v.double().numpy(), scale)
    return float(placement.damping(moving, epsilon).mean()) if len(moving) else None
