"""The comparison's rows against known truth."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.report.notes import _svag_notes
from epsgrid.report.trust import shares_above
from epsgrid.selection.load import load_experiment
from epsgrid.spec.trial import Trial
from epsgrid.store.records import TrialResult
from tests.report.simulate import Outcome, compare, layer, measured, peaked, result, simulate, trial_id


def test_the_bounds_name_their_layers(tmp_path: Path) -> None:
    layers = [
        layer("0.weight", (100, 50), -3.0, 0.3),
        layer("0.bias", (10,), -2.0, 0.1),
        measured("1.bias", (3,), np.zeros(3, dtype=np.float32)),
    ]
    row = compare(simulate(tmp_path, layers=layers)).bounds
    assert row is not None
    assert (row.low.layers, row.low.entries, row.low_is_minimum) == (("0.weight",), 5000, False)
    assert (row.high.layers, row.high.entries, row.high_is_maximum) == (("0.bias",), 10, True)
    document = row.to_json()
    assert (document["low"]["is_extreme"], document["high"]["is_extreme"]) == (False, True)
    assert list(document["layers"][0]) == ["name", "shape", "entries", "nonzero", "low", "high", "status", "kind"]
    assert row.skipped == (("1.bias", "all zero"),)
    assert row.low.decade == row.decades[0] and row.high.decade == row.decades[-1]


def test_each_grid_has_its_best_cell(tmp_path: Path) -> None:
    rows = compare(simulate(tmp_path, peaked(best=1e-6)))
    found = {row.name: row.choice.cell for row in rows.best}
    assert {name: cell.epsilon for name, cell in found.items() if cell} == {
        "narrowed": 1e-4,
        "conventional": 1e-6,
        "default": 1e-8,
    }
    assert all(cell is not None and cell.learning_rate == 1e-3 for cell in found.values())


def test_narrowing_loses_whatever_the_direction(tmp_path: Path) -> None:
    def perplexity(rate: float, epsilon: float | None, seed: int) -> Outcome:
        score = 60 + 3 * abs(np.log10(epsilon or 1.0) + 8) + 0.1 * seed + (5 if rate != 1e-3 else 0)
        return score, score

    rates = (1e-4, 1e-3, 1e-2)
    found = compare(simulate(tmp_path, perplexity, metric=("perplexity", "min", ""), rates=rates)).answers
    narrowing = found.of("narrowing")
    assert narrowing.answer == "costs" and narrowing.loss is not None
    assert narrowing.loss.mean == pytest.approx(12.0, abs=0.1)
    assert found.of("default").answer == "keep"


def test_a_default_grid_of_its_own_is_one_row(tmp_path: Path) -> None:
    """A sweep of the narrowed grid alone trains the default ε as a grid called "default"."""
    from epsgrid.store.records import GridRecord
    from tests.report import simulate as simulation

    stored = simulate(tmp_path, conventional=None)
    assert stored.grid is not None
    cells = simulation.cells({"default": (1e-8,)}, (1e-3, 1e-2), (0, 1, 2))
    record = GridRecord(
        "adam",
        {**stored.grid.epsilons, "default": (1e-8,)},
        1e-8,
        (*stored.grid.cells, *cells),
        stored.grid.bounds_checksum,
    )
    record.write(stored.folder.grid_json)
    for cell in cells:
        outcome = result(cell, (0.7, 0.7), metric=("accuracy", "max", "%"))
        outcome.write(stored.folder.trial(cell.id).result_json)
    rows = compare(load_experiment(stored.folder))
    assert [row.name for row in rows.best] == ["narrowed", "default"]


def test_the_adaptive_share_counts_entries_of_all_layers_zeros_included(tmp_path: Path) -> None:
    layers = [
        measured("a", (4,), np.array([0.0, 1e-8, 1e-4, 1e-2], dtype=np.float32)),
        measured("b", (2,), np.array([1e-2, 1e-2], dtype=np.float32)),
        LayerStatistics.unmeasured("c", (5,), LayerStatus.FROZEN),
    ]
    placement = Placement.in_place(0.999)
    rows = compare(simulate(tmp_path, layers=layers, placement=placement, conventional=(1e-12, 1e-8))).adaptive
    expected = [placement.magnitude_from_epsilon(row.epsilon) for row in rows]
    assert [row.magnitude for row in rows] == pytest.approx(expected)
    assert [row.share for row in rows][:2] == pytest.approx([5 / 6, 4 / 6])
    assert rows[1].of_moving == pytest.approx(4 / 5)
    shares = shares_above(layers, [0.0, 1e-3, 1.0])
    assert shares == pytest.approx([5 / 6, 4 / 6, 0.0])


def test_counts_of_trials_by_fate(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        fates: dict[float | None, Outcome] = {1e-8: "diverged", 1e-7: "failed", 1e-6: "pending"}
        return fates.get(epsilon) or peaked()(rate, epsilon, seed)

    rows = compare(simulate(tmp_path, truth, rates=(1e-3,)))
    tally = rows.grids[1].tally
    assert (tally.trials, tally.done, tally.diverged, tally.failed, tally.missing) == (24, 15, 3, 3, 3)
    assert tally.seconds == pytest.approx(180.0)
    ends = {(end.cell, end.seed): (end.state, end.error) for end in rows.unfinished}
    assert len(ends) == 9
    assert ends["lr 1e-3, ε 1e-8", 0] == ("diverged", "loss is NaN at epoch 2")
    assert ends["lr 1e-3, ε 1e-7", 1] == ("failed", "RuntimeError: out of memory")
    assert ends["lr 1e-3, ε 1e-6", 2] == ("pending", None)


def test_notes_tell_what_a_reader_must_know(tmp_path: Path) -> None:
    def notes(name: str, **changes: object) -> str:
        return "\n".join(compare(simulate(tmp_path / name, **changes)).notes)  # type: ignore[arg-type]

    assert "selected on the test split, as in the published protocol" in notes("a", selection="test")
    assert "reaches outside the conventional range, 1e-8 to 1e-3, with ε 1e-2" in notes("c", conventional=(1e-8, 1e-3))
    assert "the narrowed grid was made from earlier bounds" in notes("h", stale=True, narrowed=(1e-4,))


def test_svag_and_its_caveats_are_told_once() -> None:
    def of(training: dict[str, object], *caveats: list[str]) -> list[str]:
        results = {str(n): SimpleNamespace(provenance={"svag": own} if own else {}) for n, own in enumerate(caveats)}
        experiment = SimpleNamespace(spec={"training": training})
        return _svag_notes(SimpleNamespace(experiment=experiment, results=results))  # type: ignore[arg-type]

    first, *caveats = of({"svag": {"l": 4}}, ["batch norm: …"], ["batch norm: …"], [])
    assert first.startswith("trained by SVAG with l = 4: an epoch has 16 times the steps, taken with the learning rate")
    assert caveats == ["batch norm: …"]
    assert of({"epochs": 2}) == of({"svag": None}) == of({"svag": {"l": 1}}, []) == []


def test_trials_of_unlike_origin_are_told(tmp_path: Path) -> None:
    stored = simulate(tmp_path, rates=(1e-3,))
    cell = Trial(trial_id(1e-3, 1e-8, 0), 1e-3, 1e-8, 0, ("conventional",))
    changes = {"device": "cuda: H200", "provenance": {"packages": {"torch": "2.12.0"}, "git": {"commit": "abc"}}}
    other: TrialResult = result(cell, (0.5, 0.5), metric=("accuracy", "max", "%"), **changes)
    other.write(stored.folder.trial(cell.id).result_json)
    (stored.folder.trials_dir / "stray").mkdir()
    rows = compare(load_experiment(stored.folder))
    notes = "\n".join(rows.notes)
    assert "different devices (cpu, cuda: H200)" in notes
    assert "different versions of torch: 2.12.0, 2.13.0" in notes
    assert "left out: 1 stored trial outside the grids" in notes
    assert dict(rows.provenance)["trials' git"] == "commit abc"


def test_the_reference_has_a_best_cell_and_no_more(tmp_path: Path) -> None:
    rows = compare(simulate(tmp_path, reference=True, probe=False, optimizer="sgdm"))
    assert [row.name for row in rows.best] == ["reference"]
    assert rows.best[0].choice.cell is not None
    assert (rows.best[0].choice.cell.epsilon, rows.best[0].choice.cell.learning_rate) == (None, 1e-3)
    assert (rows.decades_ratio, rows.adaptive) == (None, ())


@pytest.mark.parametrize("changes", [{}, {"sweep": False}, {"probe": False}, {"reference": True}])
def test_it_is_strict_json(tmp_path: Path, changes: dict[str, bool]) -> None:
    document = compare(simulate(tmp_path, **changes)).to_json()  # type: ignore[arg-type]
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))


def test_thousands_of_trials_are_read_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished trial costs one look at its record, however often its cell is asked for."""
    stored = simulate(tmp_path)
    reads: list[Path] = []
    original = TrialResult.read.__func__  # type: ignore[attr-defined]

    def counting(cls: type[TrialResult], path: Path) -> TrialResult:
        reads.append(path)
        return original(cls, path)  # type: ignore[no-any-return]

    monkeypatch.setattr(TrialResult, "read", classmethod(counting))
    compare(load_experiment(stored.folder))
    assert len(reads) == len(set(reads)) == 48
