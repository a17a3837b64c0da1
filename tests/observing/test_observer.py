"""Observing a training: it changes nothing, sees every step once, and says what numpy says."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import epsgrid
from epsgrid.errors import ObservationError
from epsgrid.numerics import counting
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.series import FRACTIONS
from epsgrid.observing.observer import Observer, observe
from epsgrid.observing.reading import measure_reading, read
from epsgrid.optimizers import SecondMoment
from tests.numerics.reference import published_bounds
from tests.observing.samples import OPTIMIZERS, batches, mlp, squares, train


def observed(steps: int = 0, name: Any = "adam", **keywords: Any) -> tuple[nn.Module, Any, Observer]:
    """Observe some steps of an optimizer, named or given as what builds it."""
    model = mlp()
    optimizer = OPTIMIZERS.get(name, name)(model.parameters())
    observer = observe(optimizer, model=model, **keywords)
    train(model, optimizer, steps)
    return model, optimizer, observer


def v_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """v̂ of every layer, in float64."""
    return {name: math.prod(squares(optimizer, each)) for name, each in model.named_parameters()}  # type: ignore[misc]


def statuses(observer: Observer) -> dict[str, LayerStatus]:
    """The status of each layer, also where none sets a bound."""
    readings = read(observer.optimizer, observer.layers, observer.adapter)
    return {reading.layer.name: measure_reading(reading, 0.02).status for reading in readings}


def steps(observer: Observer) -> tuple[int, ...]:
    return observer.series().steps


# It changes nothing


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_bit_identical_with_and_without_an_observer(name: str) -> None:
    """Weights, the optimizer's state and the global generator, which dropout draws from."""
    found = []
    for watched in (False, True):
        model = mlp()
        optimizer = OPTIMIZERS[name](model.parameters())
        observer = observe(optimizer, model=model) if watched else None
        train(model, optimizer, 20)
        if observer is not None:
            assert observer.step == 20
            observer.bounds(), observer.histograms(), observer.adaptable_fraction(), observer.snapshot()
            train(model, optimizer, 3, start=20)
            observer.close()
        else:
            train(model, optimizer, 3, start=20)
        state = [optimizer.state[parameter] for parameter in model.parameters()]
        found.append([list(model.parameters()), state, torch.get_rng_state()])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_an_observer_hooks_the_end_of_step_and_nothing_else_until_it_is_closed() -> None:
    model, optimizer, observer = observed()
    assert len(optimizer._optimizer_step_post_hooks) == 1
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_state_dict_pre_hooks
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert all(parameter._backward_hooks is None for parameter in model.parameters())
    with pytest.raises(ObservationError, match=r"this Adam is being observed already; use that observer, or close\(\)"):
        observe(optimizer, model=model)
    observer.close()
    assert not optimizer._optimizer_step_post_hooks
    again = observe(optimizer, model=model)
    observer.close()  # of no effect on the other
    train(model, optimizer, 1)
    assert (observer.step, again.step) == (0, 1)


def test_optimizer_and_observer_are_freed_with_the_training() -> None:
    model, optimizer, observer = observed(2)
    gone = weakref.ref(optimizer), weakref.ref(observer)
    del model, optimizer, observer
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


# It says what numpy says


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bounds_are_those_of_a_sort_also_after_closing(name: str) -> None:
    model, optimizer, observer = observed(8, name)
    layers = [squares(optimizer, parameter) for parameter in model.parameters()]
    low, high = published_bounds([v for v, _ in layers], layers[0][1])
    bounds = observer.bounds()
    tolerance = 1e-3 if name == "rmsprop-centered" else 1e-15  # of a difference of squares, see samples.squares
    assert bounds.low.magnitude == pytest.approx(low, rel=tolerance)
    assert bounds.high.magnitude == pytest.approx(high, rel=tolerance)
    placement = observer.adapter.placement(optimizer.param_groups[0], 8)
    assert bounds.low.epsilon == placement.epsilon_from_magnitude(bounds.low.magnitude)
    observer.close()
    train(model, optimizer, 1, start=8)
    assert observer.bounds() != bounds
    assert observer.step == 8


@pytest.mark.parametrize(("trained", "counted"), [(8, 6), (2, 2)])
def test_histograms_are_those_of_the_latest_observed_step_or_of_the_present_state(trained: int, counted: int) -> None:
    model, optimizer, observer = observed(counted, every=3)
    expected = {
        name: counting.count(optimizer.state[parameter]["exp_avg_sq"], 1 / (1 - 0.99**counted))
        for name, parameter in model.named_parameters()
    }
    train(model, optimizer, trained - counted, start=counted)
    histograms = observer.histograms()
    assert histograms == expected and list(histograms) == list(expected)


