from __future__ import annotations

import re

import pytest
import torch

from epsgrid.numerics.precision import DTYPES, underflow_warning


@pytest.mark.parametrize(
    ("epsilon", "dtype", "words"),
    [
        (1e-8, "float16", "epsilon 1e-8 is 0 in float16, whose smallest value is 6e-8.*0/0; keep.*in float32"),
        (1e-7, "float16", "below 6e-5, the smallest normal number of float16"),
        (1e-41, "bfloat16", "is 0 in bfloat16.*keep the optimizer in float64"),
        (1e-40, "float32", "below 1e-38, the smallest normal number of float32"),
        (1e-46, "float32", "is 0 in float32.*keep the optimizer in float64"),
    ],
)
def test_an_epsilon_too_small_is_told(epsilon: float, dtype: str, words: str) -> None:
    warning = underflow_warning(epsilon, dtype)
    assert warning is not None and re.search(words, warning)


@pytest.mark.parametrize("dtype", DTYPES[:-1])  # of float64 there is nothing wider to try with
def test_the_limits_are_torchs(dtype: str) -> None:
    """Zero exactly where torch rounds to zero; subnormal exactly below torch's smallest normal."""
    kind = getattr(torch, dtype)
    normal = torch.finfo(kind).smallest_normal
    smallest = normal * torch.finfo(kind).eps
    for epsilon in (smallest, 0.51 * smallest, 0.49 * smallest):
        rounded = torch.tensor(epsilon, dtype=torch.float64).to(kind)
        warning = underflow_warning(epsilon, dtype)
        assert warning is not None
        assert ("is 0 in" in warning) == (rounded.item() == 0)
    assert underflow_warning(normal, dtype) is None


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown type 'int8'; expected one of: float16, bfloat16, float32, float64"):
        underflow_warning(1e-8, "int8")
