"""The two streams: results on stdout, everything else on stderr; colour only in terminals, ASCII where needed."""

from __future__ import annotations

import codecs
import json
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 1000
_HANDLER = "epsgrid"
_REPLACEMENTS = {
    "ε": "eps",
    "β": "beta",
    "α": "alpha",
    "κ": "kappa",
    "λ": "lambda",
    "√": "sqrt ",
    "Σ": "sum ",
    "∞": "infinity",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    **dict(zip("×·±−–—≈•₁₂", ("x", "*", "+-", "-", "-", "-", "~", "*", "1", "2"), strict=True)),
    **dict(zip("…≥≤²ᵗ←→", ("...", ">=", "<=", "^2", "^t", "<-", "->"), strict=True)),
    **dict(zip("▁▂▃▄▅▆▇█─", ".:-=+o#@-", strict=True)),
}


@cache
def out() -> Console:
    """Return the console for results."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """Return the console for progress, logs and warnings."""
    return _console(stderr=True)


def note(text: str) -> None:
    """Print something to know about the results on stderr."""
    err().print(f"Note: {text}", style="yellow", markup=False)


def hint(text: str) -> None:
    """Print a small remark on stderr, such as the next command."""
    err().print(text, style="dim", markup=False)


def print_json(document: dict[str, Any]) -> None:
    """Write one JSON document of version 1 to stdout and nothing else; in ASCII where stdout cannot write more."""
    is_ascii = False
    try:
        "".join(_REPLACEMENTS).encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        is_ascii = True
    json.dump({"version": 1, **document}, sys.stdout, indent=2, ensure_ascii=is_ascii, allow_nan=False)
    sys.stdout.write("\n")


def replace_missing_characters() -> None:
    """Make stdout and stderr write "eps" for ε and the like where their encoding lacks our characters.

    Others that it lacks, and bytes of file names that are no text, are written as Python and JSON escape them.
    """

    def replaced(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        text = error.object[error.start : error.end]
        escaped = (_REPLACEMENTS.get(each) or each.encode("ascii", "backslashreplace").decode() for each in text)
        return "".join(escaped), error.end

    codecs.register_error(_HANDLER, replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)


def _console(*, stderr: bool) -> Console:
    """Return a rich console; it obeys NO_COLOR, FORCE_COLOR and TERM, and is never narrow off a terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=not stream.isatty())
