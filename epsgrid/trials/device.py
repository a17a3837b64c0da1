"""Choose the device, lay models and states out on it, and bind torch to one thread.

One thread, always, so that results do not depend on the executor.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from epsgrid.errors import ExecutionError

_KEEP = ((-3, 2**27), (-1, 2**31 - 1), (-2, 0))
"""Of glibc's mallopt: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, in bytes."""


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


def place(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Move a model to a device, the weights of its convolutions laid out channels last, and return it.

    Convolutions take the layout of their weights: a step of a narrow ResNet34 costs a third less on a CPU, one of
    DenseNet121 a fifth, and tensor cores want it so. Models without convolutions stay as they are.
    """
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """Give every tensor of an optimizer's state the memory layout of its parameter, which one just loaded may not have.

    torch's fused CPU kernels walk through parameter, gradient and state side by side in memory, whatever their strides
    say: with two layouts the moments of one weight would update another.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            belongs = isinstance(value, torch.Tensor) and value.shape == parameter.shape
            if belongs and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for the next tensor of that size; return whether it can.

    The C library hands a large block back to the system when it is freed, and the system clears every page of the next
    one: half of a step of a language model with 10,000 words, a twentieth of one of VGG11. Blocks of more than 128 MiB
    are handed back as ever, or what is kept would come to gigabytes. Other C libraries than glibc are left as they are.
    """
    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(tune(setting, value) == 1 for setting, value in _KEEP)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread inside; float sums depend on the thread count, so trials always use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
