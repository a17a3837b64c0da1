from dataclasses import replace
from types import SimpleNamespace

import pytest

from epsgrid.errors import SpecError, StoreError
from epsgrid.selection.load import read_experiment
from epsgrid.stages.experiment import enter, find_run, prepare_data, resolve, vacate
from epsgrid.stages.probe import probe
from epsgrid.stages.sweep import plan_sweep
from epsgrid.store.atomic import make_folder
from epsgrid.store.lease import Lease
from tests.stages.conftest import train


def test_without_a_spec_the_latest_experiment_is_meant_and_overrides_apply(asked, tmp_path):
    with pytest.raises(StoreError, match="epsgrid probe SPEC"):
        resolve(None, None, (), tmp_path / "runs")
    enter(asked, prepare_data(asked.spec))
    again = resolve(None, None, (), tmp_path / "runs")
    assert (again.folder, again.spec) == (asked.folder, asked.spec)
    assert find_run(None, tmp_path / "runs") == asked.folder
    assert resolve(None, None, ["sweep.seeds=[4]"], tmp_path / "runs").spec.sweep.seeds == (4,)
    with pytest.raises(SpecError, match="did you mean 'seeds'"):
        resolve(None, None, ["sweep.seed=[4]"], tmp_path / "runs")


def test_what_cannot_change_numbers_may_change_and_is_stored(asked, asking):
    enter(asked, prepare_data(asked.spec))
    created = read_experiment(asked.folder).created
    changed = asking("sweep.seeds=[0,1]", "execution.retries=5")
    enter(changed, prepare_data(changed.spec))
    stored = read_experiment(asked.folder)
    assert stored.spec["sweep"]["seeds"] == [0, 1]
    assert stored.created == created


def test_another_experiment_in_the_folder_is_explained_field_by_field(asked, asking):
    data = prepare_data(asked.spec)
    enter(asked, data)
    asked.folder.bounds_json.write_text("measured")
    with pytest.raises(StoreError, match="holds another experiment") as caught:
        enter(asking("training.epochs=7", "optimizer=rmsprop"), data)
    for words in (
        "training.epochs: 1 there, 7 asked",
        "optimizer.name: 'adam' there, 'rmsprop' asked",
        "Give this one a folder of its own with --out DIR",
        "trials of other epochs are other trials, and are trained from their beginning",
        "With --force it takes this folder, and removes what is there: the bounds of ε (",
    ):
        assert words in str(caught.value)
    altered = SimpleNamespace(checksum="0" * 64, description=data.description, has_validation=True)
    with pytest.raises(StoreError, match=r"data: checksum .* there, 000000000000… now"):
        enter(asked, altered)


def test_selection_on_validation_needs_validation_data(asking):
    asked = asking("task={name: digits, validation: 0}")
    with pytest.raises(SpecError, match=r"training\.selection: validation needs validation data"):
        prepare_data(asked.spec)
    asked = asking("task={name: digits, validation: 0}", "training.selection=test")
    assert not prepare_data(asked.spec).has_validation


OTHER = "model={name: mlp, hidden: [5]}"


def leave(asked, **files):
    """Leave files in the folder of a trial, as one does that was begun."""
    enter(asked, prepare_data(asked.spec))
    trial = asked.folder.trial("abc")
    make_folder(trial.path)
    for name, text in files.items():
        getattr(trial, name).write_text(text)
    return trial


def test_a_first_run_that_failed_leaves_the_folder_to_a_corrected_spec(asking):
    asked = asking("model=lstm")
    leave(asked, failure_json="of a step", log="of a step", spec_json="{}")
    asked.folder.grid_json.write_text("planned")
    (asked.folder.root / "notes.txt").write_text("the user's own")
    corrected = asking()
    enter(corrected, prepare_data(corrected.spec))
    assert read_experiment(corrected.folder).spec["model"]["name"] == "mlp"
    assert sorted(path.name for path in asked.folder.root.iterdir()) == ["experiment.json", "notes.txt"]


@pytest.mark.parametrize(
    ("name", "what"),
    [("result_json", "1 finished trial"), ("checkpoint", "1 begun trial"), ("bounds_json", "the bounds of ε")],
)
def test_what_would_be_lost_binds_a_folder_until_it_is_forced(asked, asking, name, what):
    if name == "bounds_json":
        probe(asked, ["test"], force=False, on_step=lambda done, of: None)
    else:
        leave(asked, **{name: "x" * 2000})
    other, data = asking(OTHER), prepare_data(asked.spec)
    words = rf"model\.hidden: \[8\] there, \[5\] asked[^$]*there: {what} \(\d+ kB\)\.$"
    for refused in (lambda: enter(other, data), lambda: train(other, "default"), lambda: vacate(other, data)):
        with pytest.raises(StoreError, match=words):
            refused()
    planned = plan_sweep(other, "narrowed", None)
    assert what in planned.unknown[0] and "known after `epsgrid probe`" in planned.unknown[1]
    assert vacate(asked, data, force=True) == "", "the same experiment loses nothing"
    assert what in vacate(other, data, force=True, dry_run=True)
    assert asked.folder.experiment_json.exists()
    assert what in vacate(other, data, force=True)
    assert train(other, "default").counts == {"done": 1}


def test_a_trial_being_trained_is_not_removed_even_by_force(asked, asking):
    lease = Lease.take(leave(asked, result_json="x").lease)
    assert asked.folder.trial("abc").result_json.unlink() is None
    other, data = asking(OTHER), prepare_data(asked.spec)
    with pytest.raises(StoreError, match="1 trial being trained"):
        enter(other, data)
    with pytest.raises(StoreError, match="trial abc is being trained; stop its sweep first"):
        vacate(other, data, force=True)
    lease.release()
    enter(other, data)


@pytest.mark.parametrize("kept", [False, True])
def test_a_stored_spec_that_cannot_be_read_binds_as_any_other(asked, kept):
    """Such as one whose model the user has renamed since."""
    data = prepare_data(asked.spec)
    enter(asked, data)
    record = read_experiment(asked.folder)
    replace(record, spec={**record.spec, "model": {"name": "gone_since:net"}}).write(asked.folder.experiment_json)
    if kept:
        asked.folder.bounds_json.write_text("measured")
        with pytest.raises(StoreError, match=r"its spec cannot be read: .*cannot import 'gone_since'"):
            enter(asked, data)
    else:
        enter(asked, data)
        assert read_experiment(asked.folder).spec["model"]["name"] == "mlp"


@pytest.mark.parametrize(("task", "size"), [("digits", 1077), ("nuclei", 341)])
def test_a_batch_larger_than_the_data_is_refused(asking, task, size):
    prepare_data(asking(f"task={task}", f"training.batch_size={size}").spec)
    with pytest.raises(SpecError, match=f"training.batch_size: 5,000 is larger than the data: .* all {size:,} "):
        prepare_data(asking(f"task={task}", "training.batch_size=5000").spec)
