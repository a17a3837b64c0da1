"""Load the compiled counting, `_compiled`, once it is worth the time that loading takes.

Tensors on a CPU are counted in plain torch, with the same result, until a process has spent as long on that as loading
takes: a process that counts once an epoch, or a few batches, never waits for it, and none loses more than twice the
best possible.
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from types import ModuleType

_SECONDS_TO_LOAD = 1.0
_spent = 0.0


def spend(seconds: float) -> None:
    """Note the duration of a count in plain torch on a CPU."""
    global _spent
    _spent += seconds


def compiled() -> bool:
    """Load the compiled counting at once, rather than when it is worth it; return whether that was possible."""
    spend(math.inf)
    return kernel() is not None


def kernel() -> ModuleType | None:
    """Return the compiled counting; None until it is worth loading, and where it cannot be loaded."""
    return _load() if _spent > _SECONDS_TO_LOAD else None


@cache
def _load() -> ModuleType | None:
    try:
        from epsgrid.numerics import _compiled
    except Exception as error:
        warnings.warn(
            f"numba cannot compile the counting of gradient magnitudes ({type(error).__name__}: {error}); "
            "plain torch counts instead, exactly as well but several times slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return _compiled
