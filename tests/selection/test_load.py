"""Reading an experiment: what is missing is told, what is damaged is named."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.report.compare import whole
from epsgrid.report.text.render import tables
from epsgrid.selection.load import load_experiment
from epsgrid.store.atomic import seal, unseal
from epsgrid.store.paths import ExperimentFolder
from tests.report.simulate import Outcome, compare, simulate, trial_id


def test_a_complete_experiment_is_read_whole(tmp_path: Path) -> None:
    stored = simulate(tmp_path)
    assert Counter(stored.states.values()) == {"done": 48}
    assert set(stored.results) == set(stored.states)
    assert stored.bounds is not None
    assert stored.bounds.decades == (1e-4, 1e-3, 1e-2)
    assert stored.missing == ()
    assert stored.orphaned == ()


def test_the_bounds_are_those_that_made_the_narrowed_grid(tmp_path: Path) -> None:
    stored = simulate(tmp_path)
    assert stored.measured is not None and stored.probe is not None and stored.grid is not None
    noise = replace(stored.measured.low, epsilon=1e-9, decade=1e-9, layers=("noise",))
    both = replace(stored.measured, low=noise).beside(stored.measured)
    replace(stored.probe, bounds_json=both.to_json()).write(stored.folder.bounds_json)
    for choice, low, inside in (("published", 1e-9, True), ("trusted", 1e-4, False)):
        replace(stored.grid, bounds=choice).write(stored.folder.grid_json)
        again = load_experiment(stored.folder)
        assert again.bounds is not None
        assert (again.bounds_choice, again.bounds.low.decade) == (choice, low)
        comparison = compare(again)
        assert {cell.inside for cell in comparison.cells if cell.epsilon == 1e-6} == {inside}
        line = "bounds without rounding noise: ε 1e-4 to 1e-2; the published rule, noise included: 1e-9 to 1e-2"
        assert f"{line}; the narrowed grid is made from the {choice} ones" in comparison.notes


def test_a_list_of_epsilons_needs_no_bounds(tmp_path: Path) -> None:
    stored = simulate(tmp_path, narrowed=(1e-5, 1e-3), probe=False)
    assert stored.grid is not None
    replace(stored.grid, bounds="listed").write(stored.folder.grid_json)
    again = load_experiment(stored.folder)
    comparison = compare(again)
    assert again.missing == ()
    assert {cell.epsilon for cell in comparison.cells if cell.inside} == {1e-5, 1e-3}
    narrowed = comparison.best_of("narrowed")
    assert narrowed is not None and narrowed.label == "your list"
    assert narrowed.cost.probe_seconds == 0
    assert any("is your list, sweep.epsilons" in note for note in comparison.notes)
    answers = {claim.claim: claim.answer for claim in whole(again)[0].claims}
    assert (answers["range"], answers["narrower"]) == ("undecided", "undecided"), "it is no range of the paper's"
    table = next(table for table in tables(comparison) if table.title == "Cost")
    assert table.rows[0][:3] == ("your list", "1e-5, 1e-3", "12")


def test_states_come_with_their_records(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        fate: dict[int, Outcome] = {0: "diverged", 1: "failed", 2: "pending"}
        return fate[seed]

    stored = simulate(tmp_path, truth, rates=(1e-3,), conventional=None, narrowed=(1e-3,))
    assert Counter(stored.states.values()) == {"diverged": 1, "failed": 1, "pending": 1}
    assert stored.results[trial_id(1e-3, 1e-3, 0)].reason == "loss is NaN at epoch 2"
    assert stored.failures[trial_id(1e-3, 1e-3, 1)].error == "RuntimeError: out of memory"


def test_an_empty_folder_is_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no experiment here; `epsgrid probe SPEC`"):
        load_experiment(ExperimentFolder(tmp_path))


def test_missing_parts_are_told_by_name(tmp_path: Path) -> None:
    stored = simulate(tmp_path / "a", probe=False, sweep=False)
    assert [part.split(":")[0] for part in stored.missing] == ["bounds.json", "grid.json"]
    unfinished = simulate(tmp_path / "b", lambda rate, epsilon, seed: "pending")
    assert unfinished.missing == ("result.json: no trial has finished; `epsgrid sweep` goes on with them",)
    assert simulate(tmp_path / "c", reference=True, probe=False, optimizer="sgdm").missing == ()


@pytest.mark.parametrize("name", ["experiment.json", "bounds.json", "grid.json"])
def test_a_damaged_record_is_named(tmp_path: Path, name: str) -> None:
    simulate(tmp_path)
    path = tmp_path / name
    path.write_text(path.read_text(encoding="utf-8").replace('"version": 1', '"version": 1, "extra": 2', 1))
    with pytest.raises(CorruptRecordError, match=f"{name} is damaged or was edited"):
        load_experiment(ExperimentFolder(tmp_path))


def test_a_damaged_result_is_named_and_not_dropped(tmp_path: Path) -> None:
    stored = simulate(tmp_path)
    path = stored.folder.trial(next(iter(stored.results))).result_json
    path.write_text(path.read_text(encoding="utf-8")[:-40])
    with pytest.raises(CorruptRecordError, match=path.parent.name):
        load_experiment(stored.folder)


def test_a_result_copied_from_another_trial_is_refused(tmp_path: Path) -> None:
    stored = simulate(tmp_path)
    first, second = list(stored.results)[:2]
    text = stored.folder.trial(first).result_json.read_text(encoding="utf-8")
    stored.folder.trial(second).result_json.write_text(text)
    with pytest.raises(CorruptRecordError, match=f"is of trial {first}, not {second}; remove the file to retrain"):
        load_experiment(stored.folder)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"low": {"magnitude": 1.0}}, CorruptRecordError, r"bounds\.json: bounds: low: missing field.*probe --force"),
        ({"version": 99}, StoreError, r"bounds\.json: .*version 99, written by a newer epsgrid"),
    ],
)
def test_bounds_that_cannot_be_read_name_their_file(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    stored = simulate(tmp_path)
    document = unseal(json.loads(stored.folder.bounds_json.read_text(encoding="utf-8")), "test")
    document["bounds_json"].update(changes)
    stored.folder.bounds_json.write_text(json.dumps(seal(document)))
    with pytest.raises(error, match=message):
        load_experiment(stored.folder)


def test_trials_of_no_grid_are_orphaned(tmp_path: Path) -> None:
    stored = simulate(tmp_path)
    (stored.folder.trials_dir / "0000000000000000").mkdir()
    assert load_experiment(stored.folder).orphaned == ("0000000000000000",)
