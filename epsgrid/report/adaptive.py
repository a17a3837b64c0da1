"""How many entries still adapt at an ε."""

from __future__ import annotations

from epsgrid.numerics.bounds import EpsilonBounds


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
