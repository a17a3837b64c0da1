"""What is kept of many observed steps: evenly spaced rows, few histograms, little memory."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest
import torch

from epsgrid.numerics import counting
from epsgrid.numerics.series import FRACTIONS
from epsgrid.numerics.tables import Counter
from epsgrid.observing.history import History, Row, _unfolded


class Watched:
    """Adds steps to a history: counts of tensors that change with the step."""

    def __init__(self, every: int = 1, entries: tuple[int, ...] = (5, 3)) -> None:
        self.history, self.counter, self.every = History(every), Counter(FRACTIONS), every
        self.entries = entries
        self.latest: Any = None
        places = range(len(entries))
        self.shared = {"indexes": tuple(places), "names": tuple(map(str, places)), "decays": (0.5,) * len(entries)}

    def values(self, call: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(call)
        return [torch.rand(size, generator=generator) * 10.0**-call for size in self.entries]

    def step(self, call: int, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "call": call,
            "skipped": 0,
            "left_out": None,
            **self.shared,
            "steps": array("d", [call] * len(self.entries)),
            "epsilons": (1e-8,),
        }
        values = self.values(call % 30)
        counted = self.counter.count(values)
        row = Row(**{**fields, "totals": counted.totals(), **changes})
        self.latest = (row, counted)
        self.history.add(row, counted, values)

    def run(self, steps: int) -> list[Row]:
        for call in range(self.every, steps + 1, self.every):
            self.step(call)
        return self.history.rows(*self.latest)


def steps(rows: list[Row]) -> list[int]:
    return [row.step for row in rows]


@pytest.mark.parametrize("count", [1, 100, 512, 513, 5000])
def test_rows_and_histograms_stay_few_and_evenly_spaced_and_the_latest_is_there(count: int) -> None:
    rows = Watched(entries=(2,)).run(count)
    found = steps(rows)
    assert len(rows) <= 512
    assert found[0] == 1 and found[-1] == count
    spaced = np.diff(found[:-1])
    assert len(rows) == count or set(spaced) == {2 ** int(np.log2(spaced[0]))}
    assert len(rows) >= min(count, 512 // 2)
    histograms = [row.step for row in rows if row.folded is not None]
    assert len(histograms) <= 64
    assert len(histograms) >= min(count // 8, 64 // 2)
    assert histograms[0] == 1 and histograms[-1] == count
    assert len(set(np.diff(histograms[:-1]))) <= 1


def test_rows_say_what_counting_would_have_said() -> None:
    watched = Watched()
    rows = watched.run(20)
    assert steps(rows) == list(range(1, 21))
    for row in rows:
        call = row.step
        for found, v in zip(row.snapshots(2), watched.values(call), strict=True):
            expected = counting.count(v, 1 / (1 - 0.5**call))
            assert found is not None
            assert found.scale == expected.scale
            assert found.quantiles == tuple(expected.quantile(fraction) for fraction in FRACTIONS)
            assert (found.zeros, found.nonzero, found.nonfinite) == (0, len(v), 0)
            if call in (1, 9, 17, 20):
                assert found.histogram == expected.fold(1)
            else:
                assert found.histogram is None


@pytest.mark.parametrize("values", [[], [0.0], [1.0, 0.0, 1e-30, float("nan"), float("inf")], [1e-310, 1e300]])
def test_packed_histograms_come_back_exactly(values: list[float]) -> None:
    v = torch.tensor(values, dtype=torch.float64)
    assert _unfolded(Counter(()).count([v]).folded(0, 1), 2.5) == counting.count(v, 2.5).fold(1)
