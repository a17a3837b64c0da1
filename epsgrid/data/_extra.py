"""Import the packages of an optional extra, or say how to install them."""

from __future__ import annotations

import importlib
from typing import Any

from epsgrid.errors import ExecutionError


def require(package: str, extra: str) -> Any:
    """Import a package that comes with an optional extra of epsgrid.

    Args:
        package: what to import.
        extra: the extra that brings it, as in `epsgrid[extra]`.

    Raises:
        ExecutionError: it is not installed, and how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ExecutionError(
            f"the package {package} is needed here and cannot be imported ({error}); pip install 'epsgrid[{extra}]'"
        ) from error
