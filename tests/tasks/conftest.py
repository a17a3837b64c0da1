"""Every test of a task has a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the test's cache folder; nothing is found in `$EPSGRID_DATA`."""
    monkeypatch.setenv("EPSGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EPSGRID_DATA", raising=False)
    return tmp_path / "cache"
