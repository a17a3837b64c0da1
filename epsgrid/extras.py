"""Packages that only some uses of epsgrid need; each is installed by an extra, as in `pip install 'epsgrid[ray]'`."""

from __future__ import annotations

import importlib
from typing import Any

from epsgrid.errors import ExecutionError


def require(module: str, extra: str, used_by: str = "here") -> Any:
    """Import a module of an extra's package; without it raise an ExecutionError that says how to install the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise not_installed(module, extra, error, used_by) from error


def not_installed(module: str, extra: str, error: ImportError, used_by: str = "here") -> ExecutionError:
    """Return the error that says that an extra's package is missing, or broken, and how to install it."""
    package = module.partition(".")[0]
    return ExecutionError(
        f"{package} is needed {used_by} and cannot be imported ({error}); `pip install 'epsgrid[{extra}]'` brings it"
    )
