"""Choose the device, lay models and states out on it, measure memory, and bind torch to one thread.

One thread, always, so that results do not depend on the executor.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from epsgrid.errors import ExecutionError

_KEEP = ((-3, 2**27), (-1, 2**31 - 1), (-2, 0))
"""Of glibc's mallopt: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, in bytes."""

_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Variables by which oneDNN uses less than a processor has."""


def resolve_device(asked: Literal["auto", "cpu", "cuda"], precision: str = "float32") -> torch.device:
    """Return the device to train on; `auto` is CUDA where there is one.

    Raises ExecutionError where CUDA was asked for and there is none, or the device does not compute in the precision.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise ExecutionError(
            "execution.device: cuda was asked for, but torch sees no CUDA device here"
            f" (torch {torch.__version__}); use `-o execution.device=cpu`, or install a CUDA build of torch"
        )
    device = torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")
    if precision == "bfloat16" and not computes_in_bfloat16(device):
        raise ExecutionError(
            f"training.precision: bfloat16 was asked for, but {describe(device)} does not compute in it: steps would"
            " take several times as long as in float32, and LSTMs fail; use `-o training.precision=float32`, or a"
            " processor with AVX-512, or a GPU that computes in bfloat16"
        )
    return device


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices in bfloat16 itself; oneDNN decides so for processors.

    Where it does not, torch falls back on loops that take about ten times as long as float32, or raises.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def describe(device: torch.device) -> str:
    """Return what a device is called, such as "this processor (AVX2)" or a GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    limits = (f", {name}={os.environ[name]}" for name in _LIMITS if name in os.environ)
    return f"this processor ({torch.backends.cpu.get_cpu_capability()}{''.join(limits)})"


def place(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Move a model to a device, the weights of its convolutions over images laid out channels last, and return it.

    Convolutions take the layout of their weights, and a step of a narrow ResNet34 costs a third less so. On a CPU,
    convolutions that torch gets wrong in this layout stay in the usual one, and so do their inputs.
    """
    model = model.to(device)
    usual = set()
    if device.type == "cpu":
        for module in filter(_overflows_channels_last, model.modules()):
            module.register_forward_pre_hook(_in_usual_layout)
            usual |= set(module.parameters())
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.dim() == 4 and tensor not in usual:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return model


def _overflows_channels_last(module: torch.nn.Module) -> bool:
    """Return whether the backward pass of a module may write past its buffer where tensors are channels last.

    It does in torch 2.13.0 on processors with AVX2 and without AVX-512 (ONEDNN_MAX_CPU_ISA=AVX2 makes one of any) where
    a 1×1 convolution has a stride and fewer than 8 input channels: processes abort, or other tensors are overwritten.
    """
    return (
        isinstance(module, torch.nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels < 8
    )


def _in_usual_layout(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Return the images of a convolution in the usual layout, also where one channel makes them count as either."""
    return tuple(
        images.clone(memory_format=torch.contiguous_format)
        if not images.is_contiguous() or images.is_contiguous(memory_format=torch.channels_last)
        else images
        for images in inputs
    )


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
    one: half of a step of a language model with 10,000 words. Blocks of more than 128 MiB are handed back as ever.
    """
    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(tune(setting, value) == 1 for setting, value in _KEEP)


def machine_memory() -> int:
    """Return the bytes of memory that this process may take in all: the machine's, or less where its cgroups say so."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError):  # not on Linux
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            root, name = Path("/sys/fs/cgroup"), "memory.max"
            if "memory" in controllers.split(","):
                root, name = root / "memory", "memory.limit_in_bytes"
            own = root / path.lstrip("/")
            for folder in (own, *own.parents):
                with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                    sizes.append(int((folder / name).read_text()))
    return min(sizes)


def process_memory() -> tuple[int, int]:
    """Return the bytes that this process holds, and those that it held at most; files that it maps are left out.

    Both are 0 where the system does not say so.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        given = {
            name: 1024 * int(value.split()[0])
            for name, _, value in (line.partition(":") for line in lines)
            if value.endswith(" kB")
        }
        return given["RssAnon"], given["VmHWM"] - given["RssFile"]
    except (OSError, KeyError):
        return 0, 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread inside; float sums depend on the thread count, so trials always use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
