from pathlib import Path

from epsgrid.store.paths import ExperimentFolder, TrialFolder


def test_every_path_lies_inside_the_experiment_and_is_its_own(tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path / "runs" / "demo")
    trial = folder.trial("abc")
    paths = [folder.experiment_json, folder.bounds_json, folder.grid_json, folder.report_dir, folder.trials_dir]
    paths += [trial.spec_json, trial.metrics_jsonl, trial.checkpoint, trial.result_json, trial.failure_json]
    paths += [trial.log, trial.lease, folder.observations_jsonl, trial.observations_jsonl]
    paths += [folder.slurm_dir, folder.archive_dir]
    assert len(set(paths)) == len(paths)
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
