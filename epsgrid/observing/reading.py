"""Read what an optimizer's ε is compared with, for every parameter, from the optimizer's state as it is now.

This is the gradient-magnitude histogram of Silva & Rodriguez (arXiv 2311.11532): the distribution of √v̂ over the
entries of each parameter tensor.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from epsgrid.errors import EpsgridError, NoBoundsError, ObservationError
from epsgrid.numerics import counting
from epsgrid.numerics.bounds import EpsilonBounds, estimate_bounds
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus, bounds_of
from epsgrid.numerics.placement import Placement
from epsgrid.observing.adapters import Adapter, epsilon_in
from epsgrid.observing.layers import Layer, shape_text

_FAR_BELOW = 1e-3
"""Share of the median √v̂ of other layers below which biases that ought to be cancelled are taken to be."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The second moment of one layer at one moment.

    Attributes:
        layer: the layer.
        status: FROZEN or NO_GRADIENT where there is no second moment; else MEASURED, whatever its entries are, and also
            where the layer is frozen by now.
        values: v, this process's part of it, with v̂ = v · scale; None where there is none.
        step: the steps that the parameter has taken, at least 1.
        placement: where ε enters at that step; None where there is no second moment.
    """

    layer: Layer
    status: LayerStatus
    values: torch.Tensor | None = None
    scale: float = 1.0
    step: float = 1.0
    placement: Placement | None = None

    @property
    def epsilon(self) -> float | None:
        """The ε that the layer is trained with; None where its group has no "eps", or several in it."""
        return None if self.layer.group is None else epsilon_in(self.layer.group)

    @property
    def learning_rate(self) -> float | None:
        """The learning rate of its group; None where that has none, or one that is no number."""
        return None if self.layer.group is None else epsilon_in(self.layer.group, "lr")


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor that lies in this process, for a DTensor its shard, plain and dequantised."""
    if type(tensor) is torch.Tensor and tensor.dtype.itemsize > 1 and not tensor.requires_grad:
        return tensor
    to_local = getattr(tensor, "to_local", None)
    here: torch.Tensor = tensor if to_local is None else to_local()
    # Every tensor has `dequantize`; a class that defines its own, as 8-bit states do, has no entries without it.
    if here.is_quantized or type(here).dequantize is not torch.Tensor.dequantize:
        here = here.dequantize()
    here = here.detach()
    return here.float() if here.dtype.is_floating_point and here.dtype.itemsize == 1 else here


def read(optimizer: torch.optim.Optimizer, layers: Sequence[Layer], adapter: Adapter) -> tuple[Reading, ...]:
    """Read the second moments of some layers; waits for the device only where the steps lie there.

    Raises ObservationError where a second moment has another shape than its parameter, or cannot be read.
    """
    readings = []
    for layer in layers:
        try:
            readings.append(read_layer(layer, optimizer.state.get(layer.parameter, {}), adapter))
        except EpsgridError as error:
            raise ObservationError(f"layer {layer.name!r}: {error}") from error
        except Exception as error:  # whatever the state of an optimizer that nobody knows makes of it
            raise _unreadable(layer, f"the state of {type(optimizer).__name__}", error) from error
    return tuple(readings)


def _unreadable(layer: Layer, source: str, error: Exception) -> ObservationError:
    reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
    return ObservationError(f"layer {layer.name!r}: its second moment cannot be read from {source}: {reason}")


def _named(tensor: torch.Tensor) -> str:
    return f"a {type(tensor).__name__} ({tensor.layout})"


def read_layer(layer: Layer, state: Any, adapter: Adapter) -> Reading:
    """Read the second moment of one layer from its entry of `optimizer.state`; see `read`."""
    group, is_frozen = layer.group, not layer.parameter.requires_grad
    without = Reading(layer, LayerStatus.FROZEN if is_frozen or group is None else LayerStatus.NO_GRADIENT)
    if group is None:
        return without
    moment = adapter.second_moment(state, group)
    if moment is None:
        return without
    check_shape(layer, moment.values)
    values = local(moment.values)
    # A fused optimizer whose first steps a scaler makes it skip has a state and has taken no step.
    if moment.decay and not float(moment.step):
        if bool(values.any()):
            raise ObservationError("its second moment is not zero, yet no step is counted: steps count from 1")
        return without
    # What was measured before a layer was frozen stays; a state of zeros was only built. A shard cannot tell.
    if is_frozen and values.numel() == layer.parameter.numel() and not bool(values.any()):
        return without
    # A rule without bias correction keeps its count of steps beside v, if at all.
    step = moment.step
    if not moment.decay and isinstance(state, Mapping):
        step = state.get("step", group.get("step", step))
    step = max(1.0, float(step))
    placement = adapter.placement(group, step)
    return Reading(layer, LayerStatus.MEASURED, values, moment.scale, step, placement)


def check_shape(layer: Layer, values: torch.Tensor) -> None:
    """Raise ObservationError unless a second moment has the shape of its parameter."""
    if values.shape != layer.parameter.shape:
        raise ObservationError(
            f"its second moment has the shape {shape_text(values)}, and the parameter {shape_text(layer.parameter)}:"
            " was the optimizer's state loaded from a checkpoint of another model?"
        )


