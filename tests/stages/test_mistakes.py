"""What the first step of a training shows is told once, before any trial is trained."""

import pytest

from epsgrid.errors import NoBoundsError, SpecError
from epsgrid.stages import probe as probe_stage
from epsgrid.stages.sweep import sweep
from tests.stages.conftest import NeverStop
from tests.user_code import NET, UserCode, user_code

__all__ = ["user_code"]

FORWARD = """
def build(options, inputs, outputs):
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(3, outputs)

        def forward(self, images):
            return self.dense(images.flatten(1))

    return Net()
"""


def both(asked):
    """Return how a sweep and a probe refuse an experiment, after checking that the sweep trains nothing."""
    events = []
    with pytest.raises(SpecError) as swept:
        sweep(asked, "default", workers=1, fail_fast=False, notify=events.append, stop=NeverStop())
    assert not any(getattr(event, "state", None) for event in events), "no trial has begun"
    assert not [trial for trial in asked.folder.trials() if trial.failure_json.exists()]
    with pytest.raises(SpecError) as probed:
        probe_stage.probe(asked, ["test"], force=False, on_step=lambda done, of: pytest.fail("a step was taken"))
    return str(swept.value), str(probed.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=lstm"], "model lstm reads text, and this task gives examples of shape (1, 8, 8)"),
        (["model=alexnet"], "model alexnet needs images of at least 15×15 pixels"),
        (["task=synthetic_text", "model=resnet34", "training.batch_size=20"], "model resnet34 needs images"),
        (["task=synthetic_text", "model=mlp", "training.batch_size=20"], "model mlp reads no text; use `model: gpt`"),
        (["training.batch_size=2000"], "2,000 is larger than the data"),
        (["report.margin=2 %"], "accuracy is shown in percent"),
    ],
)
def test_a_spec_that_cannot_be_trained(asking, overrides, words):
    for told in both(asking(*overrides)):
        assert words in told


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            "def build(options, inputs, outputs):\n    return 1 / 0\n",
            "user_net.py, line 12, in build: ZeroDivisionError",
        ),
        (FORWARD, "user_net.py, line 20, in forward: RuntimeError: mat1 and mat2"),
        (
            "build = lambda *_: None\n",
            "it gave NoneType; expected a torch.nn.Module",
        ),
        ("from torch import nn\nbuild = lambda *_: nn.Flatten()\n", "nothing to train, for it has no parameters"),
        (
            "from torch import nn\nbuild = lambda *_: nn.Linear(8, 10).requires_grad_(False)\n",
            "nothing to train, for all its parameters are frozen",
        ),
        ("from torch import nn\nbuild = lambda *_: nn.LazyLinear(10)\n", "has lazy parameters"),
        (
            "from torch import nn\nbuild = lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(64, 9))\n",
            "gives outputs of shape (256, 9); the last number must be 10 for task digits",
        ),
        (
            "from torch import nn\n\ndef build(options, inputs, outputs):\n    net = nn.Sequential(nn.Flatten(),"
            " nn.Linear(64, 10))\n    nn.init.constant_(net[1].bias, float('nan'))\n    return net\n",
            "the loss of the first batch is nan before any step",
        ),
    ],
)
def test_a_model_of_the_users_that_cannot_be_trained(asking, user_code: UserCode, build, words):
    head, _, rest = NET.partition("def build")
    user_code.write("user_net.py", head + "\n" + build.strip() + "\n\n\n" + rest[rest.index("net = Simple") :])
    for told in both(asking("model=user_net:net")):
        assert words in told


OWN = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8, flat=64, outputs=10):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width))
        self.head = nn.Linear(width if flat == 64 else flat, outputs)

    def forward(self, images):
        return self.head(self.body(images))


class Pair(Net):
    def forward(self, images):
        return super().forward(images), 0


def folded(outputs):
    return nn.Conv2d(3, outputs, 3)
"""


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "{name: 'user_own:Net', flat: 512}",
            "the model's layer `head`, Linear, wants 512 and got 8, in (256, 8); task",
        ),
        ("user_own:folded", "the model, Conv2d, wants 3 and got 1, in (256, 1, 8, 8); task digits gives examples of"),
        ("{name: 'user_own:Net', outputs: 7}", "gives outputs of shape (256, 7); the last number must be 10 for task"),
        (
            "user_own:Pair",
            "model user_own:Pair gives a tuple; task digits needs a tensor whose last axis has 10 numbers",
        ),
    ],
)
def test_a_class_of_the_users_that_does_not_fit_the_task(asking, user_code: UserCode, model, words):
    user_code.write("user_own.py", OWN)
    for told in both(asking(f"model={model}")):
        assert words in told


def test_what_trials_refuse_is_not_tried_again(asked, monkeypatch):
    def refuse(*_, **__):
        raise SpecError("found later than in the first step")

    monkeypatch.setattr("epsgrid.worker.run_trial", refuse)
    summary = sweep(asked, "default", workers=1, fail_fast=False, notify=lambda event: None, stop=NeverStop())
    assert [(failure.error, failure.attempts) for failure in summary.failures] == [
        ("SpecError: found later than in the first step", 1)
    ]


def test_trials_without_memory_in_the_first_step_are_tried_as_ever(asked, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("epsgrid.worker.rehearse", fail)
    run = {"workers": 1, "fail_fast": False, "notify": lambda event: None, "stop": NeverStop()}
    assert sweep(asked, "default", **run).counts == {"done": 1}


def test_what_nobody_expected_in_the_first_step_is_told_with_its_trace_in_a_log(asked, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr("epsgrid.worker.rehearse", fail)
    with pytest.raises(
        SpecError, match=r"the first step of training fails: RuntimeError: no kernel for this; its trace"
    ):
        sweep(asked, "default", workers=1, fail_fast=False, notify=lambda event: None, stop=NeverStop())
    (trial,) = asked.folder.trials()
    assert "in fail" in trial.log.read_text()


def test_patterns_that_leave_no_layer_are_refused_before_a_step(asking):
    asked = asking("probe.leave_out=['*']")
    with pytest.raises(NoBoundsError, match="leave_out leaves no layer"):
        probe_stage.probe(asked, ["test"], force=False, on_step=lambda done, of: pytest.fail("a step was taken"))


def test_a_local_sweep_tells_it_in_a_process_of_its_own(asking):
    events = []
    asked = asking("model=lstm", "execution.executor=local")
    with pytest.raises(SpecError, match="model lstm reads text"):
        sweep(asked, "default", workers=1, fail_fast=False, notify=events.append, stop=NeverStop())
    assert len(events) == 1
