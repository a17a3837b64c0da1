"""What is asked of batch sizes: whole numbers, several to compare, and none above the data."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid import tasks
from epsgrid.data._corpus import Corpus
from epsgrid.data._parallel import ParallelCorpus
from epsgrid.errors import SpecError
from epsgrid.tasks._divide import DividedImages


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return the batch sizes that a list such as "32,128,512" names.

    Raises:
        SpecError: one of them is no whole number of at least 1.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isdecimal() or int(part) < 1]
    if wrong:
        raise SpecError(
            f"--batch-sizes: expected whole numbers of at least 1, as in 32,128,512, got {', '.join(map(repr, wrong))}"
        )
    return tuple(map(int, parts))


def with_base(sizes: Sequence[int], base: int, data: tasks.PreparedData | None) -> tuple[int, ...]:
    """Return the batch sizes with the spec's own among them, rising, each once.

    Args:
        sizes: asked for.
        base: of the spec.
        data: of the task; None where they are not here, so that nothing can be said of their number.

    Raises:
        SpecError: there is no other size than the base, or one is larger than the training data.
    """
    found = tuple(sorted({base, *sizes}))
    if len(found) < 2:
        raise SpecError(
            f"batch sizes: only {base}, which is the spec's own training.batch_size: there is nothing to compare it"
            f" with; name others, as in --batch-sizes {max(1, base // 4)},{4 * base}"
        )
    excess = None if data is None else too_large(found[-1], data)
    if excess is not None:
        raise SpecError(f"batch sizes: {excess}")
    return found


def too_large(batch_size: int, data: object) -> str | None:
    """Return that a batch is larger than the training data, in words; None where it is not or nobody can say.

    Args:
        batch_size: in what the task counts batches in: examples, columns of text, or tokens.
        data: what the task prepared.
    """
    largest = _largest_batch(data)
    if largest is None or batch_size <= largest[0]:
        return None
    count, unit = largest
    return f"{batch_size:,} is larger than the data: the largest batch there is holds all {count:,} {unit}"


def _largest_batch(data: object) -> tuple[int, str] | None:
    """Return the size of a batch of everything, and of what it is so many; None for data of an unknown kind."""
    if isinstance(data, DividedImages):
        return len(data.train), "training examples"
    if isinstance(data, Corpus):
        return (len(data.train) - 1) // 2, f"columns of two words that {len(data.train):,} training words make"
    if isinstance(data, ParallelCorpus):
        longest = max(data.train.source.longest, data.train.target.longest)
        return len(data.train) * longest, f"tokens of {len(data.train):,} training pairs, filling counted"
    return None


def training_examples(data: tasks.PreparedData) -> int | None:
    """Return the number of training examples; None where a batch is counted in something else, such as columns."""
    return len(data.train) if isinstance(data, DividedImages) else None
