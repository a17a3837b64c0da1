"""Find a plug-in by the stem of its file.

A plug-in family is a folder of this package: `optimizers`, `tasks`, `models`, `grids`, `exporters`. The file
`optimizers/adam.py` is what a spec calls `optimizer: {name: adam}`; files that begin with an underscore are helpers.
A dotted path `package.module:NAME` names an object outside the package that has the same attributes as such a file.
No file of a family imports torch when it is imported itself: names and options can be checked without it.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from epsgrid.errors import UnknownNameError

_PACKAGE = Path(__file__).parent


def names(family: str) -> tuple[str, ...]:
    """List the plug-ins of a family by file stem, sorted.

    >>> "adam" in names("optimizers")
    True
    """
    return tuple(sorted(path.stem for path in (_PACKAGE / family).glob("*.py") if not path.stem.startswith("_")))


def load(family: str, name: str) -> Any:
    """Return the plug-in called `name`: a module of ours by its file stem, or the object a dotted path names.

    Raises:
        UnknownNameError: no such file, or the dotted path cannot be imported; the message lists the valid names.
    """
    if ":" in name:
        return _load_dotted(family, name)
    check(family, name)
    return importlib.import_module(f"epsgrid.{family}.{name}")


def check(family: str, name: str) -> None:
    """Check that there is a plug-in called `name`; one of ours is not imported for it.

    Raises:
        UnknownNameError: see `load`.
    """
    if ":" in name:
        _load_dotted(family, name)
    elif name not in names(family):
        # Names that people ask for and that are missing on purpose; the family says why.
        unsupported: dict[str, str] = getattr(importlib.import_module(f"epsgrid.{family}"), "UNSUPPORTED", {})
        if reason := unsupported.get(name.lower().replace("_", "").replace("-", "")):
            valid = ", ".join(names(family))
            raise UnknownNameError(f"{_singular(family)} {name!r} is not supported: {reason} (supported: {valid})")
        raise UnknownNameError(f"unknown {_singular(family)} {name!r}{suggestion(name, names(family))}")


def suggestion(name: str, valid: tuple[str, ...]) -> str:
    """Return a `; did you mean …? (one of: …)` tail for an error message about a wrong name.

    >>> suggestion("adm", ("adam", "sgdm"))
    "; did you mean 'adam'? (one of: adam, sgdm)"
    """
    close = nearest(name, valid)
    hint = f"; did you mean {close!r}?" if close else ""
    return f"{hint} (one of: {', '.join(valid)})" if hint else f"; expected one of: {', '.join(valid)}"


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that looks most like `name`, whatever the case; None where none is like it.

    Of several that are alike, the one of the nearest length: two swapped letters are likelier than two forgotten ones.

    >>> nearest("ADAMW", ("adam", "adamw")), nearest("zzz", ("adam", "adamw"))
    ('adamw', None)
    """
    by_lower = {candidate.lower(): candidate for candidate in valid}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    likeness = difflib.SequenceMatcher(None, name.lower(), close[0]).ratio() if close else 0.0
    alike = difflib.get_close_matches(name.lower(), close, n=3, cutoff=max(0.5, likeness - 0.1))
    return by_lower[min(alike, key=lambda candidate: abs(len(candidate) - len(name)))] if alike else None


def _load_dotted(family: str, name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    what = f"{_singular(family)} {name!r}"
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise UnknownNameError(f"{what}: not a dotted path; expected package.module:NAME")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module from elsewhere may fail in any way when it is imported
        raise UnknownNameError(
            f"{what}: cannot import {module_name!r} ({type(error).__name__}: {error});"
            " is it installed, or its folder on PYTHONPATH?"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UnknownNameError(f"{what}: module {module_name!r} has no {attribute!r}") from None


def _singular(family: str) -> str:
    return family.removesuffix("s")