def test_the_series_has_the_percentiles_of_every_observed_step() -> None:
    model, optimizer, observer = observed(name="radam", every=2)
    expected = []
    for step in range(1, 9):
        train(model, optimizer, 1, start=step)
        expected.append(v_of(model, optimizer))
    series = observer.series()
    assert series.names == tuple(name for name, _ in model.named_parameters())
    assert series.kinds == ("dense", "bias", "normalisation", "normalisation", "dense", "bias")
    assert series.entries == tuple(parameter.numel() for parameter in model.parameters())
    assert series.steps == (2, 4, 6, 8)
    assert series.fractions == FRACTIONS
    for snapshot in series.snapshots:
        for layer, v in zip(snapshot.layers, expected[snapshot.step - 1].values(), strict=True):
            ordered = np.sort(np.sqrt(v[v > 0]), axis=None)
            picked = [ordered[min(int(fraction * len(ordered)), len(ordered) - 1)] for fraction in FRACTIONS]
            assert layer is not None
            np.testing.assert_allclose(layer.quantiles, picked, rtol=1 / 128)
            assert (layer.zeros, layer.nonzero, layer.nonfinite) == (v.size - len(ordered), len(ordered), 0)
        assert snapshot.threshold == pytest.approx(1e-8 / math.sqrt(1 - 0.99**snapshot.step))


def test_a_threshold_is_that_of_the_epsilon_of_its_time() -> None:
    model, optimizer, observer = observed(1)
    for group in optimizer.param_groups:
        group["eps"] = 1e-4
    train(model, optimizer, 1)
    assert [snapshot.threshold for snapshot in observer.series().snapshots] == [1e-8, 1e-4]
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "eps": 1e-3})
    optimizer.param_groups[1]["params"][0].grad = torch.ones(2)
    optimizer.step()
    assert [snapshot.threshold for snapshot in observer.series().snapshots] == [1e-8, 1e-4, None]
    assert observer.snapshot().threshold is None


def test_a_snapshot_counts_now_and_is_not_kept() -> None:
    model, optimizer, observer = observed(5, every=None)
    snapshot = observer.snapshot(epoch=0.5)
    assert (snapshot.step, snapshot.epoch, snapshot.threshold) == (5, 0.5, 1e-8)
    for layer, parameter in zip(snapshot.layers, model.parameters(), strict=True):
        fine = counting.count(optimizer.state[parameter]["exp_avg_sq"], 1 / (1 - 0.99**5.0))
        assert layer is not None and layer.histogram == fine.fold(1)
        assert layer.quantiles == tuple(fine.quantile(fraction) for fraction in FRACTIONS)
        assert layer.zeros == fine.zeros
    assert observer.series().snapshots == ()
    _, _, observer = observed(1)
    assert observer.series().snapshots == (observer.snapshot(),)


@pytest.mark.parametrize(("name", "epsilon"), [("adam", 1e-3), ("eadam", 1e-8), ("adadelta", 1e-6), ("adam", None)])
def test_the_adaptable_fraction_is_exact(name: str, epsilon: float | None) -> None:
    model, optimizer, observer = observed(8, name)
    placement = observer.adapter.placement(optimizer.param_groups[0], 8)
    magnitude = placement.magnitude_from_epsilon(1e-8 if epsilon is None else epsilon)
    above = {layer: np.sqrt(v) > magnitude for layer, v in v_of(model, optimizer).items()}
    found = observer.adaptable_fraction(epsilon)
    assert found.layers == {layer: np.count_nonzero(mask) / mask.size for layer, mask in above.items()}
    assert found.total == np.concatenate([mask.ravel() for mask in above.values()]).mean()


# It sees every step once, whatever happens between


class Own(torch.optim.Optimizer):
    """Adam's second moment alone; `keep` makes of it what is kept."""

    def __init__(
        self, params: Any, keep: Callable[[Any], Any] = lambda v: v, eps: Any = 1e-8, eager: bool = False
    ) -> None:
        super().__init__(params, {"eps": eps})
        self.keep = keep
        for parameter in self.param_groups[0]["params"] if eager else ():
            self.state[parameter].update(t=0, v=torch.zeros_like(parameter), kept=keep(torch.zeros_like(parameter)))

    def update(self, parameter: torch.Tensor, state: Any) -> None:
        state["t"] = state.get("t", 0) + 1
        state.setdefault("v", torch.zeros_like(parameter)).lerp_(parameter.grad.square(), 0.01)
        state["kept"] = self.keep(state["v"])

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, self.state[parameter])


