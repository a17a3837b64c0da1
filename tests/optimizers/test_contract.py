"""What every optimizer file promises, checked against plain float64 recomputations."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from epsgrid import optimizers, plugins
from epsgrid.errors import NoBoundsError, SpecError, UnknownNameError
from epsgrid.optimizers import probing_epsilon
from tests.optimizers.references import REFERENCES

LEARNING_RATE = 0.01
NAMES = plugins.names("optimizers")
ADAPTIVE = [name for name in NAMES if optimizers.load(name).DEFAULT_EPSILON]
COMMON = [{}, {"betas": (0.5, 0.9), "weight_decay": 0.1}]
DECOUPLED = {"weight_decay": 0.1, "decoupled_weight_decay": True}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "adabelief": [*COMMON, DECOUPLED, {"betas": (0.9, 0.9), "rectify": True}],
    "adadelta": [{}, {"rho": 0.5, "weight_decay": 0.1}, {"rho": 0}],
    "adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.1}],
    "adam_atan2": [*COMMON, {"scale": 1.0}],
    "adam": [*COMMON, {"betas": (0, 0)}],
    "adamax": COMMON,
    "adamomentum": [*COMMON, DECOUPLED],
    "adamw": [*COMMON, {"weight_decay": 0}],
    "amsgrad": [*COMMON, {"betas": (0.9, 0.1)}],
    "eadam": [*COMMON, {"betas": (0, 0)}],
    "nadam": [{}, {**COMMON[1], "momentum_decay": 0.1}, DECOUPLED],
    "radam": [*COMMON, DECOUPLED],
    "rmsprop": [
        {},
        {"alpha": 0.9, "weight_decay": 0.1},
        {"momentum": 0.5},
        {"centered": True},
        {"centered": True, "momentum": 0.5, "alpha": 0.9},
    ],
    "sgdm": [{}, {"momentum": 0.5, "weight_decay": 0.1, "nesterov": True}, {"momentum": 0}],
}
CASES = [(name, settings) for name in OPTIONS for settings in OPTIONS[name]]
ADAPTIVE_CASES = [(name, settings) for name, settings in CASES if name in ADAPTIVE]
OTHERS = ("adabelief", "adamomentum")
SQUARE_GRADIENTS = [case for case in ADAPTIVE_CASES if case[0] not in OTHERS and not case[1].get("centered")]


def make(
    name: str, parameters: list[Any], epsilon: float = 1e-3, rate: float = LEARNING_RATE, **settings: Any
) -> torch.optim.Optimizer:
    plugin = optimizers.load(name)
    epsilon_or_none = epsilon if plugin.DEFAULT_EPSILON else None
    return plugin.build(parameters, plugin.Options(name=name, **settings), rate, epsilon_or_none)


def gradients(count: int, size: int = 37) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.standard_normal(size) * 10.0 ** random.integers(-4, 2, size) for _ in range(count)]


def run(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, given: list[np.ndarray]) -> None:
    for gradient in given:
        parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
        optimizer.step()


def measured(name: str, optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> torch.Tensor:
    """Return the magnitudes ε is compared with, as the plug-in yields them, in float64."""
    moment = optimizers.load(name).second_moment(optimizer.state[parameter], optimizer.param_groups[0])
    assert moment is not None
    assert moment.values.shape == parameter.shape
    return (moment.values.double() * moment.scale).sqrt()


def test_every_optimizer_has_a_reference() -> None:
    assert set(REFERENCES) == set(OPTIONS) == set(NAMES)


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("steps", [1, 9])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 5e-6)])
def test_steps_equal_a_plain_float64_recomputation(
    name: str, settings: dict[str, Any], steps: int, dtype: torch.dtype, tolerance: float
) -> None:
    if name == "nadam":
        tolerance = max(tolerance, 1e-7)  # torch keeps the product of its momenta in float32
    plugin = optimizers.load(name)
    options = plugin.Options(name=name, **settings)
    start = np.linspace(-1, 1, 37)
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=dtype))
    run(make(name, [parameter], **settings), parameter, gradients(steps))
    epsilon = 1e-3 if plugin.DEFAULT_EPSILON else None
    expected, _ = REFERENCES[name](options, epsilon, LEARNING_RATE, start, gradients(steps))
    torch.testing.assert_close(parameter.detach().double(), torch.from_numpy(expected), rtol=tolerance, atol=tolerance)


def probe_gradients(steps: int) -> list[np.ndarray]:
    """Gradients with what a probe meets: entries never used, used once, tiny, and large ones that vary."""
    given = gradients(steps)
    for step, gradient in enumerate(given):
        gradient[:4] = 0
        gradient[4:8] *= 1e-15
        if step:
            gradient[8:12] = 0
    return given


@pytest.mark.parametrize(("name", "settings"), ADAPTIVE_CASES)
@pytest.mark.parametrize("steps", [1, 9])
def test_a_probe_measures_what_the_rule_has_without_epsilon(name: str, settings: dict[str, Any], steps: int) -> None:
    """Frozen weights, float32, the probe's own ε: measured is v as if there were no ε; what has no gradient is 0."""
    plugin = optimizers.load(name)
    options = plugin.Options(name=name, **settings)
    start = np.float32(np.linspace(-1, 1, 37))
    start[:12] = 0  # decay adds nothing to these
    parameter = torch.nn.Parameter(torch.from_numpy(start))
    optimizer = make(name, [parameter], probing_epsilon(plugin), rate=0.0, **settings)
    run(optimizer, parameter, probe_gradients(steps))
    given = [gradient.astype(np.float32).astype(np.float64) for gradient in probe_gradients(steps)]
    _, root = REFERENCES[name](options, 1.0, 0.0, start.astype(np.float64), given)
    found = measured(name, optimizer, parameter).numpy()
    assert not found[:4].any()
    # A difference of squares, v − a², keeps what the larger of them rounds to.
    tolerance = 3e-3 if settings.get("centered") else 3e-6
    np.testing.assert_allclose(found, root, rtol=tolerance, atol=0)


