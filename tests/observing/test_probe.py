"""The probe finds the bounds that a plain computation finds, and leaves everything as it was."""

import collections
import copy
import functools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import epsgrid
from epsgrid.errors import NoBoundsError, ObservationError
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.trajectory import has_settled
from epsgrid.observing import adapters, stepping
from epsgrid.observing import probing as probing_module
from epsgrid.observing.probing import probe
from tests.observing import samples
from tests.observing.samples import cross_entropy as loss_fn
from tests.observing.samples import found, network, order_statistics, torchs
from tests.observing.samples import labelled as make_batches

OPTIMIZERS = {
    **samples.OPTIMIZERS,
    "adam": torch.optim.Adam,
    "decay": torchs(torch.optim.Adam, weight_decay=0.1),
    "no epsilon": torchs(torch.optim.Adam, eps=0.0),
    "adamw": torchs(torch.optim.AdamW, weight_decay=0.5),
    "adamax": torchs(torch.optim.Adamax, eps=0.1),
    "adagrad": torchs(torch.optim.Adagrad, initial_accumulator_value=0.1),
    "adamomentum": samples.in_place("momentum", eps=1e-3, weight_decay=1e-2),
}


def plain_probe(model, build, batches, *, accumulate=1, clip=None, tail=0.02, rate=0.0):
    """Step a new optimizer of the same kind on a copy, read its v with its own adapter, sort.

    Returns:
        (least lower, greatest upper order statistic) in √v̂ units.
    """
    torch.manual_seed(5)
    model = copy.deepcopy(model).train()
    optimizer = build(model.parameters())
    for group in optimizer.param_groups:
        group["lr"] = rate
        if isinstance(optimizer, torch.optim.Adamax):
            group["eps"] = 2.0**-126
        elif not group["eps"]:
            group["eps"] = 1e-8
    for start in range(0, len(batches), accumulate):
        group = batches[start : start + accumulate]
        optimizer.zero_grad()
        for batch in group:
            (loss_fn(model, batch) / len(group)).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return sorted_ends(optimizer, tail)


def sorted_ends(optimizer, tail=0.02):
    adapter = adapters.adapter_for(optimizer)
    lows, highs = [], []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            moment = adapter.second_moment(optimizer.state[parameter], group)
            low, high = order_statistics(moment.values.double().numpy(), moment.scale, tail)
            lows.append(low)
            highs.append(high)
    return min(lows), max(highs)


def ends(bounds):
    return bounds.low.magnitude, bounds.high.magnitude


def run(model, optimizer, batches, **options):
    """Probe with the generators where the plain computation starts."""
    torch.manual_seed(5)
    return probe(model, optimizer, batches, loss_fn, **options)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_equals_the_plain_computation(name):
    model, batches, build = network(), make_batches(), OPTIMIZERS[name]
    bounds = run(model, build(model.parameters()), batches)
    assert ends(bounds) == plain_probe(model, build, batches)
    assert bounds.reliability is not None


def test_the_state_that_an_optimizer_has_does_not_matter():
    for name in ("adam", "adagrad", "adadelta", "adamomentum"):
        model, batches, build = network(), make_batches(), OPTIMIZERS[name]
        trained = build(model.parameters())
        for batch in make_batches(3):
            loss_fn(model, batch).backward()
            trained.step()
        assert run(model, trained, batches) == run(model, build(model.parameters()), batches)


@pytest.mark.parametrize("options", [{"accumulate": 2}, {"accumulate": 5}, {"clip_norm": 1e-2}, {"tail_fraction": 0.1}])
def test_accumulation_clipping_and_tails(options):
    model, batches, build = network(), make_batches(), OPTIMIZERS["adam"]
    bounds = run(model, build(model.parameters()), batches, **options)
    names = {"clip_norm": "clip", "tail_fraction": "tail"}
    expected = plain_probe(model, build, batches, **{names.get(name, name): value for name, value in options.items()})
    assert ends(bounds) == expected
    assert expected != plain_probe(model, build, batches)


def test_epochs_steps_and_progress():
    model, batches, build = network(), make_batches(), OPTIMIZERS["adam"]
    seen = []
    bounds = run(model, build(model.parameters()), batches, epochs=2, steps=20, on_step=seen.append)
    assert seen == list(range(1, 21))
    assert ends(bounds) == plain_probe(model, build, (batches * 2)[:20])
    assert bounds.reliability.course.steps == tuple(range(1, 21))