def of_own(state: Any, group: Any) -> SecondMoment | None:
    return SecondMoment(state["kept"], 0.99, state["t"]) if state else None


class Super(torch.optim.Adam):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


@pytest.mark.parametrize("name", ["adam", "adam-fused", "adam-loop", "subclass"])
def test_a_step_that_the_grad_scaler_skips_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fused optimizer's step is called and skips by itself; another's is not called."""
    monkeypatch.setitem(OPTIMIZERS, "subclass", lambda parameters: Super(parameters, fused=True))
    model, optimizer, observer = observed(name=name)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for number, batch in enumerate(batches(6)):
        optimizer.zero_grad()
        scaler.scale(model(batch).square().mean()).backward()
        if number in (1, 4):
            model[0].weight.grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
    state = optimizer.state[model[0].weight]
    assert float(state["step"]) == 4
    assert observer.step == 4 and steps(observer) == (1, 2, 3, 4)
    beta2 = optimizer.param_groups[0]["betas"][1]
    expected = counting.count(state["exp_avg_sq"], 1 / (1 - beta2**4.0))
    assert observer.histograms()["0.weight"] == expected
    assert observer.nonfinite == 0


def test_a_first_step_that_is_skipped_leaves_nothing_to_look_at() -> None:
    """A scaler begins so high that the first steps overflow; a fused optimizer then has a state of no step."""
    model, optimizer, observer = observed(name="adam-fused")
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(batches(1)[0]).square().mean() * 1e38).backward()
    scaler.step(optimizer)
    assert float(optimizer.state[model[0].weight]["step"]) == 0
    assert observer.step == 0 and steps(observer) == ()
    with pytest.raises(ObservationError, match="is not built yet"):
        observer.histograms()
    assert set(statuses(observer).values()) == {LayerStatus.NO_GRADIENT}


def test_a_step_skipped_on_a_device_is_found_out_when_asked() -> None:
    """Whether a fused optimizer skipped lies on its device, so nobody looks while training goes on."""

    class OnDevice(torch.Tensor):
        is_cpu = False

    _, optimizer, observer = observed(1)
    for found_inf in (0.0, 1.0, 0.0, 1.0):
        optimizer.found_inf = torch.tensor([found_inf]).as_subclass(OnDevice)  # type: ignore[attr-defined]
        observer.after_step()
        del optimizer.found_inf
    assert observer.step == 3
    assert steps(observer) == (1, 2, 3)
    assert set(observer.histograms()) == {layer.name for layer in observer.layers}


class Nested(Own):
    """Keeps its numbers in lists in a dictionary, where a step changes nothing that lies flat."""

    def update(self, parameter: torch.Tensor, state: Any) -> None:
        inner = state.setdefault("inner", {"v": [torch.zeros_like(parameter)], "t": [0]})
        inner["t"][0] += 1
        inner["v"][0].lerp_(parameter.grad.square(), 0.01)


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        (torch.optim.Adam, {}),
        (torch.optim.Adam, {"fused": True}),
        (torch.optim.RMSprop, {"centered": True}),
        (Nested, {}),
    ],
)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_step_that_calls_that_of_its_base_is_one(
    registered: Any, base: Any, settings: Any, is_compiled: bool
) -> None:
    """torch runs the hooks for each of them; what they change, and when, does not matter."""
    registered(
        Nested,
        lambda state, group: SecondMoment(state["inner"]["v"][0], 0.99, state["inner"]["t"][0]) if state else None,
    )

    class Sub(base):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    class Averaging(Sub):
        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            for parameter in self.param_groups[0]["params"]:
                self.averages.setdefault(parameter, parameter.clone()).lerp_(parameter, 0.1)
            return result

        averages: dict[Any, Any] = {}  # noqa: RUF012

    for cls in (base, Sub):  # from now on their own steps run hooks
        cls([nn.Parameter(torch.ones(1))])
    model = mlp()
    optimizer = Averaging(model.parameters(), **settings)
    fired: list[int] = []
    optimizer.register_step_post_hook(lambda *_: fired.append(1))
    observer = observe(optimizer, model=model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about compiling
        step = torch.compile(optimizer.step, backend="eager") if is_compiled else optimizer.step
        for batch in batches(3):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            step()
    assert len(fired) == 9
    assert observer.step == 3 and steps(observer) == (1, 2, 3)


class Failing(torch.optim.AdamW):
    """Its step fails as often as asked, within that of its base or after it."""

    failures = 0

    def step(self, closure: Any = None) -> Any:
        if self.failures:
            self.failures -= 1
            super().step(closure)
            raise RuntimeError("out of luck")
        return super().step(closure)


@pytest.mark.parametrize("is_within", [False, True])
def test_a_step_that_raises_is_none_and_the_next_one_is_seen(is_within: bool) -> None:
    def fail() -> None:
        raise RuntimeError("out of luck")

    torch.optim.AdamW([nn.Parameter(torch.ones(1))])
    model, optimizer, observer = observed(0, Failing)
    optimizer.failures = 3
    for _ in range(3):
        model(batches(1)[0]).square().mean().backward()
        with pytest.raises(RuntimeError, match="out of luck"):
            optimizer.step(fail if is_within else None)
    train(model, optimizer, 2)
    assert observer.step == 2 and steps(observer) == (1, 2)


def test_what_a_closure_or_a_wrapper_does_makes_no_step_more() -> None:
    class Wrapper(torch.optim.Optimizer):
        def __init__(self, base: torch.optim.Optimizer) -> None:
            super().__init__(base.param_groups, base.defaults)
            self.base, self.param_groups, self.state = base, base.param_groups, base.state
            self._optimizer_step_post_hooks = base._optimizer_step_post_hooks

        def step(self, closure: Any = None) -> Any:
            return self.base.step(closure)

    model = mlp()
    inner = torch.optim.Adam(model.parameters())
    outer = Wrapper(inner)
    observer = observe(outer, model=model)
    assert observer.optimizer is inner
    train(model, outer, 2)

    def closure() -> torch.Tensor:
        inner.step()
        return torch.ones(())

    inner.step(closure)  # type: ignore[arg-type]
    assert observer.step == 3 and steps(observer) == (1, 2, 3)


@pytest.mark.parametrize("kind", [lambda: np.ones(3), lambda: {"a": [np.ones(2), "b"]}, lambda: torch.ones(2)])
def test_states_of_any_objects_are_compared_before_the_first_step(kind: Callable[[], Any]) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    with torch.inference_mode():
        optimizer.state[model[0].weight]["more"] = kind()
        observer = observe(optimizer, model=model)
        assert observer.step == 0
        optimizer.state[model[0].weight]["more"] = kind()
    with pytest.warns(RuntimeWarning, match="no step of this Adam is seen, though its state has changed"):
        assert observer.step == 0


def test_steps_that_run_no_hooks_are_told_and_a_loaded_state_is_none() -> None:
    model, optimizer, observer = observed()
    donor, other, _ = observed(2)
    optimizer.load_state_dict(other.state_dict())
    assert observer.step == 0
    assert set(observer.histograms()) == {name for name, _ in donor.named_parameters()}
    unhooked = torch.optim.Adam.step.__wrapped__  # type: ignore[attr-defined]
    optimizer.step = lambda closure=None: unhooked(optimizer, closure)  # type: ignore[method-assign]
    train(model, optimizer, 2)
    words = r"no step of this Adam is seen, though its state has changed.*call observer\.after_step\(\) after each"
    with pytest.warns(RuntimeWarning, match=words):
        observer.close()
    assert observer.step == 0  # without a second warning


def test_the_steps_of_an_optimizer_without_hooks_are_refused() -> None:
    class Uninitialised(torch.optim.Adam):
        def __init__(self, parameters: Any) -> None:
            self.param_groups, self.state = [{"params": list(parameters), "amsgrad": False}], {}  # type: ignore[assignment]

    class Overridden(torch.optim.Adam):
        def register_step_post_hook(self, hook: Any) -> Any:
            raise NotImplementedError

    model = mlp()
    with pytest.raises(
        ObservationError, match="the steps of this Uninitialised cannot be seen: its class does not call"
    ):
        observe(Uninitialised(model.parameters()), model=model)
    optimizer = Overridden(model.parameters())
    observer = observe(optimizer, model=model)
    train(model, optimizer, 2)
    assert observer.step == 2


class Whole(torch.optim.Adam):
    """Is pickled with all it has, hooks included."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__


