"""`probe`: the bounds of ε for a model, an optimizer and batches of your own, before any training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import TAIL_FRACTION
from epsgrid.observing.adapters import unwrap, warn_of_underflow
from epsgrid.observing.layers import NamedParameters
from epsgrid.observing.probing import Betas, Probing
from epsgrid.observing.rounding import Loss


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

    A copy of the model is trained by a copy of the optimizer, with real steps at the real learning rate, and its
    weights are put back after each step unless `update_weights`. While it runs it holds a second copy of the weights,
    buffers and optimizer state; the check for rounding noise holds two more of the weights for a moment, see
    `rounding_noise`, and each of `betas` one more of the state. Hooks of the optimizer are not called.

    The global random number generators of torch, numpy and Python are put back, also where `loss_fn` raises or Ctrl-C
    comes, and so are those that `batches` holds, such as the generator of a DataLoader or of its sampler. An iterator
    is used up, and whatever else `batches` counts of its passes goes on.

    Args:
        model: a copy of a model in eval mode is put into training mode; one in training mode stays as it is, so parts
            that you keep in eval mode do too.
        optimizer: as you would train with; may have taken steps, the probe's state is fresh.
        batches: iterated once for each epoch, over anything that `loss_fn` takes. A generator lasts for one epoch.
        loss_fn: called as loss_fn(model, batch) with the copy; returns the scalar loss of which you would call
            `backward()`, and does nothing else. May use autocast; a loss is not scaled, so with float16 small gradients
            become zeros.
        epochs: at least 1; 1 as published.
        steps: the most steps to take; None takes all.
        clip_norm: bound on the norm of the whole gradient, as with `torch.nn.utils.clip_grad_norm_`.
        accumulate: batches for each step; the step's gradient is the mean of theirs.
        named_parameters: names other than those of `model.named_parameters()`, or of a loss's parameters as well.
        tail_fraction: share of the non-zero entries beyond each order statistic, in (0, 0.5); 0.02 as published.
        update_weights: let the copy's weights move, as in training.
        stop_when_settled: stop as soon as `has_settled` says that further steps would change no decade.
        check_rounding: look, on the first batch, for entries whose gradient is only rounding noise.
        betas: further decays (β₂, or a pair β₁, β₂) to state the bounds for, from the same gradients.
        on_step: called with the number of steps taken after each.

    Returns:
        The bounds, with their reliability: variants for other tails, without rounding noise and for `betas`, and the
        bounds over the steps.

    Raises:
        ObservationError: model or optimizer cannot be copied, there is no batch, `batches` does not last for all
            epochs, the loss is no scalar or has no gradient, `loss_fn` uses the original model, steps or moves weights,
            a gradient is sparse, an argument is out of range, or the optimizer cannot be observed; see `observe`.
        NoBoundsError: no layer has a finite non-zero second moment, as where the loss is not finite.
    """
    for name, count in {"epochs": epochs, "steps": steps, "accumulate": accumulate}.items():
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ObservationError(f"{name} must be a whole number, at least 1, got {count!r}")
    real = unwrap(optimizer)
    warn_of_underflow(real)
    probing = Probing(
        model,
        real,
        loss_fn,
        batches,
        clip_norm=clip_norm,
        named_parameters=named_parameters,
        tail_fraction=tail_fraction,
        update_weights=update_weights,
        check_rounding=check_rounding,
        betas=betas,
    )
    with probing:
        by_step = itertools.islice(_batches_by_step(batches, epochs, accumulate), steps)
        probing.run(by_step, on_step, stop_when_settled=stop_when_settled)
        return probing.bounds()


def _batches_by_step(batches: Iterable[Any], epochs: int, accumulate: int) -> Iterator[list[Any]]:
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
