"""Pack sentence pairs of like lengths into batches of so many tokens, filling counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from epsgrid.errors import SpecError

_TIES_SEED = 0


def pack(
    source: NDArray[np.int64], target: NDArray[np.int64], tokens: int, multiple: int = 8
) -> list[NDArray[np.int64]]:
    """Pack pairs into batches as fairseq does, whose published runs had 1,101 batches of 4,096 tokens.

    Pairs are sorted by length of the source, then of the target, with equal ones in an order that is random but the
    same for ever. A batch takes pair after pair as long as their number times the longest side of any is at most
    `tokens`; then it gives back what exceeds a multiple of `multiple` pairs, if it has more than that.

    Args:
        source: (n,), tokens of each source, its end included.
        target: (n,), tokens of each target, likewise.
        tokens: most tokens of a batch on either side, filling included; `training.batch_size` of a spec.
        multiple: batches of at least so many pairs hold a multiple of it.

    Returns:
        The pairs of each batch, as indices; each pair is in one batch.

    Raises:
        SpecError: a single sentence has more than `tokens`.
    """
    longer = np.maximum(source, target)
    if longer.max(initial=0) > tokens:
        raise SpecError(
            f"training.batch_size: {tokens:,}, which this task counts in tokens, is less than the longest sentence has,"
            f" {int(longer.max()):,}; the published recipe has 4096"
        )
    ties = np.random.RandomState(_TIES_SEED).permutation(len(source))
    order = np.lexsort((ties, target, source))
    batches: list[NDArray[np.int64]] = []
    first, longest = 0, 0
    for last, length in enumerate(longer[order].tolist()):
        size = last - first
        if (size + 1) * max(longest, length) > tokens:
            taken = max(size // multiple * multiple, size % multiple)
            batches.append(order[first : first + taken])
            first += taken
            longest = int(longer[order[first:last]].max(initial=0))
        longest = max(longest, length)
    return [*batches, order[first:]]
