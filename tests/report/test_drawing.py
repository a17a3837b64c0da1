"""Drawings: no two texts overlap, none leaves the picture, equal numbers give equal bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from epsgrid.report.drawing.curves import draw_curves
from epsgrid.report.drawing.histograms import draw_histograms, labelled_rows
from epsgrid.report.drawing.style import style, to_png, to_svg
from epsgrid.report.numbers.figures import LayerDensity, curve_numbers, histogram_numbers
from matplotlib.figure import Figure
from matplotlib.text import Text

from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.numerics.placement import Placement
from epsgrid.report.compare import compare
from tests.report.simulate import Outcome, layer, measured, peaked, simulate

WIDE = tuple(float(f"1e{k}") for k in range(-16, 3))


def network(layers: int) -> list[LayerStatistics]:
    """Layers with long names, as a deep network has them; one gets no gradient."""
    found = [
        layer(f"features.denseblock{1 + i // 12}.denselayer{i % 12}.conv.weight", (200,), -5 + 3 * i / layers, 0.4)
        for i in range(layers - 1)
    ]
    return [*found, measured("module.$x_1$.bias", (64,), np.zeros(64, dtype=np.float32))]


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
    with style():
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


def histogram_figure(tmp_path: Path, **changes: object) -> Figure:
    stored = simulate(tmp_path, **changes)  # type: ignore[arg-type]
    numbers = histogram_numbers(stored, compare(stored))
    assert numbers is not None
    return draw_histograms(numbers)


def curve_figure(tmp_path: Path, **changes: object) -> Figure:
    stored = simulate(tmp_path, **changes)  # type: ignore[arg-type]
    numbers = curve_numbers(stored, compare(stored))
    assert numbers is not None
    return draw_curves(numbers)


@pytest.mark.parametrize("layers", [2, 24, 60, 360])
def test_histograms_are_legible(tmp_path: Path, layers: int) -> None:
    assert_legible(histogram_figure(tmp_path, layers=network(layers), rates=(1e-3,), seeds=(0,)))


def test_histograms_of_a_wide_grid_are_legible(tmp_path: Path) -> None:
    placement = Placement.in_place(0.999)
    figure = histogram_figure(tmp_path, placement=placement, conventional=WIDE, rates=(1e-3,), seeds=(0,))
    assert_legible(figure)


def test_histograms_without_any_sweep_are_legible(tmp_path: Path) -> None:
    assert_legible(histogram_figure(tmp_path, sweep=False))


def test_names_of_layers_are_not_read_as_mathematics(tmp_path: Path) -> None:
    figure = histogram_figure(tmp_path, layers=network(3), sweep=False)
    with style():
        figure.canvas.draw()
    assert "module.$x_1$.bias" in {text.get_text() for text in figure.findobj(Text) if not text.get_parse_math()}


def diverging(rate: float, epsilon: float | None, seed: int) -> Outcome:
    if rate > 1e-2 and (epsilon or 1.0) < 1e-5:
        return "diverged" if seed or rate > 1e-1 else (0.3, 0.3)
    return peaked()(rate, epsilon, seed)


@pytest.mark.parametrize("rates", [(1e-3,), (1e-3, 1e-1), tuple(10.0**-k for k in range(8))])
def test_curves_are_legible(tmp_path: Path, rates: tuple[float, ...]) -> None:
    assert_legible(curve_figure(tmp_path, truth=diverging, rates=rates))


def perplexity(rate: float, epsilon: float | None, seed: int) -> Outcome:
    score = 80 * 2 ** (0.5 * abs(np.log10(epsilon or 1.0) + 12)) + seed
    return score, score - 2


def test_curves_of_a_wide_grid_are_legible(tmp_path: Path) -> None:
    figure = curve_figure(tmp_path, truth=perplexity, conventional=WIDE, metric=("perplexity", "min", ""))
    assert figure.axes[0].get_yscale() == "log"
    assert_legible(figure)


def test_curves_without_epsilon_are_legible(tmp_path: Path) -> None:
    figure = curve_figure(tmp_path, reference=True, probe=False, optimizer="sgdm")
    assert figure.axes[0].get_xlabel() == "learning rate"
    assert_legible(figure)


def test_learning_rates_that_are_no_powers_of_ten_are_named_on_the_axis(tmp_path: Path) -> None:
    rates = (3e-3, 1e-2, 3e-2)
    figure = curve_figure(tmp_path, reference=True, probe=False, optimizer="sgdm", rates=rates)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["3e-3", "1e-2", "3e-2"]
    assert_legible(figure)


def test_a_single_epsilon_can_be_drawn(tmp_path: Path) -> None:
    """`--grid default` sweeps one ε; the axis then had no width and matplotlib divided by zero."""
    figure = curve_figure(tmp_path, conventional=None, narrowed=(1e-8,), probe=False)
    low, high = figure.axes[0].get_xlim()
    assert low < 1e-8 < high
    assert_legible(figure)


def test_only_diverged_trials_can_be_drawn(tmp_path: Path) -> None:
    figure = curve_figure(tmp_path, truth=lambda rate, epsilon, seed: "diverged")
    assert "no cell has a score" in {text.get_text() for text in figure.axes[0].texts}
    assert_legible(figure)


def test_selection_on_test_has_one_panel(tmp_path: Path) -> None:
    figure = curve_figure(tmp_path, selection="test")
    assert [axes.get_title() for axes in figure.axes] == ["test (selects)"]


def test_equal_numbers_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (curve_figure(tmp_path, truth=diverging) for _ in range(2))
    assert to_svg(first) == to_svg(second)
    assert to_png(first) == to_png(second)


def test_the_users_own_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    plain = to_png(histogram_figure(tmp_path))
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.transparent": True}):
        assert to_png(histogram_figure(tmp_path)) == plain


def test_layers_that_set_a_bound_are_always_named() -> None:
    def density(name: str, *, low: bool = False, high: bool = False) -> LayerDensity:
        return LayerDensity(name, (), 1, 0.0, None, None, "measured", low, high)

    layers = [density(str(row), low=row == 101, high=row == 200) for row in range(300)]
    rows = labelled_rows(layers, rows_inch=6.0)
    assert {101, 200} <= set(rows)
    assert min(np.diff(rows)) * 5.8 / 300 >= 0.13
