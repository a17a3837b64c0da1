"""How models and states are laid out for training."""

import copy

import pytest
import torch
from torch import nn

from epsgrid.trials.device import lay_out_state, place

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
