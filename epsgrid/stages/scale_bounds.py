"""Carry measured bounds of ε to another batch size, as far as the noise of the gradients sets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from epsgrid import optimizers
from epsgrid.errors import CorruptRecordError, ScalingError
from epsgrid.numerics import scaling
from epsgrid.numerics.magnitudes import Bound, decade_of
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import Rule
from epsgrid.optimizers import _scaling as optimizer_scaling
from epsgrid.spec.model import OptimizerOptions
from epsgrid.stages.scale import NOISE_DOMINATED
from epsgrid.store.records import ProbeRecord


@dataclass(frozen=True)
class CarriedBound:
    """One end of the ε range.

    Attributes:
        measured: at the batch size of the probe.
        carried: at the new one: the magnitude over √κ, the ε of the optimizer there that weighs as much, its decade.
    """

    measured: Bound
    carried: Bound


@dataclass(frozen=True)
class CarriedBounds:
    """Bounds at another batch size.

    Attributes:
        optimizer: its name.
        base: the batch size they were measured at.
        batch_size: the one they are carried to.
        kappa: the latter over the former.
        low: lower end.
        high: upper end.
        conversion: how a magnitude becomes an ε, at each batch size.
        notes: what is assumed, a sentence each.
    """

    optimizer: str
    base: int
    batch_size: int
    kappa: float
    low: CarriedBound
    high: CarriedBound
    conversion: tuple[str, str]
    notes: tuple[str, ...]


def carried_bounds(
    record: ProbeRecord, batch_size: int, rule: Rule = "sqrt", *, half_life: bool = False
) -> CarriedBounds:
    """Return stored bounds at another batch size: √v̂ over √κ, and from it ε where the optimizer adds it.

    Args:
        record: a stored probe; the batch size it was measured at is part of its identity.
        batch_size: the new one, at least 1.
        rule: "sqrt" moves the decay of v as well, on which an ε in place depends; "none" leaves it.
        half_life: scale decays as β^κ.

    Raises:
        ScalingError: the batch is less than 1, the rule does not reach it, or the optimizer is not one
            whose √v̂ is known to fall with the noise.
        CorruptRecordError: the record holds no bounds or no such optimizer.
    """
    if batch_size < 1:
        raise ScalingError(f"batch size: expected a whole number of at least 1, got {batch_size}")
    kappa = Fraction(batch_size, record.batch_size)
    options = _options(record)
    optimizer_scaling.scaling_of(options)
    moved = options
    if scaling.is_square_root(rule):
        optimizer_scaling.require_reach(options, record.batch_size, batch_size, half_life=half_life)
        moved = optimizer_scaling.scaled_options(options, kappa, half_life=half_life)
    placement = optimizers.load(options.name).placement(moved, scaling.scaled_steps(record.steps, kappa))
    bounds = record.bounds()
    low, high = (_carried(bound, kappa, placement) for bound in (bounds.low, bounds.high))
    conversion = (record.placement.conversion, placement.conversion)
    notes = tuple(_notes(record, rule))
    return CarriedBounds(options.name, record.batch_size, batch_size, float(kappa), low, high, conversion, notes)


def _options(record: ProbeRecord) -> OptimizerOptions:
    """Return the options of the optimizer that was probed."""
    stored: dict[str, Any] = record.identity["optimizer"]
    try:
        return optimizers.load(stored["name"]).Options.model_validate(stored)
    except ValidationError as error:
        raise CorruptRecordError(f"the probe's optimizer cannot be read: {error.errors()[0]['msg']}") from error


def _carried(bound: Bound, kappa: Fraction, placement: Placement) -> CarriedBound:
    magnitude = scaling.scaled_magnitude(bound.magnitude, kappa)
    epsilon = placement.epsilon_from_magnitude(magnitude)
    return CarriedBound(bound, replace(bound, magnitude=magnitude, epsilon=epsilon, decade=decade_of(epsilon)))


def _notes(record: ProbeRecord, rule: Rule) -> Iterator[str]:
    yield NOISE_DOMINATED
    if record.identity["optimizer"].get("weight_decay", 0):
        yield "weight decay inside the gradient is no noise: a layer whose √v̂ it sets does not move"
    if not scaling.is_square_root(rule):
        yield "the decays are left as they are"