def test_moving_weights():
    model, batches = network(), make_batches()

    def build(parameters):
        return torch.optim.Adam(parameters, lr=0.05, weight_decay=0.1)

    optimizer = build(model.parameters())
    bounds = run(model, optimizer, batches, update_weights=True)
    assert ends(bounds) == plain_probe(model, build, batches, rate=0.05)
    assert ends(bounds) != plain_probe(model, build, batches)
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert not optimizer.state


def test_a_generator_lasts_for_an_epoch():
    model, batches = network(), make_batches()
    optimizer = torch.optim.Adam(model.parameters())
    assert run(model, optimizer, iter(batches)) == run(model, optimizer, batches)
    with pytest.raises(ObservationError, match=r"used up after epoch 1 of 3: .* a list or a DataLoader"):
        probe(model, optimizer, iter(batches), loss_fn, epochs=3)


def test_other_tails_are_exact():
    model, batches, build = network(), make_batches(), OPTIMIZERS["adam"]
    bounds = run(model, build(model.parameters()), batches)
    tails = {variant.label: ends(variant) for variant in bounds.reliability.of_kind("tail")}
    assert tails == {
        "1 %": plain_probe(model, build, batches, tail=0.01),
        "5 %": plain_probe(model, build, batches, tail=0.05),
    }


def test_rounding_noise_is_found_and_left_out():
    model, batches = network(), make_batches()
    optimizer = torch.optim.Adam(model.parameters())
    bounds = run(model, optimizer, batches)
    reliability = bounds.reliability
    assert reliability.noise_checked
    assert reliability.noise == {"0.bias": 1.0}
    assert bounds.low.layers == ("0.bias",)
    (without,) = [variant for variant in reliability.of_kind("without") if variant.label == "rounding noise"]
    others = {layer.name: layer.low for layer in bounds.layers if layer.name != "0.bias"}
    assert without.low.magnitude == min(others.values())
    assert without.high == bounds.high
    assert without.low.magnitude > 1e3 * bounds.low.magnitude
    assert reliability.verdict == "low"


def test_bounds_without_rounding_noise_are_judged_without_it():
    model, batches = network(), make_batches()
    bounds = run(model, torch.optim.Adam(model.parameters()), batches)
    (variant,) = [each for each in bounds.reliability.of_kind("without") if each.label == "rounding noise"]
    trusted = bounds.chosen("trusted")
    assert (trusted.low, trusted.high, trusted.layers) == (variant.low, variant.high, bounds.layers)
    noted = [reason for reason in trusted.reliability.reasons if "rounding noise" in reason]
    assert noted == [reason for reason in noted if reason.startswith("rounding noise, in 0.bias, is left out: with it")]
    assert len(noted) == 1
    assert trusted.reliability.verdict != "low"
    assert all(each.low.layers != ("0.bias",) for each in trusted.reliability.variants)
    assert trusted.reliability.course.low[-1] == pytest.approx(trusted.low.epsilon, rel=0.02)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.attention(x, x, x)[0].mean(1))


def test_noise_within_a_tensor():
    torch.manual_seed(0)
    model = Attends()
    batches = [(torch.randn(8, 5, 8), torch.randint(4, (8,))) for _ in range(12)]
    bounds = run(model, torch.optim.Adam(model.parameters()), batches)
    assert bounds.reliability.noise == {"attention.in_proj_bias": pytest.approx(1 / 3)}
    assert bounds.low.layers == ("attention.in_proj_bias",)
    (without,) = [v for v in bounds.reliability.of_kind("without") if v.label == "rounding noise"]
    assert without.low.magnitude > 1e3 * bounds.low.magnitude
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    for batch in batches:
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    optimizer.state[model.attention.in_proj_bias]["exp_avg_sq"][8:16] = 0  # of the keys
    assert ends(without) == sorted_ends(optimizer)


def test_the_check_draws_nothing_and_may_be_left_out_or_impossible():
    model, batches = network(), make_batches()
    optimizer = torch.optim.Adam(model.parameters())
    checked, unchecked = (run(model, optimizer, batches, check_rounding=check) for check in (True, False))
    assert (checked.low, checked.high, checked.layers) == (unchecked.low, unchecked.high, unchecked.layers)
    assert not unchecked.reliability.noise_checked
    model, batches = nn.Linear(6, 4).double(), [(x.double(), y) for x, y in batches]
    reliability = probe(model, torch.optim.Adam(model.parameters()), batches, loss_fn).reliability
    assert not reliability.noise_checked
    assert reliability.reasons[-1].startswith("rounding noise could not be told from gradients: the model computes in")


