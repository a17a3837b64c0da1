"""Bounds over all ranks of a torch.distributed job: every entry of v is counted once, wherever it lies.

    observer = epsgrid.observe(optimizer, model=model)      # on every rank; each counts what it holds
    bounds = gathered_bounds(observer)                      # after training, on every rank; all get the same
    diagnosis = gathered_diagnosis(observer)                # the same way

Replicas (DDP, HSDP) hold the same v, which counts once; shards (FSDP2 and other DTensors) hold a part each; with
ZeroRedundancyOptimizer a rank has some layers whole and the others not at all. One rule serves them all: a part of a
layer is identified by the layer's name and by its place along the dimensions that cut the layer; of the ranks that hold
a part the first one counts it.

The order statistics are exact: a histogram says which bin holds a rank, and the ranks exchange which values they have
in that bin, and how often. A bin of float32s has at most 262,144 values, however large the model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from epsgrid.errors import EpsgridError, ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.histogram import MANTISSA_BITS, LogHistogram, bin_count, key_range
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus, high_rank, low_rank
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot, Series, Snapshot
from epsgrid.observing.adapters import name_of
from epsgrid.observing.diagnosis import Diagnosis, diagnose
from epsgrid.observing.layers import Layer
from epsgrid.observing.observer import Observer
from epsgrid.observing.reading import Reading, bounds_by_placement, common, far_below, histogram_of, read, threshold_of

_APART = ("nan", "infinite", "below_range", "above_range")
_GATHERED = (
    "replicas in step (DDP), DTensors (fully_shard) and ZeroRedundancyOptimizer are gathered; observer.bounds() gives"
    " each rank's own"
)


def _spans_ranks() -> bool:
    """Return whether this process is one of several of a torch.distributed job."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered_bounds(observer: Observer) -> EpsilonBounds:
    """Estimate the ε range over all ranks from the state as it is now, with exact order statistics.

    A collective: every rank calls it, with an observer of the same job, and gets the same bounds. Layers that a
    normalisation or a softmax cancels are left out; how far to trust the bounds is not judged. In a job of one process,
    or outside any, it is `observer.bounds()`. Raises ObservationError on every rank where one of them cannot
    read its part, ranks that should hold the same v do not, a part of a layer is missing, or no rank has a state yet;
    NoBoundsError where no layer has a finite non-zero entry.
    """
    if not _spans_ranks():
        return observer.bounds()
    layers, _ = _gather(observer)
    if not observer.step and all(layer.histogram is None for layer in layers):
        raise ObservationError("the optimizer's state is not built yet on any rank: ask after the first step")
    noisy = _noisy(observer, layers)
    measured = _statistics(layers, observer.tail_fraction)
    measured = tuple(layer.left_out() if layer.name in noisy else layer for layer in measured)
    placements = [layer.part.placement for layer in layers]
    bounds = bounds_by_placement(measured, placements, observer.tail_fraction)
    return bounds.measured_on(name_of(observer.optimizer), placements, observer.step)


def gathered_series(observer: Observer, epoch: float | None = None) -> Series:
    """Count √v̂ over all ranks, as it is now, into a series of one snapshot; a collective, as `gathered_bounds`.

    `epoch` counts epochs done. Raises ObservationError as `gathered_bounds`, except that there may be no state yet.
    """
    return gathered_look(observer, epoch)[0]


def gathered_diagnosis(observer: Observer) -> Diagnosis:
    """Say by how much ε shortens the steps of each layer, over all ranks, from the state as it is now.

    A collective that raises as `gathered_bounds` does, and leaves out the same layers; without a state on any rank no
    layer is diagnosed.
    """
    return gathered_look(observer)[1]


def gathered_look(observer: Observer, epoch: float | None = None) -> tuple[Series, Diagnosis]:
    """Return what `gathered_series` and `gathered_diagnosis` do, and count and exchange once for both."""
    if not _spans_ranks():
        return observer.look(epoch)
    layers, threshold = _gather(observer)
    found = tuple(None if layer.histogram is None else LayerSnapshot.of(layer.histogram) for layer in layers)
    series = Series(
        names=tuple(layer.part.name for layer in layers),
        kinds=tuple(layer.part.kind for layer in layers),
        entries=tuple(math.prod(layer.part.shape) for layer in layers),
        fractions=FRACTIONS,
        snapshots=(Snapshot(observer.step, epoch, threshold, found),),
    )
    counted = (
        (part.name, part.kind, histogram, part.placement, part.epsilon, part.learning_rate)
        for part, _, histogram in layers
    )
    return series, diagnose(type(observer.optimizer).__name__, observer.step, counted, _noisy(observer, layers))


