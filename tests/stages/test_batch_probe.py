"""Bounds at several batch sizes: what is measured, what is kept, and that it is what a plain probe measures there."""

import pytest

from epsgrid.errors import NoBoundsError, SpecError
from epsgrid.stages import probe as probe_stage
from epsgrid.stages.batch_probe import batch_probe
from epsgrid.stages.batch_sizes import parse_sizes
from epsgrid.stages.experiment import resolve
from epsgrid.store.records import BatchBoundsRecord, ProbeRecord


@pytest.fixture
def asking(spec_path, tmp_path):
    def asked(*overrides, runs="runs"):
        return resolve(spec_path, None, overrides, tmp_path / runs)

    return asked


def measure(asked, *, force=False, told=None):
    steps = told if told is not None else []
    return batch_probe(asked, ["test"], force=force, on_step=lambda done, of: steps.append((done, of)))


def test_every_size_and_seed_is_measured_over_as_many_epochs_and_kept(asking):
    asked, told = asking("probe.batch_sizes=[128,512]", "probe.seeds=2"), []
    found = measure(asked, told=told)
    assert (found.measured, found.reused) == (5, 0)
    assert BatchBoundsRecord.read(asked.folder.batch_bounds_json) == found.record
    assert found.record == BatchBoundsRecord(256, (128, 256, 512), (0, 1), 1077)
    steps = {size: ProbeRecord.read(asked.folder.batch_probe(size, 1)).steps for size in (128, 256, 512)}
    assert steps == {128: 9, 256: 5, 512: 3}, "one epoch of 1,077 images"
    assert ProbeRecord.read(asked.folder.batch_probe(256, 0)) == ProbeRecord.read(asked.folder.bounds_json)
    assert told[-1][0] == told[-1][1]


def test_a_point_is_what_a_plain_probe_with_the_decay_carried_there_measures(asking):
    there = asking("probe.batch_sizes=[64]", "probe.seeds=2")
    measure(there)
    kappa = 64 / 256
    betas = f"[{0.9**kappa!r}, {0.999**kappa!r}]"
    plain = asking(
        "training.batch_size=64", f"optimizer={{name: adam, betas: {betas}}}", "probe.seed=1", runs="elsewhere"
    )
    alone = probe_stage.probe(plain, ["test"], force=False, on_step=lambda done, of: None).record.bounds()
    carried = ProbeRecord.read(there.folder.batch_probe(64, 1)).bounds()
    assert carried.layers == alone.layers
    assert (carried.low, carried.high) == (alone.low, alone.high)


def test_what_is_stored_is_not_measured_again_and_a_new_size_alone_is(asking, monkeypatch):
    measure(asking("probe.batch_sizes=[128,512]"))
    ran = []
    from epsgrid.trials import probe as trials_probe

    real = trials_probe.run_probe
    monkeypatch.setattr(
        trials_probe,
        "run_probe",
        lambda spec, *rest: ran.append(spec.training.batch_size) or real(spec, *rest),
    )
    again = measure(asking("probe.batch_sizes=[512,128]"))
    assert (again.measured, again.reused, ran) == (0, 2, [])
    more = measure(asking("probe.batch_sizes=[64,512]"))
    assert (more.measured, more.reused, ran) == (1, 1, [64])
    assert more.record.batch_sizes == (64, 256, 512)
    forced = measure(asking("probe.batch_sizes=[64]"), force=True)
    assert (forced.measured, ran[1:]) == (1, [256, 64])


def test_a_call_that_is_interrupted_leaves_no_mixture_and_goes_on(asking, monkeypatch):
    from epsgrid.trials import probe as trials_probe

    measure(asking("probe.batch_sizes=[128,512]"))
    real, ran = trials_probe.run_probe, []

    def stops_at_512(spec, *rest):
        if spec.training.batch_size == 512:
            raise KeyboardInterrupt
        ran.append(spec.training.batch_size)
        return real(spec, *rest)

    asked = asking("probe.batch_sizes=[128,512]", "probe.epochs=2")
    with monkeypatch.context() as patched:
        patched.setattr(trials_probe, "run_probe", stops_at_512)
        with pytest.raises(KeyboardInterrupt):
            measure(asked)
    assert ran == [256, 128]
    assert not asked.folder.batch_bounds_json.exists(), "128 was measured over two epochs and 512 over one"
    again = measure(asked)
    assert (again.measured, again.reused) == (1, 1)


def test_a_bounded_number_of_batches_becomes_as_many_epochs_at_every_size(asking):
    asked = asking("probe.batch_sizes=[128,512]", "probe.batches=4")
    measure(asked)
    assert {size: ProbeRecord.read(asked.folder.batch_probe(size, 0)).steps for size in (128, 256, 512)} == {
        128: 8,
        256: 4,
        512: 2,
    }


def test_the_spec_s_own_bounds_stay_those_of_its_batch_size_and_do_not_depend_on_the_others(asking):
    measure(asking("probe.batch_sizes=[128]"))
    plain = probe_stage.probe(asking(), ["test"], force=False, on_step=lambda done, of: None)
    assert not plain.measured_now


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["probe.batch_sizes=[256]"], r"only 256, which is the spec's own .* as in --batch-sizes 64,1024"),
        (["probe.batch_sizes=[2048]"], r"2,048 is larger than the data: .* holds all 1,077 training examples"),
    ],
)
def test_sizes_that_cannot_be_compared_are_told_before_anything_runs(asking, overrides, words):
    asked = asking(*overrides)
    with pytest.raises(SpecError, match=words):
        measure(asked)
    assert not asked.folder.root.exists()


def test_moving_weights_and_an_optimizer_without_epsilon_are_refused(asking):
    with pytest.raises(SpecError, match="batch_sizes compares gradients at the same weights"):
        asking("probe.batch_sizes=[64]", "probe.update_weights=true", "probe.learning_rate=1e-3")
    with pytest.raises(NoBoundsError, match="nothing to probe"):
        measure(asking("probe.batch_sizes=[64]", "optimizer=sgdm"))


@pytest.mark.parametrize("text", ["32,a", "32,,64", "0,32", "1.5", "-4"])
def test_what_is_no_list_of_whole_numbers_is_refused(text):
    with pytest.raises(SpecError, match="--batch-sizes: expected whole numbers of at least 1"):
        parse_sizes(text)
    assert parse_sizes(" 32, 128") == (32, 128)


def test_an_optimizer_without_a_derived_rule_is_probed_with_its_decays_as_they_are(asking):
    asked = asking("probe.batch_sizes=[128]", "optimizer=radam")
    measure(asked)
    record = ProbeRecord.read(asked.folder.batch_probe(128, 0))
    assert record.identity["optimizer"]["betas"] == [0.9, 0.999]
