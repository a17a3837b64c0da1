"""What an observer keeps of the steps it sees: percentiles of up to 512 and histograms of up to 64, however many pass.

Nothing is waited for while training goes on. When the rows are full every other one is dropped, and from then on only
every other step is kept; so a run of any length is covered evenly, by steps whose distance is a power of two.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from epsgrid.errors import ObservationError
from epsgrid.numerics.histogram import LogHistogram, bin_count, magnitudes_of
from epsgrid.numerics.series import STORED_MANTISSA_BITS, LayerSnapshot
from epsgrid.numerics.tables import Counter, Folded, NegativeEntryError

# One more of each is for the latest step, which mostly is none of the evenly spaced ones.
_KEPT_ROWS = 511
_KEPT_HISTOGRAMS = 63
_STEPS_BETWEEN_HISTOGRAMS = 8  # at least


@dataclass(eq=False, slots=True)
class Row:
    """An observed step, of L layers with a second moment; tensors may lie on a device.

    Attributes:
        call: number of the step, from 1, skipped ones included.
        skipped: how many steps so far the optimizer was made to skip on its device, where it is only known later.
        left_out: not zero where this step was one of them; None where the optimizer skips none.
        indexes, names: of the layers among all.
        decays, steps: β₂ of each, 0 where the bias of v is not corrected, and the steps that it has taken.
        epsilons: ε of each parameter group, None where it has none.
        totals: (L, 3), zeros, other finite entries, and the rest.
        bins: (L, fractions of a series), as `Counter.quantile_bins` gives them; None until the row is kept.
        number: which observed step it is, from 0.
        folded: the histogram of each layer, folded; None where it is not kept.
    """

    call: int
    skipped: int | torch.Tensor
    left_out: torch.Tensor | None
    indexes: tuple[int, ...]
    names: tuple[str, ...]
    decays: tuple[float, ...]
    steps: torch.Tensor | array[float]
    epsilons: tuple[float | None, ...]
    totals: torch.Tensor | npt.NDArray[np.int64]
    bins: torch.Tensor | npt.NDArray[np.int16] | None = None
    number: int = 0
    folded: tuple[Folded, ...] | Counter | None = None

    @property
    def taken(self) -> bool:
        """Whether the step was really taken."""
        return self.left_out is None or not float(self.left_out)

    @property
    def step(self) -> int:
        """Number of steps that were really taken, this one included."""
        return self.call - int(self.skipped)

    @property
    def steps_taken(self) -> tuple[float, ...]:
        """The steps that each layer has taken."""
        return tuple(self.steps.tolist())

    @property
    def scales(self) -> tuple[float, ...]:
        """The factor of each layer with v̂ = v · scale."""
        pairs = zip(self.decays, self.steps_taken, strict=True)
        return tuple(1 / (1 - decay**step) if decay and step else 1.0 for decay, step in pairs)

    def fetch(self) -> None:
        """Bring everything to the host, where it stays and takes less room; waits for the device."""
        if isinstance(self.bins, torch.Tensor):
            self.bins = self.bins.cpu().numpy().astype(np.int16)  # 8,162 slots at m = 5
        if isinstance(self.totals, torch.Tensor):
            self.totals = self.totals.cpu().numpy().copy()
        if isinstance(self.folded, Counter):
            self.folded = self.fold(self.folded)

    def fold(self, counted: Counter) -> tuple[Folded, ...]:
        """Return the counts of each layer over the coarser bins that are stored; waits for the device."""
        try:
            return tuple(counted.folded(place, STORED_MANTISSA_BITS) for place in range(len(self.names)))
        except NegativeEntryError as error:
            raise ObservationError(f"layer {self.names[error.layer]!r}: {error}") from error

    def snapshots(self, layers: int) -> tuple[LayerSnapshot | None, ...]:
        """Return the snapshot of each of a number of layers, once the row is fetched; None without second moment."""
        assert isinstance(self.bins, np.ndarray) and not isinstance(self.folded, Counter)
        scales = self.scales
        quantiles = magnitudes_of(self.bins.astype(np.int64), np.array(scales)[:, np.newaxis]).tolist()
        found: list[LayerSnapshot | None] = [None] * layers
        for place, (index, scale) in enumerate(zip(self.indexes, scales, strict=True)):
            zeros, nonzero, nonfinite = self.totals[place].tolist()
            histogram = None if self.folded is None else _unfolded(self.folded[place], scale)
            magnitudes = tuple(quantiles[place]) if nonzero else ()
            found[index] = LayerSnapshot(scale, zeros, nonzero, nonfinite, magnitudes, histogram)
        return tuple(found)


class History:
    """The kept rows, oldest first; `every` optimizer steps from one observed step to the next."""

    def __init__(self, every: int = 1) -> None:
        self._rows: list[Row] = []
        self._observed = self._histograms = 0
        self._row_stride = self._histogram_stride = 1
        while self._histogram_stride * every < _STEPS_BETWEEN_HISTOGRAMS:
            self._histogram_stride *= 2

    def add(self, row: Row, counted: Counter, values: Sequence[torch.Tensor]) -> None:
        """Keep an observed step, if it is one of those to keep; waits for no device.

        `counted` has the counts, m = 5, of `values`. Raises ObservationError where a layer on a CPU has a negative
        entry.
        """
        row.number, self._observed = self._observed, self._observed + 1
        if row.number % self._row_stride == 0 and len(self._rows) == _KEPT_ROWS:
            self._row_stride *= 2
            self._rows = [other for other in self._rows if other.number % self._row_stride == 0]
        if row.number % self._row_stride:
            return
        row.bins = counted.quantile_bins()
        if isinstance(row.totals, torch.Tensor) and row.totals.is_cpu:
            row.fetch()
        self._rows.append(row)
        if row.number % self._histogram_stride == 0 and self._histograms == _KEPT_HISTOGRAMS:
            self._histogram_stride *= 2
            for other in self._rows:
                if other.number % self._histogram_stride:
                    other.folded = None
            self._histograms = sum(other.folded is not None for other in self._rows)
        if row.number % self._histogram_stride == 0:
            self._histograms += 1
            # On a device counting again is what does not wait; with coarser bins it is the same as folding.
            on_host = all(v.is_cpu for v in values)
            row.folded = row.fold(counted) if on_host else Counter((), STORED_MANTISSA_BITS).count(values)

    def keep_until(self, step: int) -> None:
        """Forget what was observed after a step: training goes on from there again."""
        self._rows = [row for row in self._rows if row.step <= step]
        self._observed = self._rows[-1].number + 1 if self._rows else 0
        self._histograms = sum(row.folded is not None for row in self._rows)

    def rows(self, latest: Row | None = None, counter: Counter | None = None) -> list[Row]:
        """Return the rows of steps that were really taken, rising; waits for the device.

        The `latest` step, whose counts `counter` has, is added where it is none of the kept ones.
        """
        rows = [row for row in self._rows if row.taken]
        if latest is not None and counter is not None and latest.taken:
            if rows and rows[-1] is latest:
                del rows[-1]
            rows.append(replace(latest, bins=counter.quantile_bins(), folded=latest.fold(counter)))
        for row in rows:
            row.fetch()
        return rows


def _unfolded(folded: Folded, scale: float) -> LogHistogram:
    first, occupied, apart = folded
    counts = np.zeros(bin_count(STORED_MANTISSA_BITS), dtype=np.int64)
    counts[first : first + occupied.size] = occupied
    return LogHistogram(STORED_MANTISSA_BITS, counts, scale, *apart)
