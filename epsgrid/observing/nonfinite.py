"""Entries of v that are NaN or infinite: counted, told once by a warning, never fatal.

A loss that overflows makes them, and they stay for good: an average never forgets a NaN. On a device the counts
are only looked at when something is asked, for looking means waiting.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from epsgrid.observing.layers import Layer


class NonfiniteEntries:
    """The most entries of each layer that were not finite at one observed step."""

    def __init__(self) -> None:
        self._most: dict[tuple[int, ...], torch.Tensor] = {}
        self._told = False

    @property
    def number(self) -> int:
        """Entries of all layers; waits for the device."""
        return sum(self._by_layer().values())

    def look(self, indexes: tuple[int, ...], totals: torch.Tensor, layers: Sequence[Layer]) -> None:
        """Take note of an observed step.

        Args:
            indexes: of the layers that were counted.
            totals: of `Counted`, a row for each of them.
            layers: all layers.
        """
        if totals.is_cpu and not totals.numpy()[:, 2].any():
            return
        found = totals[:, 2]
        most = self._most.get(indexes)
        self._most[indexes] = found if most is None else torch.maximum(most, found)
        if totals.is_cpu:
            self.tell(layers)

    def tell(self, layers: Sequence[Layer]) -> None:
        """Warn, the first time that there is something to tell; waits for the device."""
        by_layer = {} if self._told else self._by_layer()
        if not by_layer:
            return
        self._told = True
        name = layers[min(by_layer)].name
        more = f" and {len(by_layer) - 1} more layers" if len(by_layer) > 1 else ""
        warnings.warn(
            f"the second moment of layer {name!r}{more} has {sum(by_layer.values())} NaN or infinite entries: the loss"
            " or a gradient was not finite; from now on they are counted in `observer.nonfinite` without a warning",
            RuntimeWarning,
            stacklevel=3,
        )

    def _by_layer(self) -> dict[int, int]:
        by_layer: dict[int, int] = {}
        for indexes, most in self._most.items():
            for index, number in zip(indexes, most.tolist(), strict=True):
                if number:
                    by_layer[index] = max(number, by_layer.get(index, 0))
        return by_layer
