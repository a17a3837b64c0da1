"""A training function of yours: it is called with a trial, trains with its learning rate, ε and seed, returns a score.

    def train(trial):
        model = ...
        optimizer = torch.optim.Adam(model.parameters(), lr=trial.learning_rate, eps=trial.epsilon)
        ...
        return accuracy    # or {"validation": accuracy, "test": test_accuracy}

`trial` is a `FunctionTrial`. A score that is NaN or infinite is a training that diverged, which is a result.
"""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from epsgrid import plugins
from epsgrid.errors import SpecError
from epsgrid.tasks import Metric
from epsgrid.tasks._own import FunctionTrial, MetricOptions, NoData, OwnOptions

START = {"model": None, "training": None, "sweep": {"grid": "narrowed", "epsilons": [1e-8, 1e-6, 1e-4, 1e-2]}}


def _target(target: str) -> str:
    """Refuse what does not name a function of a module."""
    module, _, name = target.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ValueError(f"expected module:function, such as my_training:train, got {target!r}")
    return target


class Options(OwnOptions):
    """The function and what its score is."""

    target: Annotated[str, AfterValidator(_target)] = Field(examples=["my_module:train"])
    """The function, as "module:function"; its module lies in `folder`, or where Python finds modules."""
    metric: MetricOptions = Field(examples=[{"name": "accuracy", "direction": "max"}])

    @classmethod
    def code(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the name of the function, whose module is then found in its folder."""
        plugins.look_in(options["folder"])
        return (options["target"],)


def metric(options: Options) -> Metric:
    """Return what the function's score is."""
    return Metric(options.metric.name, options.metric.direction, options.metric.unit)


def prepare(options: Options) -> NoData:
    """Check that there is such a module, without importing it."""
    plugins.look_in(options.folder)
    module = options.target.partition(":")[0]
    if module == "__main__":
        if options.target not in plugins.offered():
            raise SpecError(
                f"task.target: {options.target} was a function of a notebook, which no other process has; call"
                " epsgrid.sweep there again"
            )
    elif not plugins.files(options.target):
        raise SpecError(
            f"task.target: there is no module {module!r} in {options.folder}, nor where Python looks for modules;"
            " set task.folder to where it lies"
        )
    return NoData()


def rehearse(options: Options) -> None:
    """Import the function, and check that it can be called with a trial."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        function = plugins.load("targets", options.target)
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError) as error:
        raise SpecError(f"task.target: {options.target} cannot be called with a trial: {error}") from error


def train(options: Options, trial: FunctionTrial) -> Any:
    """Call the function; what it prints goes to the trial's log."""
    with contextlib.redirect_stdout(trial.log), contextlib.redirect_stderr(trial.log):
        return plugins.load("targets", options.target)(trial)
