"""The probe: one epoch of gradients through an optimizer, weights frozen, and what the bounds of ε are then.

The published method (arXiv 2311.11532 and its research code) accumulates v over the first epoch without moving the
weights: every gradient is taken at the random initialisation, in training mode, with coupled weight decay added as the
optimizer sees it. Here an understudy of the real optimizer does that, with fresh state and on copies of the weights, so
no optimizer is written twice and neither the optimizer nor a weight is touched.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import TAIL_FRACTION
from epsgrid.observing.adapters import unwrap
from epsgrid.observing.layers import NamedParameters
from epsgrid.observing.probing import Probing, parameters_of
from epsgrid.observing.recomputing import Loss
from epsgrid.observing.restoring import left_as_found
from epsgrid.observing.underflow import warn_of_underflow
from epsgrid.observing.understudy import Betas


def probe(
    model: nn.Module,
    optimizer: Any,
    batches: Iterable[Any],
    loss_fn: Loss,
    *,
    epochs: int = 1,
    steps: int | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    named_parameters: NamedParameters | None = None,
    tail_fraction: float = TAIL_FRACTION,
    update_weights: bool = False,
    stop_when_settled: bool = False,
    check_rounding: bool = True,
    betas: Sequence[Betas] = (),
    on_step: Callable[[int], None] | None = None,
) -> EpsilonBounds:
    """Estimate the ε range of an optimizer on a model of your own; leave both exactly as they are.

    >>> import torch, epsgrid
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
    >>> batches = [(torch.randn(32, 8), torch.randint(3, (32,))) for _ in range(20)]
    >>> def loss(model, batch):
    ...     return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> bounds = epsgrid.probe(model, torch.optim.Adam(model.parameters()), batches, loss)
    >>> bounds.low.decade, bounds.high.decade
    (0.001, 0.1)

    Weights, buffers, gradients, training modes, torch's generators and the optimizer with its state, groups and
    schedules stay as found, also where `loss_fn` raises or Ctrl-C comes. The optimizer's own step hooks are not called.
    It takes the memory of two copies of the model and of the optimizer's state; see `rounding_noise` for that check.

    Args:
        model: a model in eval mode is put into training mode for the probe; one in training mode stays as it is, so
            parts that you keep in eval mode do too.
        optimizer: as you would train with; may have taken steps, the probe's state is fresh. Its learning rate does
            not matter unless `update_weights`.
        batches: gone through once for each epoch; of whatever `loss_fn` takes. A generator lasts for one epoch.
        loss_fn: called as loss_fn(model, batch); returns the scalar loss of which you would call `backward()`, and does
            nothing else. May use autocast; a loss is not scaled, so with float16 small gradients become zeros.
        epochs: at least 1; 1 as published.
        steps: the most steps to take; None takes all.
        clip_norm: bound on the norm of the whole gradient, as with `torch.nn.utils.clip_grad_norm_`.
        accumulate: batches for each step; the step's gradient is the mean of theirs.
        named_parameters: names other than those of `model.named_parameters()`, or of a loss's parameters as well.
        tail_fraction: share of the non-zero entries beyond each order statistic, in (0, 0.5); 0.02 as published.
        update_weights: let the weights move at the optimizer's learning rate, as in training; they are put back.
        stop_when_settled: stop as soon as `has_settled` says that further steps would change no decade.
        check_rounding: look, on the first batch, for entries whose gradient is only rounding noise.
        betas: further decays (β₂, or a pair β₁, β₂) to state the bounds for, from the same gradients.
        on_step: called with the number of steps taken after each.

    Returns:
        The bounds, with their reliability: variants for other tails, without rounding noise and for `betas`, and the
        course of the bounds over the steps.

    Raises:
        ObservationError: there is no batch, `batches` does not last for all epochs, the loss is no scalar or has no
            gradient, `loss_fn` itself moves weights, a gradient is sparse, an argument is out of range, or the
            optimizer cannot be observed; see `observe`.
        NoBoundsError: no layer has a finite non-zero second moment, as where the loss is not finite.
    """
    _check_counts(epochs=epochs, steps=steps, accumulate=accumulate)
    real = unwrap(optimizer)
    warn_of_underflow(real)
    with left_as_found(model, parameters_of(real)):
        probing = Probing(
            model,
            real,
            loss_fn,
            clip_norm=clip_norm,
            named_parameters=named_parameters,
            tail_fraction=tail_fraction,
            update_weights=update_weights,
            check_rounding=check_rounding,
            betas=betas,
        )
        with probing:
            for group in itertools.islice(_steps(batches, epochs, accumulate), steps):
                probing.step(*group)
                if on_step is not None:
                    on_step(probing.steps)
                if stop_when_settled and probing.settled():
                    break
            return probing.bounds()


def _steps(batches: Iterable[Any], epochs: int, accumulate: int) -> Iterator[list[Any]]:
    """Yield the batches of each step."""
    for epoch in range(epochs):
        remaining = iter(batches)
        taken = 0
        while group := list(itertools.islice(remaining, accumulate)):
            taken += 1
            yield group
        if not taken and epoch:
            raise ObservationError(
                f"batches were used up after epoch {epoch} of {epochs}: a generator lasts for one; give something that"
                " can be gone through again, such as a list or a DataLoader, or epochs=1"
            )


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ObservationError(f"{name} must be a whole number, at least 1, got {count!r}")
