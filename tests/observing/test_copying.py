"""Copies of a model and its optimizer belong together, start afresh, and leave the originals alone."""

import collections
import copy
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

import epsgrid
from epsgrid.errors import ObservationError
from epsgrid.observing.adapters import adapter_for
from epsgrid.observing.copying import copy_model, copy_optimizer
from epsgrid.optimizers import SecondMoment
from tests.observing import samples
from tests.observing.samples import cross_entropy as loss_fn
from tests.observing.samples import labelled as make_batches

BETAS = (0.9, 0.99)


def network():
    return samples.network(nn.Tanh())


def train(model, optimizer, count=3):
    for batch in make_batches(count):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()


def probed(optimizer_of, trained_steps=0, model=None):
    model = network() if model is None else model
    optimizer = optimizer_of(model.parameters())
    if trained_steps:
        weights = copy.deepcopy(model.state_dict())
        train(model, optimizer, trained_steps)
        model.load_state_dict(weights)
    before = settings_of(optimizer)
    bounds = epsgrid.probe(model, optimizer, make_batches(), loss_fn)
    assert settings_of(optimizer) == before
    return bounds.low.magnitude, bounds.high.magnitude


def settings_of(optimizer):
    (group,) = optimizer.param_groups
    return copy.deepcopy({key: value for key, value in group.items() if key != "params"})


def plain_adam():
    return probed(lambda p: torch.optim.Adam(p, betas=BETAS))


def copies(model, optimizer):
    copied, memo = copy_model(model)
    return copied, copy_optimizer(optimizer, memo, adapter_for(optimizer))


# Optimizers


