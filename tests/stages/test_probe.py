"""Bounds at several values of a spec: what is measured, stored and predicted; a plain probe measures the same there."""

import math

import pytest

from epsgrid.errors import NoBoundsError, SpecError
from epsgrid.stages.probe import predict_at, probe, vary_probe
from epsgrid.store.records import ProbeRecord, VariedRecord
from epsgrid.trials import probe as trials_probe


def measure(asked, target=None, *, force=False, progress=None):
    steps = [] if progress is None else progress
    return vary_probe(asked, target, ["test"], force=force, on_step=lambda done, of: steps.append((done, of)))


def plain(asked):
    return probe(asked, ["test"], force=False, on_step=lambda done, of: None)


def steps_at(asked, *sizes, seed=0):
    return [at_batch(asked, size, seed).steps for size in sizes]


def at_batch(asked, size, seed):
    return ProbeRecord.read(asked.folder.probes_dir / f"batch-{size}-seed-{seed}.json")


def test_every_size_and_seed_is_measured_over_as_many_epochs_and_stored(asking):
    asked, progress = asking("probe.batch_sizes=[128,512]", "probe.seeds=2"), []
    found = measure(asked, progress=progress)
    assert (found.measured, found.reused) == (5, 0)
    stored = VariedRecord.read(asked.folder.batch_bounds_json)
    assert stored == VariedRecord(("training.batch_size",), ((128,), (256,), (512,)), (256,), (0, 1), 1077)
    assert steps_at(asked, 128, 256, 512, seed=1) == [9, 5, 3], "one epoch of 1,077 images"
    assert at_batch(asked, 256, 0) == ProbeRecord.read(asked.folder.bounds_json)
    assert progress[-1] == (500, 500)
    betas = f"[{0.9**0.5!r}, {0.999**0.5!r}]"
    alone = asking(
        "training.batch_size=128", f"optimizer={{name: adam, betas: {betas}}}", "probe.seed=1", runs="elsewhere"
    )
    expected, there = plain(alone)[0].bounds(), at_batch(asked, 128, 1).bounds()
    assert (there.layers, there.low, there.high) == (expected.layers, expected.low, expected.high)


def test_stored_points_are_not_measured_again(asking, monkeypatch):
    measure(asking("probe.batch_sizes=[128,512]"))
    ran, real = [], trials_probe.run_probe
    monkeypatch.setattr(
        trials_probe, "run_probe", lambda spec, *rest: ran.append(spec.training.batch_size) or real(spec, *rest)
    )
    assert not plain(asking())[1], "the spec's own bounds do not depend on the other sizes"
    again = measure(asking("probe.batch_sizes=[512,128]"))
    assert (again.measured, again.reused, ran) == (0, 2, [])
    asked = asking("probe.batch_sizes=[64,512]")
    more = measure(asked)
    assert (more.measured, more.reused, ran) == (1, 1, [64])
    assert VariedRecord.read(asked.folder.batch_bounds_json).points == ((64,), (256,), (512,))
    forced = measure(asking("probe.batch_sizes=[64]"), force=True)
    assert (forced.measured, ran[1:]) == (1, [256, 64])
    fewer = asking("probe.batch_sizes=[128,512]", "probe.batches=4")
    measure(fewer)
    assert steps_at(fewer, 128, 256, 512) == [8, 4, 2], "as many epochs at every size"


def test_a_call_that_is_interrupted_leaves_no_mixture_and_goes_on(asking, monkeypatch):
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


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("[256]", r"only 256, which is the spec's own .* as in --batch-sizes 64,1024"),
        ("[2048]", r"2,048 is larger than the data: .* holds all 1,077 training examples"),
    ],
)
def test_sizes_that_cannot_be_compared_are_refused_before_anything_runs(asking, sizes, words):
    asked = asking(f"probe.batch_sizes={sizes}")
    with pytest.raises(SpecError, match=words):
        measure(asked)
    assert not asked.folder.root.exists()


