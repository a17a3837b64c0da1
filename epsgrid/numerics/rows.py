"""What tables of counts have in common, however they are filled: a row for each tensor that is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from epsgrid.numerics.histogram import LogHistogram


class NegativeEntryError(ValueError):
    """An entry of what should be a second moment lies below zero.

    Attributes:
        layer: which of the tensors it is in, from 0.
    """

    def __init__(self, layer: int, entry: float | None = None) -> None:
        found = "negative entries" if entry is None else f"the negative entry {entry:.6g}"
        super().__init__(
            f"a second moment is a mean of squares, yet it has {found}; "
            "check which tensor the optimizer's second_moment returns"
        )
        self.layer = layer


class Rows(Protocol):
    """The tables of tensors that are counted together."""

    def count(self, values: Sequence[torch.Tensor]) -> None:
        """Count every entry of the tensors, one for each row, in place of what was counted before.

        Raises:
            NegativeEntryError: as far as it can be told without waiting for a device.
        """
        ...

    def quantile_bins(self) -> torch.Tensor:
        """Return what `tables.Counted.quantile_bins` does."""
        ...

    def totals(self) -> torch.Tensor:
        """Return what `tables.Counted.totals` does."""
        ...

    def histogram(self, layer: int, scale: float) -> LogHistogram:
        """Return the histogram of a row; waits for the device.

        Raises:
            NegativeEntryError: its tensor has a negative entry.
        """
        ...


def trimmed(first: int, counts: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int64]]:
    """Return counts without their empty ends, and the bin they now begin with; `first` is that of the first count."""
    occupied = counts.nonzero()[0]
    if not occupied.size:
        return 0, counts[:0]
    return first + int(occupied[0]), counts[occupied[0] : occupied[-1] + 1]
