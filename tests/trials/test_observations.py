import pytest

from epsgrid.store import observations
from epsgrid.store.paths import TrialFolder
from epsgrid.trials.train import Interrupted
from tests.trials.conftest import make_setting


def kept(folder):
    return observations.read(TrialFolder(folder).observations_jsonl)


def test_every_epoch_is_kept_by_default_or_every_so_many_steps(setting, tmp_path):
    result = setting.train(tmp_path / "epochs")
    series = kept(tmp_path / "epochs")
    per_epoch = result.steps // 3
    assert [(shot.step, shot.epoch) for shot in series.snapshots] == [(per_epoch * k, float(k)) for k in (1, 2, 3)]
    assert series.kinds == ("dense", "bias", "dense", "bias")
    assert all(shot.threshold == pytest.approx(1e-4) for shot in series.snapshots)
    make_setting("observe.every=7").train(tmp_path / "steps")
    shots = kept(tmp_path / "steps").snapshots
    assert [shot.step for shot in shots] == list(range(7, result.steps + 1, 7))
    assert [shot.epoch for shot in shots] == [pytest.approx(3 * shot.step / result.steps) for shot in shots]


@pytest.mark.parametrize(("override", "epsilon"), [("observe.every=null", 1e-4), ("optimizer={name: sgdm}", None)])
def test_nothing_is_kept_where_nothing_is_asked_for_or_there_is_no_epsilon(tmp_path, override, epsilon):
    setting = make_setting(override)
    setting.train(tmp_path, setting.trial(epsilon=epsilon))
    assert kept(tmp_path) is None


def test_looking_changes_no_number(tmp_path):
    results = []
    for every in ("null", "1", "epoch"):
        setting = make_setting(f"observe.every={every}")
        results.append(setting.train(tmp_path / every))
    assert len({(r.validation.loss, r.test.loss, r.id) for r in results}) == 1


@pytest.mark.parametrize("every", ["epoch", "5"])
@pytest.mark.parametrize("stops", [[3], [1, 20, 40, 41]])
def test_a_trial_that_was_stopped_leaves_the_same_file(tmp_path, every, stops):
    setting = make_setting(f"observe.every={every}")
    setting.train(tmp_path / "whole")
    asked = 0

    def should_stop():
        nonlocal asked
        asked += 1
        return asked in stops

    while True:
        try:
            setting.train(tmp_path / "parts", setting.trial(), should_stop)
            break
        except Interrupted:
            pass
    whole, parts = (TrialFolder(tmp_path / name).observations_jsonl.read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    assert asked > max(stops)


def test_what_was_kept_behind_the_checkpoint_is_measured_again(tmp_path):
    """A kill may come between a snapshot and the checkpoint after it."""
    setting = make_setting("observe.every=1")
    setting.stop(tmp_path, 9)
    path = TrialFolder(tmp_path).observations_jsonl
    series = observations.read(path)
    assert series.snapshots[-1].step == 9
    checkpoint = TrialFolder(tmp_path).checkpoint.read_bytes()
    setting.stop(tmp_path, 4)
    assert observations.read(path).snapshots[-1].step == 13
    TrialFolder(tmp_path).checkpoint.write_bytes(checkpoint)  # as if the kill had come before the second one
    setting.train(tmp_path)
    other = tmp_path / "undisturbed"
    setting.train(other)
    assert path.read_bytes() == TrialFolder(other).observations_jsonl.read_bytes()


def test_a_damaged_file_is_told_and_the_trial_goes_on(tmp_path):
    setting = make_setting("observe.every=1")
    setting.stop(tmp_path, 9)
    path = TrialFolder(tmp_path).observations_jsonl
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], lines[3].replace('"step":3', '"step":4'), *lines[4:]]))
    result = setting.train(tmp_path)
    assert any("starting these observations over" in warning for warning in setting.warnings)
    assert [shot.step for shot in kept(tmp_path).snapshots] == list(range(10, result.steps + 1))
