"""What is looked at, and what a user is told where there is nothing to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.errors import CorruptRecordError, StoreError, UnknownNameError
from epsgrid.numerics.placement import Placement
from epsgrid.spec.trial import Trial
from epsgrid.stages.experiment import find_run
from epsgrid.stages.inspect import Inspected, check_layer, inspect, write_figures
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
    assert (seen.trial, seen.epsilon, seen.optimizer) == (None, None, "adam")
    assert seen.series == series(epochs=None, threshold=None)
    assert seen.bounds is not None and seen.bounds.reliability is not None
    assert [cell.id for cell in seen.observed] == [TUNED]


@pytest.mark.parametrize("name", [TUNED, TUNED[:6]])
def test_a_trial_is_named_by_its_id_or_the_beginning_of_it(folder: ExperimentFolder, name: str) -> None:
    seen = inspect(folder, name)
    assert seen.trial is not None
    assert (seen.trial.id, seen.state, seen.epsilon) == (TUNED, "done", 1e-3)
    assert seen.series == series()


def test_a_trial_is_found_that_no_grid_asks_for_any_more(folder: ExperimentFolder) -> None:
    record = GridRecord.read(folder.grid_json)
    asked = tuple(cell for cell in record.cells if cell.id != TUNED)
    replace(record, cells=asked).write(folder.grid_json)
    write_json(folder.trial(TUNED).spec_json, seal({"learning_rate": 1e-3, "epsilon": 1e-3, "seed": 0}))
    assert stored_cells(folder) == (*asked_cells(folder), Trial(TUNED, 1e-3, 1e-3, 0, ()))
    seen = inspect(folder, TUNED[:6])
    assert seen.trial is not None
    assert (seen.trial.grids, seen.state) == ((), "done")
    assert seen.series == series()
    assert [cell.id for cell in seen.observed] == [TUNED]


def test_an_unknown_or_ambiguous_trial_is_refused_with_the_closest(folder: ExperimentFolder) -> None:
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


def test_without_a_sweep_there_is_no_trial(tmp_path: Path) -> None:
    stored = simulate(tmp_path, sweep=False)
    with pytest.raises(StoreError, match="nothing was swept here yet; `epsgrid sweep` does it"):
        inspect(stored.folder, "abc")


def test_without_a_probe_there_is_nothing_but_trials(folder: ExperimentFolder) -> None:
    folder.bounds_json.unlink()
    assert inspect(folder, TUNED).bounds is None
    folder.observations_jsonl.unlink()
    with pytest.raises(StoreError, match=rf"nothing was probed yet; `epsgrid probe SPEC` does it\n.*\n  {TUNED}"):
        inspect(folder, None)


def test_a_probe_without_snapshots_has_its_histograms(folder: ExperimentFolder) -> None:
    folder.observations_jsonl.unlink()
    seen = inspect(folder, None)
    assert seen.series is None and seen.bounds is not None
    with pytest.raises(StoreError, match="only the histograms at the probe's end are stored"):
        check_layer(seen, "conv.bias")


def test_an_unknown_layer_is_told_with_the_closest(folder: ExperimentFolder) -> None:
    seen = inspect(folder, None)
    check_layer(seen, "conv.bias")
    with pytest.raises(UnknownNameError, match=r"no layer 'conv.bais'; closest: conv.bias"):
        check_layer(seen, "conv.bais")
    with pytest.raises(UnknownNameError, match=r"no layer 'zzz'; it has conv.weight, conv.bias"):
        check_layer(seen, "zzz")


def test_runs_are_found_by_folder_by_name_or_as_the_latest(folder: ExperimentFolder, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    remember(folder.root, runs)
    for run in (None, folder.root, Path("simulated")):
        assert find_run(run, runs) == folder
    with pytest.raises(StoreError, match=r"no experiment 'simluated'.*did you mean 'simulated'\? \(there: simulated\)"):
        find_run(Path("simluated"), tmp_path / "runs")
    with pytest.raises(StoreError, match=r"no experiment 'x', neither as a folder nor in .*nowhere$"):
        find_run(Path("x"), tmp_path / "nowhere")


def test_damaged_snapshots_are_named(folder: ExperimentFolder) -> None:
    path = folder.trial(TUNED).observations_jsonl
    path.write_text(path.read_text(encoding="utf-8").replace('"step":30', '"step":31'), encoding="utf-8")
    with pytest.raises(CorruptRecordError, match=r"observations\.jsonl:4"):
        inspect(folder, TUNED)


def names(seen: Inspected, folder: Path, layer: str | None = None) -> list[str]:
    return [path.name for path in write_figures(seen, folder, layer) if path.suffix == ".png"]


def test_figures_are_named_after_what_they_show(folder: ExperimentFolder, tmp_path: Path) -> None:
    there = tmp_path / "new/figures"
    assert names(inspect(folder, None), there) == ["probe-percentiles.png"]
    assert names(inspect(folder, TUNED), there) == [f"{TUNED}-percentiles.png"]
    assert names(inspect(folder, TUNED), there, "conv.bias") == [f"{TUNED}-percentiles-conv.bias.png"]
    assert (there / "probe-percentiles.svg").read_bytes().startswith(b"<?xml")
    folder.observations_jsonl.unlink()
    assert names(inspect(folder, None), there) == []


def test_a_folder_for_figures_that_cannot_be_written_is_named(folder: ExperimentFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="file"):
        write_figures(inspect(folder, None), tmp_path / "file", None)