def test_stopping_when_settled():
    model, batches = nn.Linear(6, 4), make_batches(200)
    seen = []
    bounds = probe(
        model, torch.optim.Adam(model.parameters()), batches, loss_fn, stop_when_settled=True, on_step=seen.append
    )
    assert 16 <= seen[-1] < 100
    assert has_settled(bounds.reliability.course)
    assert bounds.reliability.course.steps[-1] == seen[-1]


def test_bounds_settle_without_the_noise_too(monkeypatch):
    asked = []

    def settled(trajectory):
        asked.append(trajectory.low[-1])
        return trajectory.low[-1] < 1e-6  # the noise does, the true gradients do not

    monkeypatch.setattr(probing_module, "has_settled", settled)
    model, seen = network(), []
    run(model, torch.optim.Adam(model.parameters()), make_batches(), stop_when_settled=True, on_step=seen.append)
    assert seen[-1] == 12
    assert {low < 1e-6 for low in asked} == {True, False}


def test_settling_is_followed_for_some_tails_only():
    model = nn.Linear(6, 4)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(ObservationError, match=r"tail fractions 0.01, 0.02, 0.05, .*not for 0.03"):
        probe(model, optimizer, make_batches(), loss_fn, tail_fraction=0.03, stop_when_settled=True)
    assert probe(model, optimizer, make_batches(), loss_fn, tail_fraction=0.03).reliability.course is None


# Everything is left as found


class Remembers(nn.Module):
    """Normalises, drops, and changes whatever a module can hold, in place and by assignment."""

    def __init__(self):
        super().__init__()
        self.net, self.norm = network(nn.Dropout(0.5)), nn.BatchNorm1d(4)
        self.register_buffer("unsaved", torch.zeros(3), persistent=False)
        self.register_buffer("carried", torch.zeros(16, 4))
        self.losses, self.usage, self.table = [], collections.Counter(), np.zeros(3)
        self.metric = nn.ModuleDict({"calls": Counts()})
        self.seen, self.number, self.latest = torch.zeros(1), 0, None
        self.noise = torch.Generator().manual_seed(3)

    def forward(self, x):
        out = self.norm(self.net(x)) + self.carried
        self.carried = out.detach()
        self.losses.append(1)
        self.usage["calls"] += 1
        self.table[0] += 1
        self.unsaved += 1
        self.seen += torch.rand(1, generator=self.noise)
        self.number += 1
        self.metric["calls"].total += 1
        self.latest = {"out": [out]}  # the result of a computation, which torch refuses to copy
        return out


class Counts(nn.Module):
    total = 0


def held(model):
    numbers = model.number, model.metric["calls"].total, model.table.tolist(), model.noise.get_state().tolist()
    return numbers, list(model.losses), dict(model.usage), id(model.latest), model.seen.item()


class FailingError(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "error", "moving"),
    [
        *((name, None, False) for name in ("adam-tensors", "adagrad", "adamomentum")),
        *((name, None, True) for name in ("adam", "adamax")),
        ("adam", FailingError, False),
        ("adam", KeyboardInterrupt, True),
    ],
)
def test_everything_is_left_as_found(name, error, moving):
    torch.manual_seed(0)
    model, batches = Remembers(), make_batches(6)
    optimizer = OPTIMIZERS[name](model.parameters())
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for batch in make_batches(2):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
        schedule.step()
    model.norm.eval()
    model.net[0].bias.requires_grad_(False)
    with torch.no_grad():
        model.net[0].weight[0, 0] = -0.0
    before, schedule_before = (found(model, optimizer), held(model)), copy.deepcopy(schedule.state_dict())
    calls = []

    def loss(model, batch):
        calls.append(1)
        if error is not None and len(calls) == 5:
            raise error("in the loss")
        return loss_fn(model, batch)

    def called():
        return probe(model, optimizer, batches, loss, update_weights=moving, check_rounding=False)

    if error is None:
        called()
    else:
        with pytest.raises(error, match="in the loss"):
            called()
    assert (found(model, optimizer), held(model)) == before
    assert schedule.state_dict() == schedule_before


class Criterion(nn.Module):
    """A loss with everything that a module can have, a parameter that is not trained among it."""

    def __init__(self):
        super().__init__()
        self.norm, self.bias = nn.BatchNorm1d(4), nn.Parameter(torch.zeros(4))
        self.register_buffer("mean", torch.zeros(()))
        self.losses, self.calls, self.table = [], 0, np.zeros(2)

    def forward(self, model, batch):
        loss = F.cross_entropy(self.norm(model(batch[0])) + self.bias, batch[1])
        self.mean.lerp_(loss.detach().float(), 0.1)
        self.losses.append(1)
        self.table[0] += 1
        self.calls += 1
        return loss

    def method(self, model, batch):
        return self(model, batch)


