"""Divide labelled examples in a way that is the same on every machine and independent of a trial's seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def balanced_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return a random order of the examples in which every stretch holds the classes in nearly their proportions.

    So its first n make a stratified sample of n, and what follows is one as well. The stream of numpy's RandomState is
    frozen for ever (NEP 19), unlike that of its successor: the split of a data set does not change with a version.

    Args:
        labels: (n,), class of each example.
        seed: of the order.

    Returns:
        (n,), a permutation of 0 … n − 1.
    """
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    place = np.empty(len(labels))  # where an example stands within its class: (rank + ½) / size of the class
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels[shuffled] == label)
        place[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    return shuffled[np.argsort(place, kind="stable")].astype(np.int64)
