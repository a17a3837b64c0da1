"""Bounds over all ranks of a torch.distributed job: every entry of v is counted once, wherever it lies.

What a rank holds depends on how the job is divided. Replicas (DDP, the replicated dimension of HSDP) hold the same v,
which counts once. Shards (FSDP2 and whatever else makes DTensors, tensor parallelism too) hold a part each, and the
counts of all parts are added. With ZeroRedundancyOptimizer, or where layers live on different ranks, a rank has some
layers whole and the others not at all. One rule serves them all: a piece of a layer is known by the layer's name and
by its place along the dimensions that cut the layer; of the ranks that hold a piece the first one counts it.

    observer = epsgrid.observe(optimizer, model=model)      # on every rank; each counts what it holds
    ... train ...
    bounds = gathered_bounds(observer)                      # on every rank; all get the same

The order statistics are exact: what one process would find that held the whole of v, bit for bit. 65 kB a layer travel
once, and 32 kB for each of a few refinements, however large the model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from epsgrid.errors import EpsgridError, ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus, high_rank, low_rank
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot, Series, Snapshot
from epsgrid.observing.collective import Group, Query, all_reduced, order_statistics, summed_histogram, table_of
from epsgrid.observing.layers import Layer
from epsgrid.observing.observer import Observer
from epsgrid.observing.reading import Reading, bounds_of_readings, common, histogram_of, read, threshold_of

_GATHERED = (
    "replicas in step (DDP), DTensors (fully_shard) and ZeroRedundancyOptimizer are gathered; observer.bounds() gives"
    " each rank's own"
)


def spans_ranks(group: Group = None) -> bool:
    """Tell whether this process is one of several of a torch.distributed job.

    Raises:
        ObservationError: it does not belong to `group`.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return False
    if dist.get_rank(group) < 0:
        raise ObservationError("this process does not belong to the process group to gather over: call it on members")
    return dist.get_world_size(group) > 1


def gathered_bounds(observer: Observer, group: Group = None) -> EpsilonBounds:
    """Estimate the ε range over all ranks from the state as it stands now, with exact order statistics.

    A collective: every rank of the group calls it, with an observer of the same job, and gets the same. In a job of one
    process, or outside any, it is `observer.bounds()`.

    Args:
        observer: this rank's.
        group: the ranks that together hold whole layers; None for all.

    Raises:
        ObservationError: no rank has a state yet; or as `gathered_statistics`.
        NoBoundsError: no layer has a finite non-zero entry.
    """
    if not spans_ranks(group):
        return observer.bounds()
    layers, _ = _gather(observer, group)
    if not observer.step and all(layer.histogram is None for layer in layers):
        raise ObservationError("the optimizer's state is not built yet on any rank: ask after the first step")
    statistics = _statistics(layers, observer.tail_fraction, group)
    return bounds_of_readings([layer.reading for layer in layers], statistics, observer.tail_fraction)


def gathered_statistics(observer: Observer, group: Group = None) -> tuple[LayerStatistics, ...]:
    """Measure √v̂ of every layer over all ranks, as it stands now; a collective, as `gathered_bounds`.

    Returns:
        One entry per layer, the same on every rank: the first rank's layers in its order, then what others have more.

    Raises:
        ObservationError: on every rank, where one of them cannot read its part, where ranks that should hold the same v
            do not, or where the group lacks a part of a layer.
    """
    if not spans_ranks(group):
        return observer.statistics()
    layers, _ = _gather(observer, group)
    return _statistics(layers, observer.tail_fraction, group)


def gathered_series(observer: Observer, epoch: float | None = None, group: Group = None) -> Series:
    """Count √v̂ over all ranks, as it stands now, into a series of one snapshot; a collective, as `gathered_bounds`.

    Args:
        observer: this rank's.
        epoch: epochs done, to be noted with it.
        group: the ranks that together hold whole layers; None for all.

    Raises:
        ObservationError: as `gathered_statistics`.
    """
    if not spans_ranks(group):
        return replace(observer.series(), snapshots=(observer.snapshot(epoch),))
    layers, threshold = _gather(observer, group)
    histograms = (layer.histogram for layer in layers)
    found = tuple(None if histogram is None else LayerSnapshot.of(histogram) for histogram in histograms)
    return Series(
        names=tuple(layer.piece.name for layer in layers),
        kinds=tuple(layer.piece.kind for layer in layers),
        entries=tuple(math.prod(layer.piece.shape) for layer in layers),
        fractions=FRACTIONS,
        snapshots=(Snapshot(observer.step, epoch, threshold, found),),
    )


