import pytest

from epsgrid.errors import SpecError, StoreError
from epsgrid.stages.experiment import enter, prepare_data, read_experiment, resolve
from epsgrid.store.atomic import read_json, seal, unseal, write_json
from epsgrid.store.latest import find


def test_a_spec_lives_under_the_runs_folder_unless_told_otherwise(spec_path, tmp_path):
    runs = tmp_path / "runs"
    assert resolve(spec_path, None, (), runs).folder.root == runs / "tiny"
    assert resolve(spec_path, tmp_path / "there", (), runs).folder.root == tmp_path / "there"


def test_without_a_spec_the_latest_experiment_is_meant(asked, tmp_path):
    enter(asked, prepare_data(asked.spec))
    again = resolve(None, None, (), tmp_path / "runs")
    assert again.folder == asked.folder
    assert again.spec == asked.spec
    assert find(None, tmp_path / "runs") == asked.folder


def test_overrides_apply_to_the_stored_spec_too(asked, tmp_path):
    enter(asked, prepare_data(asked.spec))
    assert resolve(None, None, ["sweep.seeds=[4]"], tmp_path / "runs").spec.sweep.seeds == (4,)
    with pytest.raises(SpecError, match="did you mean 'seeds'"):
        resolve(None, None, ["sweep.seed=[4]"], tmp_path / "runs")


def test_no_experiment_says_how_to_start_one(tmp_path):
    with pytest.raises(StoreError, match="epsgrid probe SPEC"):
        resolve(None, None, (), tmp_path / "runs")
    with pytest.raises(StoreError, match="no experiment here"):
        resolve(None, tmp_path, (), tmp_path / "runs")


def test_what_cannot_change_numbers_may_change_and_is_stored(spec_path, asked, tmp_path):
    enter(asked, prepare_data(asked.spec))
    created = read_experiment(asked.folder).created
    changed = resolve(spec_path, None, ["sweep.seeds=[0,1]", "execution.retries=5"], tmp_path / "runs")
    enter(changed, prepare_data(changed.spec))
    stored = read_experiment(asked.folder)
    assert stored.spec["sweep"]["seeds"] == [0, 1]
    assert stored.created == created


def test_a_folder_of_an_earlier_version_opens(asked, tmp_path):
    """It holds what was stored for more epochs from the checkpoints of shorter trials."""
    enter(asked, prepare_data(asked.spec))
    path = asked.folder.experiment_json
    document = unseal(read_json(path), path) | {"earlier": [{"epochs": 1}]}
    document["spec"]["execution"]["keep_checkpoints"] = "small"
    write_json(path, seal(document))
    again = resolve(None, None, (), tmp_path / "runs")
    assert again.spec == asked.spec
    enter(again, prepare_data(again.spec))
    assert "earlier" not in path.read_text()


def test_another_experiment_in_the_folder_is_explained_field_by_field(spec_path, asked, tmp_path):
    enter(asked, prepare_data(asked.spec))
    other = resolve(spec_path, None, ["training.epochs=7", "optimizer=rmsprop"], tmp_path / "runs")
    with pytest.raises(StoreError, match="holds another experiment") as caught:
        enter(other, prepare_data(other.spec))
    for words in (
        "training.epochs: 1 there, 7 asked",
        "optimizer.name: 'adam' there, 'rmsprop' asked",
        "--out DIR",
        "from their beginning",
    ):
        assert words in str(caught.value)


def test_other_data_are_another_experiment(spec_path, tmp_path):
    options = ["task={name: synthetic, shape: [1, 8, 8], train: 300, validation: 50, test: 50}"]
    asked = resolve(spec_path, None, options, tmp_path / "runs")
    data = prepare_data(asked.spec)
    enter(asked, data)

    class Altered:
        checksum = "0" * 64
        description = data.description
        has_validation = True

    with pytest.raises(StoreError, match=r"data: checksum .* there, 000000000000… now"):
        enter(asked, Altered())


def test_selection_on_validation_needs_validation_data(spec_path, tmp_path):
    asked = resolve(spec_path, None, ["task={name: digits, validation: 0}"], tmp_path / "runs")
    with pytest.raises(SpecError, match=r"training\.selection: validation needs validation data"):
        prepare_data(asked.spec)
    asked = resolve(
        spec_path, None, ["task={name: digits, validation: 0}", "training.selection=test"], tmp_path / "runs"
    )
    assert not prepare_data(asked.spec).has_validation
