"""Where optimizers keep v and add ε: those of torch, ours, subclasses, registered ones, and those that have none."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import epsgrid
from epsgrid import optimizers, plugins
from epsgrid.errors import ObservationError
from epsgrid.observing.adapters import adapter_for, unwrap, warn_of_underflow
from epsgrid.optimizers import SecondMoment
from tests.observing.samples import OPTIMIZERS, cross_entropy, labelled, mlp, network

TORCHS = [
    value
    for value in vars(torch.optim).values()
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
]
WITHOUT = {"SGD", "Rprop", "LBFGS", "ASGD", "Adafactor", "Muon", "SparseAdam"}


class Own(torch.optim.Optimizer):
    """An optimizer that nobody knows: v beside its state's own names, ε under the root."""

    def __init__(self, params: Any, lr: float = 0.01, keep: float = 0.9, eps: float = 1e-6) -> None:
        super().__init__(params, {"lr": lr, "keep": keep, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(seen=0, second=torch.zeros_like(parameter))
                state["seen"] += 1
                state["second"].lerp_(parameter.grad.square(), 1 - group["keep"])
                v = state["second"] / (1 - group["keep"] ** state["seen"])
                parameter.sub_(group["lr"] * parameter.grad / (v + group["eps"]).sqrt())


def second_moment(state: Any, group: Any) -> SecondMoment | None:
    return SecondMoment(state["second"], group["keep"], state["seen"]) if state else None


@pytest.mark.parametrize(
    ("name", "epsilon", "magnitude"),
    [
        ("adam", 1e-3, 1e-3),
        ("radam", 1e-3, 1e-3 / math.sqrt(1 - 0.99**7)),
        ("rmsprop", 1e-3, 1e-3),
        ("adagrad", 1e-3, 1e-3),
        ("adamax", 1e-3, 1e-3),
        ("adadelta", 1e-6, 1e-3),
        ("eadam", 1e-8, 1e-3),
        ("adamomentum", 1e-8, 1e-3),
        ("adabelief", 1e-8, 1e-3 + 1e-8),
        ("adabelief-rectified", 1e-8, 1e-3 + 1e-8 / math.sqrt(1 - 0.99**7)),
    ],
)
def test_epsilon_is_placed_by_the_groups_own_settings(name: str, epsilon: float, magnitude: float) -> None:
    optimizer = OPTIMIZERS[name](mlp().parameters())
    placement = adapter_for(optimizer).placement(optimizer.param_groups[0], 7)
    assert placement.magnitude_from_epsilon(epsilon) == pytest.approx(magnitude, rel=1e-7)


@pytest.mark.parametrize("cls", TORCHS, ids=lambda cls: cls.__name__)
def test_every_optimizer_of_torch_is_observed_or_refused_with_a_reason(cls: type[torch.optim.Optimizer]) -> None:
    settings = {"lr": 0.1} if cls.__name__ == "SGD" else {}
    optimizer = cls([torch.nn.Parameter(torch.ones(2, 2))], **settings)  # type: ignore[arg-type]
    if cls.__name__ not in WITHOUT:
        assert adapter_for(optimizer).placement(optimizer.param_groups[0], 1).epsilon_from_magnitude(1.0) > 0
        return
    with pytest.raises(ObservationError, match=f"^{cls.__name__} cannot be observed: it .*"):
        adapter_for(optimizer)


def test_all_our_own_optimizers_are_observed() -> None:
    for name in plugins.names("optimizers"):
        plugin = optimizers.load(name)
        epsilon = 1e-8 if plugin.DEFAULT_EPSILON else None
        optimizer = plugin.build([torch.nn.Parameter(torch.ones(2))], plugin.Options(name=name), 0.1, epsilon)
        if plugin.DEFAULT_EPSILON:
            group = optimizer.param_groups[0]
            shared = {key: group[key] for key in plugin.Options.model_fields if key in group}
            expected = plugin.placement(plugin.Options(name=name, **shared), 7)
            assert adapter_for(optimizer).placement(group, 7) == expected
        else:
            with pytest.raises(ObservationError, match=r"(SGD|AdamAtan2) cannot be observed: .* it has no epsilon"):
                adapter_for(optimizer)


def test_a_subclass_is_observed_as_its_base_unless_it_is_registered(registered: Any) -> None:
    class SubW(torch.optim.AdamW):
        pass

    class Sub(torch.optim.SGD):
        pass

    parameters = [torch.nn.Parameter(torch.ones(2))]
    assert adapter_for(SubW(parameters)) is adapter_for(torch.optim.AdamW(parameters))
    optimizer = Sub(parameters, lr=0.1)
    with pytest.raises(ObservationError, match="Sub cannot be observed: it divides by no second moment"):
        adapter_for(optimizer)
    registered(Sub, second_moment)
    assert adapter_for(optimizer).second_moment({}, {}) is None


def test_an_unknown_class_is_told_how_to_register_and_then_works(registered: Any) -> None:
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = Own([parameter])
    words = r"Own is an optimizer that epsgrid does not know \(it knows Adadelta, .*RMSprop\).*register_optimizer\(Own"
    with pytest.raises(ObservationError, match=words):
        adapter_for(optimizer)
    registered(Own, second_moment, epsgrid.Placement.inside())
    adapter = adapter_for(optimizer)
    assert adapter.second_moment({}, optimizer.param_groups[0]) is None
    for size in (1.0, 3.0):
        parameter.grad = torch.full((4,), size)
        optimizer.step()
    moment = adapter.second_moment(optimizer.state[parameter], optimizer.param_groups[0])
    assert moment is not None
    assert float(moment.values[0]) * moment.scale == pytest.approx((0.09 + 0.9) / (1 - 0.81))
    assert adapter.placement(optimizer.param_groups[0], 2).epsilon_from_magnitude(1e-3) == pytest.approx(1e-6)


def test_what_is_registered_must_fit(registered: Any) -> None:
    registered(Own, lambda state, group: torch.ones(4))
    optimizer = Own([torch.nn.Parameter(torch.ones(4))])
    words = r"second_moment registered for Own must return an epsgrid\.SecondMoment or None, got Tensor"
    with pytest.raises(ObservationError, match=words):
        adapter_for(optimizer).second_moment({}, optimizer.param_groups[0])
    for what in (torch.nn.Linear, "Adam", 3):
        with pytest.raises(ObservationError, match=r"expected a subclass of torch\.optim\.Optimizer to register, got "):
            registered(what, second_moment)
    for functions, words in (((None,), "second_moment of Own"), ((second_moment, None), "placement of Own")):
        with pytest.raises(ObservationError, match=f"{words} must be a function, got None"):
            registered(Own, *functions)
    for wrong, words in (
        (lambda *_: 3, r"must return an epsgrid\.Placement, got int"),
        (lambda: 3, "raised TypeError:"),
    ):
        registered(Own, second_moment, wrong)
        with pytest.raises(ObservationError, match=f"placement registered for Own {words}"):
            adapter_for(optimizer).placement({}, 1)


def test_numbers_of_a_second_moment_may_be_those_of_numpy_or_torch(registered: Any) -> None:
    v = torch.ones(2)
    for decay, step in ((np.float32(0.5), np.int64(2)), (torch.tensor(0.5), torch.tensor(2)), (0.5, 2.0)):
        registered(Own, lambda state, group, decay=decay, step=step: SecondMoment(v, decay, step))
        moment = adapter_for(Own([torch.nn.Parameter(v)])).second_moment({}, {"betas": None})
        assert moment is not None and moment.scale == pytest.approx(1 / (1 - 0.25))


def test_an_optimizer_that_never_divides_is_told() -> None:
    optimizer = torch.optim.RAdam([torch.nn.Parameter(torch.ones(2))], betas=(0.9, 0.5))
    with pytest.raises(ObservationError, match=r"radam with .*0\.5.* has no epsilon to bound: .*over at most 3 steps"):
        adapter_for(optimizer).placement(optimizer.param_groups[0], 3)


class Wrapper:
    """As Lightning's: no optimizer itself."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups


class Plain:
    """A user's own: it passes on the two calls of a training loop."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped, self.step, self.zero_grad = wrapped, wrapped.step, wrapped.zero_grad


class Accelerated(torch.optim.Optimizer):
    """As Accelerate's: a subclass that is never initialised."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer


class Sharded(torch.optim.Adam):
    """As ZeroRedundancyOptimizer: holds the real one under another name."""

    def __init__(self, optimizer: Any) -> None:
        self.optim = optimizer


def test_wrappers_are_taken_off() -> None:
    real = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    assert unwrap(real) is unwrap(Wrapper(Accelerated(real))) is unwrap(Sharded(real)) is real
    assert adapter_for(Wrapper(real)) is adapter_for(real)  # type: ignore[arg-type]
    assert unwrap(Plain(Plain(real))) is real
    for what in (None, torch.nn.Linear(1, 1), Wrapper(None)):
        with pytest.raises(ObservationError, match=rf"expected a torch\.optim\.Optimizer, got {type(what).__name__}"):
            unwrap(what)


class Around(torch.optim.Optimizer):
    """An unknown class around other optimizers, under names of its own."""

    def __init__(self, **held: Any) -> None:
        one = next(value for value in held.values() if isinstance(value, torch.optim.Optimizer))
        super().__init__(one.param_groups, one.defaults)
        self.__dict__.update(held)


class Bare:
    """Holds optimizers, and is none."""

    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


@pytest.mark.parametrize("name", ["base", "inner", "base_optimizer", "_optimizer", "original_optimizer", "anything"])
def test_an_unknown_class_is_looked_into(name: str) -> None:
    real = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    for held in (Around(**{name: real}), Bare(**{name: real}), Bare(**{name: Around(inner=real)})):
        assert unwrap(held) is real
    assert unwrap(Around(**{name: real}, parts=[real], by_name={"same": real})) is real
    reason = unwrap(Around(**{name: torch.optim.SGD([torch.nn.Parameter(torch.ones(2))])}))
    with pytest.raises(ObservationError, match="SGD cannot be observed: it divides by no second moment"):
        adapter_for(reason)


def test_of_several_optimizers_inside_none_is_chosen_and_they_are_named() -> None:
    first, second = (torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]) for _ in range(2))
    for held in ({"one": first, "two": second}, {"one": [first], "two": {"b": second}}):
        with pytest.raises(ObservationError, match=r"got Bare; pass one of those that it holds in \.one, \.two$"):
            unwrap(Bare(**held))
    around = Around(one=first, two=second)
    assert unwrap(around) is around
    with pytest.raises(ObservationError, match=r"Around is .* if it wraps another.*, pass that one, of \.one, \.two$"):
        adapter_for(around)


def test_what_is_registered_is_taken_before_what_it_holds(registered: Any) -> None:
    inner = Own([torch.nn.Parameter(torch.ones(2))])
    for held in (Around(inner=inner), Around(optimizer=inner)):
        registered(Around, second_moment)
        assert unwrap(held) is held


def test_a_class_that_has_the_name_of_a_known_one_is_told_with_its_module() -> None:
    twin = type("Adam", (Own,), {})([torch.nn.Parameter(torch.ones(2))])
    with pytest.raises(
        ObservationError, match=r"^tests\.observing\.test_adapters\.Adam is an optimizer that epsgrid does"
    ):
        adapter_for(twin)


# Epsilons that half precision cannot hold


def test_observe_and_probe_warn_of_an_epsilon_that_is_zero_in_float16() -> None:
    """torch's default of 1e-8 makes weights NaN there; without the warning one only hears of a loss not finite."""
    model = network().half()
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.warns(RuntimeWarning, match=r"Adam: epsilon 1e-8 is 0 in float16.*0/0; keep the optimizer in float32"):
        epsgrid.observe(optimizer, model=model).close()
    batches = [(inputs.half(), labels) for inputs, labels in labelled(3)]
    with pytest.warns(RuntimeWarning, match="Adam: epsilon 1e-8 is 0 in float16"):
        epsgrid.probe(model, optimizer, batches, cross_entropy)


@pytest.mark.parametrize(
    ("dtype", "epsilon", "words"),
    [
        (torch.float16, 1e-6, "below 6e-5, the smallest normal number of float16"),
        (torch.bfloat16, 1e-42, "is 0 in bfloat16"),
        (torch.float32, 1e-40, "below 1e-38"),
    ],
)
def test_every_group_is_looked_at_and_each_reason_given_once(dtype: torch.dtype, epsilon: float, words: str) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2, dtype=each))]} for each in (torch.float64, dtype, dtype)]
    with pytest.warns(RuntimeWarning, match=words) as warned:
        warn_of_underflow(torch.optim.Adam(groups, eps=epsilon))
    assert len(warned) == 1


@pytest.mark.parametrize(
    ("dtype", "settings"),
    [
        (torch.float32, {"eps": torch.tensor(1e-8)}),
        (torch.float16, {"eps": 0.0}),
        (torch.float16, {"fused": True}),  # computes in float32
    ],
)
def test_an_epsilon_that_fits_is_not_warned_of(dtype: torch.dtype, settings: dict[str, object]) -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, dtype=dtype))
    optimizer = torch.optim.Adam([parameter])
    optimizer.param_groups[0].update(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_underflow(optimizer)
        warn_of_underflow(torch.optim.SGD([parameter]))