def _noisy(observer: Observer, layers: Sequence[_Layer]) -> tuple[str, ...]:
    """Return the names of the layers that are left out as rounding noise, in their order."""
    held = {layer.part.name: layer.histogram for layer in layers if layer.histogram is not None}
    noisy = far_below(held, observer.cancelled())
    return tuple(name for name in held if name in noisy)


@dataclass(frozen=True)
class _Part:
    """What a rank reports of its part of a layer, whose `name`, `shape` and `kind` are those of the whole.

    `place` has its coordinates along the dimensions that cut the layer, None where the rank has no v of it; `status`
    then says why. With v̂ = v · scale, `wide` says that entries are float64, and `digest` of the counts is the same on
    ranks that hold the same part. `epsilon` and `learning_rate` are those of its parameter group.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    status: LayerStatus
    place: tuple[int, ...] | None = None
    placement: Placement | None = None
    scale: float = 1.0
    wide: bool = False
    digest: str = ""
    epsilon: float | None = None
    learning_rate: float | None = None


class _Layer(NamedTuple):
    """A layer over all ranks: of the first rank that knows of it, the entries that this rank counts, and all counts."""

    part: _Part
    values: torch.Tensor
    histogram: LogHistogram | None

    @property
    def status(self) -> LayerStatus:
        return self.part.status if self.histogram is None else LayerStatus.of(self.histogram)


def _gather(observer: Observer) -> tuple[list[_Layer], float | None]:
    """Exchange what each rank holds and add the counts; return the layers, and the threshold if the ranks share one."""
    held: list[tuple[_Part, torch.Tensor, torch.Tensor]] = []
    own_threshold, problem = None, ""
    try:
        readings = read(observer.optimizer, observer.layers, observer.adapter)
        held = [_part_of(reading) for reading in readings]
        trained = ((each.layer.group, each.step, each.epsilon) for each in readings if each.values is not None)
        own_threshold = threshold_of(observer.adapter, trained)
    except EpsgridError as error:  # raised here it would leave the other ranks waiting
        problem = str(error)
    own = [part for part, _, _ in held], own_threshold, problem
    reports = [own] * dist.get_world_size()
    dist.all_gather_object(reports, own)
    layers: dict[str, dict[int, _Part]] = {}
    for rank, (parts, _, problem) in enumerate(reports):
        if problem:
            raise ObservationError(f"rank {rank}: {problem}")
        for part in parts:
            layers.setdefault(part.name, {})[rank] = part
    counting = {name: _counting_ranks(name, parts) for name, parts in layers.items()}
    threshold = common(of_rank for parts, of_rank, _ in reports if any(part.place is not None for part in parts))
    if not layers:
        return [], threshold
    rank, counted = dist.get_rank(), {part.name: (values, table) for part, values, table in held}
    nothing = torch.empty(0), _table(None)
    chosen = [counted[name] if rank in ranks else nothing for name, ranks in counting.items()]
    tables = _summed(torch.stack([table for _, table in chosen]))
    triples = zip(layers.values(), chosen, tables, strict=True)
    return [_whole_layer(parts, values, table) for parts, (values, _), table in triples], threshold


def _part_of(reading: Reading) -> tuple[_Part, torch.Tensor, torch.Tensor]:
    """Return what is reported of a reading, its entries of v, and the table of their counts."""
    layer, values = reading.layer, reading.values
    if getattr(layer.parameter, "_fsdp_flattened", False):
        raise ObservationError(
            f"layer {layer.name!r} is flattened by FullyShardedDataParallel, which hides how it was cut: shard with"
            " torch.distributed.fsdp.fully_shard (FSDP2), or take each rank's own observer.bounds()"
        )
    part = _Part(layer.name, tuple(layer.parameter.shape), layer.kind, reading.status)
    place = None if values is None else _place(layer)
    if values is None or place is None:
        return part, torch.empty(0), _table(None)
    table = _table(histogram_of(reading))
    digest = hashlib.sha256(table.numpy().tobytes()).hexdigest()
    found = (place, reading.placement, reading.scale, values.dtype == torch.float64, digest, reading.epsilon)
    return _Part(layer.name, part.shape, part.kind, part.status, *found, reading.learning_rate), values, table


def _place(layer: Layer) -> tuple[int, ...] | None:
    """Return a part's coordinates along the mesh dimensions that cut the layer; None on a rank outside the mesh."""
    parameter = layer.parameter
    if not isinstance(parameter, DTensor):
        return ()
    if any(placement.is_partial() for placement in parameter.placements):
        raise ObservationError(f"layer {layer.name!r} is a partial sum on each rank: reduce it before it is observed")
    coordinates = parameter.device_mesh.get_coordinate()
    if coordinates is None:
        return None
    # Not is_shard(): for the strided shards that tensor parallelism under FSDP2 makes, that is False.
    cuts = [not placement.is_replicate() for placement in parameter.placements]
    return tuple(int(at) for at, cut in zip(coordinates, cuts, strict=True) if cut)


