"""Copies of a model and its optimizer belong together, start afresh, and leave the originals alone."""

import collections
import copy
import functools
import random
import threading
import weakref

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


class CountsByItself(ByHand):
    """Counts its steps in attributes, a number and a tensor."""

    def __init__(self, parameters):
        super().__init__(parameters)
        self.number, self.tensor = 0, torch.zeros(())

    def step(self):
        self.number += 1
        self.tensor += 1
        self.param_groups[0]["t"] = max(self.number, int(self.tensor)) - 1
        super().step()


def by_hand(state, group):
    return SecondMoment(state["v"], group["betas"][1], float(group["t"])) if state else None


@pytest.mark.parametrize("kind", [ByHand, SkipsSwitchedOffGroups, CountsByItself])
@pytest.mark.parametrize("trained_steps", [0, 7])
def test_numbers_of_an_optimizer_are_counted_as_in_training_and_from_the_start(registered, kind, trained_steps):
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


class KeepsMoments(ByHand):
    """Keeps its second moments in a list of its own, too."""

    def step(self):
        super().step()
        self.moments = [entry["v"] for entry in self.state.values()]


def test_second_moments_beside_the_state_do_not_start_afresh(registered):
    registered(KeepsMoments, by_hand)
    assert probed(KeepsMoments) == pytest.approx(plain_adam(), rel=1e-4)
    with pytest.raises(
        ObservationError, match="this KeepsMoments was trained, and keeps its second moments in an attr"
    ):
        probed(KeepsMoments, 3)


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


class Sharp(torch.optim.Adam):
    """Computes the gradient where the loss is higher, as sharpness-aware ones do, and so wants a closure."""

    @torch.no_grad()
    def step(self, closure):
        (group,) = self.param_groups
        before = [p.clone() for p in group["params"]]
        for p in group["params"]:
            p.add_(p.grad, alpha=1e-3 / p.grad.norm())
        loss = torch.enable_grad()(closure)()
        for p, old in zip(group["params"], before, strict=True):
            p.copy_(old)
        super().step()
        return loss


class InsistsOnAClosure(Sharp):
    def step(self, closure=None):
        assert closure is not None, "a closure is needed"
        return super().step(closure)


@pytest.mark.parametrize("kind", [Sharp, InsistsOnAClosure])
@pytest.mark.parametrize("trained_steps", [0, 3])
def test_an_optimizer_that_wants_a_closure_gets_one(kind, trained_steps):
    model = network()
    optimizer = kind(model.parameters(), lr=0.0, betas=BETAS)
    for batch in make_batches(trained_steps):
        loss_fn(model, batch).backward()
        optimizer.step(functools.partial(loss_fn, model, batch))
    bounds = epsgrid.probe(model, optimizer, make_batches(), loss_fn)
    assert bounds.reliability.noise == {} and not any("could not be told" in why for why in bounds.reliability.reasons)
    ends = bounds.low.magnitude, bounds.high.magnitude
    assert ends == pytest.approx(plain_adam(), rel=0.05) and ends != plain_adam()
    by_hand_model = network()
    by_hand = kind(by_hand_model.parameters(), lr=0.0, betas=BETAS)
    for batch in make_batches():
        by_hand.zero_grad()
        loss_fn(by_hand_model, batch).backward()

        def again(batch=batch):
            by_hand.zero_grad()
            loss = loss_fn(by_hand_model, batch)
            loss.backward()
            return loss

        by_hand.step(again)
    with epsgrid.observe(by_hand, model=by_hand_model, every=None) as observer:
        assert (observer.bounds().low.magnitude, observer.bounds().high.magnitude) == ends


class HasModes(torch.optim.Adam):
    """Steps in its training mode only, as schedule-free ones do."""

    mode = "eval"

    def train(self):
        self.mode = "train"

    def step(self, closure=None):
        if self.mode != "train":
            raise RuntimeError("call train() first")
        return super().step(closure)


