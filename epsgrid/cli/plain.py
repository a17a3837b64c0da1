"""Write what an old terminal's encoding lacks in other words, such as "eps" for ε, instead of failing over it."""

from __future__ import annotations

import codecs
import sys
from typing import TextIO

_NAME = "epsgrid"
_WORDS = {
    "ε": "eps",
    "β": "beta",
    "α": "alpha",
    "κ": "kappa",
    "λ": "lambda",
    "√": "sqrt ",
    "Σ": "sum ",
    "∞": "infinity",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "×": "x",
    "·": "*",
    "±": "+-",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "•": "*",
    "²": "^2",
    "₁": "1",
    "₂": "2",
    "ᵗ": "^t",
    "←": "<-",
    "→": "->",
}


def can_write(stream: TextIO) -> bool:
    """Return whether a stream's encoding has all that we print."""
    try:
        "".join(_WORDS).encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def use_plain_words() -> None:
    """Make stdout and stderr replace what their encodings lack; streams that have it all stay as they are."""
    codecs.register_error(_NAME, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure") and not can_write(stream):
            stream.reconfigure(errors=_NAME)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_WORDS.get(character, "?") for character in text), error.end
