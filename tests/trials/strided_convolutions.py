"""Train strided convolutions of a few input channels, to see what torch does with it. Needs torch alone.

    ONEDNN_MAX_CPU_ISA=AVX2 python tests/trials/strided_convolutions.py LAYOUT CHANNELS/STRIDE ...

torch 2.13.0, in one thread, on a processor with AVX2 and without AVX-512 (ONEDNN_MAX_CPU_ISA=AVX2 makes one of any):
with LAYOUT `channels_last` the backward pass of a 1×1 convolution with a stride and 1 to 7 input channels writes past
its buffer, and the process aborts ("free(): invalid size", "corrupted size vs. prev_size", a segmentation fault). The
usual layout passes, and so do 8 channels and more, stride 1, larger kernels, grouped, transposed and 3-D convolutions
and bfloat16, also where malloc checks each block (LD_PRELOAD=libc_malloc_debug.so MALLOC_CHECK_=3), and AVX-512.
LAYOUT `placed` is the one that epsgrid's `trials.device.place` chooses.
"""

from __future__ import annotations

import sys

import torch


def train(layout: str, channels: int, stride: int) -> torch.Tensor:
    """Return the weights after 30 steps on random images."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Conv2d(channels, 8, kernel_size=1, stride=stride)
    if layout == "placed":
        from epsgrid.trials.device import place

        model = place(model, torch.device("cpu"))
    elif layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    for _ in range(30):
        images = torch.randn(32, channels, 32, 32).requires_grad_()
        if layout != "usual":
            images = images.to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()
        _others = [torch.randn(size) for size in (7, 100, 1000, 5000)]  # something to overwrite
    return model.weight.detach().flatten()


if __name__ == "__main__":
    sizes = [tuple(map(int, size.split("/"))) for size in sys.argv[2:]]
    print([train(sys.argv[1], channels, stride).tolist() for channels, stride in sizes])
