from __future__ import annotations

import pytest

from epsgrid.numerics import tables


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Count by compiled code, then in plain torch, which is what counts on other devices."""
    if request.param == "torch":
        monkeypatch.setattr(tables, "_kernel", lambda: None)
    else:
        assert tables.compiled()
    return str(request.param)