class Balance:
    """A loss that is no module, and weighs itself."""

    def __init__(self):
        self.mean, self.losses, self.inner = torch.ones(()), [], Criterion()

    def __call__(self, model, batch):
        loss = self.inner(model, batch)
        self.mean = self.mean + loss.detach()
        self.losses.append(1)
        return loss / self.mean


GLOBAL = Criterion()


def by_a_global_name(model, batch):
    return GLOBAL(model, batch)


def state_of(criterion):
    state = found(criterion, torch.optim.SGD(criterion.parameters()))
    kept = {part: state[part] for part in ("parameters", "gradients", "buffers", "modes")}
    return kept, criterion.losses[:], criterion.calls, criterion.table[0]


@pytest.mark.parametrize("kind", ["module", "method", "partial", "closure", "global", "object"])
def test_what_a_loss_holds_is_left_as_found(kind):
    balance = Balance()
    criterion = GLOBAL if kind == "global" else balance.inner
    criterion.bias.grad = torch.ones(4)
    loss = {
        "module": criterion,
        "method": criterion.method,
        "partial": functools.partial(lambda model, batch, criterion: criterion(model, batch), criterion=criterion),
        "closure": lambda model, batch: criterion(model, batch),
        "global": by_a_global_name,
        "object": balance,
    }[kind]
    model, before = network(), state_of(criterion)
    probe(model, torch.optim.Adam(model.parameters()), make_batches(3), loss, check_rounding=False)
    assert state_of(criterion) == before
    assert balance.mean == 1 and balance.losses == []


class Counting(nn.Module):
    """Counts in its class, and uses a module that belongs to nobody."""

    calls, losses, table = 0, [], torch.zeros(2)

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        Counting.calls += 1
        self.losses.append(1)
        self.table[0] += 1
        return GLOBAL.norm(self.net(x))


def test_what_a_models_class_holds_is_left_as_found():
    model, before = Counting(), state_of(GLOBAL)
    probe(model, torch.optim.Adam(model.parameters()), make_batches(3), loss_fn, check_rounding=False)
    assert (Counting.calls, Counting.losses, Counting.table.tolist()) == (0, [], [0, 0])
    assert state_of(GLOBAL) == before


def test_modes():
    seen = []

    def loss(model, batch):
        seen.append([module.training for module in model])
        return loss_fn(model, batch)

    model = network().eval()
    optimizer = torch.optim.Adam(model.parameters())
    probe(model, optimizer, make_batches(2), loss, check_rounding=False)
    assert all(all(modes) for modes in seen)
    model.train()
    model[1].eval()
    seen.clear()
    probe(model, optimizer, make_batches(2), loss, check_rounding=False)
    assert seen == [[True, False, True, True, True]] * 2
    assert not model[1].training


def test_an_optimizer_under_observation_can_be_probed():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    called = []
    optimizer.register_step_pre_hook(lambda *_: called.append("pre"))
    with epsgrid.observe(optimizer, model=model) as observer:
        probe(model, optimizer, make_batches(2), loss_fn)
        probe(model, optimizer, make_batches(2), loss_fn)
    assert observer.step == 0 and not called


def test_no_grad_around_the_call_does_not_matter():
    model, batches = network(), make_batches()
    optimizer = torch.optim.Adam(model.parameters())
    with torch.no_grad():
        inside = run(model, optimizer, batches)
    with torch.inference_mode():
        assert inside == run(model, optimizer, batches)
    assert inside == run(model, optimizer, batches)


# Models and optimizers of many kinds


def test_a_loss_with_parameters_of_its_own():
    model, batches = network(), make_batches()
    temperature = nn.Parameter(torch.tensor(2.0))
    temperature.grad = gradient = torch.tensor(7.0)

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]) * temperature, batch[1])

    names = [*model.named_parameters(), ("loss.temperature", temperature)]
    optimizer = torch.optim.Adam([parameter for _, parameter in names])
    bounds = probe(model, optimizer, batches, loss, named_parameters=names)
    assert bounds.layers[-1].name == "loss.temperature"
    assert bounds.layers[-1].status is LayerStatus.MEASURED
    assert temperature.grad is gradient
    assert bounds.reliability.noise == {"0.bias": 1.0}
    with pytest.raises(ObservationError, match="not among the"):
        probe(model, optimizer, batches, loss)