def _counting_ranks(name: str, held: Mapping[int, _Part]) -> set[int]:
    """Return the first rank that holds each part of a layer; refuse replicas that differ, and parts that do not fit."""
    first: dict[tuple[int, ...], int] = {}
    for rank, part in held.items():
        if part.place is None:
            continue
        first.setdefault(part.place, rank)
        for other in (next(iter(first.values())), first[part.place]):
            known = held[other]
            alike = (part.shape, part.scale, part.wide) == (known.shape, known.scale, known.wide)
            if not alike or (part.place == known.place and part.digest != known.digest):
                raise ObservationError(
                    f"layer {name!r}: ranks {other} and {rank} hold second moments that are not of one tensor, or not"
                    f" at the same step: {_GATHERED}"
                )
    return set(first.values())


def _whole_layer(held: Mapping[int, _Part], values: torch.Tensor, table: torch.Tensor) -> _Layer:
    """Put a layer together; refuse it where a part is missing."""
    parts = list(held.values())
    part = next((part for part in parts if part.place is not None), None)
    if part is None:
        informed = next((part for part in parts if part.status is not LayerStatus.FROZEN), parts[0])
        return _Layer(informed, values, None)
    counts = table.numpy()
    apart = dict(zip(_APART, counts[-len(_APART) :].tolist(), strict=True))
    histogram = LogHistogram(MANTISSA_BITS, counts[: -len(_APART)], part.scale, **apart)
    entries = math.prod(part.shape)
    if histogram.total != entries:
        raise ObservationError(
            f"layer {part.name!r}: the {len(held)} ranks that know it hold {histogram.total} of its {entries} entries:"
            " every rank that holds a part has to observe it"
        )
    return _Layer(part, values, histogram)


def _statistics(layers: Sequence[_Layer], tail_fraction: float) -> tuple[LayerStatistics, ...]:
    """Measure layers whose counts are added, with two exact order statistics each."""
    queries = [
        (layer.values, layer.part.wide, layer.histogram, rank(layer.histogram.nonzero, tail_fraction))
        for layer in layers
        if layer.histogram is not None and layer.status is LayerStatus.MEASURED
        for rank in (low_rank, high_rank)
    ]
    found = iter(_order_statistics(queries))
    measured = []
    for layer in layers:
        part, histogram, status = layer.part, layer.histogram, layer.status
        if histogram is None:
            measured.append(LayerStatistics.unmeasured(part.name, part.shape, status, part.kind))
            continue
        low = high = None
        if status is LayerStatus.MEASURED:
            low, high = (math.sqrt(next(found) * part.scale) for _ in range(2))
        numbers = (histogram.total, histogram.nonzero, low, high, histogram)
        measured.append(LayerStatistics(part.name, part.shape, *numbers, status, part.kind))
    return tuple(measured)


def _table(histogram: LogHistogram | None) -> torch.Tensor:
    """Return counts as int64, those of the bins and then of the entries that have none; zeros for None."""
    if histogram is None:
        return torch.zeros(bin_count(MANTISSA_BITS) + len(_APART), dtype=torch.int64)
    return torch.from_numpy(np.append(histogram.counts, [getattr(histogram, name) for name in _APART]))


def _summed(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of a CPU tensor over the ranks; it travels on the device that the backend needs."""
    devices = [pair.split(":")[0] for pair in dist.get_backend_config().split(",")]
    there = tensor.to("cpu" if "cpu" in devices else devices[0], copy=True)
    dist.all_reduce(there)
    return there.cpu()


def _order_statistics(queries: Sequence[tuple[torch.Tensor, bool, LogHistogram, int]]) -> list[float]:
    """Return one entry of v for each query, as a double; neither scaled nor rooted.

    A query has the entries that this rank counts; whether entries are float64, also on ranks without any; the histogram
    of the entries of all ranks; and an index into the finite non-zero ones in rising order, from 0.
    """
    own = []
    for values, wide, histogram, rank in queries:
        low, high = key_range(histogram.locate(rank)[0], MANTISSA_BITS, wide=wide)
        entries = values.detach().reshape(-1)
        # The bits of entries ≥ 0, read as integers, sort as the entries do.
        keys = entries.double().view(torch.int64) if wide else entries.float().view(torch.int32)
        own.append(np.unique(keys[(keys > low) & (keys <= high)].cpu().numpy(), return_counts=True))
    gathered = [own] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    found = []
    for place, (_, wide, histogram, rank) in enumerate(queries):
        merged, counts = (np.concatenate([of_rank[place][part] for of_rank in gathered]) for part in (0, 1))
        order = np.argsort(merged)
        ends = np.cumsum(counts[order])
        key = merged[order][np.searchsorted(ends, histogram.locate(rank)[1], side="right")]
        found.append(float(key.view(np.float64 if wide else np.float32)))
    return found
