"""Drawings: no two texts overlap, none leaves the picture, equal numbers give equal bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.series import Series
from epsgrid.report.figures.curve import curve_numbers, draw_curve
from epsgrid.report.figures.damping import damping_of_series, draw_damping
from epsgrid.report.figures.histograms import _rows_that_fit, draw_histograms, histogram_numbers
from epsgrid.report.figures.learning import draw_learning
from epsgrid.report.figures.map import draw_map, map_numbers
from epsgrid.report.figures.percentiles import draw_percentiles, percentile_numbers
from epsgrid.report.figures.style import applied, to_bytes
from tests.report.kept import MadeUp, falling, probed, series
from tests.report.simulate import Outcome, compare, layer, measured, peaked, simulate
from tests.report.test_learning import best_at, numbers_of, with_epochs

WIDE = tuple(float(f"1e{k}") for k in range(-16, 3))
KINDS = ("convolution", "normalisation", "bias", "embedding", "attention", "recurrent", "dense", "other")


def shown_texts(figure: Figure) -> Iterator[Text]:
    """All texts that are visible, without tick labels outside their axes' range."""
    hidden = set()
    for axes in figure.findobj(lambda artist: hasattr(artist, "get_xticklabels")):
        for axis in (axes.xaxis, axes.yaxis):  # type: ignore[attr-defined]
            low, high = sorted(axis.get_transform().transform(axis.get_view_interval()))
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                if not low - 1e-9 <= axis.get_transform().transform([tick.get_loc()])[0] <= high + 1e-9:
                    hidden |= {tick.label1, tick.label2}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden:
            yield text


def assert_legible(figure: Figure) -> None:
    with applied():
        figure.canvas.draw()
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown_texts(figure)]
    assert len(boxes) > 5
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0, f"{text!r} leaves the picture"
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, f"{text!r} leaves the picture"
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert min(width, height) < 0.5, f"{one!r} and {other!r} overlap by {width:.1f} × {height:.1f} pixels"


def network(layers: int) -> list[LayerStatistics]:
    """Layers with long names, as a deep network has them; one gets no gradient."""
    found = [
        layer(f"features.denseblock{1 + i // 12}.denselayer{i % 12}.conv.weight", (200,), -5 + 3 * i / layers, 0.4)
        for i in range(layers - 1)
    ]
    return [*found, measured("module.$x_1$.bias", (64,), np.zeros(64, dtype=np.float32))]