@dataclass(frozen=True)
class _Piece:
    """What a rank tells the others of its part of a layer.

    Attributes:
        name: the layer's name.
        shape: of the whole layer.
        kind: of the layer.
        status: why there is no v, where there is none.
        place: coordinates of the part along the dimensions that cut the layer; None where the rank has no v of it.
        placement: where ε enters.
        scale: v̂ = v · scale.
        wide: whether entries are float64.
        digest: of the counts; ranks that hold the same piece agree in it.
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

    def fits(self, other: _Piece) -> bool:
        """Tell whether both can be of one layer; and, if they have the same place, whether they are the same."""
        alike = (self.shape, self.scale, self.wide) == (other.shape, other.scale, other.wide)
        return alike and (self.place != other.place or self.digest == other.digest)


@dataclass(frozen=True)
class _Told:
    """What a rank tells the others: its pieces, the magnitude that its ε weighs as much as, and what went wrong."""

    pieces: tuple[_Piece, ...]
    threshold: float | None
    problem: str


@dataclass(frozen=True, eq=False)
class _Holding:
    """This rank's part of a layer, with its entries and their counts; both empty where it has none."""

    piece: _Piece
    values: torch.Tensor
    table: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer over all ranks.

    Attributes:
        piece: of the first rank that has v; where none has, of the first that can tell why.
        values: the entries that this rank counts; none where others do.
        histogram: of the whole layer; None where no rank has v.
    """

    piece: _Piece
    values: torch.Tensor
    histogram: LogHistogram | None

    @property
    def reading(self) -> Reading:
        """The layer as if read in one process, without its entries."""
        layer = Layer(self.piece.name, self.values, None, self.piece.kind)
        return Reading(layer, self.piece.status, placement=self.piece.placement)


def _gather(observer: Observer, group: Group) -> tuple[list[_Layer], float | None]:
    """Tell each other what each rank holds, agree on who counts what, and add the counts.

    Returns:
        The layers, and the magnitude that the ε in use weighs as much as, where the ranks agree in one.
    """
    own, holdings = _tell(observer)
    told = [own] * dist.get_world_size(group)
    dist.all_gather_object(told, own, group=group)
    for rank, other in enumerate(told):
        if other.problem:
            raise ObservationError(f"rank {rank}: {other.problem}")
    layers = _by_name(other.pieces for other in told)
    for name, held in layers.items():
        _check_agreement(name, held)
    threshold = common(other.threshold for other in told if any(piece.place is not None for piece in other.pieces))
    return _summed(layers, holdings, group), threshold


def _tell(observer: Observer) -> tuple[_Told, dict[str, _Holding]]:
    """Return what this rank holds, or what is wrong: raised here and now, the other ranks would wait for ever."""
    try:
        readings = read(observer.optimizer, observer.layers, observer.adapter)
        holdings = {reading.layer.name: _holding(reading) for reading in readings}
    except EpsgridError as error:
        return _Told((), None, str(error)), {}
    return _Told(tuple(holding.piece for holding in holdings.values()), threshold_of(readings), ""), holdings


def _holding(reading: Reading) -> _Holding:
    layer, values, placement = reading.layer, reading.values, reading.placement
    if getattr(layer.parameter, "_fsdp_flattened", False):
        raise ObservationError(
            f"layer {layer.name!r} is flattened by FullyShardedDataParallel, which hides how it was cut: shard with"
            " torch.distributed.fsdp.fully_shard (FSDP2), or take each rank's own observer.bounds()"
        )
    piece = _Piece(layer.name, tuple(layer.parameter.shape), layer.kind, reading.status)
    place = None if values is None else _place(layer)
    if values is None or placement is None or place is None:
        return _Holding(piece, torch.empty(0), table_of(None))
    table = table_of(histogram_of(reading))
    told = replace(
        piece,
        place=place,
        placement=placement,
        scale=reading.scale,
        wide=values.dtype == torch.float64,
        digest=hashlib.sha256(table.numpy().tobytes()).hexdigest(),
    )
    return _Holding(told, values, table)


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
    # Not is_shard(): of the strided shards that tensor parallelism under FSDP2 makes, that is False.
    cuts = [not placement.is_replicate() for placement in parameter.placements]
    return tuple(int(at) for at, cut in zip(coordinates, cuts, strict=True) if cut)


def _by_name(told: Iterable[Sequence[_Piece]]) -> dict[str, dict[int, _Piece]]:
    """Return each layer's pieces by rank, layers in the order in which ranks name them."""
    layers: dict[str, dict[int, _Piece]] = {}
    for rank, pieces in enumerate(told):
        for piece in pieces:
            layers.setdefault(piece.name, {})[rank] = piece
    return layers


