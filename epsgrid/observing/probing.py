"""A probe under way: gradients go in step by step, bounds with their reliability come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import nn

from epsgrid.errors import NoBoundsError, ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatistics
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.reliability import judge
from epsgrid.numerics.series import FRACTIONS, Series
from epsgrid.numerics.trajectory import Trajectory, has_settled, trajectory_of
from epsgrid.numerics.variants import ROUNDING_NOISE, Variant, VariantKind
from epsgrid.observing.adapters import Adapter, adapter_for
from epsgrid.observing.layers import Layer, NamedParameters, named_layers
from epsgrid.observing.observer import Observer
from epsgrid.observing.reading import Reading, bounds_of_readings, local, measure_reading, read
from epsgrid.observing.recomputing import Loss
from epsgrid.observing.rounding import RoundingNoise, noise_share, rounding_noise, without_noise
from epsgrid.observing.shadows import follow
from epsgrid.observing.understudy import Betas, Itself, StandIns, Tensors, Understudy, label

_OTHER_TAILS = (0.01, 0.05)
_LOOKS_PER_DOUBLING = 8


class Probing:
    """A probe under way, for loops that say themselves what a step is; a context manager, to be left at the end.

    It goes into `left_as_found`, which puts the model back; the optimizer is only read. Where weights move, they do so
    at the learning rate that the optimizer's groups have at each step.

    Args:
        model: put into training mode if it is in eval mode.
        optimizer: the real one, no wrapper; may have a state.
        loss: as `loss_fn` of `probe`.
        clip_norm: as for `probe`, and so on.
        named_parameters: names other than the model's.
        tail_fraction: in (0, 0.5).
        update_weights: let the weights move.
        check_rounding: look for rounding noise before the first step.
        betas: further decays.
        every: follow the bounds at every so many steps.
        adapter: knows where the optimizer keeps v; None finds the one of its class.

    Attributes:
        steps: taken so far.

    Raises:
        ObservationError: as `probe`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        *,
        clip_norm: float | None = None,
        named_parameters: NamedParameters | None = None,
        tail_fraction: float = TAIL_FRACTION,
        update_weights: bool = False,
        check_rounding: bool = True,
        betas: Sequence[Betas] = (),
        every: int = 1,
        adapter: Adapter | None = None,
    ) -> None:
        if not 0 < tail_fraction < 0.5:
            raise ObservationError(f"tail_fraction must lie between 0 and 0.5, got {tail_fraction!r}")
        if clip_norm is not None and not clip_norm > 0:
            raise ObservationError(f"clip_norm must be positive, got {clip_norm!r}")
        self.steps = 0
        self._model, self._optimizer, self._loss, self._clip_norm = model, optimizer, loss, clip_norm
        self._tail_fraction, self._moving, self._check_rounding = tail_fraction, update_weights, check_rounding
        self._adapter = adapter or adapter_for(optimizer)
        self._parameters = list(dict.fromkeys([*model.parameters(), *parameters_of(optimizer)]))
        self._real_layers = named_layers(optimizer, named_parameters, model)
        _refuse_shards(self._real_layers)
        self._stand_ins = StandIns(optimizer)
        tensors: Tensors = Itself() if update_weights else self._stand_ins
        main = Understudy(optimizer, tensors, moving=update_weights)
        self._shadows = [(each, Understudy(optimizer, self._stand_ins, each)) for each in betas]
        # Weights that move do so last: the shadows see them as the main optimizer does.
        self._in_order = [*(shadow for _, shadow in self._shadows), main]
        self._layers = follow(self._real_layers, main, tensors)
        self._noise = RoundingNoise(checked=False)
        self._observer = Observer(main.optimizer, self._layers, self._adapter, every, tail_fraction)
        if not model.training:
            model.train()

    def __enter__(self) -> Probing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._observer.close()

    def step(self, *batches: Any) -> None:
        """Take a step on the mean gradient of one or several batches."""
        if self._check_rounding and not self.steps:
            self._noise = rounding_noise(self._model, self._loss, batches[0], self._optimizer)
        self._compute_gradients(batches)
        if not self.steps:
            self._refuse_moved_weights()
        if self._shadows or not self._moving:
            self._stand_ins.refresh()
        for understudy in self._in_order:
            understudy.step()
        self._stand_ins.release()
        self.steps += 1

    def series(self) -> Series:
        """Return the percentiles and histograms over the steps, as an observer keeps them."""
        return self._observer.series()

    def course(self) -> Trajectory | None:
        """Return the bounds over the steps; None where the tail fraction is none of those that are followed."""
        return self._course() if self._tail_fraction in FRACTIONS else None

    def settled(self) -> bool:
        """Say whether the bounds have settled, with layers of rounding noise and without them.

        Looks only now and then, a few times while the steps double, and says no in between.

        Raises:
            ObservationError: the tail fraction is none of those that are followed.
        """
        if self._tail_fraction not in FRACTIONS:
            followed = ", ".join(f"{fraction:g}" for fraction in FRACTIONS if fraction < 0.5)
            raise ObservationError(
                f"whether the bounds have settled is followed for the tail fractions {followed},"
                f" not for {self._tail_fraction:g}"
            )
        if self.steps % max(1, (1 << self.steps.bit_length()) // (2 * _LOOKS_PER_DOUBLING)):
            return False
        if not has_settled(self._course()):
            return False
        noisy = [layer.name for layer in self._layers_of_noise()]
        others = self._course(noisy) if noisy else None
        return others is None or not others.steps or has_settled(others)

    def _course(self, leave_out: Sequence[str] = ()) -> Trajectory:
        group = next((layer.group for layer in self._layers if layer.group is not None), {})
        return trajectory_of(
            self.series(),
            lambda step: self._adapter.placement(group, step),
            self._tail_fraction,
            leave_out=leave_out,
        )

    def _layers_of_noise(self) -> list[Layer]:
        marked = {id(parameter) for parameter in self._noise.parameters.values()}
        return [layer for layer in self._real_layers if id(layer.parameter) in marked]

    def bounds(self, others: Sequence[Variant] = ()) -> EpsilonBounds:
        """Estimate the ε range from the steps so far, and judge it.

        Args:
            others: the bounds of other probes, such as of another seed, to judge these by.

        Raises:
            ObservationError: there was no step.
            NoBoundsError: no layer has a finite non-zero second moment.
        """
        if not self.steps:
            raise ObservationError("no batches: a probe needs at least one; check what is given as batches")
        readings = self._readings(self._in_order[-1], self._layers)
        statistics = self._measure(readings, self._tail_fraction)
        bounds = bounds_of_readings(readings, statistics, self._tail_fraction)
        rests = self._without_noise(readings, statistics)
        pairs = zip(statistics, rests, strict=True)
        noise = {layer.name: share for layer, rest in pairs if (share := noise_share(layer, rest))}
        variants = [*others, *self._other_tails(readings), *self._of_shadows()]
        if noise:
            variants += _variant("without", ROUNDING_NOISE, readings, rests, self._tail_fraction)
        judged = judge(
            bounds,
            _placement(readings),
            variants,
            self._course_up_to(bounds),
            noise,
            self._noise.checked,
            self.steps,
        )
        if self._noise.reason:
            why = f"rounding noise could not be told from gradients: {self._noise.reason}"
            judged = replace(judged, reasons=(*judged.reasons, why))
        return replace(bounds, reliability=judged)

    def variant(self, kind: VariantKind, name: str) -> Variant | None:
        """Return the bounds as they stand for comparison with those of another probe; None where no layer sets any."""
        readings = self._readings(self._in_order[-1], self._layers)
        found = _variant(kind, name, readings, self._measure(readings, self._tail_fraction), self._tail_fraction)
        return found[0] if found else None

    def _compute_gradients(self, batches: Sequence[Any]) -> None:
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad():
            for batch in batches:
                loss = self._loss(self._model, batch)
                _check_loss(loss)
                (loss if len(batches) == 1 else loss / len(batches)).backward()  # type: ignore[no-untyped-call]
        for layer in self._real_layers:
            if layer.parameter.grad is not None and layer.parameter.grad.is_sparse:
                raise ObservationError(
                    f"layer {layer.name!r} has a sparse gradient, and a probe needs dense ones;"
                    " build the model with torch.nn.Embedding(…, sparse=False)"
                )
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)

    def _refuse_moved_weights(self) -> None:
        moved = self._stand_ins.moved()
        if moved is not None:
            name = next(layer.name for layer in self._real_layers if layer.parameter is moved)
            raise ObservationError(
                f"loss_fn has moved the weights of {name!r}: it must compute the loss and nothing else; leave"
                " backward() and optimizer.step() to the probe"
            )

    def _readings(self, understudy: Understudy, layers: Sequence[Layer]) -> tuple[Reading, ...]:
        return read(understudy.optimizer, layers, self._adapter)

    def _measure(self, readings: Sequence[Reading], tail_fraction: float) -> list[LayerStatistics]:
        return [measure_reading(reading, tail_fraction) for reading in readings]

    def _without_noise(
        self, readings: Sequence[Reading], statistics: Sequence[LayerStatistics]
    ) -> list[LayerStatistics]:
        """Return the layers' statistics over the entries that are not noise."""
        noise = self._noise
        masks = {id(parameter): noise.masks[name] for name, parameter in noise.parameters.items()}
        rests = []
        for real, reading, layer in zip(self._real_layers, readings, statistics, strict=True):
            mask = masks.get(id(real.parameter))
            if mask is not None and reading.values is not None:
                layer = without_noise(layer, reading.values, reading.scale, mask, self._tail_fraction)
            rests.append(layer)
        return rests

    def _other_tails(self, readings: Sequence[Reading]) -> list[Variant]:
        variants = []
        for tail in _OTHER_TAILS:
            if tail != self._tail_fraction:
                measured = self._measure(readings, tail)
                variants += _variant("tail", f"{100 * tail:g} %", readings, measured, tail)
        return variants

    def _of_shadows(self) -> list[Variant]:
        variants = []
        for betas, shadow in self._shadows:
            readings = self._readings(shadow, follow(self._real_layers, shadow, self._stand_ins))
            measured = self._measure(readings, self._tail_fraction)
            variants += _variant("betas", label(betas), readings, measured, self._tail_fraction)
        return variants

    def _course_up_to(self, bounds: EpsilonBounds) -> Trajectory | None:
        """Return the course, ended by the bounds themselves where its last step is an earlier one."""
        course = self.course()
        if course is None or (course.steps and course.steps[-1] == self.steps):
            return course
        return Trajectory(
            (*course.steps, self.steps), (*course.low, bounds.low.epsilon), (*course.high, bounds.high.epsilon)
        )


