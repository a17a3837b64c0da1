"""Set torch's global generators, from which initial weights and dropout are drawn."""

from __future__ import annotations

import torch

from epsgrid.numerics.seeds import derive_seed


def seed_weights(seed: int) -> None:
    """Get ready to draw initial weights: all trials of a seed start from the same ones."""
    torch.manual_seed(derive_seed("weights", seed))


def seed_epoch(seed: int, epoch: int) -> None:
    """Get ready for the dropout of an epoch, counted from 0."""
    torch.manual_seed(derive_seed("epoch", seed, epoch))
