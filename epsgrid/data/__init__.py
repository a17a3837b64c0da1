"""What tasks share to get their data: caches, downloads, image folders, text and parallel text.

What belongs to a single task stands in that task's own file. No module here imports torch when it is imported.
"""

from __future__ import annotations

import importlib
from typing import Any

from epsgrid.errors import ExecutionError, SpecError


def require(package: str, extra: str) -> Any:
    """Import a package that comes with the optional extra `epsgrid[extra]`.

    Raises:
        ExecutionError: the package is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ExecutionError(
            f"the package {package} is needed here and cannot be imported ({error}); pip install 'epsgrid[{extra}]'"
        ) from error


def check_subset(split: str, asked: int | None, there: int, what: str) -> None:
    """Check that a split has as many examples as `task.subset` asks for.

    Raises:
        SpecError: it has fewer.
    """
    if asked is not None and asked > there:
        raise SpecError(
            f"task.subset.{split}: {asked:,} {what} asked for, there are {there:,}; ask for fewer, or leave it out"
        )
