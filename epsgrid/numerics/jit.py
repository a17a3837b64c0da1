"""Load the compiled counting, `_compiled`, once it is worth the time that loading takes."""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType


class Patience:
    """Whether enough was counted in plain torch, on a CPU, that the compiled counting is worth loading.

    Waiting until as much time was lost as loading takes is never worse than twice the best possible.
    """

    _SECONDS = 1.0
    """Duration of loading, about."""

    def __init__(self) -> None:
        self.is_over = False
        self._spent = 0.0

    def spend(self, seconds: float) -> None:
        """Add the duration of a count in plain torch."""
        self._spent += seconds
        self.is_over = self.is_over or self._spent > self._SECONDS


patience = Patience()


def compiled() -> bool:
    """Load the compiled counting at once, rather than when it is worth it; return whether that was possible.

    Until then tensors on a CPU are counted in plain torch, with the same result. It is loaded as soon as a process has
    spent as long on that as loading takes: a process that counts once an epoch, or a few batches, never waits for it.
    """
    patience.is_over = True
    return kernel() is not None


def kernel() -> ModuleType | None:
    """Return the compiled counting; None until it is worth loading, and where it cannot be loaded."""
    return _load() if patience.is_over else None


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
