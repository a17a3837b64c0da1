"""Drawings of the search and of what it cost are legible, whatever was swept."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from epsgrid.report.drawing.fractions import draw_fractions
from epsgrid.report.drawing.learning import draw_learning
from epsgrid.report.drawing.ledger import draw_ledger
from epsgrid.report.drawing.map import draw_map
from epsgrid.report.drawing.style import to_svg
from epsgrid.report.numbers.fractions import FractionCurve, FractionMark, FractionNumbers, fraction_numbers
from epsgrid.report.numbers.ledger import LedgerBar, LedgerNumbers, LedgerPart
from epsgrid.report.numbers.maps import map_numbers
from matplotlib.figure import Figure

from epsgrid.report.compare import compare
from tests.report.simulate import Outcome, peaked, simulate
from tests.report.test_drawing import WIDE, assert_legible, diverging, perplexity
from tests.report.test_learning import best_at, numbers_of, with_epochs


def map_figure(tmp_path: Path, **changes: object) -> Figure:
    stored = simulate(tmp_path, **changes)  # type: ignore[arg-type]
    numbers = map_numbers(stored, compare(stored))
    assert numbers is not None
    return draw_map(numbers)


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": diverging, "rates": (1e-3, 1e-1)},
        {"truth": diverging, "rates": tuple(3.0**-k for k in range(30)), "seeds": (0,)},
        {"truth": perplexity, "conventional": WIDE, "metric": ("perplexity", "min", "")},
        {"truth": lambda *point: "diverged", "seeds": (0,)},
        {"truth": diverging, "rates": (1e-3, 1e-1), "probe": False, "narrowed": None},
    ],
)
def test_maps_are_legible(tmp_path: Path, changes: dict[str, object]) -> None:
    assert_legible(map_figure(tmp_path, **changes))


def test_every_tile_tells_its_value(tmp_path: Path) -> None:
    svg = to_svg(map_figure(tmp_path, truth=diverging, rates=(1e-3, 1e-1))).decode()
    assert svg.count("<title>lr ") == 16
    assert len(re.findall(r'<g class="kept">\s*<path[^>]*fill: #fde725; stroke:', svg)) == 2, "the legend's best tiles"
    assert "<title>lr 0.1, ε 1e-8: 30.00 %; 2 of 3 seeds diverged</title>" in svg


@pytest.mark.parametrize(("best", "epochs"), [(1e-1, 4), (1e-3, 1), (1e-3, 120)])
def test_learning_curves_are_legible(tmp_path: Path, best: float, epochs: int) -> None:
    small = {"rates": (1e-3,), "seeds": (0, 1), "narrowed": (1e-3, 1e-2), "conventional": (1e-8, 1e-3, 1e-1)}
    stored = simulate(tmp_path, best_at(best), **small)  # type: ignore[arg-type]
    figure = draw_learning(numbers_of(with_epochs(stored, epochs=epochs)))
    assert_legible(figure)
    curves = 3 if best == 1e-1 else 2
    assert to_svg(figure).decode().count(", epoch ") == curves * (epochs if epochs <= 25 else 1)


def test_curves_without_a_finite_value_are_legible(tmp_path: Path) -> None:
    small = {"rates": (1e-3,), "seeds": (0,), "narrowed": (1e-3,), "conventional": (1e-8, 1e-3)}
    stored = simulate(tmp_path, best_at(1e-3), **small)  # type: ignore[arg-type]
    nothing = with_epochs(stored, lambda *point: (np.nan, np.nan))
    assert_legible(draw_learning(numbers_of(nothing)))


def test_fractions_are_legible(tmp_path: Path) -> None:
    stored = simulate(tmp_path, rates=(1e-3,), seeds=(0,))
    numbers = fraction_numbers(stored, compare(stored))
    assert numbers is not None
    figure = draw_fractions(numbers)
    assert_legible(figure)
    assert "<title>ε 1e-3: 37.4 % of all entries adapt</title>" in to_svg(figure).decode()


def test_fractions_of_many_kinds_of_layers_are_legible() -> None:
    kinds = ("convolution", "normalisation", "bias", "embedding", "attention", "recurrent", "dense", "other")
    epsilons = tuple(float(10**k) for k in np.arange(-16, 3, 0.1))
    curves = [FractionCurve(kind, 10, tuple(np.linspace(1, 0, len(epsilons)) ** n)) for n, kind in enumerate(kinds, 1)]
    marks = tuple(FractionMark(epsilon, 0.5, ()) for epsilon in WIDE)
    numbers = FractionNumbers(epsilons, curves[0], tuple(curves), marks, (1e-8, 1e-4), (1e-9, 1e-3), "adam")
    assert_legible(draw_fractions(numbers))


@pytest.mark.parametrize("seconds", [0.02, 4000.0, 3e6])
def test_ledgers_are_legible(seconds: float) -> None:
    bars = (
        LedgerBar("conventional search", (LedgerPart("conventional grid", seconds, 1200, missing=3),)),
        LedgerBar("narrowed search", (LedgerPart("probe", seconds / 100, None), LedgerPart("narrowed grid", 0.0, 12))),
    )
    figure = draw_ledger(LedgerNumbers(bars, None))
    assert_legible(figure)
    assert "1200 trials so far" in to_svg(figure).decode()


def never(rate: float, epsilon: float | None, seed: int) -> Outcome:
    return peaked()(rate, epsilon, seed) if epsilon == 1e-3 else "pending"


def test_a_map_that_is_mostly_empty_can_be_drawn(tmp_path: Path) -> None:
    assert_legible(map_figure(tmp_path, truth=never))
