"""How a process, a model and an optimizer's state are made ready for training."""

import copy
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from epsgrid.errors import ExecutionError
from epsgrid.trials import device as devices
from epsgrid.trials.device import lay_out_state, place, resolve_device

CPU = torch.device("cpu")


def test_convolutions_are_laid_out_channels_last_and_compute_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).double()
    images = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    expected = copy.deepcopy(model)(images)

    placed = place(model, CPU)

    weight = placed.get_parameter("0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    torch.testing.assert_close(placed(images), expected)


@pytest.mark.parametrize(
    ("convolution", "is_left"),
    [
        (nn.Conv2d(7, 16, 1, stride=2), True),
        (nn.Conv2d(1, 1, 1, stride=(1, 3)), True),
        (nn.Conv2d(8, 16, 1, stride=2), False),
        (nn.Conv2d(4, 16, 1), False),
        (nn.Conv2d(4, 16, 3, stride=2), False),
        (nn.ConvTranspose2d(4, 16, 1, stride=2), False),
    ],
)
def test_a_narrow_strided_convolution_of_one_pixel_stays_in_the_usual_layout(
    convolution: nn.Module, is_left: bool
) -> None:
    placed = place(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(convolution)), CPU)
    assert not placed.get_parameter("0.weight").is_contiguous()
    images = torch.rand(2, convolution.in_channels, 6, 6).to(memory_format=torch.channels_last)
    layouts = [images.stride(), images.clone(memory_format=torch.contiguous_format).stride()]
    convolution.register_forward_hook(lambda module, inputs, output: layouts.append(inputs[0].stride()))
    convolution(images)
    assert layouts[2] == layouts[is_left]


def test_bfloat16_is_refused_where_the_processor_does_not_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "computes_in_bfloat16", lambda device: False)
    assert resolve_device("cpu") == resolve_device("cpu", "float32") == CPU
    with pytest.raises(
        ExecutionError, match=r"this processor \(.+\) does not compute in it.*training.precision=float32"
    ):
        resolve_device("cpu", "bfloat16")


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_state_loaded_in_another_layout_updates_the_weights_it_belongs_to(kind: type[torch.optim.Adam]) -> None:
    """Fused kernels walk through memory: in another layout they would pair moments and weights wrongly."""
    torch.manual_seed(0)
    start = torch.randn(8, 4, 3, 3)
    gradients = [torch.randn(8, 4, 3, 3) for _ in range(3)]

    slow = nn.Parameter(start.clone())
    loop = kind([slow], lr=0.1, foreach=False)
    fast = nn.Parameter(start.clone(memory_format=torch.contiguous_format).to(memory_format=torch.channels_last))
    fused = kind([fast], lr=0.1, fused=True)
    for step, gradient in enumerate(gradients):
        slow.grad = gradient.clone()
        fast.grad = gradient.to(memory_format=torch.channels_last)
        if step == 2:
            fused.load_state_dict(
                copy.deepcopy(loop.state_dict()) | {"param_groups": fused.state_dict()["param_groups"]}
            )
            lay_out_state(fused)
        loop.step()
        fused.step()

    assert fused.state[fast]["exp_avg_sq"].stride() == fast.stride()
    assert fused.state[fast]["step"].item() == 3
    torch.testing.assert_close(fast, slow, check_stride=False)


_COUNT_FAULTS = """
import resource, sys, types
sys.modules["torch"] = types.SimpleNamespace(Tensor=None, nn=types.SimpleNamespace(Module=None),
    device=None, optim=types.SimpleNamespace(Optimizer=None))
from epsgrid.trials.device import keep_freed_memory
assert len(sys.argv) == 1 or keep_freed_memory()
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(50_000_000)
    block[::4096] = b"x" * len(block[::4096])
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    """In processes of their own, for it cannot be taken back: pages of 50 MB that the system had to clear."""

    def faults(*arguments: str) -> int:
        command = [sys.executable, "-c", _COUNT_FAULTS, *arguments]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults() > 10_000
    assert faults("keep") < 100