def test_an_optimizer_with_modes_is_put_into_that_of_training():
    made = []
    assert probed(lambda p: made.append(HasModes(p, betas=BETAS)) or made[0]) == plain_adam()
    assert made[0].mode == "eval"


class GrowsRarely(ByHand):
    """Holds an estimate in its group that most steps leave alone, and that is no argument, as Prodigy does."""

    def __init__(self, parameters, lr=1e-3, first=1.0):
        torch.optim.Optimizer.__init__(
            self, parameters, {"lr": lr, "betas": BETAS, "eps": 1e-8, "t": 0, "first": first, "d": 1.0, "on": False}
        )

    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        if group["t"] == 2:
            group["d"] = 8.0
        for p in group["params"]:
            p.grad.mul_(group["d"] * group["first"])
        super().step()


def test_an_estimate_in_the_groups_of_a_trained_optimizer_starts_afresh(registered):
    registered(ByHand, by_hand)

    def build(parameters):
        optimizer = GrowsRarely(parameters)
        optimizer.param_groups[0].update(first=2.0, on=True)  # an argument and a switch are the user's
        return optimizer

    def with_less_steps(trained_steps):
        model = network()
        optimizer = build(model.parameters())
        weights = copy.deepcopy(model.state_dict())
        train(model, optimizer, trained_steps)
        model.load_state_dict(weights)
        bounds = epsgrid.probe(model, optimizer, make_batches(2), loss_fn)
        assert optimizer.param_groups[0]["d"] == (8.0 if trained_steps else 1.0)
        return bounds.low.magnitude, bounds.high.magnitude

    assert with_less_steps(0) == pytest.approx(with_less_steps(5), rel=1e-4)


class Fails(torch.optim.Adam):
    def step(self, closure=None):
        raise RuntimeError("no step today")


class TwoEpsilons(ByHand):
    def __init__(self, parameters):
        super().__init__(parameters)
        self.param_groups[0]["eps"] = (1e-30, 1e-16)

    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        both, group["eps"] = group["eps"], 1e-8
        super().step()
        group["eps"] = both


def test_optimizers_that_cannot_step_or_hold_nothing_are_named(registered):
    with pytest.raises(
        ObservationError, match=r"this Fails cannot take a step \(RuntimeError: no step today\), nor one"
    ):
        probed(Fails)
    registered(ByHand, by_hand)
    with pytest.raises(ObservationError, match=r"SkipsSwitchedOffGroups holds no second moment .* learning rate"):
        probed(lambda parameters: SkipsSwitchedOffGroups(parameters, lr=0.0))
    assert probed(TwoEpsilons) == pytest.approx(plain_adam(), rel=1e-4)


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


class RefersToItself(nn.Module):
    """Has functions that refer to the module, or to a part of it, in all the ways that Python knows."""

    def __init__(self):
        super().__init__()
        self.net, self.scale, self.seen = network(), nn.Parameter(torch.ones(6)), {}
        self.scaled = lambda x: x * self.scale
        self.net[0].register_forward_hook(lambda module, inputs, out: self.seen.update(latest=len(self.seen)))
        forward = self.net[2].forward
        self.net[2].forward = lambda x, forward=forward: forward(x)

    def forward(self, x):
        return self.net(self.scaled(x))


