"""Export what a run's probe measured: bounds for another search tool, and an ε for each group of layers.

Bounds are exported in the ε of the run's optimizer, or of another framework's. That conversion is the one of `epsgrid
convert`, at the step at which the bounds were measured and with the β₂ of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epsgrid import plugins
from epsgrid.errors import StoreError, UnknownNameError
from epsgrid.exporters._space import Kind, Space, Target, space_of
from epsgrid.numerics.bounds import BoundsChoice, EpsilonBounds
from epsgrid.numerics.groups import EpsilonGroup, GroupsBy, epsilon_groups
from epsgrid.numerics.placement import FRAMEWORKS
from epsgrid.numerics.precision import power
from epsgrid.optimizers._conversion import placement_of
from epsgrid.selection.load import bounds_choice, parsed_bounds, read_experiment
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import ExperimentRecord, ProbeRecord

_FRAMEWORKS = ("fairseq", "keras", "optax", "tf-keras")
_SAME_EPSILON = {"adamw": "adam", "amsgrad": "adam"}
"""Optimizers that take the ε of another one in every framework: they differ in weight decay, or a maximum over v̂."""


def export_bounds(
    folder: ExperimentFolder,
    tool: str,
    kind: Kind,
    *,
    bounds: BoundsChoice | None,
    framework: str | None,
    names: tuple[str, str],
    predicted: bool = False,
) -> tuple[Space, str, str]:
    """Return a run's bounds as a search space, the text of it for another tool, and one line about how to use that.

    `predicted` asks for the last bounds that were predicted in place of those measured.
    `framework` says whose ε: None or "torch" for the run's own optimizer; "keras", "optax", "tf-keras" or "fairseq" for
    the one of the same name there; or any name that `epsgrid convert` knows, such as "keras-rmsprop". The `names`
    are those of ε and the learning rate in the user's training.

    Raises:
        StoreError: there is no experiment, or nothing was probed.
        UnknownNameError: no such framework or optimizer, or the framework has no such optimizer; lists those it has.
        NoBoundsError: the optimizer named has no ε.
        SpecError: the β₂ of the run is not valid for it, or a name cannot name a hyperparameter.
    """
    exporter = plugins.load("exporters", tool)
    experiment, probe, measured = _read(folder, predicted)
    target = _target_of(framework, probe.identity["optimizer"] if predicted else experiment.spec["optimizer"], probe)
    chosen = measured.chosen(bounds or bounds_choice(experiment))
    space = space_of(experiment, probe, chosen, kind, target, names)
    return space, exporter.export(space), exporter.USAGE


_GROUPS = """{comment}
EPSILON = {{{table}
}}


def param_groups(model, epsilon={default!r}):
    \"\"\"Return parameter groups of a torch.nn.Module, each with its "eps"; parameters not listed get `epsilon`.\"\"\"
    groups = {{}}
    for name, parameter in model.named_parameters():
        own = EPSILON.get(name, epsilon)
        groups.setdefault(own, {{"params": [], "eps": own}})["params"].append(parameter)
    return list(groups.values())
"""


def export_groups(
    folder: ExperimentFolder, by: GroupsBy, epsilon: float | None, *, predicted: bool = False
) -> tuple[tuple[EpsilonGroup, ...], str]:
    """Return an ε for each kind of layer or each layer, by a run's probe, and a Python module that has them.

    `epsilon` is the one of all layers now; None means the spec's `sweep.default_epsilon`. Raises StoreError where there
    is no experiment, or nothing was probed.
    """
    experiment, probe, measured = _read(folder, predicted)
    now = float(experiment.spec["sweep"]["default_epsilon"]) if epsilon is None else epsilon
    noise = measured.reliability.noise if measured.reliability else None
    groups = epsilon_groups(measured.layers, probe.placement, now, by, noise)
    lines = [
        f"ε by {by} for {experiment.spec['optimizer']['name']}: the largest that does not shorten the steps, against"
        f" {power(now)} for all.",
        f"run: {experiment.name}, {probe.steps} steps{f' at batch size {size}' if (size := probe.batch_size) else ''}",
        *(measured.reliability.reasons if predicted and measured.reliability else ()),
        *map(str, groups),
    ]
    comment = "".join(f"# {line}\n" for line in lines)
    table = "".join(f"\n    {name!r}: {group.epsilon!r}," for group in groups for name in group.layers)
    return groups, _GROUPS.format(comment=comment, table=table, default=now)


def _read(folder: ExperimentFolder, predicted: bool) -> tuple[ExperimentRecord, ProbeRecord, EpsilonBounds]:
    """Return an experiment with its measured bounds, or with those predicted last."""
    experiment, path = read_experiment(folder), folder.predicted_json if predicted else folder.bounds_json
    probe = ProbeRecord.find(path)
    bounds = parsed_bounds(probe, path)
    if probe is None or bounds is None:
        how = "predicted here; `epsgrid probe SPEC --vary KEY=LIST --predict N`" if predicted else ""
        raise StoreError(f"{folder.root}: no bounds were {how or 'measured here; `epsgrid probe SPEC`'} does it")
    return experiment, probe, bounds


def _target_of(framework: str | None, optimizer: Mapping[str, Any], probe: ProbeRecord) -> Target:
    """Return the optimizer whose ε is exported; `optimizer` holds the options of the run's own, with its name."""
    own = str(optimizer["name"])
    if framework is None or framework in ("torch", own, f"torch-{own}"):
        return Target(own, probe.placement, probe.placement)
    name = framework
    if framework in _FRAMEWORKS:
        known = [each for each in FRAMEWORKS if each.startswith(f"{framework}-")]
        same = [f"{framework}-{each}" for each in (own, _SAME_EPSILON.get(own, own))]
        found = [each for each in same if each in known]
        if not found:
            raise UnknownNameError(
                f"no {own!r} is known of {framework}; name another optimizer in full: {', '.join(known)}"
            )
        name = found[0]
    betas = optimizer.get("betas")
    if isinstance(betas, list | tuple) and len(betas) > 1:
        beta2: float | None = float(betas[1])
    else:
        beta2 = next((float(optimizer[field]) for field in ("alpha", "rho") if field in optimizer), None)
    placement = placement_of(name, beta2, probe.steps)
    decay = "its own β₂" if beta2 is None else f"β₂ = {beta2:g}"
    return Target(name, placement, probe.placement, f"the same weight at step {probe.steps:,} with {decay}")
