from types import SimpleNamespace

import pytest

from epsgrid.errors import SpecError, StoreError
from epsgrid.selection.load import read_experiment
from epsgrid.stages.experiment import enter, find_run, prepare_data, resolve


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
    with pytest.raises(StoreError, match="holds another experiment") as caught:
        enter(asking("training.epochs=7", "optimizer=rmsprop"), data)
    for words in (
        "training.epochs: 1 there, 7 asked",
        "optimizer.name: 'adam' there, 'rmsprop' asked",
        "Give this one a folder of its own with --out DIR",
        "Trials of other epochs are other trials, and are trained from their beginning.",
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