class RefersWeakly(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.scale = network(), nn.Parameter(torch.ones(6))
        self.this = weakref.ref(self)

    def forward(self, x):
        return self.net(x * self.this().scale)


def test_functions_of_a_model_refer_to_the_copy():
    model = RefersToItself()
    optimizer = torch.optim.Adam(model.parameters(), betas=BETAS)
    bounds = epsgrid.probe(model, optimizer, make_batches(), loss_fn)
    assert all(layer.nonzero for layer in bounds.layers)
    assert model.seen == {} and all(p.grad is None for p in model.parameters())
    copied, _ = copy_model(model)
    copied(torch.ones(2, 6)).sum().backward()
    assert copied.scale.grad is not None and copied.seen and model.scale.grad is None


def test_hooks_of_parameters_change_gradients_as_in_training():
    model, unhooked, mask = network(), network(), torch.tensor([1.0, 0, 0, 1, 1, 1])
    model[0].weight.register_hook(lambda gradient, own=model[0].weight: gradient * mask * own.requires_grad)
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient / 4)
    optimizer = torch.optim.Adam(model.parameters(), betas=BETAS)
    bounds = epsgrid.probe(model, optimizer, make_batches(), loss_fn)
    plain = epsgrid.probe(unhooked, torch.optim.Adam(unhooked.parameters(), betas=BETAS), make_batches(), loss_fn)
    assert bounds.high.magnitude == plain.high.magnitude / 4
    assert bounds.layers[0].nonzero == plain.layers[0].nonzero * 4 / 6
    assert all(parameter.grad is None for parameter in model.parameters())


class MomentumEncoder(nn.Module):
    """Keeps a frozen average of its network, and moves it in every forward pass."""

    def __init__(self):
        super().__init__()
        self.net, self.average = network(), network().requires_grad_(False)

    def forward(self, x):
        with torch.no_grad():
            for own, other in zip(self.average.parameters(), self.net.parameters(), strict=True):
                own.lerp_(other + 1, 0.1)
        return self.net(x)


def test_a_model_may_move_weights_that_are_frozen():
    model = MomentumEncoder()
    before = copy.deepcopy(model.state_dict())
    assert probed(lambda parameters: torch.optim.Adam(parameters, betas=BETAS), model=model) == plain_adam()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_reference_to_the_original_that_no_copy_has_is_refused():
    model = RefersWeakly()
    model.scale.grad = gradient = torch.ones(6)
    with pytest.raises(ObservationError, match="a weak reference in the model, uses the original"):
        epsgrid.probe(model, torch.optim.Adam(model.parameters()), make_batches(), loss_fn)
    assert model.scale.grad is gradient and torch.equal(gradient, torch.ones(6))


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
    nested = torch.utils.data.Subset(
        torch.utils.data.ConcatDataset([torch.utils.data.Subset(data, range(64))]), range(64)
    )
    loader = DataLoader(nested, batch_size=16, sampler=RandomSampler(data, generator=seeded(1)), generator=seeded(2))
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


class Slotted:
    __slots__ = ("generator",)

    def __init__(self):
        self.generator = seeded(5)

    def __call__(self, examples):
        inputs, labels = torch.utils.data.default_collate(examples)
        return inputs + torch.rand(1, generator=self.generator), labels


def test_generators_of_functions_are_put_back():
    model, data, collate, own, shift = network(), Augments(), Slotted(), np.random.default_rng(6), seeded(7)

    def loss(model, batch):
        return loss_fn(model, (batch[0] + own.random() + torch.rand(1, generator=shift), batch[1]))

    loader = DataLoader(data, batch_size=16, collate_fn=functools.partial(lambda examples: collate(examples)))
    before = collate.generator.get_state(), own.bit_generator.state, shift.get_state()
    epsgrid.probe(model, torch.optim.Adam(model.parameters()), loader, loss)
    assert torch.equal(collate.generator.get_state(), before[0])
    assert own.bit_generator.state == before[1] and torch.equal(shift.get_state(), before[2])


def test_workers_that_a_loader_keeps_are_left_alone():
    data = torch.utils.data.TensorDataset(*(torch.cat(part) for part in zip(*make_batches(4), strict=True)))
    loader, model = DataLoader(data, batch_size=16, num_workers=1, persistent_workers=True), network()
    running = iter(loader)
    next(running)
    epsgrid.probe(model, torch.optim.Adam(model.parameters()), loader, loss_fn)
    assert loader._iterator is running
    assert len(list(running)) == 3
