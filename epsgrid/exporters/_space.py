"""The search space of measured bounds: ε and learning rate, each as a range and as a grid.

The grid of ε holds the decades from bound to bound, as the narrowed grid does; the range spans them. The learning rates
are those of the run's own spec: nothing was measured about them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from epsgrid.codec import to_document
from epsgrid.errors import SpecError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import Bound
from epsgrid.numerics.placement import Placement, convert
from epsgrid.numerics.precision import power
from epsgrid.spec.trial import model_label
from epsgrid.store.records import ExperimentRecord, ProbeRecord

Kind = Literal["log-uniform", "grid"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
_LONGEST_LINE = 400


@dataclass(frozen=True)
class Dimension:
    """One number to search: its name in the user's training, the ends of its range, and its grid within them."""

    name: str
    low: float
    high: float
    values: tuple[float, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether there is but one value, and so nothing to search."""
        return self.low == self.high


@dataclass(frozen=True)
class Target:
    """The optimizer whose ε is exported: the run's, or another one such as "keras-adam".

    Attributes:
        placement: where it adds its ε, at the step of the measurement.
        source: where the run's optimizer does.
        converted: how the one becomes the other, in words; None where they are the same optimizer.
    """

    name: str
    placement: Placement
    source: Placement
    converted: str | None = None

    def epsilon(self, bound: Bound) -> float:
        """Return a bound as an ε of the target, not rounded."""
        return bound.epsilon if self.converted is None else convert(bound.epsilon, self.source, self.placement)


@dataclass(frozen=True)
class Space:
    """The search space that is exported, and where it comes from, as JSON values and as comment lines."""

    kind: Kind
    epsilon: Dimension
    learning_rate: Dimension
    target: Target
    measured: dict[str, Any]
    comment: str

    @property
    def dimensions(self) -> tuple[Dimension, Dimension]:
        """ε first, then the learning rate."""
        return self.epsilon, self.learning_rate


def space_of(
    experiment: ExperimentRecord,
    probe: ProbeRecord,
    bounds: EpsilonBounds,
    kind: Kind,
    target: Target,
    names: tuple[str, str],
) -> Space:
    """Return the search space of a run's bounds, the probe's, with the user's own names of ε and learning rate.

    Raises SpecError where a name is not one, or both are the same.
    """
    epsilon_name, learning_rate_name = names
    for name in names:
        if not _NAME.match(name):
            raise SpecError(
                f"{name!r} cannot name a hyperparameter: letters, digits and underscores, not a digit first, with dots "
                "between parts, such as optimizer.eps"
            )
    if epsilon_name == learning_rate_name:
        raise SpecError(f"ε and the learning rate are both called {epsilon_name!r}; give them two names")
    rates = tuple(sorted(map(float, experiment.spec["sweep"]["learning_rates"])))
    first, last = (target.placement.decade_of(target.epsilon(end)) for end in (bounds.low, bounds.high))
    values = tuple(target.placement.epsilon_of_decade(decade) for decade in range(first, last + 1))
    # One decade alone is a range of what rounds to it.
    around = 1.0 if len(values) > 1 else math.sqrt(10) ** target.placement.exponent
    epsilon = Dimension(epsilon_name, values[0] / around, values[-1] * around, values)
    spec, came_from, trust = experiment.spec, probe.provenance, bounds.reliability
    measured = {
        "run": experiment.name,
        "task": spec["task"]["name"],
        "model": model_label(spec),
        "optimizer": spec["optimizer"]["name"],
        "data": probe.data_description,
        "date": came_from.get("started") or experiment.created,
        "epsgrid": (came_from.get("packages") or {}).get("epsgrid") or experiment.epsgrid_version,
        "steps": probe.steps,
        "batch_size": probe.batch_size,
        "low": to_document(bounds.low),
        "high": to_document(bounds.high),
        "reliability": None if trust is None else {"verdict": trust.verdict, "reasons": list(trust.reasons)},
        **({"predicted_at": probe.predicted_at} if probe.predicted_at else {}),
    }
    rate = Dimension(learning_rate_name, rates[0], rates[-1], rates)
    return Space(kind, epsilon, rate, target, measured, _comment(measured, epsilon, target))


def _comment(measured: dict[str, Any], epsilon: Dimension, target: Target) -> str:
    """Return where the numbers come from; the date is the record's, so equal records give equal lines."""
    how = "measured"
    if at := measured.get("predicted_at"):
        how = f"predicted at {', '.join(f'{key} = {value}' for key, value in at.items())}, from smaller sizes,"
    lines = [
        f"ε of {target.name} from {power(epsilon.values[0])} to {power(epsilon.values[-1])}, {how} by epsgrid"
        f" {measured['epsgrid']} on {measured['date']} in {measured['steps']} steps.",
        f"run: {measured['run']} (task {measured['task']}, model {measured['model']}, optimizer"
        f" {measured['optimizer']}{f', batch size {size}' if (size := measured['batch_size']) else ''})",
        f"data: {measured['data']}",
    ]
    if target.converted:
        lines.append(f"converted from the ε of {measured['optimizer']}: {target.converted}")
    if trust := measured["reliability"]:
        lines.append(f"reliability: {trust['verdict']}: {'; '.join(trust['reasons'])}")
    lines.append("learning rates: those of the run's spec; nothing was measured about them")
    # No text of a record may end its line, and so leave the comment.
    printable = ("".join(each if each.isprintable() else " " for each in line) for line in lines)
    return "".join(f"# {line[:_LONGEST_LINE].rstrip()}\n" for line in printable)
