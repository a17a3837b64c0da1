"""Moses' tokenisation, cleaning and detokenisation as the published IWSLT14 recipe uses them.

The tokeniser is sacremoses, mended in one point: Moses' own tokenizer.perl always splits the full stop off the last
word of a line ("usw ." even though "usw." is a known abbreviation); sacremoses follows an older one that did not. The
published text has it split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from epsgrid.data._extra import require

_LONGEST_WORD = 1000
_LAST_STOP = re.compile(r"(?:^|(?<=\s))(\S*[^\s.])\.$")


def tokenizer(language: str) -> Callable[[str], str]:
    """Return a function that splits a line into tokens with one space between them, XML characters escaped.

    >>> tokenizer("de")("Häuser, Bäume usw.")
    'Häuser , Bäume usw .'
    """
    moses = require("sacremoses", "translation").MosesTokenizer(language)

    def tokenize(line: str) -> str:
        tokens: str = moses.tokenize(line, return_str=True, escape=True)
        return _LAST_STOP.sub(r"\1 .", tokens)

    return tokenize


def detokenizer(language: str) -> Callable[[str], str]:
    """Return a function that puts a tokenised line together again, for scores on plain text.

    >>> detokenizer("en")("it &apos;s here , isn &apos;t it ?")
    "it's here, isn't it?"
    """
    moses = require("sacremoses", "translation").MosesDetokenizer(language)

    def detokenize(line: str) -> str:
        text: str = moses.detokenize(line.split(" "))
        return text

    return detokenize


def clean(pairs: Iterable[tuple[str, str]], ratio: float, shortest: int, longest: int) -> list[tuple[str, str]]:
    """Keep pairs of fitting lengths, as Moses' clean-corpus-n.perl does.

    Args:
        pairs: tokenised lines.
        ratio: the longer line of a pair has at most so many times the tokens of the shorter.
        shortest: fewest tokens of a line, at least 1.
        longest: most tokens of a line.

    Returns:
        The pairs kept, in their order, runs of spaces made one. A pair with a word of over 1,000 characters goes, too.
    """
    kept = []
    for pair in pairs:
        left, right = (" ".join(line.split()) for line in pair)
        lengths = sorted((len(left.split()), len(right.split())))
        fits = shortest <= lengths[0] and lengths[1] <= longest and lengths[1] <= ratio * lengths[0]
        if fits and max(map(len, f"{left} {right}".split())) <= _LONGEST_WORD:
            kept.append((left, right))
    return kept
