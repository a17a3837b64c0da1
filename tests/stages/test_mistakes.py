"""What the first step of a training shows is told once, before any trial is trained."""

from multiprocessing import forkserver
from unittest.mock import Mock

import pytest
import torch

from epsgrid import worker
from epsgrid.errors import ExecutionError, NoBoundsError, SpecError
from epsgrid.executors import JobEnded, JobStarted, call_work, local
from epsgrid.stages import probe as probe_stage
from epsgrid.stages.running import HowToRun
from epsgrid.stages.sweep import sweep
from epsgrid.store.records import TrialFailure
from tests.stages.conftest import NeverStop, train
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
        sweep(asked, "default", HowToRun(1, events.append, NeverStop()))
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


class Sideways(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.words = nn.Embedding(outputs, outputs)

    def forward(self, tokens):
        return self.words(tokens).transpose(0, 1)


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


def test_what_the_first_trial_refuses_is_not_tried_again_nor_in_others(asked, monkeypatch):
    monkeypatch.setattr("epsgrid.worker.run_trial", Mock(side_effect=SpecError("found later than in the first step")))
    asked = asked.with_sweep(seeds=(0, 1, 2))
    with pytest.raises(SpecError, match="found later than in the first step"):
        train(asked, "default")
    failures = [TrialFailure.read(each.failure_json) for each in asked.folder.trials() if each.failure_json.exists()]
    assert [(failure.error, failure.attempts) for failure in failures] == [
        ("SpecError: found later than in the first step", 1)
    ]


def test_a_trial_that_has_no_memory_alone_is_refused_with_what_to_do(asked, monkeypatch):
    monkeypatch.setattr("epsgrid.worker.rehearse", Mock(side_effect=MemoryError))
    with pytest.raises(SpecError, match=r"on this processor .*: a trial alone runs out of memory .*than 256, training"):
        train(asked, "default")


@pytest.mark.parametrize(
    ("kill", "words"),
    [
        ("os.kill(os.getpid(), 9)", r"killed by signal 9 \(Killed\), as happens without memory.*batch_size than 256"),
        (
            "os.kill(os.getpid(), 4)",
            r"killed by signal 4 \(Illegal instruction\); see that .* another execution.device",
        ),
        ("os._exit(7)", "ended with status 7; what it wrote is above"),
    ],
)
def test_a_process_that_dies_in_its_first_step_is_told(asking, user_code: UserCode, monkeypatch, kill, words):
    user_code.write(
        "user_net.py",
        f"""\
        import os
        from torch import nn
        from types import SimpleNamespace
        from epsgrid.spec.options import ModelOptions

        class Net(nn.Linear):
            def forward(self, images):
                {kill}

        net = SimpleNamespace(Options=ModelOptions, build=lambda options, inputs, outputs: Net(64, 10))
        """,
    )
    monkeypatch.setenv("PYTHONPATH", str(user_code.folder))
    forkserver._forkserver._stop()  # so that the one for this test finds the module
    asked = asking("model=user_net:net", "execution.executor=local")
    with pytest.raises(SpecError, match=words):
        train(asked, "default")
    assert not [trial for trial in asked.folder.trials() if trial.failure_json.exists()]
    forkserver._forkserver._stop()


SCORING = """\
from types import SimpleNamespace

from epsgrid.tasks import Metric, digits


class Task:
    metric = Metric("accuracy", "max", "%")

    def __init__(self, task):
        self._task, self.inputs, self.outputs, self.notes = task, task.inputs, task.outputs, task.notes

    def __getattr__(self, name):
        return getattr(self._task, name)

    def evaluate(self, model, split):
        scores = self._task.evaluate(model, split)
        SCORE


def build(options, data, device):
    return Task(digits.build(options, data, device))


task = SimpleNamespace(Options=digits.Options, prepare=digits.prepare, build=build)
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("return 1 / 0", r"fails in .*user_scoring.py, line 17, in evaluate: ZeroDivisionError"),
        ("return scores if split == 'validation' else scores['wer']", "in evaluate: KeyError: 'wer'"),
        (
            "return {'loss': 1.0, 'acc': 0.5}",
            "gives {'loss': 1.0, 'acc': 0.5} for the validation split; .*, with 'loss' and 'accuracy' among them",
        ),
        ("return {}", "gives {} for the validation split; expected a mapping from names to numbers"),
        ("return None", "gives None for the validation split; expected a mapping"),
        ("return {**scores, 'loss': 'low'}", "gives {'loss': 'low'"),
    ],
)
def test_a_task_that_cannot_score_is_refused_before_training(asking, user_code: UserCode, line, words):
    user_code.write("user_scoring.py", SCORING.replace("SCORE", line))
    asked = asking("task=user_scoring:task")
    with pytest.raises(SpecError, match=words):
        train(asked, "default")
    assert not [trial for trial in asked.folder.trials() if trial.failure_json.exists()]


@pytest.mark.parametrize(
    "line", ["return {name: torch.tensor(each) for name, each in scores.items()}", "return scores"]
)
def test_a_task_that_scores_with_tensors_is_trained(asking, user_code: UserCode, line):
    user_code.write("user_scoring.py", "import torch\n" + SCORING.replace("SCORE", line))
    assert train(asking("task=user_scoring:task"), "default").counts == {"done": 1}


def test_what_nobody_expected_in_the_first_step_is_told_with_its_trace_in_a_log(asked, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr("epsgrid.worker.rehearse", fail)
    with pytest.raises(
        SpecError,
        match=r"on this processor .*: the first .* the scoring after it, fails: RuntimeError: no kernel for this;",
    ):
        train(asked, "default")
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
        sweep(asked, "default", HowToRun(1, events.append, NeverStop()))
    assert len(events) == 1


class Cluster:
    """Runs jobs in this process, each as on another machine whose memory may be shared."""

    def __init__(self):
        self.begun = []

    def run(self, jobs, work, *, slots, notify, stop, execution):
        for job in jobs:
            if not stop.level():
                self.begun.append((job.trial, job.exclusive))
                notify(JobStarted(job))
                notify(JobEnded(job, call_work(work, job)))


def on_a_cluster(asking, monkeypatch, *overrides):
    """Return a function that sweeps three trials on a cluster, and the cluster."""
    cluster = Cluster()
    monkeypatch.setattr("epsgrid.executors.load", lambda name: cluster)
    monkeypatch.setattr("epsgrid.executors.local.answer", lambda work, job, stop: worker.rehearse_job(job))
    monkeypatch.setattr("platform.node", lambda: "node17")
    asked = asking("sweep.seeds=[0,1,2]", *overrides)

    def swept():
        return train(asked, "default")

    return swept, cluster


SLURM, RAY = "execution.executor=slurm", "execution={executor: ray, ray: {address: 'host:1'}}"


@pytest.mark.parametrize("place", [SLURM, RAY])
@pytest.mark.parametrize("has_trained", [False, True])
def test_a_device_that_a_machine_of_a_cluster_lacks_ends_the_sweep_unless_trials_were_trained(
    asking, monkeypatch, place, has_trained
):
    swept, cluster = on_a_cluster(asking, monkeypatch, place)
    real = worker.resolve_device

    def lacking(asked, precision="float32"):
        if len(cluster.begun) > has_trained:
            raise ExecutionError("torch sees no CUDA device here")
        return real(asked, precision)

    monkeypatch.setattr(worker, "resolve_device", lacking)
    if has_trained:  # one machine of several: others may do
        assert swept().counts == {"done": 1, "failed": 2}
        assert len(cluster.begun) == 5
        return
    with pytest.raises(SpecError, match="on node17: torch sees no CUDA device here") as refused:
        swept()
    assert ("[--exclude=node17]" in str(refused.value)) == (place == SLURM)
    assert len(cluster.begun) == 1


@pytest.mark.parametrize("place", [SLURM, RAY])
def test_what_only_a_machine_of_a_cluster_cannot_do_is_refused_there_once(asking, monkeypatch, place):
    swept, cluster = on_a_cluster(asking, monkeypatch, place)
    real = worker.rehearse

    def fail(*given, to_the_end):
        if to_the_end:
            raise NotImplementedError("no kernel for this\nand many more lines")
        real(*given, to_the_end=False)

    monkeypatch.setattr(worker, "rehearse", fail)
    with pytest.raises(SpecError, match=r"on node17, this processor .*: NotImplementedError: no kernel for this; it"):
        swept()
    assert len(cluster.begun) == 1


@pytest.mark.parametrize(("place", "tries"), [(SLURM, [False]), (RAY, [False, False, False, True])])
def test_a_trial_too_large_for_a_machine_of_a_cluster_is_refused_once_it_was_alone(asking, monkeypatch, place, tries):
    swept, cluster = on_a_cluster(asking, monkeypatch, place)

    def fail(*given, to_the_end):
        if to_the_end:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")

    monkeypatch.setattr(worker, "rehearse", fail)
    with pytest.raises(
        SpecError, match=r"on node17, this processor .*: a trial alone runs out of memory .*smaller training.batch_size"
    ):
        swept()
    assert [is_exclusive for _, is_exclusive in cluster.begun] == tries


@pytest.mark.parametrize(("workers", "slots"), [(None, 2), (5, 5)])
def test_no_more_trials_run_at_once_than_memory_has_room_for_unless_asked_for(
    asking, monkeypatch, capsys, workers, slots
):
    class Noting(Cluster):
        def run(self, jobs, work, *, slots, **rest):
            self.slots = slots
            super().run(jobs, work, slots=slots, **rest)

    cluster, gib = Noting(), 2**30
    monkeypatch.setattr("epsgrid.executors.load", lambda name: cluster)
    monkeypatch.setattr("epsgrid.executors.local.answer", lambda work, job, stop: ("", 3 * gib, 8 * gib))
    monkeypatch.setattr("epsgrid.stages.running._slots_of", lambda spec, workers: workers or 4)
    asked = asking("execution.executor=local")
    sweep(asked, "default", HowToRun(workers, lambda event: None, NeverStop()))
    assert cluster.slots == slots
    so = "2 run at once, not 4" if workers is None else "5 at once may not fit"
    assert capsys.readouterr().err == (
        f"warning: a trial takes about 3 GiB of memory and this machine has 8 GiB, so {so};"
        " `execution.workers: 2` fits\n"
    )


def test_the_memory_that_a_trial_takes_is_that_of_its_tensors(asking, monkeypatch):
    answers, real = [], local.answer
    monkeypatch.setattr(local, "answer", lambda *given: answers.append(real(*given)) or answers[-1])
    asked = asking("execution.executor=local", "model={name: mlp, hidden: [3000, 3000]}")
    train(asked, "default")
    ((why, size, memory),) = answers
    weights = 4 * (64 * 3000 + 3000 * 3000 + 3000 * 10)
    assert why == ""
    assert 5 * weights < size < 18 * weights  # weights, kept ones, gradients, two moments, and a checkpoint of four
    assert size < memory
