"""The sizes of cell nuclei: the split, the batches, the scores against scikit-learn's, and what the unit does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import r2_score
from torch import nn

from epsgrid.errors import SpecError
from epsgrid.tasks import Split, Task, nuclei

CPU = torch.device("cpu")


def prepare(**settings: Any) -> nuclei._Nuclei:
    return nuclei.prepare(nuclei.Options(name="nuclei", **settings))


def build(**settings: Any) -> Task:
    return nuclei.build(nuclei.Options(name="nuclei", **settings), prepare(**settings), CPU)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(21, 16), nn.ReLU(), nn.Linear(16, 3))


def test_every_image_is_in_one_split_and_the_diagnoses_are_balanced() -> None:
    data = prepare()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [341, 114, 114]
    assert sorted(np.concatenate([data.train, data.validation, data.test])) == list(range(569))
    malignant = load_breast_cancer().target == 0
    for split in (data.train, data.validation, data.test):
        assert malignant[split].mean() == pytest.approx(212 / 569, abs=0.01)
    larger = prepare(validation=200)
    assert (larger.test == data.test).all() and set(data.validation) < set(larger.validation)
    assert data.checksum == larger.checksum == "0326254d5dbe7c70235560b6259325dc590f32271f9cac9174b7a7d80db0c770"


def test_no_size_is_among_the_inputs() -> None:
    data, bundle = prepare(), load_breast_cancer()
    of_size = [any(size in name for size in ("radius", "perimeter", "area")) for name in bundle.feature_names]
    assert data.inputs.shape == (569, 21) and np.array_equal(data.inputs, bundle.data[:, np.logical_not(of_size)])
    assert list(bundle.feature_names[[0, 2, 3]]) == ["mean radius", "mean perimeter", "mean area"]
    assert np.array_equal(data.sizes, bundle.data[:, [0, 2, 3]])


def test_an_epoch_visits_every_training_image_once_and_is_continued_exactly() -> None:
    data, task = prepare(), build()
    batches = list(task.batches(3, 1, 32))
    assert len(batches) == task.steps_per_epoch(32) == 11
    inputs, sizes = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert inputs.shape == (341, *task.inputs)
    assert np.allclose(np.sort(sizes[:, 0]), np.sort(data.sizes[data.train, 0]) * 1e-4), "cm"
    assert np.allclose(np.sort(sizes[:, 2]), np.sort(data.sizes[data.train, 2]) * 1e-8), "cm²"
    assert inputs.mean(0).abs().max() < 1e-5 and (inputs.std(0, correction=0) - 1).abs().max() < 1e-5
    rest = list(task.batches(3, 1, 32, first_step=7))
    assert all(torch.equal(*pair) for pair in zip(rest[0], batches[7], strict=True)) and len(rest) == 4
    assert not torch.equal(next(task.batches(4, 1, 32)).inputs, batches[0].inputs)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_scores_are_those_of_scikit_learn(split: Split) -> None:
    data, task, model = prepare(), build(), small_model().eval()
    mean, sd = data.inputs[data.train].mean(0), data.inputs[data.train].std(0)
    sizes = data.sizes * [1e-4, 1e-4, 1e-8]
    chosen = getattr(data, split)
    with torch.inference_mode():
        output = model(torch.tensor((data.inputs[chosen] - mean) / sd).float()).numpy()
    predicted = sizes[data.train].mean(0) + sizes[data.train].std(0) * output
    wanted = r2_score(sizes[chosen], predicted, multioutput="raw_values")
    scores = task.evaluate(model, split)
    assert scores["R2"] == pytest.approx(wanted.mean(), rel=1e-5)
    assert [scores[f"R2 {name}"] for name in ("radius", "perimeter", "area")] == pytest.approx(wanted, rel=1e-5)
    assert scores["loss"] == pytest.approx(np.mean((predicted - sizes[chosen]) ** 2), rel=1e-5)


def test_the_unit_scales_gradients_and_not_scores() -> None:
    gradients, scores = {}, {}
    for unit in ("um", "cm"):
        task, model = build(unit=unit), small_model()
        task.loss(model, next(task.batches(0, 0, 64))).backward()  # type: ignore[no-untyped-call]
        gradients[unit] = model.get_parameter("2.bias").grad
        scores[unit] = task.evaluate(model.eval(), "test")["R2"]
    scale = torch.tensor([1e-8, 1e-8, 1e-16])
    assert torch.allclose(gradients["cm"] / gradients["um"], scale, rtol=1e-3)
    assert scores["cm"] == pytest.approx(scores["um"], rel=1e-5)


def test_at_the_default_epsilon_the_area_stalls_only_in_centimetres() -> None:
    """What the demo shows: the same data and rate, another unit or a smaller ε."""

    def r2_of_area(unit: str, eps: float) -> float:
        task, model = build(unit=unit), small_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-2, eps=eps)
        for epoch in range(10):
            for batch in task.batches(0, epoch, 32):
                optimizer.zero_grad()
                task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return task.evaluate(model.eval(), "test")["R2 area"]

    assert r2_of_area("cm", 1e-8) < 0.5
    assert r2_of_area("cm", 1e-13) > 0.7
    assert r2_of_area("um", 1e-8) > 0.7


def test_a_model_that_blew_up_scores_minus_one_or_nan() -> None:
    task, model = build(), small_model().eval()
    with torch.no_grad():
        model.get_parameter("2.weight").fill_(1e10)
        assert task.evaluate(model, "test")["R2"] == -1
        model.get_parameter("2.weight").fill_(torch.nan)
        assert np.isnan(task.evaluate(model, "test")["R2"])


def test_too_few_or_no_validation_images_are_refused_with_a_way_out() -> None:
    with pytest.raises(
        SpecError, match=r"task\.validation: 455 images held out leave nothing .* have 455 .*ask for fewer"
    ):
        prepare(validation=455)
    assert not prepare(validation=0).has_validation
    with pytest.raises(SpecError, match=r"task\.validation is 0: no images to validate on"):
        build(validation=0).evaluate(small_model().eval(), "validation")
