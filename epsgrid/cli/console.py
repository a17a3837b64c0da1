"""The two streams: results on stdout, everything else on stderr; colour only where it is wanted."""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from epsgrid.cli.plain import can_write

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 240


@cache
def out() -> Console:
    """Return the console for results."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """Return the console for progress, logs and warnings."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    """Return a rich console; it obeys NO_COLOR, FORCE_COLOR and TERM, and is never narrow where nobody looks."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=not stream.isatty())


def print_json(document: dict[str, Any]) -> None:
    """Write one JSON document to stdout and nothing else; in ASCII where stdout has no more."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=not can_write(sys.stdout), allow_nan=False)
    sys.stdout.write("\n")
