"""Put a swept ε beside the measured magnitudes: the optimizer's conversion, recovered from its stored bounds.

A record keeps each bound as the magnitude b, in √v̂ units, and as the ε it becomes. In every known rule the two obey
ε = factor · b^exponent (see `epsgrid.numerics.placement`), so the two bounds determine it, and a report needs neither
the optimizer's code nor the version of it that measured.
"""

from __future__ import annotations

import math

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.placement import Placement


def recovered_placement(bounds: EpsilonBounds, words: str) -> Placement:
    """Return a placement that converts as the one the bounds were made with.

    Where both bounds are one magnitude, a single point has to do: ε = b is read as exponent 1, all else as 2.

    Args:
        bounds: both ends with magnitude > 0 and ε > 0.
        words: the placement as the record describes it.
    """
    low, high = bounds.low, bounds.high
    span = math.log(high.magnitude / low.magnitude)
    if span > 1e-6:
        exponent = round((math.log(high.epsilon) - math.log(low.epsilon)) / span)
    else:
        exponent = 1 if math.isclose(high.epsilon, high.magnitude) else 2
    factor = math.exp(math.log(high.epsilon) - exponent * math.log(high.magnitude))
    return Placement(words, words, exponent, 1.0 if math.isclose(factor, 1.0, rel_tol=1e-9) else factor)


def adaptive_share(bounds: EpsilonBounds, magnitude: float) -> float | None:
    """Return the share of all layers' finite entries, zeros included, with √v̂ above a magnitude; None without any.

    These are the entries whose step still adapts; of the others ε makes up most of the denominator.
    """
    above = finite = 0.0
    for layer in bounds.layers:
        share = layer.histogram.fraction_above(magnitude) if layer.histogram else None
        if layer.histogram and share is not None:
            entries = layer.histogram.total - layer.histogram.nonfinite
            above, finite = above + share * entries, finite + entries
    return above / finite if finite else None
