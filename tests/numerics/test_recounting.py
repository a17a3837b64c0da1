"""Counting the same tensors again gives what counting them gives, and only while they are the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from epsgrid.numerics import jit, tables
from epsgrid.numerics.recounting import ALL_FINITE, NOT_ALL_FINITE, ROOM, Recount
from epsgrid.numerics.tables import Counter

FRACTIONS = (0.02, 0.5, 0.98)


def sample(entries: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (8 * torch.randn(entries, generator=generator)).exp2() * (torch.rand(entries, generator=generator) > 0.1)


def ready(values: list[torch.Tensor]) -> tuple[Counter, Recount, list[torch.Tensor]]:
    """Count once, so that it can be done again; the numbers are of both types."""
    assert jit.compiled()
    counter = Counter(FRACTIONS)
    counter.count(values)
    numbers = [torch.tensor(0.0, dtype=(torch.float32, torch.float64)[place % 2]) for place in range(len(values))]
    recount = counter.recount(values, numbers)
    assert recount is not None
    return counter, recount, numbers


def test_counts_taken_together_are_those_of_counting_one_after_the_other() -> None:
    values = [sample(9001), torch.zeros(3), torch.ones(4, 2).T, sample(5000).double(), sample(70).bfloat16()]
    _, recount, numbers = ready(values)
    expected = []
    for call in range(ROOM):
        for v, number in zip(values, numbers, strict=True):
            v.copy_(sample(v.numel(), seed=call).view(v.shape))
            number.fill_(call + 0.5)
        assert recount.holds() and recount.count() == ALL_FINITE and recount.waiting == call + 1
        counted = Counter(FRACTIONS).count(values)
        expected.append((counted.quantile_bins().numpy(), counted.totals().numpy()))
        last = [counted.histogram(layer) for layer in range(len(values))]
    answers = recount.take()
    np.testing.assert_array_equal(answers.bins, [bins for bins, _ in expected])
    np.testing.assert_array_equal(answers.totals, [totals for _, totals in expected])
    np.testing.assert_array_equal(answers.numbers, np.repeat(np.arange(ROOM)[:, None] + 0.5, len(values), axis=1))
    assert [recount.counted.histogram(layer) for layer in range(len(values))] == last
    np.testing.assert_array_equal(recount.counted.quantile_bins(), expected[-1][0])
    np.testing.assert_array_equal(recount.counted.totals(), expected[-1][1])
    assert recount.waiting == 0 and len(recount.take().bins) == 0


def test_what_was_taken_stays_when_more_is_counted() -> None:
    values = [sample(500)]
    _, recount, _ = ready(values)
    recount.count()
    first = recount.take()
    bins = first.bins.copy()
    values[0].fill_(3.0)
    recount.count()
    np.testing.assert_array_equal(first.bins, bins)
    assert recount.take().totals.tolist() == [[[0, 500, 0]]]


def test_no_more_is_counted_than_there_is_room_for() -> None:
    _, recount, _ = ready([torch.ones(2)])
    for _ in range(ROOM):
        recount.count()
    with pytest.raises(AssertionError, match="have to be taken before"):
        recount.count()


@pytest.mark.parametrize("entry", [torch.nan, torch.inf])
def test_an_entry_that_is_not_finite_is_told_at_once(entry: float) -> None:
    values = [torch.ones(5), torch.ones(5000)]
    _, recount, _ = ready(values)
    values[1][4321] = entry
    assert recount.count() == NOT_ALL_FINITE
    assert recount.take().totals.tolist() == [[[0, 5, 0], [0, 4999, 1]]]


def test_a_negative_entry_is_told_and_leaves_no_answer() -> None:
    values = [torch.ones(5), torch.ones(5000)]
    _, recount, _ = ready(values)
    values[1][4321] = -1.0
    assert recount.count() == 1
    assert recount.waiting == 0 and len(recount.take().bins) == 0
    values[1][4321] = 1.0
    assert recount.count() == ALL_FINITE


CHANGES: dict[str, Callable[[list[torch.Tensor], list[torch.Tensor]], object]] = {
    "other memory": lambda values, numbers: setattr(values[0], "data", values[0].clone()),
    "other memory of a number": lambda values, numbers: setattr(numbers[0], "data", numbers[0].clone()),
    "fewer entries": lambda values, numbers: values[0].resize_(3),
    "another type": lambda values, numbers: setattr(values[0], "data", values[0].view(torch.int32)),
    "gaps in memory": lambda values, numbers: values[0].as_strided_((2, 3), (6, 1)),
    "other gaps in memory": lambda values, numbers: values[1].as_strided_((4, 2), (1, 5)),
    "another shape with gaps": lambda values, numbers: values[1].as_strided_((2, 4), (1, 4)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_tensors_that_have_changed_are_not_counted_again(change: Callable[..., object]) -> None:
    first = torch.rand(12)[:6].view(2, 3)
    assert first.untyped_storage().nbytes() == 48
    values = [first, torch.rand(16)[:8].view(2, 4).T]
    _, recount, numbers = ready(values)
    assert recount.holds()
    change(values, numbers)
    assert not recount.holds()


def test_a_counter_that_counted_others_in_between_does_not_count_these_again() -> None:
    counter, recount, _ = ready([torch.ones(3)])
    counter.count([torch.ones(4)])
    assert not recount.holds()


def test_what_compiled_code_does_not_count_where_it_lies_is_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert jit.compiled()
    copied = [torch.ones(8)[::2]]
    counter, numbers = Counter(FRACTIONS), [torch.zeros(())]
    counter.count(copied)
    assert counter.recount(copied, numbers) is None
    with monkeypatch.context() as patch:
        patch.setattr(tables, "_INT32_LIMIT", 10)
        several = [torch.ones(3), torch.ones(10)]
        counter.count(several)
        assert counter.recount(several, numbers * 2) is None
    monkeypatch.setattr(jit, "kernel", lambda: None)
    counter.count([torch.ones(3)])
    assert counter.recount([torch.ones(3)], numbers) is None


@pytest.mark.parametrize("mantissa_bits", [0, 1, 4, 5])
def test_folded_counts_are_those_of_the_folded_histogram(mantissa_bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert jit.compiled()
    highest = torch.finfo(torch.float32).max
    values = [
        sample(9000),
        torch.zeros(5),
        torch.tensor([]),
        torch.tensor([2.0**-149, highest, torch.nan, torch.inf, 0.0]),
        torch.tensor([1e-310, 1e300, 1.0], dtype=torch.float64),
    ]
    compiled = Counter(()).count(values)
    monkeypatch.setattr(jit, "kernel", lambda: None)
    for counted in (compiled, Counter(()).count(values)):
        for layer, v in enumerate(values):
            expected = Counter(()).count([v]).histogram(0).fold(mantissa_bits)
            first, counts, apart = counted.folded(layer, mantissa_bits)
            assert np.array_equal(np.pad(counts, (first, len(expected.counts) - first - len(counts))), expected.counts)
            assert len(counts) == 0 or (counts[0] and counts[-1])
            assert apart == (expected.nan, expected.infinite, expected.below_range, expected.above_range)
