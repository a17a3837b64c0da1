"""What differs between two experiments is found, field by field, and what does not is not told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from epsgrid import codec
from epsgrid.numerics.bounds import Reliability
from epsgrid.numerics.placement import Placement
from epsgrid.report.diff import diff
from epsgrid.report.diff_rows import Change, Diff, LayerMove
from epsgrid.report.load import StoredExperiment
from epsgrid.report.text.diff import headline, tables
from epsgrid.report.words import Metric
from tests.report.simulate import measured, peaked, simulate, two_layers

Make = Callable[..., StoredExperiment]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Simulated experiments, each in a folder of its own."""
    made: list[StoredExperiment] = []

    def new(*arguments: Any, **options: Any) -> StoredExperiment:
        few = {"conventional": (1e-8, 1e-4, 1e-3), "seeds": (0, 1, 2)}
        made.append(simulate(tmp_path / f"run{len(made)}", *arguments, **few | options))
        return made[-1]

    return new


def text(found: Diff) -> str:
    """Everything that is printed of it."""
    parts = [
        [table.title, *table.columns, *(cell for row in table.rows for cell in row), table.note or ""]
        for table in tables(found)
    ]
    return "\n".join([*(word for part in parts for word in part), headline(found)])


def test_nothing_differs_between_a_run_and_its_copy(make: Make) -> None:
    found = diff(make(), make())
    assert found.differing == () and tables(found) == ()
    assert headline(found) == "Nothing differs."
    assert all(winner.difference.same_cell for winner in found.winners)


def test_times_are_told_but_are_no_difference(make: Make) -> None:
    a, b = make(), make()
    slower = {trial: replace(result, seconds=result.seconds * 2) for trial, result in b.results.items()}
    found = diff(a, replace(b, results=slower))
    assert found.differing == ()
    assert headline(found) == "Nothing differs but the time it took."
    (costs,) = tables(found)
    assert costs.title == "Costs"
    assert ("conventional grid", "18", "18", "3 min 00 s", "6 min 00 s") in costs.rows


def test_fields_of_the_spec_are_named_with_what_they_matter_to(make: Make) -> None:
    a, b = make(), make(rates=(1e-3, 3e-2), optimizer="adamw", selection="test")
    b.experiment.spec["execution"] = {"workers": 2}
    found = {each.what: (each.a, each.b, each.matters) for each in diff(a, b).spec}
    assert found == {
        "optimizer.name": ("adam", "adamw", "numbers of a trial"),
        "optimizer.weight_decay": (0.0, 0.01, "numbers of a trial"),
        "training.selection": ("validation", "test", "numbers of a trial"),
        "sweep.learning_rates": ([1e-3, 1e-2], [1e-3, 3e-2], "which trials"),
        "execution.workers": (None, 2, "where it runs"),
    }


def test_where_the_data_lie_matters_to_nothing_and_new_fields_are_their_defaults(make: Make) -> None:
    """A spec that can be read is compared with its defaults; `task.root` cannot change a number."""
    a, b = make(), make()
    spec = {**a.experiment.spec, "task": {"name": "cifar10", "root": "here"}}
    there = {**spec, "task": {"name": "cifar10", "root": "there"}, "probe": {"seeds": 1}}
    pair = [replace(each, experiment=replace(each.experiment, spec=own)) for each, own in ((a, spec), (b, there))]
    assert [(each.what, each.matters) for each in diff(*pair).spec] == [("task.root", "nothing")]


def test_data_and_surroundings_are_compared(make: Make) -> None:
    a, b = make(), make(data="other data")
    results = {}
    for number, (trial, result) in enumerate(b.results.items()):
        versions = {"epsgrid": "0.1.0", "torch": "2.13.0" if number else "2.12.1"}
        came_from = {"packages": versions, "host": "node1", "git": {"commit": "abc", "changed": True}}
        results[trial] = replace(result, provenance=came_from, device="cuda")
    assert b.probe is not None
    probe = replace(b.probe, provenance={"packages": {"epsgrid": "0.1.0"}, "command": "another", "started": "later"})
    found = diff(a, replace(b, results=results, probe=probe))
    assert found.data == (Change("description", "8x8 digits: 1,797 images", "other data"),)
    assert set(found.environment) == {
        Change("probe.torch", "2.13.0", None),
        Change("trials.torch", "2.13.0", "2.12.1, 2.13.0"),
        Change("trials.commit", None, "abc with changes"),
        Change("trials.device", "cpu", "cuda"),
    }
    assert headline(found) == "They differ in data and environment."


def moved_layers(factor: float) -> list[Any]:
    """The usual two layers, the bias larger by a factor, and a third that the usual ones lack."""
    weight, _ = two_layers()
    bias = (factor * 10 ** np.linspace(-2.3, -2.0, 10)) ** 2
    return [
        weight,
        measured("0.bias", (10,), bias.astype(np.float32)),
        measured("1.weight", (10,), np.full(10, 1e-5, np.float32)),
    ]


def test_bounds_and_layers_move_by_decades(make: Make) -> None:
    a, b = make(sweep=False), make(sweep=False, layers=moved_layers(20.0))
    found = diff(a, b)
    low, high = found.bounds
    assert low.moved == 0.0 and (low.decade_a, low.decade_b) == (1e-4, 1e-4)
    assert high.moved == pytest.approx(math.log10(20), abs=1e-6)
    assert (high.decade_a, high.decade_b) == (1e-2, 1e-1)
    assert found.layers is not None
    (move,) = found.layers.moves
    assert (move.name, move.low, move.high) == ("0.bias", *[pytest.approx(math.log10(20), abs=1e-6)] * 2)
    assert (found.layers.common, found.layers.only_a, found.layers.only_b) == (2, (), ("1.weight",))
    assert "+1.30" in text(found) and "only B measured 1.weight" in text(found)
    assert found.differing == ("bounds",)


