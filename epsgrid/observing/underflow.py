"""Warn of an ε that the numbers it is added to cannot hold: in float16, 1e-8 is zero and 0/0 is NaN."""

from __future__ import annotations

import warnings

import torch

from epsgrid.numerics.precision import DTYPES, underflow_warning
from epsgrid.observing.adapters import epsilon_in


def warn_of_underflow(optimizer: torch.optim.Optimizer, stacklevel: int = 3) -> None:
    """Warn, by a RuntimeWarning, of every ε that is too small for the type of its parameters.

    An optimizer keeps v in the type of the parameters it was given and adds ε in that; under autocast these are float32
    all the same. Fused implementations compute in float32 whatever they keep, so of them nothing is said.

    Args:
        optimizer: groups without "eps", and parameters of types unknown here, are passed over.
        stacklevel: as of `warnings.warn`; 3 is the caller of who calls this.
    """
    told: set[str] = set()
    for group in optimizer.param_groups:
        epsilon = epsilon_in(group)
        if not epsilon or group.get("fused"):
            continue
        types = {str(parameter.dtype).removeprefix("torch.") for parameter in group["params"]}
        for dtype in sorted(types & set(DTYPES)):
            line = underflow_warning(epsilon, dtype)
            if line is not None and line not in told:
                told.add(line)
                warnings.warn(f"{type(optimizer).__name__}: {line}", RuntimeWarning, stacklevel=stacklevel)
