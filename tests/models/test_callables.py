"""Models of the user's that are classes or functions, named by a dotted path with keywords in the spec."""

import sys

import pytest

from epsgrid import models
from epsgrid.errors import SpecError
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.trial import identity
from epsgrid.spec.writing import spec_to_yaml
from epsgrid.trials import train
from tests.trials.conftest import make_setting
from tests.trials.test_train import without_times
from tests.user_code import user_code

__all__ = ["user_code"]

OWN = """
from functools import partial

from torch import nn


class Net(nn.Module):
    def __init__(self, width, depth=1, *, outputs):
        super().__init__()
        self.learning_rate_factors = {"last.weight": 0.5}
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(64, width), *[nn.ReLU()] * depth)
        self.last = nn.Linear(width, outputs)

    def forward(self, images):
        return self.last(self.first(images))


def net(inputs, outputs, **others):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs[-1] * inputs[-2], outputs, **others))


small = partial(Net, 3)
made = nn.Linear(2, 2)
number = 3
"""
SPEC = """
experiment: own
task: digits
model: MODEL
optimizer: adam
training: {epochs: 1, batch_size: 64}
sweep: {learning_rates: [1e-2], seeds: [0]}
"""


@pytest.fixture(autouse=True)
def own(user_code):
    return user_code.write("user_own.py", OWN)


def spec(model):
    return parse_spec(SPEC.replace("MODEL", model), "spec.yaml")


def built(model, inputs=(1, 8, 8), outputs=10):
    return models.build(spec(model).model, inputs, outputs)


def test_keywords_are_the_specs_and_shapes_the_tasks():
    model = built("{name: 'user_own:Net', width: 5}")
    assert (model.first[1].out_features, model.last.out_features) == (5, 10)
    assert built("{name: 'user_own:Net', width: 5, outputs: 7}").last.out_features == 7, "the spec goes first"
    assert built("{name: 'user_own:net', bias: false}", (1, 4, 6), 3)[1].weight.shape == (3, 24)
    assert built("user_own:small").first[1].out_features == 3


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "{name: 'user_own:Net', widht: 5}",
            "4:8: model: user_own:Net has no parameter 'widht'; did you mean 'width'? (one of: width, depth, outputs)",
        ),
        ("user_own:Net", "model: user_own:Net needs width: write `model: {name: user_own:Net, width: …}`"),
        ("user_own:made", "model: user_own:made is a model already; name its class, or a function that returns a new"),
        ("user_own:number", "model.name: 'user_own:number' has no class Options(ModelOptions), so it is no model"),
        ("user_own.Net", "unknown model 'user_own.Net'; one of your own is user_own:Net, with a colon; expected one"),
    ],
)
def test_a_wrong_model_is_told_where_the_spec_is_read(model, words):
    with pytest.raises(SpecError) as caught:
        spec(model)
    assert words in str(caught.value)


def test_a_trial_is_what_the_spec_says_and_the_code(user_code):
    asked = spec("{name: 'user_own:Net', width: 5}")
    assert parse_spec(spec_to_yaml(asked)) == asked
    known = identity(asked)
    assert known["model"] == {"name": "user_own:Net", "width": 5} and list(known["code"]) == ["user_own.py"]
    user_code.write("user_own.py", OWN.replace("depth=1", "depth=2"))
    assert identity(asked)["code"] != known["code"], "its defaults are in its code"


def test_a_module_is_found_beside_the_spec_and_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "spec").mkdir()
    (tmp_path / "spec" / "user_beside.py").write_text(OWN)
    path = tmp_path / "spec" / "spec.yaml"
    path.write_text(SPEC.replace("MODEL", "user_beside:small"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert parse_spec(path.read_text(), str(path)).model.name == "user_beside:small"
    (tmp_path / "user_here.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    assert spec("user_here:small").model.name == "user_here:small"


def test_it_trains_by_the_trials_seed_and_its_own_learning_rates_and_resumes(tmp_path, monkeypatch, user_code):
    setting = make_setting("model={name: 'user_own:Net', width: 5}", "training.epochs=1")
    rates, take_step = [], train.take_step

    def noting(task, model, optimizer, batch, training):
        rates.append([group["lr"] for group in optimizer.param_groups])
        return take_step(task, model, optimizer, batch, training)

    monkeypatch.setattr(train, "take_step", noting)
    whole = setting.train(tmp_path / "whole")
    assert rates == [[1e-2, 5e-3]] * setting.task.steps_per_epoch(64)
    setting.stop(tmp_path / "stopped", 7)
    assert without_times(setting.train(tmp_path / "stopped")) == without_times(whole)
    assert setting.train(tmp_path / "other", setting.trial(seed=1)).test != whole.test
    user_code.write("user_own.py", OWN.replace("self.last", "self.end"))
    with pytest.raises(SpecError, match=r"learning_rate_factors name 'last.weight', which is no parameter"):
        setting.train(tmp_path / "wrong")