def test_the_layers_that_moved_most_come_first_and_are_few(make: Make) -> None:
    def layers(exponents: Any) -> list[Any]:
        return [
            measured(f"{k}", (2,), np.array([1.0, 2.0], np.float32) * np.float32(4.0**e))
            for k, e in enumerate(exponents)
        ]

    found = diff(make(sweep=False, layers=layers([0] * 15)), make(sweep=False, layers=layers(range(-7, 8)))).layers
    assert found is not None and found.common == 15
    assert [abs(round(move.most / math.log10(2))) for move in found.moves] == [7, 7, 6, 6, 5, 5, 4, 4, 3, 3]
    assert LayerMove("x", -2.0, 1.0).most == 2.0


def test_the_verdict_of_reliability_is_compared(make: Make) -> None:
    a, b = make(sweep=False), make(sweep=False)
    assert b.bounds is not None
    soft = replace(b, bounds=replace(b.bounds, reliability=Reliability("medium", ("why",))))
    found = diff(a, soft)
    assert found.trust == (Change("reliability", None, "medium"),) and found.differing == ("bounds",)


def test_another_placement_is_another_epsilon_of_the_same_magnitude(make: Make) -> None:
    found = diff(make(sweep=False), make(sweep=False, placement=Placement.inside()))
    assert [end.moved for end in found.bounds] == [0.0, 0.0]
    assert [(end.decade_a, end.decade_b) for end in found.bounds] == [(1e-4, 1e-8), (1e-2, 1e-4)]
    assert [change.what for change in found.trust] == ["where ε enters"]


def test_winners_are_compared_over_common_seeds(make: Make) -> None:
    a, b = make(peaked(best=1e-3), seeds=(0, 1, 2, 3)), make(peaked(best=1e-4, height=0.92), seeds=(1, 2, 3, 4, 5))
    winner = next(each for each in diff(a, b).winners if each.name == "narrowed")
    assert (winner.a, winner.b, winner.changed) == ("lr 1e-3, ε 1e-3", "lr 1e-3, ε 1e-4", True)
    by_seed = [
        {
            cell.seed: stored.results[cell.id].test.metric
            for cell in stored.grid.cells
            if (cell.learning_rate, cell.epsilon) == (1e-3, best)
        }
        for stored, best in ((a, 1e-3), (b, 1e-4))
    ]
    gaps = [by_seed[1][seed] - by_seed[0][seed] for seed in (1, 2, 3)]
    expected = stats.t.interval(0.95, 2, np.mean(gaps), stats.sem(gaps))
    assert winner.difference.n == 3
    assert winner.difference.mean == pytest.approx(np.mean(gaps))
    assert (winner.difference.low, winner.difference.high) == pytest.approx(expected)
    assert winner.test_a == pytest.approx(np.mean(list(by_seed[0].values())))


def test_a_metric_that_should_be_small_is_better_when_smaller(make: Make) -> None:
    perplexity = ("perplexity", "min", "")
    found = diff(make(metric=perplexity), make(peaked(height=0.5), metric=perplexity))
    assert found.metric == Metric("perplexity", "min", "")
    gains = [winner.difference.mean for winner in found.winners if winner.name == "narrowed"]
    assert gains[0] == pytest.approx(0.4)


def test_what_cannot_be_compared_says_why(make: Make) -> None:
    accuracy, other_metric = make(), make(metric=("perplexity", "min", ""))
    found = diff(accuracy, other_metric)
    assert found.metric is None
    assert {winner.difference.unknown for winner in found.winners} == {"they are judged by different things"}
    assert "A is judged by accuracy / % and B by perplexity: their scores do not compare" in found.notes
    found = diff(make(seeds=(0, 1)), make(seeds=(2, 3)))
    assert {winner.difference.unknown for winner in found.winners} == {"no seed in common that has a test score"}
    found = diff(make(), make(narrowed=None))
    assert next(w for w in found.winners if w.name == "narrowed").difference.unknown == "B did not sweep it"


@pytest.mark.parametrize(
    "state",
    [
        {"probe": False, "sweep": False},
        {"sweep": False},
        {"truth": lambda *point: "pending"},
        {"truth": lambda *point: "failed"},
        {"truth": lambda *point: "diverged"},
        {"truth": lambda rate, epsilon, seed: "pending" if seed else (0.5, 0.5)},
        {"reference": True, "probe": False},
        {"probe": False, "narrowed": None},
    ],
    ids=lambda state: ",".join(state),
)
def test_half_finished_runs_can_be_compared_both_ways(make: Make, state: dict[str, Any]) -> None:
    whole, part = make(), make(**state)
    for found in (diff(whole, part), diff(part, whole)):
        assert found.differing
        assert codec.to_document(found)
        assert text(found)
    assert diff(part, part).differing == ()


def test_a_spec_that_cannot_be_read_any_more_is_compared_as_it_is(make: Make) -> None:
    """A spec of a plug-in of one's own may be gone; its stored values are compared as they are."""
    a, b = make(), make()
    b.experiment.spec["model"] = {"name": "gone.away:MODEL", "hidden": [1, 2]}
    assert {each.what for each in diff(a, b).spec} == {"model.name", "model.hidden"}
