"""What every optimizer file promises, checked against plain float64 recomputations."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from epsgrid import optimizers, plugins

LEARNING_RATE = 0.01
NAMES = plugins.names("optimizers")
ADAPTIVE = [name for name in NAMES if optimizers.load(name).HAS_EPSILON]


def adam(options: Any, epsilon: float | None, theta: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    return _adam(options, epsilon, theta, gradients, coupled=options.weight_decay, decoupled=0.0)


def adamw(options: Any, epsilon: float | None, theta: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    return _adam(options, epsilon, theta, gradients, coupled=0.0, decoupled=options.weight_decay)


def _adam(
    options: Any,
    epsilon: float | None,
    theta: np.ndarray,
    gradients: list[np.ndarray],
    coupled: float,
    decoupled: float,
) -> np.ndarray:
    beta1, beta2 = options.betas
    m = v = np.zeros_like(theta)
    for t, gradient in enumerate(gradients, 1):
        g = gradient + coupled * theta
        theta = theta - LEARNING_RATE * decoupled * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        theta = theta - LEARNING_RATE * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    return theta


def rmsprop(options: Any, epsilon: float | None, theta: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    v = buffer = np.zeros_like(theta)
    for gradient in gradients:
        g = gradient + options.weight_decay * theta
        v = options.alpha * v + (1 - options.alpha) * g**2
        buffer = options.momentum * buffer + g / (np.sqrt(v) + epsilon)
        theta = theta - LEARNING_RATE * buffer
    return theta


def sgdm(options: Any, epsilon: float | None, theta: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    assert epsilon is None
    buffer = np.zeros_like(theta)
    for gradient in gradients:
        g = gradient + options.weight_decay * theta
        buffer = options.momentum * buffer + g
        theta = theta - LEARNING_RATE * (g + options.momentum * buffer if options.nesterov else buffer)
    return theta


REFERENCES = {"adam": adam, "adamw": adamw, "rmsprop": rmsprop, "sgdm": sgdm}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "adam": [{}, {"betas": (0.5, 0.9), "weight_decay": 0.1}, {"betas": (0, 0)}],
    "adamw": [{}, {"betas": (0.5, 0.9), "weight_decay": 0.1}, {"weight_decay": 0}],
    "rmsprop": [{}, {"alpha": 0.9, "weight_decay": 0.1}, {"momentum": 0.5}],
    "sgdm": [{}, {"momentum": 0.5, "weight_decay": 0.1, "nesterov": True}, {"momentum": 0}],
}
CASES = [(name, settings) for name in OPTIONS for settings in OPTIONS[name]]


def make(
    name: str, parameters: list[torch.nn.Parameter], epsilon: float = 1e-3, rate: float = LEARNING_RATE, **kw: Any
):  # type: ignore[no-untyped-def]
    plugin = optimizers.load(name)
    return plugin.build(parameters, plugin.Options(name=name, **kw), rate, epsilon if plugin.HAS_EPSILON else None)


def gradients(count: int, size: int = 37) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.standard_normal(size) * 10.0 ** random.integers(-4, 2, size) for _ in range(count)]


def run(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, given: list[np.ndarray]) -> None:
    for gradient in given:
        parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
        optimizer.step()


def test_every_optimizer_has_a_reference() -> None:
    assert set(REFERENCES) == set(OPTIONS) == set(NAMES)


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_steps_equal_a_plain_float64_recomputation(
    name: str, settings: dict[str, Any], steps: int, dtype: torch.dtype, tolerance: float
) -> None:
    plugin = optimizers.load(name)
    options = plugin.Options(name=name, **settings)
    start = np.linspace(-1, 1, 37)
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=dtype))
    run(make(name, [parameter], **settings), parameter, gradients(steps))
    expected = REFERENCES[name](options, 1e-3 if plugin.HAS_EPSILON else None, start, gradients(steps))
    torch.testing.assert_close(parameter.detach().double(), torch.from_numpy(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("steps", [1, 5])
def test_second_moment_is_the_tensor_epsilon_is_added_to(name: str, steps: int) -> None:
    """Two runs that differ in ε only: step · (√v̂ + ε) must be the same numerator in both, element by element."""
    plugin = optimizers.load(name)
    assert plugin.placement(plugin.Options(name=name)).where.startswith("outside the root")
    numerators = []
    for epsilon in (1e-1, 1e-5):
        parameter = torch.nn.Parameter(torch.zeros(37, dtype=torch.float64))
        optimizer = make(name, [parameter], epsilon)
        run(optimizer, parameter, gradients(steps - 1))
        before = parameter.detach().clone()
        if name == "adamw":  # what is left of the step without the decoupled decay
            before *= 1 - LEARNING_RATE * optimizer.param_groups[0]["weight_decay"]
        run(optimizer, parameter, gradients(steps)[-1:])
        moment = plugin.second_moment(optimizer.state[parameter], optimizer.param_groups[0])
        assert moment is not None
        magnitude = plugin.placement(plugin.Options(name=name)).magnitude_from_epsilon(epsilon)
        numerators.append((before - parameter.detach()) * ((moment.values * moment.scale).sqrt() + magnitude))
    assert numerators[0].abs().min() > 0
    torch.testing.assert_close(*numerators, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_second_moment_is_the_optimizers_own_tensor(name: str) -> None:
    plugin = optimizers.load(name)
    parameter = torch.nn.Parameter(torch.zeros(5, 7))
    optimizer = make(name, [parameter])
    assert plugin.second_moment(optimizer.state.get(parameter, {}), optimizer.param_groups[0]) is None
    parameter.grad = torch.full((5, 7), 2.0)
    optimizer.step()
    moment = plugin.second_moment(optimizer.state[parameter], optimizer.param_groups[0])
    assert moment is not None
    assert moment.values.shape == parameter.shape
    assert any(moment.values is value for value in optimizer.state[parameter].values())


@pytest.mark.parametrize(("name", "corrected"), [("adam", True), ("adamw", True), ("rmsprop", False)])
def test_constant_gradients_show_whether_the_bias_is_corrected(name: str, corrected: bool) -> None:
    plugin = optimizers.load(name)
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = make(name, [parameter])
    run(optimizer, parameter, [np.full(3, 2.0)] * 4)
    moment = plugin.second_moment(optimizer.state[parameter], optimizer.param_groups[0])
    assert moment is not None
    expected = 4.0 if corrected else 4.0 * (1 - 0.999**4)
    torch.testing.assert_close(moment.values * moment.scale, torch.full((3,), expected), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_probing_without_a_learning_rate_leaves_the_weights_bit_identical(name: str) -> None:
    """The frozen probe: weights stay, also where gradients are exactly zero or missing."""
    plugin = optimizers.load(name)
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(11, 3)) for _ in range(3)]
    before = [parameter.detach().numpy().tobytes() for parameter in parameters]
    optimizer = make(name, parameters, epsilon=1e-8, rate=0.0)
    for _ in range(4):
        parameters[0].grad = torch.randn(11, 3)
        parameters[1].grad = torch.zeros(11, 3)
        optimizer.step()
    assert [parameter.detach().numpy().tobytes() for parameter in parameters] == before
    if plugin.HAS_EPSILON:
        moments = [
            plugin.second_moment(optimizer.state.get(each, {}), optimizer.param_groups[0]) for each in parameters
        ]
        assert moments[0] is not None and moments[0].values.min() > 0
        assert moments[1] is not None
        assert plugin.second_moment(optimizer.state.get(parameters[2], {}), optimizer.param_groups[0]) is None


@pytest.mark.parametrize("name", ADAPTIVE)
def test_zero_gradients_leave_zeros_in_the_second_moment(name: str) -> None:
    plugin = optimizers.load(name)
    parameter = torch.nn.Parameter(torch.ones(9))
    optimizer = make(name, [parameter])
    run(optimizer, parameter, [np.zeros(9)] * 3)
    moment = plugin.second_moment(optimizer.state[parameter], optimizer.param_groups[0])
    assert moment is not None
    assert torch.equal(moment.values, torch.zeros(9))


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_state_goes_on_exactly(name: str) -> None:
    whole = torch.nn.Parameter(torch.linspace(-1, 1, 37))
    optimizer = make(name, [whole])
    run(optimizer, whole, gradients(6)[:3])
    resumed = torch.nn.Parameter(whole.detach().clone())
    state = copy.deepcopy(optimizer.state_dict())
    run(optimizer, whole, gradients(6)[3:])
    again = make(name, [resumed])
    again.load_state_dict(state)
    run(again, resumed, gradients(6)[3:])
    assert torch.equal(whole, resumed)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("adam", {"betas": (0.9, 1.0)}, "less than 1"),
        ("adam", {"betas": (-0.1, 0.9)}, "greater than or equal to 0"),
        ("adam", {"weight_decay": -1}, "greater than or equal to 0"),
        ("adam", {"eps": 1e-8}, "Extra inputs"),
        ("adamw", {"betas": (0.9,)}, "Field required"),
        ("rmsprop", {"alpha": 1}, "less than 1"),
        ("rmsprop", {"centered": True}, "Extra inputs"),
        ("sgdm", {"momentum": 1}, "less than 1"),
        ("sgdm", {"momentum": 0, "nesterov": True}, "nesterov: true needs momentum > 0"),
    ],
)
def test_options_out_of_range_are_refused(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        optimizers.load(name).Options(name=name, **settings)


def test_rmsprop_decays_as_published_and_not_as_torch_does() -> None:
    assert optimizers.load("rmsprop").Options(name="rmsprop").model_dump()["alpha"] == 0.999
