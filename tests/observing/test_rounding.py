"""Rounding noise is found where the mathematics says that a gradient is zero, and nowhere else."""

import dataclasses
import math
import re
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from epsgrid.observing import rounding
from epsgrid.observing.adapters import adapter_for
from tests.observing import samples
from tests.observing.samples import cross_entropy

CPU = torch.device("cpu")


def images(count=6, size=10):
    return torch.randn(count, 3, size, size), torch.randint(10, (count,))


def small_convolutions(dropout=0.5):
    return nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(3, 6, 3),
            first_norm=nn.BatchNorm2d(6),
            relu=nn.ReLU(),
            second=nn.Conv2d(6, 8, 3),
            second_norm=nn.BatchNorm2d(8),
            dropout=nn.Dropout(dropout),
            flatten=nn.Flatten(),
            last=nn.Linear(8 * 36, 10),
        )
    )


class Attends(nn.Module):
    """Self-attention over embedded words, by torch's module; its dropout is functional inside."""

    def __init__(self, dropout=0.3):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=dropout, batch_first=True)
        self.last = nn.Linear(8, 10)
        nn.init.normal_(self.attention.in_proj_bias, std=0.1)

    def forward(self, words):
        x = self.embedding(words)
        return self.last(self.attention(x, x, x, need_weights=False)[0].mean(1))


def check(model, loss, batch, optimizer=None):
    """Check with the weights' own gradients, or with the weight decay of an optimizer."""
    optimizer = torch.optim.Adam(model.parameters()) if optimizer is None else optimizer
    return rounding.rounding_noise(model, loss, batch, optimizer, adapter_for(optimizer))


def noise(model, loss, batch, optimizer=None):
    """Return the masks by name."""
    found = check(model, loss, batch, optimizer)
    assert found.checked and found.reason == ""
    masks = {name: found.masks[each] for name, each in model.named_parameters() if each in found.masks}
    assert len(masks) == len(found.masks)
    return masks


def whole(*names):
    """The masks of layers that are nothing but noise."""
    return dict.fromkeys(names, "all")


def described(masks):
    return {name: "all" if mask.all() and mask.dtype == torch.bool else mask.tolist() for name, mask in masks.items()}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def half_dead():
    """Twenty units that are zero for every input: exact zeros are no noise."""
    model = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 10))
    nn.init.constant_(model[0].bias[:20], -100)
    return model


class MakesTensors(nn.Module):
    """Makes its first hidden state in the default type, as many recurrent models do."""

    def __init__(self):
        super().__init__()
        self.cell, self.last = nn.GRUCell(12, 6), nn.Linear(6, 10)

    def forward(self, x):
        return self.last(self.cell(x, torch.zeros(len(x), 6)))


def before_channel_norm(norm):
    return nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 10))


def in_bfloat16():
    return nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 10)).bfloat16()


def rows(count=32, dtype=torch.float32):
    return torch.randn(count, 12).to(dtype), torch.randint(10, (count,))


@pytest.mark.parametrize(
    ("build", "batch", "expected"),
    [
        (small_convolutions, images, whole("first.bias", "second.bias")),
        (lambda: before_channel_norm(nn.GroupNorm(6, 6)), images, whole("0.bias")),
        (in_bfloat16, lambda: rows(dtype=torch.bfloat16), whole("0.bias")),
        (half_dead, rows, {}),
        (MakesTensors, rows, {}),
    ],
)
def test_biases_before_a_norm_of_single_channels_are_noise_and_others_are_not(build, batch, expected):
    assert described(noise(build(), cross_entropy, batch())) == expected
    assert torch.get_default_dtype() == torch.float32


def test_a_third_of_an_attentions_bias_is_noise():
    batch = torch.randint(30, (8, 6)), torch.randint(10, (8,))
    third = [False] * 8 + [True] * 8 + [False] * 8  # of query, key and value
    assert described(noise(Attends(), cross_entropy, batch)) == {"attention.in_proj_bias": third}