def steps_that_show_the_denominator(name: str, settings: dict[str, Any]) -> list[int]:
    if name == "radam" or settings.get("rectify"):
        return [9]  # the first ones have none
    return [1] if settings.get("momentum") else [1, 9]  # a buffer of RMSprop keeps quotients of earlier steps


@pytest.mark.parametrize(
    ("name", "settings", "steps"),
    [(*case, steps) for case in ADAPTIVE_CASES for steps in steps_that_show_the_denominator(*case)],
)
@pytest.mark.parametrize("size", [1e-10, 1.0])
def test_a_bound_becomes_the_denominator_it_was_measured_as(
    name: str, settings: dict[str, Any], size: float, steps: int
) -> None:
    """Bound → ε → denominator.

    The numerator of a step does not depend on ε. Where ε is nothing the denominator is the magnitude r measured; where
    ε is everything it must be the bound b that ε was made from: so r times the one step is b times the other.
    """
    settings = {**settings, "weight_decay": 0}
    plugin = optimizers.load(name)
    options = plugin.Options(name=name, **settings)
    placement = plugin.placement(options, steps)
    signs = np.where(np.arange(37) % 3, 1.0, -1.0)
    given = [size * signs * (1 + 0.3 * (step % 2)) for step in range(steps)]
    products = []
    for weight in (1e-9, 1e6, 1e8):
        epsilon = placement.epsilon_from_magnitude(weight * size)
        parameter = torch.nn.Parameter(torch.zeros(37, dtype=torch.float64))
        optimizer = make(name, [parameter], epsilon, rate=size, **settings)
        run(optimizer, parameter, given[:-1])
        before = parameter.detach().clone()
        numerator = _epsilon_in_the_numerator(name, optimizer, parameter, epsilon)
        run(optimizer, parameter, given[-1:])
        step = before - parameter.detach()
        denominator = measured(name, optimizer, parameter) if weight < 1 else weight * size
        products.append(step * denominator / numerator)
    assert products[0].abs().min() > 0
    torch.testing.assert_close(products[1], products[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(products[2], products[0], rtol=1e-5, atol=0)


def _epsilon_in_the_numerator(
    name: str, optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, epsilon: float
) -> Any:
    """Return the part of the next step's numerator that depends on ε: there is one in Adadelta only."""
    if name != "adadelta":
        return 1.0
    state = optimizer.state.get(parameter, {})
    return (state["acc_delta"] + epsilon).sqrt() if state else math.sqrt(epsilon)


@pytest.mark.parametrize(("name", "settings"), SQUARE_GRADIENTS)
def test_constant_gradients_measure_what_the_placement_says(name: str, settings: dict[str, Any]) -> None:
    """`per_gradient`: the size of what ε is compared with, under gradients that all are 1 in magnitude."""
    plugin = optimizers.load(name)
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = make(name, [parameter], **settings, rate=0.0)
    run(optimizer, parameter, [np.ones(3), -np.ones(3)] * 3)
    size = plugin.placement(plugin.Options(name=name, **settings), 6).per_gradient
    expected = torch.full((3,), size, dtype=torch.float64)
    torch.testing.assert_close(measured(name, optimizer, parameter), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_probing_without_a_learning_rate_leaves_the_weights_bit_identical(name: str) -> None:
    """The frozen probe: weights stay, also where gradients are exactly zero or missing."""
    plugin = optimizers.load(name)
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(11, 3)) for _ in range(3)]
    before = [parameter.detach().numpy().tobytes() for parameter in parameters]
    optimizer = make(name, parameters, epsilon=probing_epsilon(plugin), rate=0.0)
    for _ in range(7):
        parameters[0].grad = torch.randn(11, 3)
        parameters[1].grad = torch.zeros(11, 3)
        optimizer.step()
    assert [parameter.detach().numpy().tobytes() for parameter in parameters] == before
    if plugin.DEFAULT_EPSILON:
        moments = [
            plugin.second_moment(optimizer.state.get(each, {}), optimizer.param_groups[0]) for each in parameters
        ]
        assert moments[0] is not None and moments[0].values.min() > 0
        assert moments[1] is not None
        assert plugin.second_moment(optimizer.state.get(parameters[2], {}), optimizer.param_groups[0]) is None


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_saved_state_goes_on_exactly(name: str, settings: dict[str, Any]) -> None:
    whole = torch.nn.Parameter(torch.linspace(-1, 1, 37))
    optimizer = make(name, [whole], **settings)
    run(optimizer, whole, gradients(9)[:3])
    resumed = torch.nn.Parameter(whole.detach().clone())
    state = copy.deepcopy(optimizer.state_dict())
    run(optimizer, whole, gradients(9)[3:])
    again = make(name, [resumed], **settings)
    again.load_state_dict(state)
    run(again, resumed, gradients(9)[3:])
    assert torch.equal(whole, resumed)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("adabelief", {}),
        ("adabelief", {**DECOUPLED, "betas": (0.8, 0.95), "rectify": True}),
        ("adamomentum", {"weight_decay": 0.3, "betas": (0.0, 0.9)}),
        ("eadam", {"weight_decay": 0.3}),
    ],
)
@pytest.mark.parametrize("epsilon", [1e-16, 1e-8, 1e-3, 10.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_epsilon_in_place_goes_the_published_way(
    name: str, settings: dict[str, Any], epsilon: float, dtype: torch.dtype, tolerance: float
) -> None:
    """The reference stores ε in v, as the published code does; one parameter has no gradient every third time."""
    random = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = [(3, 4), (5,), (), (0,)]
    starts = [random.standard_normal(shape) for shape in shapes]
    parameters = [torch.nn.Parameter(torch.tensor(start, dtype=dtype)) for start in starts]
    optimizer = make(name, parameters, epsilon, **settings)
    given: list[list[np.ndarray]] = [[] for _ in shapes]
    for step in range(60):
        for place, parameter in enumerate(parameters):
            parameter.grad = None
            if not step % 3 == place == 1:
                given[place].append(random.standard_normal(shapes[place]))
                parameter.grad = torch.tensor(given[place][-1], dtype=dtype)
        optimizer.step()
    options = optimizers.load(name).Options(name=name, **settings)
    for start, gradient, parameter in zip(starts, given, parameters, strict=True):
        expected, _ = REFERENCES[name](options, epsilon, LEARNING_RATE, start, gradient)
        torch.testing.assert_close(parameter.double(), torch.as_tensor(expected), rtol=tolerance, atol=tolerance)


def test_a_closure_is_called_with_gradients_on() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = make("eadam", [parameter], rate=0.1)

    def closure() -> float:
        loss = (parameter**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert (parameter.detach() < 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_sparse_gradients_are_refused(name: str) -> None:
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = make(name, list(embedding.parameters()))
    embedding(torch.tensor([1, 1])).sum().backward()
    words = rf"optimizer '{name}' needs dense gradients, and a parameter of shape 5×3 has a sparse one.*sparse=False"
    with pytest.raises(SpecError, match=words):
        optimizer.step()


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("adabelief", {"betas": (0, 0.999)}, "greater than 0"),
        ("adabelief", {"betas": (0.9, 0.5), "rectify": True}, "averages over at most 3 steps.*take more than 2/3"),
        ("adam", {"betas": (0.9, 1.0)}, "less than 1"),
        ("adam", {"weight_decay": -1}, "greater than or equal to 0"),
        ("adam", {"eps": 1e-8}, "Extra inputs"),
        ("radam", {"betas": (0.9, 2 / 3)}, "averages over at most 5 steps.*ε has no effect"),
        ("rmsprop", {"alpha": 0, "centered": True}, "centered: true needs alpha > 0"),
        ("sgdm", {"momentum": 0, "nesterov": True}, "nesterov: true needs momentum > 0"),
    ],
)
def test_options_out_of_range_are_refused(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        optimizers.load(name).Options(name=name, **settings)


def test_centered_rmsprop_counts_what_rounds_below_zero_as_zero() -> None:
    """Gradients that never vary: v − a² is then all rounding, of either sign."""
    plugin = optimizers.load("rmsprop")
    v = torch.tensor([1.0, 4.0])
    state = {"square_avg": v, "grad_avg": torch.tensor([1.0 + 2**-20, 1.0])}
    moment = plugin.second_moment(state, {"centered": True})
    assert moment is not None
    assert moment.values.tolist() == [0.0, 3.0]
    assert v.tolist() == [1.0, 4.0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lion", "takes the sign of a momentum"),
        ("Adafactor", "row and column sums"),
        ("muon", "orthogonalizes"),
        ("sparse_adam", "dense gradients"),
    ],
)
def test_an_unsupported_optimizer_says_why(name: str, reason: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"optimizer '{name}' is not supported: .*{reason}.*\(supported: ada"):
        optimizers.load(name)


def test_an_optimizer_without_epsilon_is_not_probed() -> None:
    with pytest.raises(NoBoundsError, match="'sgdm' has no epsilon"):
        optimizers.require_epsilon("sgdm")
