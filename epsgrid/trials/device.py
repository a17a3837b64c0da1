"""Choose the device, and bind torch to one thread so that results do not depend on the executor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from epsgrid.errors import ExecutionError


def resolve_device(asked: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device to train on; `auto` is CUDA where there is one.

    Raises:
        ExecutionError: CUDA was asked for and this torch or this machine has none.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise ExecutionError(
            "execution.device: cuda was asked for, but torch sees no CUDA device here"
            f" (torch {torch.__version__}); use `-o execution.device=cpu`, or install a CUDA build of torch"
        )
    return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread inside; float sums depend on the thread count, so trials always use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