def test_moving_weights_and_an_optimizer_without_epsilon_are_refused(asking):
    with pytest.raises(SpecError, match="batch_sizes compares gradients at the same weights"):
        asking("probe.batch_sizes=[64]", "probe.update_weights=true", "probe.learning_rate=1e-3")
    with pytest.raises(NoBoundsError, match="nothing to probe"):
        measure(asking("probe.batch_sizes=[64]", "optimizer=sgdm"))


WIDTHS = "probe.vary={model.hidden.0: [8, 16, 32, 64]}"


def test_bounds_are_predicted_at_another_width_and_stored_like_measured_ones(asking):
    asked = asking(WIDTHS, "probe.seeds=2")
    found = measure(asked, [128])
    assert (found.base, found.measured) == (None, 8)
    assert not asked.folder.bounds_json.exists(), "the spec's own bounds need another probe"
    record, prediction = predict_at(asked, found, [128], ["test"])
    assert ProbeRecord.read(asked.folder.predicted_json) == record
    assert (record.predicted_at, record.steps, record.batch_size) == ({"model.hidden.0": "128"}, 5, 256)
    assert {layer.name: layer.shape for layer in record.bounds().layers}["1.weight"] == (128, 64)
    real = plain(asking("model.hidden=[128]", runs="elsewhere"))[0].bounds()
    assert record.bounds().high.magnitude == pytest.approx(real.high.magnitude, rel=0.5)
    for layer in real.layers:
        law = prediction.law(layer.name, "median")
        assert abs(math.log10(law.predicted / layer.histogram.median)) < law.decades
    assert -0.7 < prediction.law("1.weight", "median").exponent < -0.3
    assert not measure(asked, [256]).measured, "another target measures nothing"


def test_keys_go_in_step_and_a_target_beside_their_line_is_refused(asking):
    asked = asking("probe.vary={model.hidden.0: [16, 32, 64], task.validation: [50, 100, 200]}")
    found = measure(asked, [128, 400])
    assert (found.base, found.measured) == (None, 3)
    descriptions = [ProbeRecord.read(path).data_description for path in sorted(asked.folder.probes_dir.glob("*seed*"))]
    assert len(set(descriptions)) == 3, "each size has its own data"
    assert not asked.folder.bounds_json.exists()
    with pytest.raises(
        SpecError, match=r"where model.hidden.0 goes on to 128, task.validation goes on to 400, not to 50"
    ):
        measure(asked, [128, 50])


@pytest.mark.parametrize(
    ("vary", "target", "words"),
    [
        ("{model.hiden: [8, 16, 32]}", [64], "model.hiden: unknown key; did you mean 'hidden'"),
        ("{model.hidden: [8, 16, 32]}", [64], r"--vary model.hidden: the spec has \[8\] there, and only a number"),
        ("{model.hidden.0: [8, 16.5, 32]}", [64], "model.hidden.0 = 16.5: model.hidden.0: expected a whole number"),
        ("{model.hidden.0: [8, 16, 32]}", [64.5], "model.hidden.0 = 64.5: model.hidden.0: expected a whole number"),
        ("{training.batch_size: [8, 16, 32]}", [2048], "training.batch_size: 2,048 is larger than the data"),
        ("{model.hidden.0: [8, 16]}", [64], "a power law needs 3 values of model.hidden.0"),
        ("{model.hidden.0: [8, 16, 32]}", [64, 2], "a value for each of model.hidden.0, in this order, got 2"),
        ("{model.hidden.0: [8, 8, 32]}", [64], "names a value of model.hidden.0 twice"),
        ("{model.hidden.0: [8, 16, 32], task.validation: [50, 60]}", [64, 2], "as many values of each; got 3 of"),
        ("{model.hidden.0: [16, 32, 64]}, probe.batches=settled", [64], "give their number, as --batches 50"),
        ("{model.hidden.0: [8, 16, 32]}, probe.batch_sizes=[1]", [64], "batch_sizes is short for vary"),
    ],
)
def test_what_cannot_be_varied_is_refused_before_anything_runs(asking, vary, target, words):
    vary, *more = vary.split(", probe.")
    with pytest.raises(SpecError, match=words):
        measure(asking(f"probe.vary={vary}", *(f"probe.{each}" for each in more)), target)
