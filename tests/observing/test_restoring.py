"""What a block did to a model is undone, to the bit."""

import copy

import pytest
import torch
from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.observing.restoring import devices_of, generator_states, left_as_found, restore_generators


class Remembers(nn.Module):
    """Keeps state in every way a module can: buffers in and out of the state_dict, replaced ones, plain attributes."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("hidden", torch.randn(1, 4))
        self.register_buffer("unsaved", torch.randn(3), persistent=False)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        self.latest = x
        self.hidden = torch.zeros(2, 7)
        with torch.no_grad():
            self.unsaved.add_(1)
        return self.norm(self.dense(x))


def bits(tensor):
    return tensor.detach().numpy().tobytes()


def everything(model):
    return {
        **{f"parameter {name}": (id(p), bits(p), p.requires_grad, id(p.grad)) for name, p in model.named_parameters()},
        **{f"buffer {name}": (id(b), bits(b)) for name, b in model.named_buffers()},
        **{f"module {name}": (m.training, sorted(vars(m))) for name, m in model.named_modules()},
    }


def disturb(model):
    model.train()
    model(torch.randn(8, 4)).sum().backward()
    with torch.no_grad():
        model.dense.weight += 1
        model.dense.bias.fill_(torch.nan)
    model.dense.weight.requires_grad_(False)
    model.norm.register_buffer("new", torch.zeros(1))
    torch.rand(3)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_model_is_left_as_found(error):
    model = Remembers()
    model.norm.eval()
    model.dense.bias.requires_grad_(False)
    with torch.no_grad():
        model.dense.weight[0, 0] = -0.0
        model.dense.weight[0, 1] = torch.nan
    model.dense.weight.grad = torch.randn(4, 4)
    found, gradient, random = everything(model), model.dense.weight.grad.clone(), torch.get_rng_state()
    try:
        with left_as_found(model):
            disturb(model)
            assert everything(model) != found
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt) as raised:
        assert isinstance(raised, error)
    assert everything(model) == found
    assert torch.equal(model.dense.weight.grad, gradient)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.calls == 0


def test_found_gradients_are_not_added_to():
    model = nn.Linear(2, 1)
    model.weight.grad = found = torch.ones(1, 2)
    with left_as_found(model):
        assert model.weight.grad is None
        model(torch.ones(1, 2)).sum().backward()
        assert model.weight.grad is not found
    assert model.weight.grad is found
    assert found.tolist() == [[1, 1]]


def test_parameters_beside_the_models_are_put_back_too():
    model, temperature = nn.Linear(2, 1), nn.Parameter(torch.tensor(2.0))
    temperature.grad = gradient = torch.tensor(5.0)
    with left_as_found(model, [temperature, model.weight]):
        assert temperature.grad is None
        with torch.no_grad():
            temperature += 1
    assert temperature.item() == 2
    assert temperature.grad is gradient


def test_a_model_may_be_used_as_before_afterwards():
    model = Remembers()
    never = copy.deepcopy(model)
    with left_as_found(model):
        disturb(model)
    x = torch.randn(8, 4)
    for each in (model, never):
        optimizer = torch.optim.Adam(each.parameters())
        each(x).square().sum().backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, never.state_dict()[name]), name


def test_lazy_parameters_are_refused():
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ObservationError, match="Sequential has lazy parameters"), left_as_found(model):
        pass


def test_devices_and_generators():
    assert devices_of(nn.Flatten()) == (torch.device("cpu"),)
    assert devices_of(nn.Linear(1, 1)) == (torch.device("cpu"),)
    cpu = torch.device("cpu")
    states = generator_states(cpu)
    drawn = torch.rand(3)
    restore_generators(states, cpu)
    assert torch.equal(torch.rand(3), drawn)
