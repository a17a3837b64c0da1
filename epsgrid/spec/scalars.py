"""What a bare word in a spec is: a number, true, false, null, or else text.

The YAML library follows YAML 1.1, where `1e-8` is text, `no` is false, `010` is 8, `1_000` is 1000 and `1:30` is 90.
Here a number is a decimal number, with or without exponent; true and false are spelled so; everything else is text.
The same rules hold in a file, inside its lists, and in an override on the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_TAG = "tag:yaml.org,2002:"
TEXT_TAG = f"{_TAG}str"
LIST_TAG = f"{_TAG}seq"
MAPPING_TAG = f"{_TAG}map"
MERGE_TAG = f"{_TAG}merge"

MERGE = re.compile(r"<<\Z")
_MAX_WORD = 400

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Rule:
    """One kind of bare word.

    Attributes:
        tag: what the YAML library calls the kind.
        pattern: matches the whole word.
        convert: from the word to its value.
    """

    tag: str
    pattern: re.Pattern[str]
    convert: Callable[[str], Scalar]

    def read(self, word: str) -> Scalar:
        """Return the word's value.

        Raises:
            ValueError: the word is not of this kind, as in `!!int 0x10`, or a number beyond measure.
        """
        if not self.pattern.match(word):
            raise ValueError(f"not a plain {self.tag.removeprefix(_TAG)}")
        if len(word) > _MAX_WORD:
            raise ValueError("too many digits")
        return self.convert(word)


_WHOLE = r"(?:0|[1-9][0-9]*)"
_INTEGER = rf"[-+]?{_WHOLE}"
_DECIMAL = rf"[-+]?(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_NOT_FINITE = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"


def _rule(kind: str, pattern: str, convert: Callable[[str], Scalar]) -> Rule:
    return Rule(_TAG + kind, re.compile(rf"(?:{pattern})\Z"), convert)


RULES = (
    _rule("null", r"~|null|Null|NULL|", lambda word: None),
    _rule("bool", r"true|True|TRUE|false|False|FALSE", lambda word: word.lower() == "true"),
    _rule("int", _INTEGER, int),
    _rule("float", f"{_DECIMAL}|{_NOT_FINITE}", lambda word: float(re.sub(r"\.([in])", r"\1", word.lower()))),
)
_NUMBER = re.compile(rf"(?:{_DECIMAL})\Z")


def read_word(word: str) -> Scalar:
    """Return the value of a bare word.

    >>> [read_word(word) for word in ("1e-8", "+1e3", ".5e-3", "12", "no", "010", "true", "~")]
    [1e-08, 1000.0, 0.0005, 12, 'no', '010', True, None]
    """
    rule = next((rule for rule in RULES if rule.pattern.match(word)), None)
    return word if rule is None else rule.read(word)


def why_not_a_number(text: str) -> str:
    """Return how to write a text as the number it was probably meant to be; empty where we cannot tell.

    >>> why_not_a_number("010")
    'a number has no leading zeros: write 10'
    """
    bare = text.replace("_", "")
    stripped = re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", bare)
    if _NUMBER.match(text):
        return "it is in quotes: remove them"
    if _NUMBER.match(bare):
        return f"a number has no underscores: write {bare}"
    if _NUMBER.match(stripped):
        return f"a number has no leading zeros: write {stripped}"
    if re.fullmatch(r"[-+]?0[xXoObB][0-9a-fA-F]+", text):
        return "numbers are decimal"
    if re.fullmatch(r"[-+]?[0-9]+(:[0-9]+)+(\.[0-9]*)?", text):
        return "numbers are decimal; there is no 1:30 for 90"
    if re.fullmatch(r"[-+]?[0-9]+,[0-9]+", text):
        return "the decimal sign is a point"
    return ""
