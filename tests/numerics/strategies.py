"""Second moments for property tests: ties, zeros, denormals, the ends of the range, NaN and infinity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda v: v.view(300, 500).T,
    "channels last": lambda v: v.view(10, 30, 20, 25).to(memory_format=torch.channels_last),
    "every third": lambda v: v[1::3],
    "block": lambda v: v.view(300, 500)[7:200, 3:400],
    "offset": lambda v: v[7:],
    "expanded": lambda v: v[:1000].unsqueeze(1).expand(1000, 7),
    "parameter": lambda v: torch.nn.Parameter(v.view(300, 500).T),
    "scalar": lambda v: v[5],
}
"""Ways to lay 150,000 entries out in memory."""

_SPECIAL = [0.0, -0.0, 2.0**-149, 2.0**-126, 1.0, 1.03125, 3.4028234663852886e38]

finite = st.one_of(st.sampled_from(_SPECIAL), st.floats(0, 3.4028234663852886e38, width=32))
nonfinite = st.sampled_from([np.nan, -np.nan, np.inf])
ordinary = st.floats(2.0**-100, 2.0**100, width=32)


def moments(entries: st.SearchStrategy[float] = finite, min_size: int = 0) -> st.SearchStrategy[np.ndarray]:
    return st.lists(entries, min_size=min_size, max_size=120).map(lambda values: np.array(values, dtype=np.float32))


any_moments = moments(st.one_of(finite, nonfinite))