@pytest.mark.parametrize(
    ("optimizer", "found"),
    [
        (lambda p: torch.optim.Adam(p, weight_decay=1e-3), False),
        (lambda p: torch.optim.AdamW(p, weight_decay=1e-1), True),
        (lambda p: torch.optim.Adagrad(p), True),
        (lambda p: torch.optim.Adamax(p), True),
        (lambda p: torch.optim.RMSprop(p, centered=True), True),
        (lambda p: torch.optim.Adadelta(p, weight_decay=1e-3), False),
    ],
)
def test_coupled_weight_decay_is_a_gradient_of_its_own(optimizer, found):
    model = small_convolutions()
    built = optimizer(model.parameters())
    expected = whole("first.bias", "second.bias") if found else {}
    assert described(noise(model, cross_entropy, images(), built)) == expected
    assert not any("exp_avg" in state for state in built.state.values())


class Random(nn.Module):
    """Draws masks by itself, others in float64 than in float32; the first bias is before a norm."""

    def __init__(self, share):
        super().__init__()
        self.first, self.norm = nn.Linear(12, 64), nn.BatchNorm1d(64)
        self.second, self.last = nn.Linear(64, 64), nn.Linear(64, 10)
        self.share = share

    def forward(self, x):
        for layer in (lambda x: self.norm(self.first(x)), self.second):
            x = F.gelu(layer(x))
            if x.dtype == torch.float32:
                torch.rand(1)
            x = x * (torch.rand_like(x) >= self.share)
        return self.last(x)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_masks_that_differ_between_precisions_mark_nothing_falsely(share):
    assert described(noise(Random(share), cross_entropy, rows())) == whole("first.bias")


def test_autocast_in_the_loss_leaves_float64_alone():
    def loss(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return cross_entropy(model, batch)

    masks = noise(small_convolutions(), loss, images())
    assert {"first.bias", "second.bias"} <= set(masks)
    assert not masks.get("last.weight", torch.zeros(1)).all()


Pair = namedtuple("Pair", ["x", "y"])


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    y: torch.Tensor
    note: Any = "text"


@pytest.mark.parametrize(
    ("wrap", "get"),
    [
        (lambda x, y: (x, y), lambda b: b),
        (lambda x, y: Pair(x, y), lambda b: (b.x, b.y)),
        (lambda x, y: Frozen(x, y), lambda b: (b.x, b.y)),
        (lambda x, y: {"x": x, "more": {"y": [y]}, "count": 3}, lambda b: (b["x"], b["more"]["y"][0])),
    ],
)
def test_batches_of_any_structure(wrap, get):
    def loss(model, batch):
        seen.append(type(batch))
        x, y = get(batch)
        x.mul_(2)  # what is done to the batch in place stays without effect
        return cross_entropy(model, (x, y))

    seen: list[type] = []
    x, y = images()
    batch, before = wrap(x, y), x.clone()
    assert set(noise(small_convolutions(), loss, batch)) == {"first.bias", "second.bias"}
    assert torch.equal(x, before)
    assert x.dtype == torch.float32
    assert set(seen) == {type(batch)}


def test_nothing_is_changed():
    model, batch = small_convolutions(), images()
    optimizer = torch.optim.Adam(model.parameters())
    model.first_norm.eval()
    cross_entropy(model, batch).backward()
    optimizer.step()
    before = samples.found(model, optimizer)
    noise(model, cross_entropy, batch, optimizer)
    assert samples.found(model, optimizer) == before


OTHER = nn.Linear(5, 10)


class RefusesFloat64(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight.float(), torch.zeros(10)) if x.dtype == torch.float32 else self.lookup[x]


@pytest.mark.parametrize(
    ("model", "loss", "reason"),
    [
        (lambda: RefusesFloat64(5, 10), cross_entropy, "AttributeError: .*lookup"),
        (lambda: nn.Linear(5, 10).double(), cross_entropy, "computes in float64 already"),
        (lambda: nn.Linear(5, 10), lambda m, b: cross_entropy(m, b) * math.nan, "the loss is not finite: nan"),
        (lambda: nn.Linear(5, 10), lambda m, b: cross_entropy(m, b).item(), "no scalar with a gradient"),
        (lambda: nn.LazyLinear(10), cross_entropy, "lazy parameters"),
        (
            lambda: nn.Linear(5, 10),
            lambda m, b: cross_entropy(OTHER, b),
            "does not depend on the model",
        ),
    ],
)
def test_where_it_cannot_be_told_the_reason_is_given(model, loss, reason):
    found = check(model(), loss, (torch.randn(4, 5), torch.randint(10, (4,))))
    assert not found.checked and found.masks == {}
    assert re.search(reason, found.reason)