class ByHand(torch.optim.Optimizer):
    """Adam written out, with the count of its steps in the group."""

    def __init__(self, parameters, lr=1e-3):
        super().__init__(parameters, {"lr": lr, "betas": BETAS, "eps": 1e-8, "t": 0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            group["t"] = t = group["t"] + 1
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
                state["m"].lerp_(p.grad, 1 - beta1)
                state["v"].lerp_(p.grad.square(), 1 - beta2)
                root = (state["v"] / (1 - beta2**t)).sqrt() + group["eps"]
                p.sub_(group["lr"] / (1 - beta1**t) * state["m"] / root)


class SkipsSwitchedOffGroups(ByHand):
    def step(self):
        if self.param_groups[0]["lr"] > 0:
            super().step()


def by_hand(state, group):
    return SecondMoment(state["v"], group["betas"][1], float(group["t"])) if state else None


@pytest.mark.parametrize("kind", [ByHand, SkipsSwitchedOffGroups])
@pytest.mark.parametrize("trained_steps", [0, 7])
def test_numbers_in_groups_are_counted_as_in_training_and_from_the_start(registered, kind, trained_steps):
    registered(ByHand, by_hand)
    assert probed(kind, trained_steps) == pytest.approx(plain_adam(), rel=1e-4)


class Wraps(torch.optim.Optimizer):
    """Steps an optimizer that it holds, with its groups and state, as sharpness-aware ones do."""

    def __init__(self, base):
        super().__init__(base.param_groups, base.defaults)
        self.base, self.others = base, {"deeper": [base]}
        self.param_groups, self.state = base.param_groups, base.state
        self.calls = 0

    def step(self, closure=None):
        self.calls += 1
        return self.base.step(closure)


class WrapsByProperties(Wraps):
    """Has no groups and no state of its own, as differentially private ones do."""

    def __init__(self, base):
        self.base, self.calls = base, 0
        self._optimizer_step_pre_hooks = self._optimizer_step_post_hooks = collections.OrderedDict()

    param_groups = property(lambda self: self.base.param_groups)
    state = property(lambda self: self.base.state)
    defaults = property(lambda self: self.base.defaults)


class KeepsLists(torch.optim.Adam):
    """Steps on a list of parameters of its own, and keeps a slow copy of each."""

    def __init__(self, parameters, **options):
        super().__init__(parameters, **options)
        self.trained = [p for group in self.param_groups for p in group["params"]]
        self.slow = [p.detach().clone() for p in self.trained]

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for p, slow in zip(self.trained, self.slow, strict=True):
            slow.lerp_(p, 0.5)
            p.copy_(slow)


def adam_state(state, group):
    return SecondMoment(state["exp_avg_sq"], group["betas"][1], state["step"]) if state else None


@pytest.mark.parametrize("kind", [Wraps, WrapsByProperties])
def test_wrapped_optimizers_are_copied_with_what_they_wrap(registered, kind):
    registered(Wraps, adam_state)
    model = network()
    base = torch.optim.Adam(model.parameters(), betas=BETAS)
    wrapper = kind(base)
    copied, optimizer = copies(model, wrapper)
    assert optimizer.base is not base
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in copied.parameters()}
    bounds = epsgrid.probe(model, wrapper, make_batches(), loss_fn)
    assert (bounds.low.magnitude, bounds.high.magnitude) == plain_adam()
    assert not base.state and wrapper.calls == 0


def test_lists_and_models_that_an_optimizer_keeps_are_copied_with_the_parameters(registered):
    registered(KeepsLists, adam_state)
    model = network()
    original = KeepsLists(model.parameters())
    original.model = model
    copied, optimizer = copies(model, original)
    assert list(map(id, optimizer.trained)) == list(map(id, copied.parameters()))
    assert optimizer.model is copied
    assert probed(lambda p: KeepsLists(p, betas=BETAS)) == plain_adam()


class BuildsState(torch.optim.Optimizer):
    """Builds its state in the constructor: with a count of steps, or zeros alone."""

    def __init__(self, parameters, start):
        super().__init__(parameters, {"lr": 1e-3, "betas": BETAS})
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = start(p)


def test_a_state_from_the_constructor_is_kept_until_it_is_used():
    model = nn.Linear(2, 1)
    with_step = BuildsState(model.parameters(), lambda p: {"step": 0, "v": torch.full_like(p, 0.5)})
    zeros = BuildsState(model.parameters(), lambda p: {"v": torch.zeros_like(p)})
    adapter = adapter_for(torch.optim.Adam(model.parameters()))
    for optimizer in (with_step, zeros):
        copied, memo = copy_model(model)
        state = copy_optimizer(optimizer, memo, adapter).state
        assert torch.equal(state[copied.weight]["v"], optimizer.state[model.weight]["v"])
        assert state[copied.weight]["v"] is not optimizer.state[model.weight]["v"]
    with_step.state[model.weight]["step"] = 3
    zeros.state[model.weight]["v"] += 1
    for optimizer in (with_step, zeros):
        copied, memo = copy_model(model)
        assert list(copy_optimizer(optimizer, memo, adapter).state) == [copied.bias]


# Models


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_copies_are_like_the_original():
    model = network()
    model[2].weight = nn.Parameter(torch.randn(20, 4).t())
    model[0].weight.marked = [model[0].bias]
    model[0].bias.requires_grad_(False)
    model[0].weight.grad = torch.ones(20, 6)
    copied, _ = copy_model(model)
    assert copied[2].weight.stride() == (1, 4)
    assert copied[0].weight.marked == [copied[0].bias]
    assert [p.requires_grad for p in copied.parameters()] == [True, False, True, True]
    assert copied[0].weight.grad is None


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted_models():
    plain = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    model = torch.jit.script(copy.deepcopy(plain)).eval()
    found = probed(torch.optim.Adam, model=model)
    assert found == probed(torch.optim.Adam, model=plain)
    assert not model.training and not model[1].running_mean.any()


class Shared(nn.Linear):
    def __deepcopy__(self, memo):
        return self


def test_what_cannot_be_copied_is_refused_with_a_way_out():
    locked, model = network(), network()
    optimizer = torch.optim.Adam(model.parameters())
    locked.lock = optimizer.lock = threading.Lock()
    way_out = r".*observe the training itself, with epsgrid\.observe\(optimizer, model=model\)"
    for refused, words in (
        (locked, rf"Sequential cannot be copied \(TypeError: cannot pickle{way_out}"),
        (Shared(6, 4), rf"Shared cannot be copied \(copy.deepcopy does not{way_out}"),
        (nn.Sequential(nn.LazyLinear(4)), "Sequential has lazy parameters"),
    ):
        with pytest.raises(ObservationError, match=words):
            probed(torch.optim.Adam, model=refused)
    with pytest.raises(ObservationError, match="Adam cannot be copied"):
        epsgrid.probe(model, optimizer, make_batches(), loss_fn)


# Random numbers


class Augments(torch.utils.data.Dataset):
    """Draws from generators of its own, of each library, and from the global ones."""

    def __init__(self):
        self.rng, self.old, self.more = np.random.default_rng(1), np.random.RandomState(2), {"own": [random.Random(3)]}

    def __len__(self):
        return 64

    def __getitem__(self, index):
        drawn = [self.rng.random(), self.old.rand(), self.more["own"][0].random(), random.random(), np.random.rand()]
        return torch.tensor([*drawn, 1.0]), index % 4


def states_of(data):
    return [
        data.rng.bit_generator.state["state"],
        data.old.get_state()[2],
        data.more["own"][0].getstate(),
        random.getstate(),
        np.random.get_state()[2],
        torch.get_rng_state().tolist(),
    ]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_generators_in_and_outside_of_the_batches_are_put_back(error):
    data = Augments()
    loader = DataLoader(data, batch_size=16, sampler=RandomSampler(data, generator=seeded(1)), generator=seeded(2))
    model = network()
    before = states_of(data), loader.generator.get_state(), loader.sampler.generator.get_state()
    calls = []

    def loss(model, batch):
        calls.append(1)
        if error is not None and len(calls) == 3:
            raise error
        return loss_fn(model, batch)

    try:
        epsgrid.probe(model, torch.optim.Adam(model.parameters()), loader, loss, epochs=2)
    except KeyboardInterrupt:
        assert error is not None
    assert states_of(data) == before[0]
    assert torch.equal(loader.generator.get_state(), before[1])
    assert torch.equal(loader.sampler.generator.get_state(), before[2])
