"""The bounds under other betas, from one pass over the gradients.

How do the bounds move with β₂? A shadow answers without another run: a second optimizer with other decays that takes
every step of the first one, on the same gradients. With moving weights the gradients stay those of the first one's
training; what would have been seen had the shadow trained may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatistics
from epsgrid.numerics.variants import Variant
from epsgrid.observing.adapters import adapter_for, unwrap
from epsgrid.observing.layers import Layer, NamedParameters, named_layers
from epsgrid.observing.reading import Reading, bounds_of_readings, measure_reading, read
from epsgrid.observing.understudy import Betas, StandIns, Tensors, Understudy, label

__all__ = ["Betas", "Shadows"]


class Shadows:
    """Optimizers of the same class with other betas that step whenever an optimizer does; a context manager.

    >>> model = torch.nn.Linear(3, 2)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> with Shadows(optimizer, [0.99, (0.5, 0.9999)], model=model) as shadows:
    ...     for _ in range(5):
    ...         model(torch.ones(1, 3)).sum().backward()
    ...         optimizer.step()
    >>> [variant.label for variant in shadows.variants()]
    ['β₂ = 0.99', 'β₁ = 0.5, β₂ = 0.9999']

    They step just before the optimizer does, after everything that changes gradients before `step` is called, such as
    clipping or unscaling; where `step` is given a closure, after that. So weight decay that goes into the gradient sees
    the weights that the optimizer sees. Steps that a gradient scaler leaves out are left out here too. The optimizer
    and its weights are not touched: training is the same, bit for bit. Each shadow takes the memory of the optimizer's
    state, all of them together that of the weights.

    Args:
        optimizer: a torch optimizer with betas (Adam and its kin), alpha (RMSprop) or rho (Adadelta), or a wrapper of
            one. Shadows have a fresh state, whatever steps it has taken, and its other hyperparameters as they change;
            of betas those that were not asked for stay as they are now.
        betas: for each shadow β₂ alone, or the pair of β₁ and β₂.
        named_parameters: as for `observe`.
        model: likewise.
        tail_fraction: share of the non-zero entries beyond each order statistic of the bounds.

    Raises:
        ObservationError: the optimizer has no such decay or cannot be observed, a decay lies outside [0, 1), or a
            parameter has no name.
    """

    def __init__(
        self,
        optimizer: Any,
        betas: Sequence[Betas],
        named_parameters: NamedParameters | None = None,
        *,
        model: nn.Module | None = None,
        tail_fraction: float = TAIL_FRACTION,
    ) -> None:
        real = unwrap(optimizer)
        self.betas, self._tail_fraction = tuple(betas), tail_fraction
        self._adapter = adapter_for(real)
        self._layers = named_layers(real, named_parameters, model)
        self._stand_ins = StandIns(real)
        self._understudies = [Understudy(real, self._stand_ins, each) for each in self.betas]
        self._optimizer = real
        self._handle: Any = real.register_step_pre_hook(self._before_step)

    def step(self) -> None:
        """Let the shadows take a step on the gradients as they are now; the hook does it, unless closed."""
        self._stand_ins.refresh()
        for understudy in self._understudies:
            understudy.step()
        self._stand_ins.release()

    def statistics(self) -> tuple[tuple[LayerStatistics, ...], ...]:
        """Measure every layer under each shadow's betas."""
        return tuple(
            tuple(measure_reading(reading, self._tail_fraction) for reading in readings)
            for readings in self._readings()
        )

    def bounds(self) -> tuple[EpsilonBounds, ...]:
        """Return the ε range under each shadow's betas; it works after `close` too.

        Raises:
            NoBoundsError: no step was taken, or no layer has a finite non-zero entry.
        """
        pairs = zip(self._readings(), self.statistics(), strict=True)
        return tuple(bounds_of_readings(readings, statistics, self._tail_fraction) for readings, statistics in pairs)

    def variants(self) -> tuple[Variant, ...]:
        """Return the same, as a probe's reliability has them."""
        pairs = zip(self.betas, self.bounds(), strict=True)
        return tuple(Variant("betas", label(betas), bounds.low, bounds.high) for betas, bounds in pairs)

    def close(self) -> None:
        """Step no more.

        Raises:
            ObservationError: they are closed already.
        """
        if self._handle is None:
            raise ObservationError("these shadows are closed already")
        self._handle.remove()
        self._handle = None

    def __enter__(self) -> Shadows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self.close()

    def _readings(self) -> list[tuple[Reading, ...]]:
        return [
            read(each.optimizer, follow(self._layers, each, self._stand_ins), self._adapter)
            for each in self._understudies
        ]

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Step; where the gradients will come from a closure, have that call the shadows."""
        if len(args) > 1 and args[1] is not None:
            return (args[0], self._after(args[1]), *args[2:]), kwargs
        if kwargs.get("closure") is not None:
            return args, {**kwargs, "closure": self._after(kwargs["closure"])}
        self.step()
        return None

    def _after(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def called() -> Any:
            loss = closure()
            self.step()
            return loss

        return called


def follow(layers: Sequence[Layer], understudy: Understudy, tensors: Tensors) -> tuple[Layer, ...]:
    """Return an optimizer's layers as an understudy has them: its own tensors and groups, under the same names."""
    groups = {id(own): group for group in understudy.optimizer.param_groups for own in group["params"]}
    own = [layer.parameter if layer.group is None else tensors[layer.parameter] for layer in layers]
    return tuple(
        replace(layer, parameter=each, group=groups.get(id(each))) for layer, each in zip(layers, own, strict=True)
    )
