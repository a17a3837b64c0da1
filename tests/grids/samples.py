"""Bounds to plan with."""

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import Bound


def bounds_between(low: float, high: float) -> EpsilonBounds:
    ends = (Bound(magnitude=end, epsilon=end, decade=end, layers=("weight",), entries=100) for end in (low, high))
    return EpsilonBounds(*ends, tail_fraction=0.02, layers=())
