"""What tasks share to get their data: caches, downloads, image folders, text and parallel text.

What belongs to a single task stands in that task's own file. No module here imports torch when it is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epsgrid.errors import SpecError


def bundled(name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a data set that comes with epsgrid; `bundled/README.md` says what they are."""
    with np.load(Path(__file__).parent / "bundled" / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def check_subset(split: str, asked: int | None, there: int, what: str) -> None:
    """Raise SpecError where a split has fewer examples than `task.subset` asks for."""
    if asked is not None and asked > there:
        raise SpecError(
            f"task.subset.{split}: {asked:,} {what} asked for, there are {there:,}; ask for fewer, or leave it out"
        )
