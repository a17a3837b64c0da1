"""What tasks share to get their data: caches, downloads, image folders, text and parallel text.

What belongs to a single task stands in that task's own file. No module here imports torch when it is imported.
"""

from __future__ import annotations

import importlib
from typing import Any

from epsgrid.errors import ExecutionError, SpecError


def require(package: str, extra: str) -> Any:
    """Import a package of the optional extra `epsgrid[extra]`; ExecutionError, with how to install it, without it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ExecutionError(
            f"the package {package} is needed here and cannot be imported ({error}); pip install 'epsgrid[{extra}]'"
        ) from error


def check_subset(split: str, asked: int | None, there: int, what: str) -> None:
    """Raise SpecError where a split has fewer examples than `task.subset` asks for."""
    if asked is not None and asked > there:
        raise SpecError(
            f"task.subset.{split}: {asked:,} {what} asked for, there are {there:,}; ask for fewer, or leave it out"
        )
