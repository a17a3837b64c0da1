"""Drawings: no two texts overlap, none leaves the picture, equal numbers give equal bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from epsgrid.report.figures.cost import CostBar, CostPart, draw_cost
from matplotlib.figure import Figure
from matplotlib.text import Text

from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.series import Series
from epsgrid.report.compare import compare
from epsgrid.report.figures.adaptable import _pushed_apart, _time_edges, adaptable_numbers, draw_adaptable
from epsgrid.report.figures.fractions import _FractionCurve, _FractionNumbers, draw_fractions, fraction_numbers
from epsgrid.report.figures.histograms import _labelled_rows, _LayerDensity, draw_histograms, histogram_numbers
from epsgrid.report.figures.learning import draw_learning
from epsgrid.report.figures.map import draw_map, map_numbers
from epsgrid.report.figures.metric import draw_curves, sweep_numbers
from epsgrid.report.figures.percentiles import draw_percentiles, percentile_numbers
from epsgrid.report.figures.style import applied, to_png, to_svg
from epsgrid.report.figures.trajectory import TrajectoryNumbers, draw_trajectory, trajectory_numbers
from tests.report.kept import MadeUp, falling, probed, series, trusted
from tests.report.simulate import Outcome, layer, measured, peaked, simulate
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


def drawn(numbers: Callable[..., Any], draw: Callable[[Any], Figure], tmp_path: Path, **changes: Any) -> Figure:
    stored = simulate(tmp_path, **changes)
    found = numbers(stored, compare(stored))
    assert found is not None
    return draw(found)


def histogram_figure(tmp_path: Path, **changes: Any) -> Figure:
    return drawn(histogram_numbers, draw_histograms, tmp_path, **changes)


def curve_figure(tmp_path: Path, **changes: Any) -> Figure:
    return drawn(sweep_numbers, draw_curves, tmp_path, **changes)


def map_figure(tmp_path: Path, **changes: Any) -> Figure:
    return drawn(map_numbers, draw_map, tmp_path, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": network(2), "rates": (1e-3,), "seeds": (0,)},
        {"layers": network(24), "rates": (1e-3,), "seeds": (0,)},
        {"layers": network(60), "sweep": False},
        {"layers": network(360), "sweep": False},
        {"placement": Placement.in_place(0.999), "conventional": WIDE, "rates": (1e-3,), "seeds": (0,)},
    ],
)
def test_histograms_are_legible(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert_legible(histogram_figure(tmp_path, **changes))


def test_layers_that_set_a_bound_are_always_named() -> None:
    made = layer("w", (10,), -3.0)
    layers = [_LayerDensity(made, (), row == 101, row == 200) for row in range(300)]
    rows = _labelled_rows(layers, row_inch=5.8 / 300)
    assert {101, 200} <= set(rows)
    assert min(np.diff(rows)) * 5.8 / 300 >= 0.13


def diverging(rate: float, epsilon: float | None, seed: int) -> Outcome:
    if rate > 1e-2 and (epsilon or 1.0) < 1e-5:
        return "diverged" if seed or rate > 1e-1 else (0.3, 0.3)
    return peaked()(rate, epsilon, seed)


def perplexity(rate: float, epsilon: float | None, seed: int) -> Outcome:
    score = 80 * 2 ** (0.5 * abs(np.log10(epsilon or 1.0) + 12)) + seed
    return score, score - 2


WIDE_PERPLEXITY = {"truth": perplexity, "conventional": WIDE, "metric": ("perplexity", "min", "")}


@pytest.mark.parametrize("rates", [(1e-3,), (1e-3, 1e-1), tuple(10.0**-k for k in range(8))])
def test_curves_are_legible(tmp_path: Path, rates: tuple[float, ...]) -> None:
    assert_legible(curve_figure(tmp_path, truth=diverging, rates=rates))


def test_curves_of_a_wide_grid_are_legible(tmp_path: Path) -> None:
    figure = curve_figure(tmp_path, **WIDE_PERPLEXITY)
    assert figure.axes[0].get_yscale() == "log"
    assert_legible(figure)


def test_learning_rates_that_are_no_powers_of_ten_are_named_on_the_axis(tmp_path: Path) -> None:
    rates = (3e-3, 1e-2, 3e-2)
    figure = curve_figure(tmp_path, reference=True, probe=False, optimizer="sgdm", rates=rates)
    assert figure.axes[0].get_xlabel() == "learning rate"
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


def never(rate: float, epsilon: float | None, seed: int) -> Outcome:
    return peaked()(rate, epsilon, seed) if epsilon == 1e-3 else "pending"


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": diverging, "rates": tuple(3.0**-k for k in range(30)), "seeds": (0,)},
        WIDE_PERPLEXITY,
        {"truth": lambda *point: "diverged", "seeds": (0,)},
        {"truth": diverging, "rates": (1e-3, 1e-1), "probe": False, "narrowed": None},
        {"truth": never},
    ],
)
def test_maps_are_legible(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert_legible(map_figure(tmp_path, **changes))


def test_every_tile_tells_its_value_and_the_narrowed_range_is_outlined(tmp_path: Path) -> None:
    figure = map_figure(tmp_path, truth=diverging, rates=(1e-3, 1e-1))
    assert_legible(figure)
    svg = to_svg(figure).decode()
    assert svg.count("<title>lr ") == 16
    assert "<title>lr 0.1, ε 1e-8: 30.00 %; 2 of 3 seeds diverged</title>" in svg
    (outline,) = [patch for patch in figure.axes[0].patches if patch.get_label() == "decades of the bounds"]
    assert (outline.get_x(), outline.get_width()) == (3.5, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("best", "epochs"), [(1e-1, 4), (1e-3, 1), (1e-3, 120)])
def test_learning_curves_are_legible(tmp_path: Path, best: float, epochs: int) -> None:
    small = {"rates": (1e-3,), "seeds": (0, 1), "narrowed": (1e-3, 1e-2), "conventional": (1e-8, 1e-3, 1e-1)}
    stored = simulate(tmp_path, best_at(best), **small)  # type: ignore[arg-type]
    figure = draw_learning(numbers_of(with_epochs(stored, epochs=epochs)))
    assert_legible(figure)
    curves = 3 if best == 1e-1 else 2
    assert to_svg(figure).decode().count(", epoch ") == curves * (epochs if epochs <= 25 else 1)


def test_learning_curves_without_a_finite_value_are_legible(tmp_path: Path) -> None:
    small = {"rates": (1e-3,), "seeds": (0,), "narrowed": (1e-3,), "conventional": (1e-8, 1e-3)}
    stored = simulate(tmp_path, best_at(1e-3), **small)  # type: ignore[arg-type]
    nothing = with_epochs(stored, lambda *point: (np.nan, np.nan))
    assert_legible(draw_learning(numbers_of(nothing)))


def test_fractions_are_legible(tmp_path: Path) -> None:
    figure = drawn(fraction_numbers, draw_fractions, tmp_path, rates=(1e-3,), seeds=(0,))
    assert_legible(figure)
    assert "<title>ε 1e-3: 37.4 % of all entries adapt</title>" in to_svg(figure).decode()


def test_fractions_of_many_kinds_of_layers_are_legible() -> None:
    epsilons = tuple(float(10**k) for k in np.arange(-16, 3, 0.1))
    curves = [_FractionCurve(kind, 10, tuple(np.linspace(1, 0, len(epsilons)) ** n)) for n, kind in enumerate(KINDS, 1)]
    marks = tuple((epsilon, 0.5, False) for epsilon in WIDE)
    numbers = _FractionNumbers(epsilons, curves[0], tuple(curves), marks, (1e-8, 1e-4), (1e-9, 1e-3), "adam")
    assert_legible(draw_fractions(numbers))


@pytest.mark.parametrize("seconds", [0.02, 4000.0, 3e6])
def test_costs_are_legible(seconds: float) -> None:
    narrowed = (CostPart("probe", seconds / 100, None), CostPart("narrowed grid", 0.0, 12))
    conventional = (CostPart("conventional grid", seconds, 1200, missing=3),)
    figure = draw_cost((CostBar("conventional search", conventional), CostBar("narrowed search", narrowed)))
    assert_legible(figure)
    assert "1200 trials so far" in to_svg(figure).decode()


def percentile_figure(kept: Series, **changes: Any) -> Figure:
    numbers = percentile_numbers(kept, probed(), optimizer="adam", epsilon=1e-3, **changes)
    assert numbers is not None
    return draw_percentiles(numbers)


def adaptable_figure(kept: Series) -> Figure:
    numbers = adaptable_numbers(kept, optimizer="adam", epsilon=1e-3)
    assert numbers is not None
    return draw_adaptable(numbers)


@pytest.mark.parametrize("layers", [2, 8, 30, 200])
def test_networks_over_time_are_legible(layers: int) -> None:
    kept = series(kept_network(layers), snapshots=5, epochs=200)
    assert_legible(percentile_figure(kept))
    assert_legible(adaptable_figure(kept))


@pytest.mark.parametrize(
    "changes",
    [
        {"snapshots": 1},
        {"snapshots": 2, "epochs": None},
        {"snapshots": 40, "epochs": None, "steps_apart": 100_000},
        {"stateless": ["head.bias", "conv.weight"]},
        {"histograms": lambda index: index == 4},
    ],
)
def test_few_many_and_missing_snapshots_are_legible(changes: dict[str, Any]) -> None:
    kept = series(**changes)
    assert_legible(percentile_figure(kept))
    assert_legible(adaptable_figure(kept))
    assert_legible(percentile_figure(kept, layer="conv.bias"))


def test_without_bounds_and_epsilon_there_are_only_percentiles() -> None:
    numbers = percentile_numbers(series(threshold=None), None, optimizer="adam")
    assert numbers is not None
    figure = draw_percentiles(numbers)
    assert_legible(figure)
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"median", "25–75 %", "5–95 %", "2–98 %"}


def test_names_are_not_read_as_mathematics(tmp_path: Path) -> None:
    kept = series([MadeUp("module.$x_1$.bias", "bias", 50, falling(-2.0))])
    over_time = (percentile_figure(kept, layer="module.$x_1$.bias"), adaptable_figure(kept))
    for figure in (*over_time, histogram_figure(tmp_path, layers=network(3), sweep=False)):
        with applied():
            figure.canvas.draw()
        texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
        assert any("module.$x_1$.bias" in text.get_text() for text in texts if not text.get_parse_math())


def test_the_map_shows_each_layers_share_at_each_time() -> None:
    numbers = adaptable_numbers(series(stateless=["head.bias"]), optimizer="adam", epsilon=1e-3)
    assert numbers is not None
    axes = draw_adaptable(numbers).axes[1]
    (mesh,) = axes.collections
    shares = mesh.get_array()
    assert shares is not None
    for row, own in enumerate(numbers.rows):
        if own.layer == "head.bias":
            assert shares.mask[row].all()
        else:
            assert shares[row].tolist() == pytest.approx(own.shares)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["conv.weight", "conv.bias", "head.bias", "head.weight"]


def trajectory(**changes: Any) -> TrajectoryNumbers:
    bounds = probed()
    numbers = trajectory_numbers(replace(bounds, reliability=trusted(bounds)), "adam")
    assert numbers is not None
    return replace(numbers, **changes)


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, "linear"),
        ({"steps": (1, 2, 4, 8, 391)}, "log"),
        ({"steps": (391,), "low": (1e-6,), "high": (0.1,)}, "linear"),
        ({"steps": (10, 20, 40, 80, 16_000), "low": (1e-24, 1e-22, 1e-20, 1e-19, 1e-19), "low_decade": 1e-19}, "log"),
        ({"high": (2e-5,) * 5, "low": (1e-5,) * 5, "low_decade": 1e-5, "high_decade": 1e-5}, "linear"),
    ],
)
def test_trajectories_are_legible(changes: dict[str, Any], scale: str) -> None:
    figure = draw_trajectory(trajectory(**changes))
    assert_legible(figure)
    assert figure.axes[0].get_xscale() == scale
    assert "decades settled after 4 steps" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_equal_numbers_give_equal_bytes(tmp_path: Path) -> None:
    draws: tuple[Callable[[], Figure], ...] = (
        lambda: curve_figure(tmp_path, truth=diverging),
        lambda: percentile_figure(series()),
        lambda: adaptable_figure(series()),
        lambda: draw_trajectory(trajectory()),
    )
    for draw in draws:
        first, second = draw(), draw()
        assert to_svg(first) == to_svg(second)
        assert to_png(first) == to_png(second)


def test_the_users_own_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    plain = to_png(histogram_figure(tmp_path))
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.transparent": True}):
        assert to_png(histogram_figure(tmp_path)) == plain


def test_cells_meet_half_way_between_times_and_none_reaches_before_the_start() -> None:
    assert _time_edges([5.0]) == [4.5, 5.5]
    assert _time_edges([1.0, 3.0, 4.0]) == [0.0, 2.0, 3.5, 4.5]
    assert _time_edges([7.0, 73.0, 140.0]) == [0.0, 40.0, 106.5, 173.5]


@pytest.mark.parametrize("places", [[0.0], [0.0, 0.1, 0.2, 0.3], [1.0, 5.0, 5.1, 9.0], [0.5, 1.0, 1.4, 1.5, 30.0]])
def test_names_are_pushed_apart_and_keep_their_order(places: list[float]) -> None:
    moved = _pushed_apart(places, 1.0)
    assert all(b - a >= 1.0 - 1e-9 for a, b in itertools.pairwise(moved))
    assert sum(moved) == pytest.approx(sum(places))  # nobody is pushed further than needed
