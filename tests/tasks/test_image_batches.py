"""Division, batches, augmentation, loss and scores of the image tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epsgrid.data._images import Images, image_set
from epsgrid.errors import SpecError
from epsgrid.numerics.seeds import derive_seed
from epsgrid.tasks import synthetic
from epsgrid.tasks._divide import DividedImages, balanced_order, divide
from epsgrid.tasks._images import (
    _PADDING,
    ImageTask,
    _crop_and_flip,
    _draw_variation,
    _ImageBatch,
)
from epsgrid.tasks._options import Subset

CPU = torch.device("cpu")


def data(train: int = 50, validation: int = 7, test: int = 9) -> DividedImages:
    options = synthetic.Options(
        name="synthetic", shape=(2, 6, 5), classes=3, train=train, validation=validation, test=test
    )
    return synthetic.prepare(options)


def task(augment: bool = True, device: torch.device = CPU, **sizes: int) -> ImageTask:
    return ImageTask(data(**sizes), device, white=255, mean=(0.4, 0.5), sd=(0.2, 0.25), augment=augment)


def same(one: list[_ImageBatch], other: list[_ImageBatch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in zip(one, other, strict=True)
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 300), st.integers(1, 60), st.data())
def test_a_resumed_epoch_goes_on_exactly(seed: int, epoch: int, batch_size: int, draw: st.DataObject) -> None:
    this = task()
    first_step = draw.draw(st.integers(0, this.steps_per_epoch(batch_size)))
    whole = list(this.batches(seed, epoch, batch_size))
    assert same(list(this.batches(seed, epoch, batch_size, first_step)), whole[first_step:])


def test_a_seed_and_an_epoch_have_batches_of_their_own_and_global_generators_are_not_touched() -> None:
    first = list(task().batches(3, 2, 16))
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # type: ignore[index, union-attr]
    assert same(list(task().batches(3, 2, 16)), first)
    assert not same(list(task().batches(4, 2, 16)), first)
    assert not same(list(task().batches(3, 3, 16)), first)
    task().evaluate(torch.nn.Flatten().eval(), "test")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tobytes() == states[1]  # type: ignore[index, union-attr]


def drawn_order(seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(50, generator=torch.Generator().manual_seed(derive_seed("order", seed, epoch)))


def test_an_epoch_visits_every_training_image_once() -> None:
    divided = data()
    images, labels = (torch.cat(parts) for parts in zip(*task(augment=False).batches(0, 0, 8), strict=True))
    expected = torch.from_numpy(divided.images.train.pixels[divided.train]) / 255
    expected = (expected - torch.tensor([0.4, 0.5])[:, None, None]) / torch.tensor([0.2, 0.25])[:, None, None]
    assert task().steps_per_epoch(8) == len(list(task().batches(0, 0, 8))) == 7, "the last partial batch is kept"
    order = drawn_order(0, 0)
    torch.testing.assert_close(images, expected[order])
    assert torch.equal(labels, torch.from_numpy(divided.images.train.labels[divided.train])[order])
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64


def test_augmentation_changes_training_images_as_drawn() -> None:
    divided = data()
    order = drawn_order(5, 1)
    pixels = torch.from_numpy(divided.images.train.pixels[divided.train])[order]
    varied = _crop_and_flip(pixels, *_draw_variation(50, 5, 1))
    plain = ImageTask(divided, CPU, white=1, mean=(0,), sd=(1,), augment=True)
    images = torch.cat([batch.images for batch in plain.batches(5, 1, 16)])
    assert torch.equal(images, varied.float())
    assert not torch.equal(images, pixels.float())


def test_examples_that_are_kept_on_the_device_give_the_same_batches() -> None:
    resident = task()
    examples = resident._train
    examples._tensors = [torch.from_numpy(part[examples._chosen]) for part in examples._arrays]
    assert same(list(resident.batches(0, 0, 16)), list(task().batches(0, 0, 16)))
    if torch.cuda.is_available():
        on_cuda = task(device=torch.device("cuda")).batches(0, 0, 16)
        assert same([_ImageBatch(*(part.cpu() for part in batch)) for batch in on_cuda], list(task().batches(0, 0, 16)))


def test_the_loss_is_the_mean_cross_entropy() -> None:
    this = task()
    assert (this.inputs, this.outputs) == ((2, 6, 5), 3)
    assert (this.metric.name, this.metric.direction, this.metric.unit) == ("accuracy", "max", "%")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 3))
    batch = next(this.batches(0, 0, 16))
    loss = this.loss(model, batch)
    expected = -torch.log_softmax(model(batch.images), 1)[torch.arange(16), batch.labels].mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_scores_are_those_of_the_whole_split(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    this = task(augment=True, validation=23, test=31)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 3)).eval()
    in_one = this.evaluate(model, split)  # type: ignore[arg-type]
    monkeypatch.setattr("epsgrid.tasks._images._EVALUATED_AT_ONCE", 10)
    in_pieces = this.evaluate(model, split)  # type: ignore[arg-type]
    images, labels = this._held_out[split].take(torch.arange(len(this._held_out[split])))  # type: ignore[index]
    scores = model(this._normalise(images)).detach().double()
    assert in_one["accuracy"] == in_pieces["accuracy"] == (scores.argmax(1) == labels).double().mean().item()
    expected = torch.nn.functional.cross_entropy(scores, labels).item()
    assert in_one["loss"] == pytest.approx(expected, rel=1e-6)
    assert in_pieces["loss"] == pytest.approx(expected, rel=1e-6)


def test_without_validation_images_there_is_no_validation_score() -> None:
    this = task(validation=0)
    with pytest.raises(SpecError, match=r"no images to validate on; .*training\.selection: test"):
        this.evaluate(torch.nn.Flatten().eval(), "validation")


def one_by_one(
    images: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor, flips: torch.Tensor, padding: int
) -> torch.Tensor:
    """The slow, obvious way."""
    result = []
    for image, top, left, flip in zip(images, tops.tolist(), lefts.tolist(), flips.tolist(), strict=True):
        _, height, width = image.shape
        padded = torch.zeros(image.shape[0], height + 2 * padding, width + 2 * padding, dtype=image.dtype)
        padded[:, padding : padding + height, padding : padding + width] = image
        piece = padded[:, top : top + height, left : left + width]
        result.append(piece.flip(2) if flip else piece)
    return torch.stack(result)


sides = st.integers(1, 9)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), sides, sides, st.integers(0, 10**6), st.sampled_from([0, 1, _PADDING, 8]))
def test_augmentation_equals_a_loop_over_images(
    count: int, channels: int, height: int, width: int, seed: int, padding: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    flips = torch.randint(0, 2, (count,), dtype=torch.bool, generator=generator)
    expected = one_by_one(images, tops, lefts, flips, padding)
    assert torch.equal(_crop_and_flip(images, tops, lefts, flips, padding), expected)


def forty(count: int) -> Images:
    return Images(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), np.arange(count) % 2)


FORTY = image_set(forty(40), forty(10), ("a", "b"), "forty images")


@given(st.integers(0, 39))
def test_held_out_images_are_not_trained_on(validation: int) -> None:
    divided = divide(FORTY, validation)
    assert len(divided.validation) == validation
    assert sorted([*divided.train, *divided.validation]) == list(range(40))
    assert sorted(divided.test) == list(range(10))
    assert divided.has_validation is (validation > 0)
    assert divided.checksum == FORTY.checksum


def test_subsets_are_nested_balanced_and_leave_the_division_alone() -> None:
    whole = divide(FORTY, 10)
    small = divide(FORTY, 10, Subset(train=4, validation=2, test=6))
    assert small.train.tolist() == whole.train[:4].tolist()
    assert small.validation.tolist() == whole.validation[:2].tolist()
    assert np.bincount(small.train % 2).tolist() == [2, 2]
    assert np.bincount(small.test % 2).tolist() == [3, 3]


def test_the_description_says_what_is_used() -> None:
    whole = "forty images: 30 training, 10 validation (held out of training) and 10 test images, 1×1×1"
    assert divide(FORTY, 10).description == whole
    part = "a subset of forty images: 4 of 40 training, no validation and 10 test images, 1×1×1"
    assert divide(FORTY, 0, Subset(train=4)).description == part


@pytest.mark.parametrize(
    ("validation", "subset", "words"),
    [
        (40, Subset(), r"task\.validation: 40 .* nothing to train on.*has 40 training"),
        (10, Subset(train=31), r"task\.subset\.train: 31 images asked for, there are 30"),
        (10, Subset(validation=11), r"task\.subset\.validation: 11 images asked for, there are 10"),
    ],
)
def test_more_images_than_there_are_cannot_be_asked_for(validation: int, subset: Subset, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        divide(FORTY, validation, subset)


label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=80)


@given(label_lists, st.integers(0, 3), st.data())
def test_every_prefix_holds_the_classes_in_proportion(labels: list[int], seed: int, draw: st.DataObject) -> None:
    given_labels = np.array(labels)
    order = balanced_order(given_labels, seed)
    assert sorted(order) == list(range(len(labels)))
    first = order[: draw.draw(st.integers(0, len(labels)))]
    for label in set(labels):
        share = (given_labels == label).mean() * len(first)
        assert abs((given_labels[first] == label).sum() - share) <= len(set(labels)) / 2 + 0.5


def test_the_order_never_changes_with_a_version() -> None:
    """Every stored trial on held-out images depends on it."""
    assert balanced_order(np.array([0, 0, 0, 1, 1, 1, 2, 2]), 0).tolist() == [2, 3, 6, 1, 5, 7, 0, 4]