def kept_network(layers: int) -> list[MadeUp]:
    """Layers with long names and of every kind; one name is not mathematics."""
    made = [
        MadeUp(
            f"features.denseblock{i // 12}.denselayer{i % 12}.weight",
            KINDS[i * 8 // layers],
            60,
            falling(-3 - i / layers),
        )
        for i in range(layers - 1)
    ]
    return [*made, MadeUp("module.$x_1$.bias", "other", 10, falling(-2.0), sd=0.1)]


def drawn(numbers: Callable[..., Any], draw: Callable[[Any], Figure]) -> Callable[..., Figure]:
    def figure(tmp_path: Path, **changes: Any) -> Figure:
        stored = simulate(tmp_path, **changes)
        found = numbers(stored, compare(stored))
        assert found is not None
        return draw(found)

    return figure


histogram_figure = drawn(histogram_numbers, draw_histograms)
curve_figure = drawn(curve_numbers, draw_curve)
map_figure = drawn(map_numbers, draw_map)


def test_layers_that_set_a_bound_are_always_named() -> None:
    rows = _rows_that_fit(300, 5.8 / 300, [101, 200])
    assert {101, 200} <= set(rows)
    assert min(np.diff(rows)) * 5.8 / 300 >= 0.13


def diverging(rate: float, epsilon: float | None, seed: int) -> Outcome:
    if rate > 1e-2 and (epsilon or 1.0) < 1e-5:
        return "diverged" if seed or rate > 1e-1 else (0.3, 0.3)
    return peaked()(rate, epsilon, seed)


def worsening(rate: float, epsilon: float | None, seed: int) -> Outcome:
    return "diverged" if epsilon == 1e-1 else peaked(1e-8)(rate, epsilon, seed)


def perplexity(rate: float, epsilon: float | None, seed: int) -> Outcome:
    score = 80 * 2 ** (0.5 * abs(np.log10(epsilon or 1.0) + 12)) + seed
    return score, score - 2


WIDE_PERPLEXITY = {"truth": perplexity, "conventional": WIDE, "metric": ("perplexity", "min", "")}
FEW: dict[str, Any] = {"rates": (1e-3,), "seeds": (0,)}


@pytest.mark.parametrize(
    ("figure", "changes"),
    [
        (histogram_figure, {"layers": network(24), **FEW}),
        (histogram_figure, {"layers": network(60), "sweep": False}),
        (histogram_figure, {"layers": network(360), "sweep": False}),
        (histogram_figure, {"placement": Placement.in_place(0.999), "conventional": WIDE, **FEW}),
        (curve_figure, {"truth": diverging, "rates": tuple(10.0**-k for k in range(8))}),
        (curve_figure, WIDE_PERPLEXITY),
        (curve_figure, {"truth": lambda *point: "diverged"}),
        (curve_figure, {"selection": "test", **FEW}),
        (curve_figure, {"conventional": None, "narrowed": (1e-8,), "probe": False}),  # one ε: its axis had no width
        (map_figure, {"truth": diverging, "rates": tuple(3.0**-k for k in range(30)), "seeds": (0,)}),
        (map_figure, WIDE_PERPLEXITY),
        (map_figure, {"truth": lambda *point: "diverged", "seeds": (0,)}),
        (map_figure, {"truth": lambda r, e, s: peaked()(r, e, s) if e == 1e-3 else "pending"}),
    ],
)
def test_figures_are_legible(figure: Callable[..., Figure], changes: dict[str, Any], tmp_path: Path) -> None:
    assert_legible(figure(tmp_path, **changes))


def test_learning_rates_that_are_no_powers_of_ten_are_named_on_the_axis(tmp_path: Path) -> None:
    rates = (3e-3, 1e-2, 3e-2)
    figure = curve_figure(tmp_path, reference=True, probe=False, optimizer="sgdm", rates=rates)
    assert figure.axes[0].get_xlabel() == "learning rate of sgdm"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["3e-3", "1e-2", "3e-2"]
    assert_legible(figure)


def test_what_was_found_of_an_epsilon_shows_in_a_shape_and_is_named(tmp_path: Path) -> None:
    svg = to_bytes(curve_figure(tmp_path, truth=worsening, rates=(1e-4, 1e-3, 1e-2)), "svg").decode()
    named = ("as good", "worse", "diverged", "within the margin, 1.00 points", "bounds", "default 1e-8")
    assert [name for name in named if f">{name}</text>" not in svg] == []


def test_tiles_hold_their_values_and_the_bounds_are_shaded(tmp_path: Path) -> None:
    figure = map_figure(tmp_path, truth=diverging, rates=(1e-4, 1e-3, 1e-2))
    assert_legible(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 24 and "90.0" in texts
    (shade,) = [patch for patch in figure.axes[0].patches if patch.get_label() == "bounds"]
    assert (shade.get_x(), shade.get_width()) == (3.5, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("best", "epochs"), [(1e-1, 4), (1e-3, 1), (1e-3, 120)])
def test_learning_curves_are_legible(tmp_path: Path, best: float, epochs: int) -> None:
    small = {"rates": (1e-3,), "seeds": (0, 1), "narrowed": (1e-3, 1e-2), "conventional": (1e-8, 1e-3, 1e-1)}
    stored = simulate(tmp_path, best_at(best), **small)  # type: ignore[arg-type]
    figure = draw_learning(numbers_of(with_epochs(stored, epochs=epochs)))
    assert_legible(figure)
    assert len(figure.axes[0].lines) == (3 if best == 1e-1 else 2)


def percentile_figure(kept: Series) -> Figure:
    numbers = percentile_numbers(kept, probed(), 1e-3)
    assert numbers is not None
    return draw_percentiles(numbers)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": kept_network(8), "snapshots": 5},
        {"layers": kept_network(200), "snapshots": 3, "epochs": 200},
        {"snapshots": 1},
        {"snapshots": 40, "epochs": None, "steps_apart": 100_000},
        {"stateless": ["head.bias", "conv.weight"], "histograms": lambda index: index == 4},
        {"threshold": None},
    ],
)
def test_figures_over_time_are_legible(changes: dict[str, Any]) -> None:
    kept = series(**changes)
    assert_legible(percentile_figure(kept))


@pytest.mark.parametrize("threshold", [1e-3, 1e2, 1e9])
def test_damping_is_legible_however_short_the_steps(threshold: float) -> None:
    named = [*kept_network(20), MadeUp("module.$x_1$.bias", "bias", 50, falling(-9.0))]
    for layers in (named, named[-1:]):
        numbers = damping_of_series(series(layers, threshold=threshold), Placement.outside())
        assert numbers is not None
        figure = draw_damping(numbers)
        assert_legible(figure)
        assert any("$x_1$" in each.get_text() and not each.get_parse_math() for each in figure.findobj(Text))


def test_names_are_not_read_as_mathematics(tmp_path: Path) -> None:
    kept = series([MadeUp("module.bias", "module.$x_1$.bias", 50, falling(-2.0))], snapshots=2)
    over_time = percentile_figure(kept)
    for figure in (over_time, histogram_figure(tmp_path, layers=network(3), sweep=False)):
        texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
        assert any("module.$x_1$.bias" in text.get_text() for text in texts if not text.get_parse_math())


def test_equal_numbers_give_equal_bytes_whatever_the_users_own_settings(tmp_path: Path) -> None:
    import matplotlib

    first = [to_bytes(curve_figure(tmp_path, **FEW), suffix) for suffix in ("svg", "png")]
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.transparent": True}):
        assert [to_bytes(curve_figure(tmp_path, **FEW), suffix) for suffix in ("svg", "png")] == first
