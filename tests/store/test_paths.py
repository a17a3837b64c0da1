from pathlib import Path

import pytest

from epsgrid.errors import StoreError
from epsgrid.store.paths import ExperimentFolder, TrialFolder, _Inside, latest, remember

POINTS = (("training.batch_size", "32", 0), ("training.batch_size", "32", 1), ("model.width", "32", 1))


def test_every_path_lies_inside_the_experiment_and_is_its_own(tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path / "runs" / "demo")
    paths = [
        getattr(place, name)
        for place in (folder, folder.trial("abc"))
        for name, value in vars(type(place)).items()
        if isinstance(value, _Inside)
    ]
    paths += [folder.trials_dir, *(folder.varied_probe({key: value}, seed) for key, value, seed in POINTS)]
    paths += [folder.varied(["model.width"]), folder.varied(["training.batch_size", "model.width"])]
    assert len(set(paths)) == len(paths) >= 22
    assert all(path.is_relative_to(folder.root) for path in paths)
    assert not folder.root.exists()


def test_trials_are_those_that_have_a_folder_by_id(tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path)
    assert folder.trials() == ()
    for name in ("b", "a"):
        folder.trial(name).path.mkdir(parents=True)
    (folder.trials_dir / "note.txt").write_text("not a trial")
    assert folder.trials() == (TrialFolder(folder.trials_dir / "a"), TrialFolder(folder.trials_dir / "b"))
    assert [trial.id for trial in folder.trials()] == ["a", "b"]


def test_the_latest_experiment_is_found_and_the_runs_can_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    for name in ("first", "second"):
        (runs / name).mkdir(parents=True)
        remember(runs / name, runs)
    assert latest(runs) == runs / "second"
    assert (runs / "latest").read_text() == "second\n"
    runs.rename(tmp_path / "moved")
    assert latest(tmp_path / "moved") == tmp_path / "moved" / "second"
    monkeypatch.chdir(tmp_path)  # one elsewhere is remembered by its absolute path
    Path("elsewhere").mkdir()
    remember(Path("elsewhere"), Path("runs"))
    assert latest(Path("runs")) == tmp_path / "elsewhere"


def test_without_a_latest_experiment_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no experiment in .*runs yet: run `epsgrid probe SPEC`"):
        latest(tmp_path / "runs")
    remember(tmp_path / "gone", tmp_path)
    with pytest.raises(StoreError, match=r"the latest experiment, .*gone, is gone"):
        latest(tmp_path)
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot write .*latest: Is a directory"):
        remember(tmp_path / "runs" / "latest", tmp_path / "runs")
