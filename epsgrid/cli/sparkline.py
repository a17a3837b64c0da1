"""Histograms and curves as a line of text: one character per bin, on an axis that all lines of a table share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epsgrid.numerics.histogram import LogHistogram

_LEVELS = "▁▂▃▄▅▆▇█"
_TICK, _LEFT, _BETWEEN, _RIGHT = "│├─┤"
_UNKNOWN = "·"
_TAIL = 0.001
"""Share of the smallest entries that may lie left of the axis: a few denormals would stretch it by decades."""


def shares(values: Sequence[float | None], width: int) -> str:
    """Draw shares in [0, 1] over time, thinned evenly to `width` characters; the first and the last stay.

    >>> shares([1.0, 0.5, None, 0.0], 8)
    '█▄·▁'
    """
    if len(values) > width:
        last = len(values) - 1
        values = [values[round(column * last / (width - 1))] if width > 1 else values[last] for column in range(width)]
    return "".join(_UNKNOWN if value is None else _bar(value) for value in values)


def _bar(height: float) -> str:
    return _LEVELS[min(max(math.ceil(height * len(_LEVELS)) - 1, 0), len(_LEVELS) - 1)]


@dataclass(frozen=True)
class Axis:
    """A log axis of √v̂ in characters.

    Attributes:
        first: left end, log10 of √v̂: a whole decade.
        last: right end, a whole decade.
        width: in characters.
    """

    first: int
    last: int
    width: int

    @classmethod
    def of(cls, histograms: Iterable[LogHistogram | None], width: int, magnitudes: Iterable[float] = ()) -> Axis:
        """Return the axis that holds nearly all entries of some histograms, and further magnitudes > 0."""
        ends = [end for h in histograms if h is not None for end in (h.quantile(_TAIL), h.quantile(1.0)) if end]
        logs = [math.log10(value) for value in (*ends, *magnitudes)] or [-8.0, 0.0]
        first, last = math.floor(min(logs)), math.ceil(max(logs))
        return cls(first, max(last, first + 1), width)

    def header(self) -> str:
        """Return the marks of the decades: as many as fit, each beginning where its decade does.

        >>> Axis(-6, 0, 18).header()
        '│1e-6 │1e-4 │1e-2 '
        """
        decades = self.last - self.first
        longest = 2 + max(len(f"1e{self.first}"), len(f"1e{self.last}"))
        every = next(n for n in range(1, decades + 2) if n == decades + 1 or self.width * n >= longest * decades)
        line = ""
        for decade in range(self.first, self.last, every):
            marked = line.ljust(self._column(decade)) + f"{_TICK}1e{decade}"
            line = marked if len(marked) <= self.width else line
        return line.ljust(self.width)

    def line(self, *histograms: LogHistogram | None) -> str:
        """Draw the non-zero entries of histograms together; those beyond an end of the axis stand at that end."""
        import numpy as np

        from epsgrid.report.figures.binning import pooled

        heights = pooled(histograms, np.linspace(self.first, self.last, self.width + 1)).tolist()
        top = max(heights)
        return "".join(_bar(height / top) if height > 0 else " " for height in heights)

    def span(self, low: float, high: float) -> str:
        """Draw the range between two magnitudes, such as the bounds; one character where both fall into one.

        >>> Axis(-6, 0, 18).span(1e-4, 1e-2)
        '      ├─────┤     '
        """
        left, right = (min(max(self._column(math.log10(end)), 0), self.width - 1) for end in (low, high))
        inside = _LEFT + _BETWEEN * (right - left - 1) + _RIGHT
        return (" " * left + (inside if right > left else _TICK)).ljust(self.width)

    def _column(self, log10_magnitude: float) -> int:
        return math.floor((log10_magnitude - self.first) / (self.last - self.first) * self.width + 1e-9)
