"""Tell whether a trial failed for want of memory, and what it took of a CUDA device's."""

from __future__ import annotations

import errno
from typing import Any, Literal

import torch

_OF_A_DEVICE = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_OF_THE_MACHINE = ("can't allocate memory",)  # of torch's allocator for processors, whose error is a RuntimeError


def ran_out(error: BaseException) -> Literal["machine", "device"] | None:
    """Return whose memory was used up where an error says so, it or one that it came from; None otherwise.

    >>> ran_out(MemoryError())
    'machine'
    >>> ran_out(torch.OutOfMemoryError("CUDA out of memory."))
    'device'
    >>> ran_out(ValueError("no"))
    """
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        if isinstance(one, torch.OutOfMemoryError) or _says(one, _OF_A_DEVICE):
            return "device"
        if isinstance(one, MemoryError) or _says(one, _OF_THE_MACHINE) or getattr(one, "errno", None) == errno.ENOMEM:
            return "machine"
        one = one.__cause__ or one.__context__
    return None


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def peak_memory(device: torch.device) -> dict[str, Any]:
    """Return the most that torch held of a CUDA device in this process, in bytes, for a record; {} of processors.

    CUDA itself takes some hundred megabytes more for each process.
    """
    return {"cuda_peak_bytes": torch.cuda.max_memory_reserved(device)} if device.type == "cuda" else {}