def _variant(
    kind: VariantKind, name: str, readings: Sequence[Reading], measured: Sequence[LayerStatistics], tail_fraction: float
) -> list[Variant]:
    """Return the bounds of some layers as a variant; none where no layer sets one."""
    try:
        bounds = bounds_of_readings(readings, measured, tail_fraction)
    except NoBoundsError:
        return []
    return [Variant(kind, name, bounds.low, bounds.high)]


def _placement(readings: Sequence[Reading]) -> Placement:
    """Return where ε enters, of the first layer that has a second moment."""
    return next(reading.placement for reading in readings if reading.placement is not None)


def parameters_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Return the parameters of all groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _refuse_shards(layers: Sequence[Layer]) -> None:
    for layer in layers:
        if local(layer.parameter).numel() != layer.parameter.numel():
            raise ObservationError(
                f"this process holds only a part of {layer.name!r}, and a probe measures whole layers: probe before the"
                " model is sharded, or observe the training and ask `epsgrid.observing.distributed.gathered_bounds`"
            )


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, torch.Tensor):
        raise ObservationError(
            f"loss_fn must return the loss as a tensor, got {type(loss).__name__}; return it before .item()"
        )
    if loss.numel() != 1:
        shape = "×".join(map(str, loss.shape))
        raise ObservationError(f"loss_fn must return a scalar, got shape {shape}; take the mean or the sum")
    if not loss.requires_grad:
        raise ObservationError(
            "the loss has no gradient: it depends on no parameter that requires one, or was detached or computed under"
            " torch.no_grad()"
        )