def _counting(held: Mapping[int, _Piece]) -> dict[tuple[int, ...], int]:
    """Return the first rank that holds each piece of a layer, by its place."""
    first: dict[tuple[int, ...], int] = {}
    for rank, piece in held.items():
        if piece.place is not None:
            first.setdefault(piece.place, rank)
    return first


def _check_agreement(name: str, held: Mapping[int, _Piece]) -> None:
    """Refuse replicas that differ, and parts that cannot be of one tensor."""
    counting = _counting(held)
    for rank, piece in held.items():
        if piece.place is None:
            continue
        for other in (next(iter(counting.values())), counting[piece.place]):
            if not piece.fits(held[other]):
                raise ObservationError(
                    f"layer {name!r}: ranks {other} and {rank} hold second moments that are not of one tensor, or not"
                    f" at the same step: {_GATHERED}"
                )


def _summed(layers: Mapping[str, Mapping[int, _Piece]], holdings: Mapping[str, _Holding], group: Group) -> list[_Layer]:
    """Add the tables of all pieces, each by the rank that counts it."""
    rank, nothing = dist.get_rank(group), (torch.empty(0), table_of(None))
    if not layers:
        return []
    counted = [
        (holdings[name].values, holdings[name].table) if rank in _counting(held).values() else nothing
        for name, held in layers.items()
    ]
    tables = all_reduced(torch.stack([table for _, table in counted]), dist.ReduceOp.SUM, group)
    return [
        _layer(name, held, values, table)
        for (name, held), (values, _), table in zip(layers.items(), counted, tables, strict=True)
    ]


def _layer(name: str, held: Mapping[int, _Piece], values: torch.Tensor, table: torch.Tensor) -> _Layer:
    """Put a layer together; refuse it where a part is missing."""
    pieces = list(held.values())
    piece = next((piece for piece in pieces if piece.place is not None), None)
    if piece is None:
        told = next((piece for piece in pieces if piece.status is not LayerStatus.FROZEN), pieces[0])
        return _Layer(told, values, None)
    histogram = summed_histogram(table, piece.scale)
    entries = math.prod(piece.shape)
    if histogram.total != entries:
        raise ObservationError(
            f"layer {name!r}: the {len(held)} ranks that know it hold {histogram.total} of its {entries} entries;"
            " gather over all ranks that hold a part"
        )
    return _Layer(piece, values, histogram)


def _statistics(layers: Sequence[_Layer], tail_fraction: float, group: Group) -> tuple[LayerStatistics, ...]:
    """Measure layers whose counts are added, with two exact order statistics each."""
    queries = [
        Query(layer.values, layer.piece.wide, layer.histogram, rank(layer.histogram.nonzero, tail_fraction))
        for layer in layers
        if layer.histogram is not None and _status(layer) is LayerStatus.MEASURED
        for rank in (low_rank, high_rank)
    ]
    found = iter(order_statistics(queries, group))
    return tuple(_measured(layer, found) for layer in layers)


def _measured(layer: _Layer, found: Iterator[float]) -> LayerStatistics:
    """Return a layer's statistics; takes its two order statistics from those found, if it has any."""
    piece, histogram, status = layer.piece, layer.histogram, _status(layer)
    if histogram is None:
        return LayerStatistics.unmeasured(piece.name, piece.shape, status, piece.kind)
    low = high = None
    if status is LayerStatus.MEASURED:
        low, high = (math.sqrt(next(found) * piece.scale) for _ in range(2))
    return LayerStatistics(
        piece.name, piece.shape, histogram.total, histogram.nonzero, low, high, histogram, status, piece.kind
    )


def _status(layer: _Layer) -> LayerStatus:
    return layer.piece.status if layer.histogram is None else LayerStatus.of(layer.histogram)
