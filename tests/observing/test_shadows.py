"""Shadows have the state that an optimizer with their betas would have, and training does not notice them."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from epsgrid.errors import NoBoundsError, ObservationError
from epsgrid.numerics.variants import Variant
from epsgrid.observing import adapters
from epsgrid.observing.shadows import Shadows
from epsgrid.observing.understudy import StandIns, Understudy, label
from epsgrid.optimizers import SecondMoment
from epsgrid.optimizers._in_place import EpsilonInPlace


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 4))


def batches(count=8):
    torch.manual_seed(1)
    return [(torch.randn(16, 6), torch.randint(4, (16,))) for _ in range(count)]


def train(model, optimizer, count=8, after=lambda step: None):
    for step, (x, y) in enumerate(batches(count)):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        after(step)


def in_place(parameters, **options):
    return EpsilonInPlace(
        parameters,
        **{"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, **options},
        decoupled_weight_decay=False,
        squared="residual",
        outside=True,
    )


PAIRS = {
    "adam": torch.optim.Adam,
    "adam with decay": lambda p, **o: torch.optim.Adam(p, weight_decay=0.1, **o),
    "amsgrad": lambda p, **o: torch.optim.Adam(p, amsgrad=True, **o),
    "fused": lambda p, **o: torch.optim.Adam(p, fused=True, weight_decay=0.1, **o),
    "foreach": lambda p, **o: torch.optim.Adam(p, foreach=True, **o),
    "rate in a tensor": lambda p, **o: torch.optim.Adam(p, lr=torch.tensor(1e-3), **o),
    "adamw": torch.optim.AdamW,
    "adamax": lambda p, **o: torch.optim.Adamax(p, eps=2.0**-126, **o),  # with another it takes ε out of u
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adabelief": in_place,
}


class Recorder:
    """Replays gradients and weights of a training to an optimizer of its own, which does not move the weights."""

    def __init__(self, model, optimizer, build):
        self.copy = copy.deepcopy(model)
        self.replayed = build(self.copy.parameters())
        for group in self.replayed.param_groups:
            group["lr"] = 0.0
        self.model = model
        optimizer.register_step_pre_hook(self.replay)

    @torch.no_grad()
    def replay(self, *_):
        for own, other in zip(self.copy.parameters(), self.model.parameters(), strict=True):
            own.copy_(other)
            own.grad = other.grad.clone()
        self.replayed.step()

    def bounds(self, adapter, tail=0.02):
        """Sort √v̂ of every layer."""
        lows, highs = [], []
        for group in self.replayed.param_groups:
            for parameter in group["params"]:
                moment = adapter.second_moment(self.replayed.state[parameter], group)
                values = np.sort(moment.values.double().numpy().ravel())
                values = np.sqrt(values[values > 0] * moment.scale)
                lows.append(values[int(tail * len(values))])
                highs.append(values[min(int((1 - tail) * len(values)), len(values) - 1)])
        return min(lows), max(highs)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("betas", [0.9, (0.5, 0.99)])
def test_bounds_are_those_of_an_optimizer_with_such_betas(name, betas):
    build = PAIRS[name]
    model = network()
    optimizer = build(model.parameters())
    pair = betas if isinstance(betas, tuple) else (0.9, betas)
    recorder = Recorder(model, optimizer, lambda p: build(p, betas=pair))
    with Shadows(optimizer, [betas], model=model) as shadows:
        train(model, optimizer)
    (bounds,) = shadows.bounds()
    low, high = recorder.bounds(adapters.adapter_for(optimizer))
    assert (bounds.low.magnitude, bounds.high.magnitude) == (low, high)
    placement = adapters.adapter_for(optimizer).placement(recorder.replayed.param_groups[0], 8)
    assert bounds.high.epsilon == pytest.approx(placement.epsilon_from_magnitude(high))


@pytest.mark.parametrize(
    ("build", "key", "label_"),
    [
        (lambda p, **o: torch.optim.RMSprop(p, centered=True, **o), "alpha", "β₂ = 0.8"),
        (lambda p, **o: torch.optim.Adadelta(p, weight_decay=0.1, **o), "rho", "β₂ = 0.8"),
    ],
)
def test_alpha_and_rho_are_beta2(build, key, label_):
    model = network()
    optimizer = build(model.parameters())
    recorder = Recorder(model, optimizer, lambda p: build(p, **{key: 0.8}))
    with Shadows(optimizer, [0.8], model=model) as shadows:
        train(model, optimizer)
    (variant,) = shadows.variants()
    assert isinstance(variant, Variant)
    assert (variant.kind, variant.label) == ("betas", label_)
    assert (variant.low.magnitude, variant.high.magnitude) == recorder.bounds(adapters.adapter_for(optimizer))
    with pytest.raises(ObservationError, match=f"has no β₁, only {key}; give β₂ alone, as 0.99"):
        Shadows(optimizer, [(0.9, 0.99)], model=model)


def test_statistics_name_layers_and_kinds():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    shadows = Shadows(optimizer, [0.9, 0.99], model=model)
    train(model, optimizer, 2)
    both = shadows.statistics()
    assert len(both) == 2
    assert [(layer.name, layer.kind) for layer in both[0]] == [
        ("0.weight", "dense"),
        ("0.bias", "bias"),
        ("2.weight", "dense"),
        ("2.bias", "bias"),
    ]
    assert both[0] != both[1]


@pytest.mark.parametrize("eps", [1e-8, 0.0])
def test_training_is_the_same_bit_for_bit(eps):
    def run(shadowed):
        model = network()
        with torch.no_grad():
            model[0].weight[0, 0] = -0.0
        optimizer = torch.optim.Adam(model.parameters(), weight_decay=1e-2, eps=eps)
        if shadowed:
            Shadows(optimizer, [0.9, (0.1, 0.5)], model=model)
        train(model, optimizer)
        return model, optimizer

    (model, optimizer), (other, other_optimizer) = run(False), run(True)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
        assert b.grad is not None
        for key, value in optimizer.state[a].items():
            assert torch.equal(value, other_optimizer.state[b][key])
    assert optimizer.param_groups[0]["betas"] == other_optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_gradients_may_come_from_a_closure():
    def run(step):
        model = network()
        optimizer = torch.optim.Adam(model.parameters())
        shadows = Shadows(optimizer, [0.9], model=model)
        for x, y in batches():

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                return loss

            step(optimizer, closure)
        return shadows.bounds()

    def before(optimizer, closure):
        closure()
        optimizer.step()

    as_argument = run(lambda optimizer, closure: optimizer.step(closure))
    as_keyword = run(lambda optimizer, closure: optimizer.step(closure=closure))
    assert run(before) == as_argument == as_keyword


def test_clipped_gradients_are_what_they_see():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    with Shadows(optimizer, [0.999], model=model) as shadows:
        for x, y in batches(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
    (layers,) = shadows.statistics()
    assert max(layer.high for layer in layers) < 1e-3


@pytest.mark.parametrize("fused", [False, True])
def test_gradient_scalers_scale_is_taken_out_and_skipped_steps_are_skipped(fused):
    def run(scale):
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), fused=fused)
        shadows = Shadows(optimizer, [0.9], model=model)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, enabled=scale)
        for step, (x, y) in enumerate(batches()):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            if step == 3:
                if not scale:
                    continue
                model[0].bias.grad[0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
        return shadows.bounds()[0], [p.detach().clone() for p in model.parameters()]

    (scaled, weights), (plain, others) = run(True), run(False)
    assert scaled.low == plain.low
    assert scaled.high == plain.high
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_groups_that_are_added_and_decay_that_changes_are_followed():
    def build(p, **o):
        return torch.optim.Adam(p, **o)

    model = network()
    optimizer = build(model[0].parameters())
    shadows = Shadows(optimizer, [0.9], model=model)
    optimizer.add_param_group({"params": list(model[2].parameters()), "weight_decay": 0.5})
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.25
    recorder = Recorder(model, optimizer, lambda p: build(p, betas=(0.9, 0.9), weight_decay=0.25))
    train(model, optimizer)
    assert len(shadows._understudies[0].optimizer.param_groups) == 2
    moments = shadows._understudies[0].optimizer.state
    for own, other in zip(model.parameters(), recorder.copy.parameters(), strict=True):
        copied = shadows._stand_ins[own]
        assert torch.equal(moments[copied]["exp_avg_sq"], recorder.replayed.state[other]["exp_avg_sq"])


def test_a_loaded_state_does_not_confuse_them():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    shadows = Shadows(optimizer, [0.9], model=model)
    train(model, optimizer, 3)
    optimizer.load_state_dict(optimizer.state_dict())
    train(model, optimizer, 3)
    assert shadows.bounds()[0].low.magnitude > 0


def test_schedules_and_hooks_are_left_alone():
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    called = []
    optimizer.register_step_post_hook(lambda *_: called.append("post"))
    shadows = Shadows(optimizer, [0.9], model=model)
    train(model, optimizer, 3, after=lambda step: schedule.step())
    assert called == ["post"] * 3
    assert optimizer.param_groups[0]["lr"] == pytest.approx(5e-4)
    assert shadows._understudies[0].optimizer.param_groups[0]["lr"] == 0


def test_frozen_parameters_are_listed():
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    with Shadows(optimizer, [0.9], model=model) as shadows:
        train(model, optimizer, 2)
    assert [layer.name for layer in shadows.bounds()[0].skipped] == ["0.weight", "0.bias"]


def test_bounds_before_a_step():
    model = network()
    shadows = Shadows(torch.optim.Adam(model.parameters()), [0.9], model=model)
    with pytest.raises(NoBoundsError, match="none of the 4 layers"):
        shadows.bounds()


def test_closing():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    shadows = Shadows(optimizer, [0.9], model=model)
    train(model, optimizer, 2)
    before = shadows.bounds()
    shadows.close()
    train(model, optimizer, 2)
    assert shadows.bounds() == before
    with pytest.raises(ObservationError, match="closed already"):
        shadows.close()


@pytest.mark.parametrize("beta", [1.0, -0.1, math.nan])
def test_betas_out_of_range(beta):
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(ObservationError, match=r"must lie in \[0, 1\)"):
        Shadows(optimizer, [beta], model=model)
    with pytest.raises(ObservationError, match=r"must lie in \[0, 1\)"):
        Shadows(optimizer, [(beta, 0.9)], model=model)


def test_adagrad_has_no_decay():
    model = network()
    with pytest.raises(ObservationError, match="Adagrad has no decay that could be another"):
        Shadows(torch.optim.Adagrad(model.parameters()), [0.9], model=model)


def test_labels():
    assert label(0.99) == "β₂ = 0.99"
    assert label((0.8, 0.9999)) == "β₁ = 0.8, β₂ = 0.9999"


class Eager(torch.optim.Optimizer):
    """Builds its state in the constructor, ignores its learning rate, and keeps things in odd places."""

    def __init__(self, parameters, betas=(0.9, 0.99)):
        super().__init__(parameters, {"betas": betas})
        self.counts, self.history = {"steps": 0}, []
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = {"step": 0, "v": torch.full_like(parameter, 1e-3)}

    @torch.no_grad()
    def step(self):
        self.counts["steps"] += 1
        self.history.append(self.counts["steps"])
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] += 1
                state["v"].lerp_(parameter.grad.square(), 1 - group["betas"][1])
                parameter -= 0.1 * parameter.grad / state["v"].sqrt()


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(adapters, "_ADAPTERS", dict(adapters._ADAPTERS))
    adapters.register(Eager, lambda state, group: SecondMoment(state["v"]) if state.get("step") else None)
    return Eager


def test_an_optimizer_of_another_kind(eager):
    model = network()
    optimizer = eager(model.parameters())
    recorder = Recorder(model, optimizer, lambda p: eager(p, betas=(0.9, 0.5)))
    shadows = Shadows(optimizer, [0.5], model=model)
    train(model, optimizer)
    (bounds,) = shadows.bounds()
    assert (bounds.low.magnitude, bounds.high.magnitude) == recorder.bounds(adapters.adapter_for(optimizer))
    assert optimizer.counts == {"steps": 8}
    assert optimizer.history == list(range(1, 9))


def test_adagrads_first_state_is_built_anew():
    model = network()
    optimizer = torch.optim.Adagrad(model.parameters(), initial_accumulator_value=0.5)
    train(model, optimizer, 3)
    stand_ins = StandIns(optimizer)
    understudy = Understudy(optimizer, stand_ins)
    state = understudy.optimizer.state[stand_ins[model[0].weight]]
    assert state["step"].item() == 0
    assert torch.equal(state["sum"], torch.full((20, 6), 0.5))
    assert optimizer.state[model[0].weight]["step"].item() == 3


def test_stand_ins_tell_which_parameter_moved():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    stand_ins = StandIns(optimizer)
    assert stand_ins.moved() is None
    with torch.no_grad():
        model[2].bias += 1
    assert stand_ins.moved() is model[2].bias
    stand_ins.refresh()
    assert stand_ins.moved() is None


def test_stand_ins_are_like_the_parameters():
    parameter = nn.Parameter(torch.randn(3, 4).t())
    parameter.marked = "for an optimizer"
    plain = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([parameter, plain])
    stand_ins = StandIns(optimizer)
    assert isinstance(stand_ins[parameter], nn.Parameter)
    assert stand_ins[parameter].stride() == parameter.stride()
    assert stand_ins[parameter].marked == "for an optimizer"
    assert not isinstance(stand_ins[plain], nn.Parameter)
    assert stand_ins[plain].requires_grad
