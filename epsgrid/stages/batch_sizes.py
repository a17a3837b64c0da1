"""What `probe --batch-sizes` and `sweep --batch-sizes` ask of batch sizes: whole, several, and none above the data."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid import tasks
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
    examples = None if data is None else training_examples(data)
    if examples is not None and found[-1] > examples:
        raise SpecError(
            f"batch sizes: {found[-1]:,} is larger than the data, which are {examples:,} training examples; the largest"
            " batch there is holds all of them"
        )
    return found


def training_examples(data: tasks.PreparedData) -> int | None:
    """Return the number of training examples; None where a batch is counted in something else, such as columns."""
    return len(data.train) if isinstance(data, DividedImages) else None