def test_copies_of_an_observed_optimizer_are_not_observed() -> None:
    _model, optimizer, observer = observed(1, Whole)
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):  # noqa: S301
        copied.step()
    assert observer.step == 1


def test_a_step_that_no_hook_sees_is_counted_by_hand_and_one_only_recorded_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As steps in a CUDA graph are, in its replay and while it is captured."""
    model, optimizer, observer = observed()
    unhooked = torch.optim.Adam.step.__wrapped__  # type: ignore[attr-defined]
    for _ in range(2):
        model(batches(1)[0]).square().mean().backward()
        unhooked(optimizer)
        observer.after_step()
    assert observer.step == 2 and steps(observer) == (1, 2)
    monkeypatch.setattr(observer._registry, "on_cuda", True)
    for capturing, seen in ((True, 2), (False, 3)):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda now=capturing: now)
        train(model, optimizer, 1)
        assert observer.step == seen


def test_a_compiled_step_is_observed() -> None:
    model, optimizer, observer = observed()
    step = torch.compile(optimizer.step, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about profiling
        for batch in batches(3):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            step()
    assert steps(observer) == (1, 2, 3)


def test_a_loaded_state_goes_on_under_the_same_names() -> None:
    model, optimizer, observer = observed(3)
    state = copy.deepcopy(optimizer.state_dict())
    train(model, optimizer, 2, start=3)
    optimizer.load_state_dict(state)
    train(model, optimizer, 1, start=5)
    assert steps(observer) == (1, 2, 3, 4, 5, 6)
    assert float(optimizer.state[model[0].weight]["step"]) == 4
    layer = observer.series().snapshots[-1].layers[0]
    assert layer is not None and layer.scale == 1 / (1 - 0.99**4.0)
    assert observer.layers[0].group is optimizer.param_groups[0]


def test_a_resumed_training_is_numbered_from_its_checkpoint() -> None:
    model, optimizer, observer = observed(5)
    observer.step = 3
    assert steps(observer) == (1, 2, 3)
    train(model, optimizer, 2)
    assert observer.step == 5 and steps(observer) == (1, 2, 3, 4, 5)
    model, optimizer, observer = observed()
    observer.step = 1000
    train(model, optimizer, 1)
    assert steps(observer) == (1001,)


def test_layers_added_later_are_listed_from_then_on() -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model[0].parameters())
    observer = observe(optimizer, model=model)
    train(model, optimizer, 1)
    optimizer.add_param_group({"params": list(model[4].parameters()), "betas": (0.9, 0.5)})
    train(model, optimizer, 1)
    series = observer.series()
    assert series.names == ("0.weight", "0.bias", "4.weight", "4.bias")
    assert series.kinds == ("dense", "bias", "dense", "bias")
    assert [layer is None for layer in series.snapshots[0].layers] == [False, False, True, True]
    assert [layer is None for layer in series.snapshots[1].layers] == [False] * 4
    added = series.snapshots[1].layers[2]
    assert added is not None and added.scale == 1 / (1 - 0.5)
    assert set(observer.histograms()) == set(series.names)


def test_a_layer_keeps_its_history_when_points_are_added_to_it() -> None:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam([{"params": [nn.Parameter(torch.randn(10, 3))], "name": "position"}])
    observer = observe(optimizer)
    (group,) = optimizer.param_groups
    for step in range(4):
        if step == 2:
            (old,) = group["params"]
            state = optimizer.state.pop(old)
            group["params"] = [nn.Parameter(torch.cat([old.detach(), torch.randn(5, 3)]))]
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.cat([state[key], torch.zeros(5, 3)])
            optimizer.state[group["params"][0]] = state
        optimizer.zero_grad()
        group["params"][0].square().sum().backward()
        optimizer.step()
    series = observer.series()
    assert series.names == ("position",) and series.entries == (45,)
    assert [layer and layer.nonzero for each in series.snapshots for layer in each.layers] == [30, 30, 45, 45]
    assert observer.histograms()["position"].total == 45


def test_frozen_and_idle_layers_are_listed_and_left_out() -> None:
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters())
    observer = observe(optimizer, model=model)
    assert LayerStatus.MEASURED not in statuses(observer).values()
    train(model, optimizer, 2)
    assert [layer.status for layer in observer.bounds().layers] == list(statuses(observer).values())
    assert list(statuses(observer).values()) == [LayerStatus.FROZEN] * 2 + [LayerStatus.MEASURED] * 4
    assert set(observer.histograms()) == {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert observer.series().snapshots[0].layers[:2] == (None, None)
    model[2].requires_grad_(False)  # training goes on without it: what was measured stays
    train(model, optimizer, 1)
    assert set(observer.histograms()) == {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert list(statuses(observer).values())[2:4] == [LayerStatus.MEASURED] * 2


@pytest.mark.parametrize("toggled", ["between steps", "before each step"])
def test_what_was_measured_of_a_layer_that_is_frozen_now_and_then_stays(toggled: str) -> None:
    """As critics are while a generator steps, or as the parts of a model that are trained in turns."""
    found = []
    for is_toggled in (False, True):
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters())
        with observe(optimizer, model=model) as observer:
            for batch in batches(4):
                model.requires_grad_(True)
                optimizer.zero_grad()
                model(batch).square().mean().backward()
                if is_toggled and toggled == "before each step":
                    model.requires_grad_(False)
                optimizer.step()
                if is_toggled:
                    model.requires_grad_(False)
        series = observer.series()
        found.append((observer.bounds(), observer.histograms(), observer.adaptable_fraction(1e-2), series.snapshots))
    assert found[0] == found[1]


def test_parts_trained_in_turns_are_all_measured_at_the_end() -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    parts = (model[0], model[4])
    model[2].requires_grad_(False)
    with observe(optimizer, model=model) as observer:
        for turn in range(4):
            for number, part in enumerate(parts):
                part.requires_grad_(number == turn % 2)
            train(model, optimizer, 2)
    measured = [LayerStatus.MEASURED] * 2
    assert list(statuses(observer).values()) == [*measured, LayerStatus.FROZEN, LayerStatus.FROZEN, *measured]
    assert [sum(layer is not None for layer in each.layers) for each in observer.series().snapshots] == [2] * 2 + [
        4
    ] * 6


@pytest.mark.parametrize("name", ["adagrad", "own"])
def test_a_layer_that_was_always_frozen_is_so_even_if_it_has_a_state(registered: Any, name: str) -> None:
    """Adagrad, and others, build the state of every parameter at once."""
    registered(Own, of_own)
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = OPTIMIZERS["adagrad"](model.parameters()) if name == "adagrad" else Own(model.parameters(), eager=True)
    observer = observe(optimizer, model=model)
    train(model, optimizer, 2)
    assert list(statuses(observer).values())[:3] == [LayerStatus.FROZEN] * 2 + [LayerStatus.MEASURED]
    assert "0.weight" not in {**observer.histograms(), **observer.adaptable_fraction().layers}


class Elsewhere(torch.optim.Optimizer):
    """Keeps everything on the device of its parameters, as fused and capturable optimizers do."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"betas": (0.9, 0.99), "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(step=torch.zeros((), device=parameter.device), exp_avg_sq=torch.zeros_like(parameter))
                state["step"] += 1
                state["exp_avg_sq"].lerp_(parameter.square(), 1 - group["betas"][1])


