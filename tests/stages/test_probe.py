"""Bounds at several batch sizes: what is measured and stored, and that a plain probe measures the same there."""

import pytest

from epsgrid.errors import NoBoundsError, SpecError
from epsgrid.stages.probe import batch_probe, probe
from epsgrid.store.records import BatchBoundsRecord, ProbeRecord
from epsgrid.trials import probe as trials_probe


def measure(asked, *, force=False, progress=None):
    steps = [] if progress is None else progress
    return batch_probe(asked, ["test"], force=force, on_step=lambda done, of: steps.append((done, of)))


def plain(asked):
    return probe(asked, ["test"], force=False, on_step=lambda done, of: None)


def steps_at(asked, *sizes, seed=0):
    return [ProbeRecord.read(asked.folder.batch_probe(size, seed)).steps for size in sizes]


def test_every_size_and_seed_is_measured_over_as_many_epochs_and_stored(asking):
    asked, progress = asking("probe.batch_sizes=[128,512]", "probe.seeds=2"), []
    found = measure(asked, progress=progress)
    assert (found.measured, found.reused) == (5, 0)
    stored = BatchBoundsRecord.read(asked.folder.batch_bounds_json)
    assert stored == BatchBoundsRecord(256, (128, 256, 512), (0, 1), 1077)
    assert steps_at(asked, 128, 256, 512, seed=1) == [9, 5, 3], "one epoch of 1,077 images"
    assert ProbeRecord.read(asked.folder.batch_probe(256, 0)) == ProbeRecord.read(asked.folder.bounds_json)
    assert progress[-1] == (500, 500)
    betas = f"[{0.9**0.5!r}, {0.999**0.5!r}]"
    alone = asking(
        "training.batch_size=128", f"optimizer={{name: adam, betas: {betas}}}", "probe.seed=1", runs="elsewhere"
    )
    expected, there = plain(alone)[0].bounds(), ProbeRecord.read(asked.folder.batch_probe(128, 1)).bounds()
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
    assert BatchBoundsRecord.read(asked.folder.batch_bounds_json).batch_sizes == (64, 256, 512)
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
