"""Count the same tensors again without doing more in Python than to see that they are the same.

A step of a small network is over in two milliseconds, and has moved megabytes through the caches: whatever Python does
after it is slow. Asking each tensor for address, size and type and wrapping what was counted takes as long as counting
200,000 entries. So whoever counts the same tensors after every step keeps a `Recount`, asks it whether they still lie
where they lay, and counts by one compiled call, which puts its answers beside those of the calls before, to be taken
all at once later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from epsgrid.numerics.tables import Counted

ALL_FINITE, NOT_ALL_FINITE = -1, -2
"""What a compiled count returns where no entry is negative; else it returns the place of the tensor that has one."""

ROOM = 64
"""So many counts fit before their answers have to be taken, in 4 kB for each tensor."""


@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """What some counts of L tensors in a row have found.

    Attributes:
        bins: (counts, L, Q), as of `Counted.quantile_bins`.
        totals: (counts, L, 3), as of `Counted.totals`.
        numbers: (counts, L), the numbers noted with the tensors.
    """

    bins: npt.NDArray[np.int32]
    totals: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float64]

    @classmethod
    def room(cls, layers: int, fractions: int) -> Answers:
        """Make room for as many as may wait."""
        bins, totals = np.zeros((ROOM, layers, fractions), np.int32), np.zeros((ROOM, layers, 3), np.int64)
        return cls(bins, totals, np.zeros((ROOM, layers), np.float64))

    def first(self, count: int) -> Answers:
        """Return copies of the first of them."""
        return Answers(self.bins[:count].copy(), self.totals[:count].copy(), self.numbers[:count].copy())


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """A compiled call with all it is given; the sheet has the addresses of the other arrays.

    Attributes:
        function: the call.
        sheet: its argument.
        place: where on the sheet the number of answers that wait stands.
        numbers: (L, 2), address and type of the numbers to be noted.
        answers: where it puts what it finds.
    """

    function: Callable[[npt.NDArray[np.int64]], int]
    sheet: npt.NDArray[np.int64]
    place: int
    numbers: npt.NDArray[np.int64]
    answers: Answers


class Described(Protocol):
    """Tables of tensors that are described once, for the compiled call.

    Attributes:
        described: address, number of entries and type of each; another object once others were described.
    """

    described: list[tuple[int, int, int]]

    def show(self, bins: npt.NDArray[np.int32], totals: npt.NDArray[np.int64]) -> None:
        """Let `Counted` tell these percentiles and totals."""
        ...


class Recount:
    """The tensors of a call of `Counter.count`, to be counted again; `Counter.recount` makes it.

    Args:
        rows: their tables.
        values: the tensors.
        numbers: the scalars that are noted with them.
        counted: tells of the tables.
        call: counts.

    Attributes:
        values: the tensors.
        counted: the latest counts, once their answers were taken and until the counter counts something else.
        waiting: how many counts' answers are to be taken.
    """

    def __init__(
        self,
        rows: Described,
        values: Sequence[torch.Tensor],
        numbers: Sequence[torch.Tensor],
        counted: Counted,
        call: Call,
    ) -> None:
        self.values, self.counted, self.waiting = list(values), counted, 0
        self._rows, self._described = rows, rows.described
        self._call, self._function, self._sheet = call, call.function, call.sheet
        self._known = [
            (v, v.data_ptr(), v.numel(), v.dtype, v.is_contiguous(), number, number.data_ptr())
            for v, number in zip(values, numbers, strict=True)
        ]
        self._layouts = [(v, v.shape, v.stride()) for v in values if not v.is_contiguous()]

    def holds(self) -> bool:
        """Tell whether every tensor still has the memory, the size, the type and the layout it had.

        One that was given other memory (`tensor.data = ...`, `set_`, `resize_`) has not, nor have those of a counter
        that has counted others in between. A plain loop is what runs fastest where caches are cold.
        """
        if self._rows.described is not self._described:
            return False
        for v, address, entries, kind, dense, number, number_address in self._known:
            if (
                v.data_ptr() != address
                or number.data_ptr() != number_address
                or v.numel() != entries
                or v.dtype is not kind
                or v.is_contiguous() is not dense
            ):
                return False
        return all(v.shape == shape and v.stride() == stride for v, shape, stride in self._layouts)

    def count(self) -> int:
        """Count all entries again, where `holds` says that this can be done and fewer than `ROOM` answers wait.

        Returns:
            `ALL_FINITE`; `NOT_ALL_FINITE`; or which tensor has a negative entry, and then nothing was counted.
        """
        assert self.waiting < ROOM, "the answers that wait have to be taken before more are counted"
        found = self._function(self._sheet)
        if found < 0:
            self.waiting += 1
        return found

    def take(self) -> Answers:
        """Return the answers that wait, oldest first."""
        taken = self._call.answers.first(self.waiting)
        if self.waiting:
            self._rows.show(taken.bins[-1], taken.totals[-1])
        self.waiting = self._sheet[self._call.place] = 0
        return taken
