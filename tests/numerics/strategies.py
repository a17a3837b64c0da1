"""Second moments for property tests: ties, zeros, denormals, the ends of the range, NaN and infinity."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

_SPECIAL = [0.0, -0.0, 2.0**-149, 2.0**-126, 1.0, 1.03125, 3.4028234663852886e38]

finite = st.one_of(st.sampled_from(_SPECIAL), st.floats(0, 3.4028234663852886e38, width=32))
nonfinite = st.sampled_from([np.nan, -np.nan, np.inf])
ordinary = st.floats(2.0**-100, 2.0**100, width=32)


def moments(entries: st.SearchStrategy[float] = finite, min_size: int = 0) -> st.SearchStrategy[np.ndarray]:
    return st.lists(entries, min_size=min_size, max_size=120).map(lambda values: np.array(values, dtype=np.float32))


any_moments = moments(st.one_of(finite, nonfinite))
