"""Write an ε, a share, a count or names; and say which ε a type can hold, below whose smallest value it is zero."""

from __future__ import annotations

from collections.abc import Sequence

_LIMITS = {
    "float16": (2.0**-14, 2.0**-24),
    "bfloat16": (2.0**-126, 2.0**-133),
    "float32": (2.0**-126, 2.0**-149),
    "float64": (2.0**-1022, 2.0**-1074),
}
"""The smallest positive values of each type: with all bits of its mantissa, and at all."""

DTYPES = tuple(_LIMITS)
"""The known types, by torch's names."""

_SHORT = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32", "fp64": "float64"}


def power(value: float, digits: int = 3) -> str:
    """Write an ε, a learning rate or a magnitude, with an exponent where it is far from 1.

    >>> power(1e-8), power(3e-4), power(0.1), power(100.0), power(-1.23456e-5, 6), power(float("inf"))
    ('1e-8', '3e-4', '0.1', '100', '-1.23456e-5', 'inf')
    """
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if not exponent or -1 <= int(exponent) <= 2:
        return f"{value:.{digits}g}"
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def percent(share: float) -> str:
    """Write a share in percent with two digits, and never as 0 or 100 % where it is not.

    >>> percent(0.00123), percent(0.5), percent(0.99996), percent(1e-6), percent(0.0)
    ('0.12 %', '50 %', '>99.9 %', '<0.01 %', '0 %')
    """
    value = 100 * share
    if 0 < value < 0.01:
        return "<0.01 %"
    if 99.95 <= value < 100:
        return ">99.9 %"
    return f"{value:.2g} %" if value < 99 else f"{value:.3g} %"


def count(number: int, noun: str) -> str:
    """Write a count with its noun.

    >>> count(1, "seed"), count(1728, "non-zero entry")
    ('1 seed', '1,728 non-zero entries')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def shortened(names: Sequence[str], shown: int = 3) -> str:
    """Write the first of several names, and how many more there are.

    >>> shortened(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    hidden = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {hidden} more" if hidden > 0 else "")


def underflow_warning(epsilon: float, dtype: str = "float32") -> str | None:
    """Return a line that warns of an ε too small for the type of the optimizer's state, or None.

    >>> underflow_warning(1e-8, "float16")
    'epsilon 1e-8 is 0 in float16, whose smallest value is 6e-8: where gradients vanish the update becomes 0/0; \
keep the optimizer in float32, or use a larger epsilon'
    >>> underflow_warning(1e-8, "bfloat16") is None
    True

    `dtype` is the type of the tensor that ε is added to, one of `DTYPES` or short for one, such as fp16; with autocast
    that is float32 all the same.

    Raises:
        ValueError: `dtype` is another one.
    """
    dtype = _SHORT.get(dtype, dtype)
    if dtype not in _LIMITS:
        raise ValueError(f"unknown type {dtype!r}; expected one of: {', '.join(_LIMITS)}")
    smallest_normal, smallest = _LIMITS[dtype]
    if epsilon <= smallest / 2:  # halfway rounds to even, which is zero
        wider = "float32" if epsilon >= _LIMITS["float32"][0] else "float64"
        return (
            f"epsilon {power(epsilon)} is 0 in {dtype}, whose smallest value is {_rounded(smallest)}: where gradients"
            f" vanish the update becomes 0/0; keep the optimizer in {wider}, or use a larger epsilon"
        )
    if epsilon < smallest_normal:
        return (
            f"epsilon {power(epsilon)} is below {_rounded(smallest_normal)}, the smallest normal number of {dtype}: it"
            " loses precision, and on devices that flush such numbers it is 0"
        )
    return None


def _rounded(value: float) -> str:
    """Write a number to one digit."""
    return power(float(f"{value:.1g}"))