def measure_reading(reading: Reading, tail_fraction: float) -> LayerStatistics:
    """Measure √v̂ of one layer, with order statistics at a fraction and at one minus it.

    Raises ObservationError where the second moment has a negative entry.
    """
    layer = reading.layer
    if reading.values is None:
        return LayerStatistics.unmeasured(layer.name, tuple(layer.parameter.shape), reading.status, layer.kind)
    try:
        statistics = counting.measure(layer.name, reading.values, reading.scale, tail_fraction)
    except NoBoundsError as error:
        raise ObservationError(str(error)) from error
    except Exception as error:  # of a tensor of no ordinary kind
        raise _unreadable(layer, _named(reading.values), error) from error
    return replace(statistics, kind=layer.kind)


def bounds_by_placement(
    statistics: Sequence[LayerStatistics], placements: Sequence[Placement | None], tail_fraction: float
) -> EpsilonBounds:
    """Estimate the ε range; each layer's magnitudes become an ε where its own group places it.

    `statistics` were measured with `tail_fraction`; `placements` are of the same layers, None where one has no second
    moment. Raises NoBoundsError where no layer was measured.
    """
    by_place: dict[tuple[float, float, float], tuple[Placement, list[LayerStatistics]]] = {}
    for measured, placement in zip(statistics, placements, strict=True):
        if placement is not None:
            key = (placement.exponent, placement.factor, placement.outer)
            by_place.setdefault(key, (placement, []))[1].append(measured)
    ranges = [ends for place, layers in by_place.values() if (ends := bounds_of(layers, place)) is not None]
    if len(ranges) < 2:
        placement = next((place for place, _ in by_place.values()), Placement.outside())
        return estimate_bounds(statistics, placement, tail_fraction)
    low = min((low for low, _ in ranges), key=lambda bound: bound.epsilon)
    high = max((high for _, high in ranges), key=lambda bound: bound.epsilon)
    exponents = {placement.exponent for placement, _ in by_place.values()}
    step = exponents.pop() if len(exponents) == 1 else 1
    return EpsilonBounds(low, high, tail_fraction, tuple(statistics), step=step)


def far_below(histograms: Mapping[str, LogHistogram], candidates: Collection[str]) -> set[str]:
    """Return those candidates whose largest √v̂ is far below the median of the other layers' medians, all by name.

    So small are the gradients of biases that a normalisation or a softmax cancels: they are rounding errors.
    """
    limit = limit_of_noise(each for name, each in histograms.items() if name not in candidates)
    return {name for name in candidates if name in histograms and (histograms[name].quantile(1.0) or math.inf) < limit}


def limit_of_noise(others: Iterable[LogHistogram]) -> float:
    """Return the √v̂ below which biases that ought to be cancelled are taken to be, by the other layers' histograms."""
    medians = [median for each in others if (median := each.median) is not None]
    return _FAR_BELOW * statistics.median(medians) if medians else 0.0


def threshold_of(
    adapter: Adapter, layers: Iterable[tuple[Mapping[str, Any] | None, float, float | None]]
) -> float | None:
    """Return the magnitude below which the ε of training dominates; None where groups differ in it or have no ε.

    `layers` gives of each layer the parameter group, the steps it has taken, and its ε. Where a placement changes with
    the steps, the layer of a group that has taken most of them counts.
    """
    latest: dict[int, tuple[Mapping[str, Any], float, float | None]] = {}
    for group, steps, epsilon in layers:
        if group is not None and (id(group) not in latest or steps > latest[id(group)][1]):
            latest[id(group)] = group, steps, epsilon
    return common(
        None if epsilon is None else adapter.placement(group, steps).magnitude_from_epsilon(epsilon)
        for group, steps, epsilon in latest.values()
    )


def common(values: Iterable[float | None]) -> float | None:
    """Return the value that all values share; None where they differ, where it is None, or where there are none."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


@dataclass(frozen=True)
class AdaptableFraction:
    """The share of the finite entries, zeros included, with √v̂ above ε: these weights have a step size of their own.

    By name of layer, without those that have no finite entry, and in total over the entries of all layers.
    """

    layers: Mapping[str, float]
    total: float


def adaptable_fraction(
    counted: Iterable[tuple[Reading, LogHistogram]], epsilon: float | None = None
) -> AdaptableFraction:
    """Return the share of the entries with √v̂ above ε, of each layer and of all.

    `counted` has layers with a second moment, and their histograms; see `Observer.adaptable_fraction`.
    """
    if epsilon is not None and not epsilon >= 0:
        raise ObservationError(f"epsilon must be at least 0, got {epsilon!r}")
    shares: dict[str, float] = {}
    above, finite = 0.0, 0
    for reading, histogram in counted:
        assert reading.placement is not None
        name, used = reading.layer.name, reading.epsilon if epsilon is None else epsilon
        if used is None:
            raise ObservationError(f'the parameter group of layer {name!r} has no single "eps"; give epsilon=…')
        if entries := histogram.finite:
            larger = float(histogram.entries_above(reading.placement.magnitude_from_epsilon(used)))
            shares[name] = larger / entries
            above, finite = above + larger, finite + entries
    return AdaptableFraction(shares, above / finite if finite else 0.0)


def histogram_of(reading: Reading) -> LogHistogram:
    """Count √v̂ of a layer that has a second moment; ObservationError where it is none."""
    assert reading.values is not None
    try:
        return counting.count(reading.values, reading.scale)
    except ValueError as error:
        raise ObservationError(f"layer {reading.layer.name!r}: {error}") from error
    except Exception as error:  # of a tensor of no ordinary kind
        raise _unreadable(reading.layer, _named(reading.values), error) from error
