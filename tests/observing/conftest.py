from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import epsgrid
from epsgrid.observing import adapters


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return `register_optimizer`; later tests do not see the classes that are registered with it."""
    monkeypatch.setattr(adapters, "_ADAPTERS", dict(adapters._ADAPTERS))
    return epsgrid.register_optimizer