def adams(state: Any, group: Any) -> SecondMoment | None:
    return SecondMoment(state["exp_avg_sq"], group["betas"][1], state["step"]) if state else None


def test_nothing_waits_for_a_device_after_a_step(registered: Any) -> None:
    """On the meta device there are no values: whoever looks at one, as waiting for a device means, gets an error."""
    registered(Elsewhere, adams)
    parameters = [nn.Parameter(torch.ones(4, 3, device="meta")), nn.Parameter(torch.ones(7, device="meta"))]
    optimizer = Elsewhere(parameters)
    observer = observe(optimizer, [("a", parameters[0]), ("b", parameters[1])])
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(torch.ones((), device="meta"))
    for _ in range(40):
        optimizer.step()
    assert observer.step == 40


# Bad input


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        *(({"every": every}, f"every must be a whole number, at least 1, got {every!r}") for every in (0, 1.0, True)),
        *(({"tail_fraction": tail}, r"tail_fraction must lie between 0 and 0\.5, got") for tail in (0, math.nan)),
    ],
)
def test_arguments_out_of_range(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ObservationError, match=words):
        observed(**settings)


@pytest.mark.parametrize(
    "ask",
    [Observer.bounds, Observer.histograms, Observer.adaptable_fraction, Observer.snapshot],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("name", ["adagrad"])
def test_asking_before_the_first_step_is_told(ask: Callable[[Observer], Any], name: str) -> None:
    _, _, observer = observed(name=name)
    with pytest.raises(ObservationError, match=r"the state of this Ada\w+ is not built yet; ask after its first step"):
        ask(observer)
    assert observer.series().snapshots == ()


class Packed(torch.Tensor):
    """An 8-bit tensor that knows no operation but `dequantize`."""

    @staticmethod
    def __new__(cls, v: torch.Tensor) -> Packed:
        return torch.Tensor._make_wrapper_subclass(cls, v.shape, dtype=torch.float32)  # type: ignore[attr-defined, no-any-return]

    def __init__(self, v: torch.Tensor) -> None:
        self.unit = v.max().item() / 255
        self.codes = (v / self.unit).round().to(torch.uint8)

    def dequantize(self) -> torch.Tensor:  # type: ignore[override]
        return self.codes.float() * self.unit

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(f"{cls.__name__}: {func}")


class Sealed(Packed):
    """Nor that one."""

    def dequantize(self) -> torch.Tensor:
        raise NotImplementedError("Sealed: dequantize")


@pytest.mark.parametrize(
    ("keep", "back"),
    [
        (Packed, lambda kept: kept.codes.float() * kept.unit),
        (lambda v: torch.quantize_per_tensor(v, v.max().item() / 255, 0, torch.quint8), lambda kept: kept.dequantize()),
        (lambda v: (v * 2**20).to(torch.float8_e5m2), lambda kept: kept.float()),
        (lambda v: v.bfloat16(), lambda kept: kept),
        (nn.Parameter, lambda kept: kept.detach()),
    ],
    ids=["8-bit class", "quint8", "float8", "bfloat16", "parameter"],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_states_of_other_types_are_counted_as_the_numbers_they_stand_for(registered: Any, keep: Any, back: Any) -> None:
    registered(Own, of_own)
    model = mlp()
    optimizer = Own(model.parameters(), keep)
    with observe(optimizer, model=model) as observer:
        train(model, optimizer, 3)
    for name, parameter in model.named_parameters():
        expected = counting.count(back(optimizer.state[parameter]["kept"]), 1 / (1 - 0.99**3.0))
        assert observer.histograms()[name] == expected
    v = [back(optimizer.state[parameter]["kept"]).float().numpy() for parameter in model.parameters()]
    low, high = published_bounds(v, 1 / (1 - 0.99**3.0))
    assert (observer.bounds().low.magnitude, observer.bounds().high.magnitude) == pytest.approx((low, high), rel=1e-12)


def raises(state: Any, group: Any) -> Any:
    return state["nowhere"]


@pytest.mark.parametrize(
    ("keep", "second_moment", "words"),
    [
        (lambda v: -v, of_own, r"a second moment is a mean of squares, yet it has the negative entry -.*check which"),
        (lambda v: v.int(), of_own, r"cannot count entries of type torch\.int32"),
        (lambda v: v + 0j, of_own, r"cannot count entries of type torch\.complex64"),
        (lambda v: v.to_sparse(), of_own, r"its second moment cannot be read from a Tensor \(torch\.sparse_coo\)"),
        (lambda v: v.flatten()[:-1], of_own, "its second moment has the shape 239, and the parameter 40×6"),
        (lambda v: v.mean(), of_own, r"its second moment has the shape \(\), and the parameter 40×6"),
        (Sealed, of_own, "its second moment cannot be read from the state of Own: NotImplementedError: Sealed: dequ"),
        (lambda v: v.numpy(), of_own, "the second moment registered for Own must be a tensor, got a ndarray"),
        (
            lambda v: v,
            raises,
            r"second_moment registered for Own raised KeyError: 'nowhere' \(the state of a layer may",
        ),
        (lambda v: v, lambda *_: 3, r"must return an epsgrid\.SecondMoment or None, got int"),
        *(
            (
                lambda v: v,
                lambda state, group, decay=decay: SecondMoment(state["v"], decay, state["t"]) if state else None,
                rf"the decay registered for Own must lie in \[0, 1\), got {decay}",
            )
            for decay in (1.0, -0.5, None)
        ),
        *(
            (
                lambda v: v,
                lambda state, group, step=step: SecondMoment(state["v"], 0.99, step) if state else None,
                f"the step registered for Own must be a number, at least 0, got {step}",
            )
            for step in (None, -3)
        ),
        (
            lambda v: v,
            lambda state, group: SecondMoment(state["v"], 0.99, torch.ones(2)) if state else None,
            "its second moment cannot be read from the state of Own: .*",
        ),
    ],
)
def test_a_state_that_cannot_be_read_is_named_once_and_ends_no_training(
    registered: Any, keep: Any, second_moment: Any, words: str
) -> None:
    registered(Own, second_moment)
    model, optimizer, observer = observed(0, lambda p: Own(p, keep))
    words = rf"layer '0\.weight': .*{words}"
    with pytest.warns(
        RuntimeWarning, match=f"Own cannot be observed from step 1 on, and the training goes on: {words}"
    ):
        train(model, optimizer, 1)
    train(model, optimizer, 2)  # a second warning would be an error here
    assert observer.step == 3
    for ask in (observer.bounds, observer.histograms, observer.adaptable_fraction, observer.snapshot, observer.series):
        with pytest.raises(ObservationError, match=words):
            ask()


def test_what_was_counted_before_a_state_could_not_be_read_any_more_stays(registered: Any) -> None:
    def forgetful(state: Any, group: Any) -> SecondMoment | None:
        if state and state["t"] == 3:
            raise RuntimeError("forgotten")
        return of_own(state, group)

    registered(Own, forgetful)
    model, optimizer, observer = observed(0, Own)
    with pytest.warns(RuntimeWarning, match=r"cannot be observed from step 3 on, .* raised RuntimeError: forgotten"):
        train(model, optimizer, 4)
    assert observer.step == 4 and steps(observer) == (1, 2)
    assert observer.bounds().layers[0].status is LayerStatus.MEASURED  # of the present state
    observer.step = 4  # as after loading a checkpoint
    train(model, optimizer, 1)
    assert steps(observer) == (1, 2, 5)


def test_a_second_moment_of_no_step_is_told(registered: Any) -> None:
    registered(Own, lambda state, group: SecondMoment(state["v"], 0.99, 0) if state else None)
    _model, _optimizer, observer = observed(1, Own)
    words = r"layer '0\.weight': .* is not zero, yet no step is counted: steps count"
    with pytest.raises(ObservationError, match=words):
        observer.bounds()


class Renamed(torch.optim.AdamW):
    """Keeps another second moment than the class that it is derived from."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state.setdefault("second", torch.zeros_like(parameter)).addcmul_(parameter.grad, parameter.grad)


def test_a_second_moment_that_is_kept_elsewhere_is_told() -> None:
    _model, optimizer, observer = observed(1, Renamed)
    words = (
        r"the state of this Renamed \(second\) has no second moment where .* by epsgrid\.register_optimizer\(Renamed, …"
    )
    with pytest.raises(ObservationError, match=words):
        observer.bounds()
    optimizer.state = {"second": [entry["second"] for entry in optimizer.state.values()]}  # type: ignore[assignment]
    with pytest.raises(
        ObservationError, match=r"this Renamed is not kept by parameter, as self\.state\[parameter\], so no"
    ):
        observer.bounds()


@pytest.mark.parametrize("epsilon", [(1e-30, 1e-3), [1e-8, 1e-8], torch.tensor([1e-8, 1e-3]), None, "none"])
def test_an_epsilon_of_several_numbers_is_that_of_no_layer(registered: Any, epsilon: Any) -> None:
    """Adafactor and its kin have one for the mean of squares and another for the update; bounds need neither."""
    registered(Own, of_own)
    model, optimizer, observer = observed(2, lambda p: Own(p, eps=epsilon))
    bounds = epsgrid.probe(model, optimizer, batches(2), lambda model, batch: model(batch).square().mean())
    assert 0 < observer.bounds().low.epsilon <= bounds.high.epsilon
    assert observer.series().snapshots[0].threshold is None and observer.snapshot().threshold is None
    assert observer.adaptable_fraction(1e-12).total == 1
    with pytest.raises(ObservationError, match=r"the parameter group of layer '0\.weight' has no single \"eps\"; give"):
        observer.adaptable_fraction()


def test_a_negative_entry_on_a_device_is_told_by_name_when_asked(registered: Any, monkeypatch: Any) -> None:
    """There it is only found when counts are fetched."""
    from epsgrid.numerics import tables

    _, _, observer = observed(2)

    def refuse(self: Any, layer: int, scale: float = 1.0) -> Any:
        raise tables.NegativeEntryError(layer)

    monkeypatch.setattr(tables.Counter, "histogram", refuse)
    monkeypatch.setattr(tables.Counter, "folded", refuse)
    for ask in (observer.histograms, observer.series):
        with pytest.raises(ObservationError, match=r"layer '0\.weight': .* it has negative entries; check which"):
            ask()


def test_nonfinite_entries_are_counted_and_warned_of_once_and_training_goes_on() -> None:
    model, optimizer, observer = observed(2)
    model(batches(1)[0]).square().mean().backward()
    model[0].weight.grad[0, :2] = torch.nan
    model[0].weight.grad[0, 2] = torch.inf
    model[4].bias.grad[1] = torch.inf
    with pytest.warns(RuntimeWarning, match=r"layer '0\.weight' and 1 more layers has 4 NaN or infinite entries"):
        optimizer.step()
    optimizer.step()  # no second warning, which would be an error here
    assert observer.nonfinite == 4 and observer.step == 4
    found = statuses(observer)
    assert found["0.weight"] is found["4.bias"] is LayerStatus.NON_FINITE
    assert found["0.bias"] is LayerStatus.MEASURED
    assert observer.histograms()["0.weight"].nonfinite == 3
    assert [layer.nonfinite for layer in observer.series().snapshots[-1].layers if layer] == [3, 0, 0, 0, 0, 1]
    finite = optimizer.state[model[0].weight]["exp_avg_sq"].isfinite().sum()
    assert 0 < observer.adaptable_fraction().layers["0.weight"] <= 1 and finite == 237
    assert "0.weight" not in (*observer.bounds().low.layers, *observer.bounds().high.layers)
