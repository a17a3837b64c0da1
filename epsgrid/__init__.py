"""epsgrid finds the ε of Adam and its kin from one look at the gradient-magnitude histogram.

The flow, in words used everywhere with one meaning:

    spec -> task + optimizer -> probe -> histogram -> bounds -> grid -> trials -> records -> report

    spec/        what was asked: one YAML file, one frozen typed model
    numerics/    the mathematics: histograms, exact order statistics, bounds, where ε sits, statistics
    optimizers/  tasks/  models/  data/  grids/  executors/    plug-ins, one file each
    observing/   read what an optimizer's ε is compared with, in any training
    integrations/  the same as callbacks of Lightning and of the Trainer
    store/       what came back: plain files, written atomically
    trials/      one training run, and the probe's run
    report/      from records to tables and figures
    stages/      the flow: probe, sweep, report
    cli/         the command line
    api          the same for a program: sweep a training function, load its results

For a training loop of your own, `epsgrid.observe`, `epsgrid.probe` and, for its checkpoints, `epsgrid.read_checkpoint`
are all there is to know. The names below are imported when they are first used, so that `import epsgrid` costs nothing
and brings no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from epsgrid._version import __version__ as __version__

if TYPE_CHECKING:
    from epsgrid.api import load as load
    from epsgrid.api import sweep as sweep
    from epsgrid.numerics.bounds import EpsilonBounds as EpsilonBounds
    from epsgrid.numerics.histogram import LogHistogram as LogHistogram
    from epsgrid.numerics.placement import Placement as Placement
    from epsgrid.numerics.predicting import predict as predict
    from epsgrid.observing.adapters import register as register_optimizer
    from epsgrid.observing.checkpoint import read_checkpoint as read_checkpoint
    from epsgrid.observing.diagnosis import EpsilonWarning as EpsilonWarning
    from epsgrid.observing.observer import observe as observe
    from epsgrid.observing.probing import probe as probe
    from epsgrid.optimizers import SecondMoment as SecondMoment
    from epsgrid.tasks._own import FunctionTrial as FunctionTrial

_PUBLIC = {
    "EpsilonBounds": ("epsgrid.numerics.bounds", "EpsilonBounds"),
    "EpsilonWarning": ("epsgrid.observing.diagnosis", "EpsilonWarning"),
    "FunctionTrial": ("epsgrid.tasks._own", "FunctionTrial"),
    "LogHistogram": ("epsgrid.numerics.histogram", "LogHistogram"),
    "Placement": ("epsgrid.numerics.placement", "Placement"),
    "SecondMoment": ("epsgrid.optimizers", "SecondMoment"),
    "load": ("epsgrid.api", "load"),
    "observe": ("epsgrid.observing.observer", "observe"),
    "predict": ("epsgrid.numerics.predicting", "predict"),
    "probe": ("epsgrid.observing.probing", "probe"),
    "read_checkpoint": ("epsgrid.observing.checkpoint", "read_checkpoint"),
    "register_optimizer": ("epsgrid.observing.adapters", "register"),
    "sweep": ("epsgrid.api", "sweep"),
}
"""Where each public name is found."""

__all__ = [
    "EpsilonBounds",
    "EpsilonWarning",
    "FunctionTrial",
    "LogHistogram",
    "Placement",
    "SecondMoment",
    "load",
    "observe",
    "predict",
    "probe",
    "read_checkpoint",
    "register_optimizer",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
