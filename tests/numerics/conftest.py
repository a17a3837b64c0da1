from __future__ import annotations

import pytest

from epsgrid.numerics import jit


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Count by compiled code, then in plain torch, which is what counts on other devices."""
    if request.param == "torch":
        monkeypatch.setattr(jit, "kernel", lambda: None)
    else:
        assert jit.compiled()
    return str(request.param)