def test_groups_with_other_betas_and_frozen_parts():
    model, batches = network(), make_batches()
    model[4].bias.requires_grad_(False)

    def build(parameters):
        first, second, third, fourth, fifth = [p for p in parameters if p.requires_grad]
        return torch.optim.Adam(
            [{"params": [first, second], "betas": (0.9, 0.5)}, {"params": [third, fourth, fifth], "weight_decay": 0.1}]
        )

    bounds = run(model, build(model.parameters()), batches)
    assert ends(bounds) == plain_probe(model, build, batches)
    assert [layer.name for layer in bounds.skipped] == ["4.bias"]


def test_compiled_models():
    model, batches, build = network(), make_batches(), OPTIMIZERS["adam"]
    compiled = torch.compile(model, backend="eager")
    bounds = run(compiled, build(compiled.parameters()), batches)
    assert ends(bounds) == plain_probe(model, build, batches)
    assert bounds.reliability.noise == {"0.bias": 1.0}
    assert [layer.name for layer in bounds.layers] == [name for name, _ in model.named_parameters()]


# Bad input


def clamps(model, batch):
    with torch.no_grad():
        model[4].weight.clamp_(max=0.1)
    return loss_fn(model, batch)


def whole_step(optimizer):
    def step(model, batch):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
        return loss_fn(model, batch)

    return step


USE_THE_COPY = r"compute it with the model that loss_fn\(model, batch\) is called with"


@pytest.mark.parametrize(
    ("loss_for", "message"),
    [
        (lambda m, o: clamps, r"loss_fn has moved the weights of '4\.weight'"),
        (lambda m, o: lambda c, b: loss_fn(c, b).item(), "must return the loss as a tensor, got float"),
        (lambda m, o: lambda c, b: c(b[0]), "must return a scalar, got shape 16×4"),
        (lambda m, o: lambda c, b: loss_fn(c, b).detach(), "the loss has no gradient"),
        (lambda m, o: lambda c, b: torch.zeros(()), "the loss has no gradient"),
        (lambda m, o: whole_step(o), r"loss_fn calls backward\(\): it must compute the loss and nothing else"),
        (lambda m, o: lambda _, b: loss_fn(m, b), USE_THE_COPY),
        (lambda m, o: lambda c, b: F.cross_entropy(m[:4](b[0]) @ c[4].weight.T, b[1]), USE_THE_COPY),
        (lambda m, o: lambda _, b: m[4].weight.detach().sum() + torch.zeros(1, requires_grad=True).sum(), USE_THE_COPY),
    ],
)
def test_a_loss_that_is_none_is_refused_before_it_does_harm(loss_for, message):
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    before = found(model, optimizer)
    with pytest.raises(ObservationError, match=message):
        probe(model, optimizer, make_batches(), loss_for(model, optimizer))
    assert {**found(model, optimizer), "random": None} == {**before, "random": None}
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_losses_that_are_not_finite():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    refused = pytest.raises(NoBoundsError, match="none of the 6 layers has finite")
    with pytest.warns(RuntimeWarning, match="264 NaN or infinite entries"), refused:
        probe(model, optimizer, make_batches(), lambda m, b: loss_fn(m, b) * math.nan)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": []}, "no batches: a probe needs at least one"),
        ({"epochs": 0}, "epochs must be a whole number, at least 1, got 0"),
        ({"accumulate": 1.5}, "accumulate must be"),
        ({"clip_norm": 0.0}, "clip_norm must be positive, got 0.0"),
        ({"tail_fraction": 0.5}, "tail_fraction must lie between 0 and 0.5, got 0.5"),
    ],
)
def test_arguments_out_of_range(options, message):
    model, others = network(), {"batches": make_batches(), **options}
    with pytest.raises(ObservationError, match=message):
        probe(model, torch.optim.Adam(model.parameters()), loss_fn=loss_fn, **others)


def test_sparse_gradients():
    model = nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Flatten(), nn.Linear(8, 4))
    batches = [(torch.randint(5, (3, 2)), torch.randint(4, (3,)))]
    with pytest.raises(ObservationError, match=r"layer '0\.weight' has a sparse gradient"):
        probe(model, torch.optim.Adam(model.parameters()), batches, loss_fn, check_rounding=False)


def test_shards(monkeypatch):
    model = network()
    monkeypatch.setattr(stepping, "local", lambda tensor: tensor[:1])
    with pytest.raises(ObservationError, match=r"only a part of '0\.weight'.*gathered_bounds"):
        probe(model, torch.optim.Adam(model.parameters()), make_batches(), loss_fn)
