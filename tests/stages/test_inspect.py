"""What is looked at, and what a user is told where there is nothing to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.numerics.placement import Placement
from epsgrid.spec.trial import Trial
from epsgrid.stages.experiment import find_run
from epsgrid.stages.inspect import inspect
from epsgrid.store import observations
from epsgrid.store.atomic import seal, write_json
from epsgrid.store.cells import asked_cells, stored_cells
from epsgrid.store.paths import ExperimentFolder, remember
from epsgrid.store.records import GridRecord
from tests.report.kept import probed, series, trusted
from tests.report.simulate import probe_record, simulate, trial_id

TUNED = trial_id(1e-3, 1e-3, 0)


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    """A probe and one trial with snapshots, of a sweep of sixteen trials."""
    bounds = probed()
    made = simulate(tmp_path / "runs/simulated", rates=(1e-3,), seeds=(0, 1)).folder
    probe_record(replace(bounds, reliability=trusted(bounds)), Placement.outside()).write(made.bounds_json)
    observations.write(made.observations_jsonl, series(epochs=None, threshold=None))
    observations.write(made.trial(TUNED).observations_jsonl, series())
    return made


def test_a_probe_is_looked_at_unless_a_trial_is_named(folder: ExperimentFolder) -> None:
    seen = inspect(folder, None)
    assert seen.trial is None
    assert seen.series == series(epochs=None, threshold=None)
    assert seen.bounds is not None and seen.bounds.reliability is not None
    assert [cell.id for cell in seen.observed] == [TUNED]


def test_a_trial_is_found_by_its_beginning_though_no_grid_asks_for_it_any_more(folder: ExperimentFolder) -> None:
    record = GridRecord.read(folder.grid_json)
    asked = tuple(cell for cell in record.cells if cell.id != TUNED)
    replace(record, cells=asked).write(folder.grid_json)
    write_json(folder.trial(TUNED).spec_json, seal({"learning_rate": 1e-3, "epsilon": 1e-3, "seed": 0}))
    assert stored_cells(folder) == (*asked_cells(folder), Trial(TUNED, 1e-3, 1e-3, 0, ()))
    seen = inspect(folder, TUNED[:6])
    assert seen.trial is not None
    assert (seen.trial.id, seen.trial.grids, seen.state) == (TUNED, (), "done")
    assert seen.series == inspect(folder, TUNED).series == series()
    assert [cell.id for cell in seen.observed] == [TUNED]


def test_an_unknown_or_ambiguous_trial_is_refused_with_the_closest(folder: ExperimentFolder, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing was swept here yet; `epsgrid sweep` does it"):
        inspect(simulate(tmp_path, sweep=False).folder, "abc")
    wrong = f"{TUNED[:9]}zz"
    with pytest.raises(
        StoreError, match=rf"no trial begins with '{wrong}'; closest:\n  {TUNED}  lr 1e-3, ε 1e-3, seed 0"
    ):
        inspect(folder, wrong)
    with pytest.raises(StoreError, match=r"16 trials begin with ''; they are:\n  [0-9a-f]{16}  lr 1e-3"):
        inspect(folder, "")


def test_a_trial_that_kept_nothing_says_how_to_keep_it_and_which_did(folder: ExperimentFolder) -> None:
    other = trial_id(1e-3, 1e-8, 1)
    with pytest.raises(
        StoreError, match=rf"nothing was kept of .* trial {other}.*`observe: {{every: epoch}}`"
    ) as error:
        inspect(folder, other)
    assert f"trials that kept them:\n  {TUNED}  lr 1e-3" in str(error.value)
    path = folder.trial(TUNED).observations_jsonl
    path.write_text(path.read_text(encoding="utf-8").replace('"step":30', '"step":31'), encoding="utf-8")
    with pytest.raises(CorruptRecordError, match=r"observations\.jsonl:4"):
        inspect(folder, TUNED)


def test_without_a_probe_there_is_nothing_but_trials(folder: ExperimentFolder) -> None:
    folder.bounds_json.unlink()
    assert inspect(folder, TUNED).bounds is None
    folder.observations_jsonl.unlink()
    with pytest.raises(StoreError, match=rf"nothing was probed yet; `epsgrid probe SPEC` does it\n.*\n  {TUNED}"):
        inspect(folder, None)


def test_runs_are_found_by_folder_by_name_or_as_the_latest(folder: ExperimentFolder, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    remember(folder.root, runs)
    for run in (None, folder.root, Path("simulated")):
        assert find_run(run, runs) == folder
    with pytest.raises(StoreError, match=r"no experiment 'simluated'.*did you mean 'simulated'\? \(there: simulated\)"):
        find_run(Path("simluated"), tmp_path / "runs")
    with pytest.raises(StoreError, match=r"no experiment 'x', neither as a folder nor in .*nowhere$"):
        find_run(Path("x"), tmp_path / "nowhere")
