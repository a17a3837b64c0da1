"""A step that is counted the short way is counted as it would have been the long way, and only while it may be."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import epsgrid
from epsgrid.errors import ObservationError
from epsgrid.numerics import jit
from epsgrid.observing import adapters, watch
from epsgrid.observing.observer import Observer, observe
from epsgrid.observing.standing import Standing, _Read
from epsgrid.optimizers import SecondMoment
from tests.observing.samples import OPTIMIZERS, batches, mlp, train

COMPUTED = {"adamax", "rmsprop-centered"}
"""v is no tensor of these optimizers."""

AS_TENSORS = {"adam-tensors"}
"""The betas of these may change and stay the same objects."""


@pytest.fixture(autouse=True)
def compiled() -> None:
    """Only what compiled code counts is counted the short way."""
    assert jit.compiled()


def observed(
    build: Callable[[Any], torch.optim.Optimizer], steps: int = 2, every: int = 1
) -> tuple[Any, Any, Observer]:
    model = mlp()
    optimizer = build(model.parameters())
    observer = observe(optimizer, model=model, every=every)
    train(model, optimizer, steps)
    return model, optimizer, observer


def standing(observer: Observer) -> Standing:
    found = observer._watch._standing
    assert found is not None
    return found


def both_ways(scenario: Callable[[], Observer], monkeypatch: pytest.MonkeyPatch) -> tuple[Observer, Observer]:
    """Run the same training twice: counted the short way where possible, and the long way."""
    short = scenario()
    monkeypatch.setattr(watch, "standing_of", lambda *_: None)
    return short, scenario()


def assert_the_same(short: Observer, long: Observer) -> None:
    assert short.series().to_json() == long.series().to_json()
    assert (short.step, short.nonfinite) == (long.step, long.nonfinite)
    assert dict(short.histograms()) == dict(long.histograms())
    assert short.series().bounds_over_time() == long.series().bounds_over_time()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_short_way_and_the_long_way_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = both_ways(lambda: observed(OPTIMIZERS[name], 21)[2], monkeypatch)
    assert long._watch._standing is None
    assert (short._watch._standing is None) == (name in COMPUTED | AS_TENSORS)
    assert_the_same(short, long)


@pytest.mark.parametrize("every", [1, 3])
def test_they_agree_when_rows_are_thinned(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario() -> Observer:
        weight = nn.Parameter(torch.ones(5))
        optimizer = torch.optim.Adam([weight])
        observer = observe(optimizer, [("weight", weight)], every=every)
        for step in range(1100 * every):
            weight.grad = torch.arange(1.0, 6) * 0.99**step
            optimizer.step()
        return observer

    short, long = both_ways(scenario, monkeypatch)
    assert standing(short).recount.waiting
    assert_the_same(short, long)


def eventful(every: int) -> Observer:
    """Train while everything changes that may, at steps that are observed and steps that are not."""
    model = mlp()
    optimizer = torch.optim.AdamW([{"params": list(model[0].parameters())}, {"params": list(model[4].parameters())}])
    observer = observe(optimizer, model=model, every=every)
    kept: dict[str, Any] = {}

    def poison() -> None:
        optimizer.state[model[4].bias]["exp_avg_sq"][1] = torch.nan

    def group(number: int, **options: Any) -> Callable[[], object]:
        return lambda: optimizer.param_groups[number].update(options)

    events: list[Callable[[], object]] = [
        group(0, lr=0.3),
        group(1, eps=1e-3),
        group(0, betas=(0.5, 0.9)),
        group(1, betas=(0.2, 0.999)),
        lambda: kept.update(copy.deepcopy(optimizer.state_dict())),
        lambda: model[0].requires_grad_(False),
        lambda: observer.series(),
        lambda: model[0].requires_grad_(True),
        lambda: optimizer.load_state_dict(kept),
        lambda: observer.histograms(),
        lambda: optimizer.add_param_group({"params": list(model[2].parameters()), "betas": (0.9, 0.5)}),
        lambda: setattr(observer, "step", observer.step - 5),
        lambda: optimizer.state.pop(model[0].weight),
        lambda: optimizer.state[model[4].weight].update(exp_avg_sq=torch.ones_like(model[4].weight)),
        lambda: optimizer.state[model[4].weight]["step"].fill_(3),
        group(1, foreach=True),
        poison,
    ]
    for number, event in enumerate(events):
        train(model, optimizer, 7, start=10 * number)
        event()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(model, optimizer, 9)
    return observer


@pytest.mark.parametrize("every", [1, 2, 5])
def test_they_agree_whatever_happens_between_the_steps(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = both_ways(lambda: eventful(every), monkeypatch)
    assert standing(short) and long._watch._standing is None
    assert short.nonfinite > 0
    assert_the_same(short, long)


@pytest.mark.parametrize("name", ["adam", "adam-fused"])
def test_they_agree_where_a_scaler_skips_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario() -> Observer:
        model = mlp()
        optimizer = OPTIMIZERS[name](model.parameters())
        observer = observe(optimizer, model=model, every=2)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for number, batch in enumerate(batches(20)):
            optimizer.zero_grad()
            scaler.scale(model(batch).square().mean()).backward()
            if number % 5 == 3:
                model[0].weight.grad[0, 0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
        return observer

    short, long = both_ways(scenario, monkeypatch)
    assert standing(short) and short.step == 16
    assert_the_same(short, long)


def test_what_waits_was_observed_before_a_step_was_skipped_on_a_device() -> None:
    class OnDevice(torch.Tensor):
        is_cpu = False

    model, optimizer, observer = observed(OPTIMIZERS["adam"], 4, every=2)
    train(model, optimizer, 2)
    assert standing(observer).recount.waiting
    optimizer.found_inf = torch.tensor([1.0]).as_subclass(OnDevice)
    observer.after_step()
    del optimizer.found_inf
    assert observer.series().steps == (2, 4, 6)


def test_nothing_but_the_count_is_done_in_a_step_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """No adapter is asked, and what is kept waits to be kept with more."""
    model, optimizer, observer = observed(OPTIMIZERS["adam"])
    monkeypatch.setattr(observer._watch, "_observe", None)
    monkeypatch.setattr(observer._roster, "refresh", None)
    train(model, optimizer, 6)
    assert standing(observer).recount.waiting == 7
    assert observer._watch.latest is not None and observer._watch.latest[0].steps_taken == (8.0,) * 6
    assert standing(observer).recount.waiting == 0
    train(model, optimizer, 1)  # the ninth, whose histograms are kept
    assert standing(observer).recount.waiting == 0


def test_learning_rates_and_first_betas_may_change_at_every_step() -> None:
    model, optimizer, observer = observed(OPTIMIZERS["adam"])
    found, group = standing(observer), optimizer.param_groups[0]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)
    train(model, optimizer, 1)
    found = standing(observer)  # the schedule has added options of its own
    for _ in range(3):
        betas = group["betas"]
        schedule.step()
        assert group["betas"] is not betas
        train(model, optimizer, 1)
        assert standing(observer) is found


def test_nothing_of_the_state_is_held_once_closed() -> None:
    _, _, observer = observed(OPTIMIZERS["adam"], 5)
    observer.close()
    assert observer._watch._standing is None
    assert observer.series().steps == (1, 2, 3, 4, 5)


def test_a_negative_entry_that_appears_later_is_told_by_name() -> None:
    model, optimizer, observer = observed(OPTIMIZERS["adam-loop"], 4)
    for parameter in model.parameters():
        parameter.grad = None
    optimizer.state[model[2].weight]["exp_avg_sq"][3] = -1.0
    with pytest.raises(ObservationError, match=r"layer '2\.weight': .* yet it has the negative entry -1; check which"):
        optimizer.step()
    optimizer.state[model[2].weight]["exp_avg_sq"][3] = 1.0
    assert observer.series().steps == (1, 2, 3, 4)


# Every condition


Change = Callable[[nn.Sequential, torch.optim.Optimizer], object]


def entry(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return optimizer.state[model[0].weight]


def listed(optimizer: torch.optim.Optimizer) -> list[Any]:
    return optimizer.param_groups[0]["params"]  # type: ignore[no-any-return]


def replaced_group(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0] = dict(optimizer.param_groups[0])


def replaced_option(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    group = optimizer.param_groups[0]
    del group["maximize"]
    group["another"] = False


def another_key(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    """The same entries, the first of them for another parameter."""
    first, *others = optimizer.state.items()
    optimizer.state = {nn.Parameter(torch.ones(1)): first[1], **dict(others)}  # type: ignore[assignment]


CHANGES: dict[str, Change] = {
    "a group more": lambda model, optimizer: optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]}),
    "a group replaced": replaced_group,
    "an option more": lambda model, optimizer: optimizer.param_groups[0].update(another=1),
    "an option replaced": replaced_option,
    "another epsilon": lambda model, optimizer: optimizer.param_groups[0].update(eps=1e-3),
    "another second beta": lambda model, optimizer: optimizer.param_groups[0].update(betas=(0.9, 0.5)),
    "amsgrad": lambda model, optimizer: optimizer.param_groups[0].update(amsgrad=True),
    "a parameter more": lambda model, optimizer: listed(optimizer).append(nn.Parameter(torch.ones(1))),
    "another parameter": lambda model, optimizer: listed(optimizer).__setitem__(1, nn.Parameter(torch.ones(40))),
    "a parameter frozen": lambda model, optimizer: model[0].weight.requires_grad_(False),
    "a frozen parameter trained": lambda model, optimizer: model[4].bias.requires_grad_(True),
    "an entry less": lambda model, optimizer: optimizer.state.pop(model[0].weight),
    "an entry more": lambda model, optimizer: optimizer.state[model[4].bias],
    "an entry of another parameter": another_key,
    "an entry replaced": lambda model, optimizer: optimizer.state.update(
        {model[0].weight: dict(entry(model, optimizer))}
    ),
    "v replaced": lambda model, optimizer: entry(model, optimizer).update(
        exp_avg_sq=entry(model, optimizer)["exp_avg_sq"].clone()
    ),
    "v gone": lambda model, optimizer: entry(model, optimizer).pop("exp_avg_sq"),
    "step replaced": lambda model, optimizer: entry(model, optimizer).update(
        step=entry(model, optimizer)["step"].clone()
    ),
    "v in other memory": lambda model, optimizer: setattr(
        entry(model, optimizer)["exp_avg_sq"], "data", entry(model, optimizer)["exp_avg_sq"].clone()
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_a_change_it_is_the_long_way(change: Change) -> None:
    model = mlp()
    model[4].bias.requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters())
    observer = observe(optimizer, model=model)
    train(model, optimizer, 2)
    found = standing(observer)
    assert found.holds()
    change(model, optimizer)
    assert not found.holds()


# Where it is always the long way


def test_a_second_moment_that_is_computed_may_be_another_at_every_step() -> None:
    for name in COMPUTED:
        assert observed(OPTIMIZERS[name])[2]._watch._standing is None


def test_options_that_change_and_stay_the_same_object_are_read_anew() -> None:
    beta2 = torch.tensor(0.99)
    model = mlp()
    optimizer = torch.optim.Adam(
        model.parameters(), lr=torch.tensor(0.1), betas=(torch.tensor(0.9), beta2), foreach=False
    )
    observer = observe(optimizer, model=model)
    train(model, optimizer, 1)
    beta2.fill_(0.5)
    train(model, optimizer, 1)
    scales = [snapshot.layers[0].scale for snapshot in observer.series().snapshots if snapshot.layers[0]]
    assert scales == pytest.approx([100, 1 / (1 - 0.5**2)], rel=1e-5)


def test_a_parameter_whose_state_waits_for_its_first_gradient_is_looked_at_again() -> None:
    """Adagrad makes its state at once; the second moment is there after the first step."""
    model = nn.ModuleList([nn.Linear(6, 2), nn.Linear(6, 2)])
    optimizer = torch.optim.Adagrad(model.parameters())
    observer = observe(optimizer, model=model)
    for step in range(6):
        optimizer.zero_grad()
        model[step // 3](batches(1)[0]).square().mean().backward()
        optimizer.step()
    there = [[layer is not None for layer in snapshot.layers] for snapshot in observer.series().snapshots]
    assert there == [[True, True, False, False]] * 3 + [[True] * 4] * 3
    assert standing(observer)


def test_a_registered_second_moment_is_asked_for_at_every_step_unless_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "_ADAPTERS", dict(adapters._ADAPTERS))
    asked = []

    class Sub(torch.optim.Adam):
        pass

    def second_moment(state: Any, group: Any) -> SecondMoment | None:
        asked.append(1)
        return SecondMoment(state["exp_avg_sq"], group["betas"][1], state["step"], lasting) if state else None

    epsgrid.register_optimizer(Sub, second_moment)
    for lasting, times in ((False, 5 * 6), (True, 6)):  # noqa: B007 - read by the function
        asked.clear()
        _, _, observer = observed(Sub, 5)
        assert len(asked) == times
        assert len(observer.series().steps) == 5


@pytest.mark.parametrize(
    "step", [torch.tensor(1.0), torch.tensor([1.0, 2.0]), torch.tensor(1, dtype=torch.int32), torch.tensor(1.0).half()]
)
def test_steps_that_cannot_be_read_where_they_lie_are_read_the_long_way(step: torch.Tensor) -> None:
    state = {"v": torch.ones(3), "step": step}
    alright = step.numel() == 1 and step.dtype is torch.float32
    assert (_Read.of(state, SecondMoment(state["v"], 0.9, step, lasting=True)) is not None) == alright
    assert _Read.of(state, SecondMoment(state["v"], 0.9, step.clone(), lasting=True)) is None
    assert _Read.of(state, SecondMoment(state["v"], 0.9, 1.0, lasting=True)) is None
    assert _Read.of(state, SecondMoment(state["v"].clone(), 0.0, 1.0, lasting=True)) is None
    assert _Read.of(state, SecondMoment(state["v"], 0.0, 1.0, lasting=False)) is None
    assert _Read.of(state, SecondMoment(state["v"], 0.0, 1.0, lasting=True)) is not None
