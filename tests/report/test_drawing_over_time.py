"""Drawings of what happens over time are legible, whatever was kept."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from epsgrid.report.drawing.adaptable import draw_adaptable, pushed_apart, time_edges
from epsgrid.report.drawing.bands import draw_bands
from epsgrid.report.drawing.course import draw_course
from epsgrid.report.drawing.style import style, to_png, to_svg
from epsgrid.report.numbers.adaptable import adaptable_numbers
from epsgrid.report.numbers.bands import band_numbers
from epsgrid.report.numbers.over_time import CourseNumbers, course_numbers
from matplotlib.figure import Figure
from matplotlib.text import Text

from epsgrid.numerics.series import Series
from tests.report.kept import SMALL, MadeUp, falling, probed, series, trusted
from tests.report.test_drawing import assert_legible

KINDS = ("convolution", "normalisation", "bias", "embedding", "attention", "recurrent", "dense", "other")


def network(layers: int) -> list[MadeUp]:
    """Layers with long names and of every kind, as a deep network has them; one name is not mathematics."""
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


def bands(kept: Series, **changes: object) -> Figure:
    numbers = band_numbers(kept, probed(), optimizer="adam", epsilon=1e-3, **changes)  # type: ignore[arg-type]
    assert numbers is not None
    return draw_bands(numbers)


def the_map(kept: Series) -> Figure:
    numbers = adaptable_numbers(kept, optimizer="adam", epsilon=1e-3)
    assert numbers is not None
    return draw_adaptable(numbers)


@pytest.mark.parametrize("layers", [2, 8, 30, 200])
def test_bands_and_maps_of_networks_are_legible(layers: int) -> None:
    kept = series(network(layers), snapshots=5, epochs=200)
    assert_legible(bands(kept))
    assert_legible(the_map(kept))


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
def test_few_many_and_missing_snapshots_are_legible(changes: dict[str, object]) -> None:
    kept = series(**changes)  # type: ignore[arg-type]
    assert_legible(bands(kept))
    assert_legible(the_map(kept))
    assert_legible(bands(kept, layer="conv.bias"))


def test_without_bounds_and_epsilon_there_are_only_bands() -> None:
    numbers = band_numbers(series(threshold=None), None, optimizer="adam")
    assert numbers is not None
    figure = draw_bands(numbers)
    assert_legible(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["median", "25–75 %", "5–95 %", "2–98 %"]


def test_names_are_not_read_as_mathematics() -> None:
    kept = series([MadeUp("module.$x_1$.bias", "bias", 50, falling(-2.0))])
    for figure in (bands(kept, layer="module.$x_1$.bias"), the_map(kept)):
        with style():
            figure.canvas.draw()
        plain = {text.get_text() for text in figure.findobj(Text) if not text.get_parse_math()}  # type: ignore[attr-defined]
        assert any("module.$x_1$.bias" in text for text in plain)


def test_the_map_shows_each_layers_share_at_each_time() -> None:
    numbers = adaptable_numbers(series(stateless=["head.bias"]), optimizer="adam", epsilon=1e-3)
    assert numbers is not None
    axes = draw_adaptable(numbers).axes[1]
    (mesh,) = axes.collections
    drawn = mesh.get_array()
    assert drawn is not None
    for row, own in enumerate(numbers.rows):
        if own.layer == "head.bias":
            assert drawn.mask[row].all()
        else:
            assert drawn[row].tolist() == pytest.approx(own.shares)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["conv.weight", "conv.bias", "head.bias", "head.weight"]


def course(**changes: object) -> CourseNumbers:
    bounds = probed()
    numbers = course_numbers(replace(bounds, reliability=trusted(bounds)), "adam")
    assert numbers is not None
    return replace(numbers, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"steps": (1, 2, 3, 4, 5)},
        {"steps": (391,), "low": (1e-6,), "high": (0.1,)},
        {"steps": (10, 20, 40, 80, 16_000), "low": (1e-24, 1e-22, 1e-20, 1e-19, 1e-19), "low_decade": 1e-19},
        {"high": (2e-5,) * 5, "low": (1e-5,) * 5, "low_decade": 1e-5, "high_decade": 1e-5},
    ],
)
def test_courses_are_legible(changes: dict[str, object]) -> None:
    figure = draw_course(course(**changes))
    assert_legible(figure)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "decades settled after 4 steps" in labels


def test_many_steps_have_a_log_axis() -> None:
    assert draw_course(course(steps=(1, 2, 4, 8, 391))).axes[0].get_xscale() == "log"
    assert draw_course(course(steps=(1, 2, 3, 4, 5))).axes[0].get_xscale() == "linear"


def test_equal_numbers_give_equal_bytes() -> None:
    for draw in (lambda: bands(series()), lambda: the_map(series()), lambda: draw_course(course())):
        first, second = draw(), draw()
        assert to_svg(first) == to_svg(second)
        assert to_png(first) == to_png(second)


def test_cells_meet_half_way_between_times() -> None:
    assert time_edges([5.0]) == [4.5, 5.5]
    assert time_edges([1.0, 3.0, 4.0]) == [0.0, 2.0, 3.5, 4.5]


def test_no_cell_reaches_before_the_start() -> None:
    assert time_edges([7.0, 73.0, 140.0]) == [0.0, 40.0, 106.5, 173.5]


@pytest.mark.parametrize("places", [[0.0], [0.0, 0.1, 0.2, 0.3], [1.0, 5.0, 5.1, 9.0], [0.5, 1.0, 1.4, 1.5, 30.0]])
def test_names_are_pushed_apart_and_keep_their_order(places: list[float]) -> None:
    moved = pushed_apart(places, 1.0)
    assert all(b - a >= 1.0 - 1e-9 for a, b in itertools.pairwise(moved))
    assert sum(moved) == pytest.approx(sum(places))  # nobody is pushed further than needed


def test_all_layers_of_the_small_example_have_a_kind() -> None:
    assert {layer.kind for layer in SMALL} < set(KINDS)
