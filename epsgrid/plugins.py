"""Find a plug-in by the stem of its file.

A plug-in family is a folder of this package: `optimizers`, `tasks`, `models`, `grids`, `exporters`. The file
`optimizers/adam.py` is what a spec calls `optimizer: {name: adam}`; files that begin with an underscore are helpers.
A dotted path `package.module:NAME` names an object outside the package that has the same attributes as such a file.
No file of a family imports torch when it is imported itself: names and options can be checked without it.

What a dotted path names is code of the user's, and `sources` is its identity: the module, and those of the user's that
it imports, found in its text without running it. An `import` anywhere counts, also inside functions, and so does
`import_module("NAME")`; a name that is computed, a data file that the code reads and a compiled module are not seen.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from epsgrid.errors import EpsgridError, SpecError, UnknownNameError, is_for_memory

_PACKAGE = Path(__file__).parent
_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
_DIGITS = 16
_imported_as: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
"""The source, hashed, of each module of the user's that this process has imported."""


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


def files(*plugins: str) -> dict[str, Path]:
    """Return the user's files behind plug-ins of these names: their modules, by dotted name; ours are left out.

    A module is the user's where it is in the package of a plug-in, or neither installed nor of the standard library.
    """
    waiting = [name.partition(":")[0] for name in plugins if ":" in name]
    packages = {module.partition(".")[0] for module in waiting}
    found: dict[str, Path | None] = {}
    while waiting:
        module = waiting.pop()
        if module in found or module.partition(".")[0] in ("", "epsgrid"):
            continue
        path = _source_of(module)
        is_installed = path is not None and (_INSTALLED & {*path.parts} or any(map(path.is_relative_to, _STANDARD)))
        found[module] = None if is_installed and module.partition(".")[0] not in packages else path
        waiting.append(module.rpartition(".")[0])
        if (own := found[module]) is not None:
            waiting += _imports(own.read_bytes(), module if own.stem == "__init__" else module.rpartition(".")[0])
    return {module: path for module, path in sorted(found.items()) if path is not None}


def sources(*plugins: str) -> dict[str, str]:
    """Return the sha256 of each of the user's `files`, whatever its line ends: 16 hex digits, by name as in "net.py".

    Names are those of modules, wherever these lie. Comments count: what one changes cannot be told without running it.
    """
    return {_file_name(module, path): _noted(module, path)[0] for module, path in files(*plugins).items()}


def check_imports(planned: Mapping[str, str], *plugins: str) -> None:
    """Check that what this process has imported of the user's `files` is of the `sources` that were planned.

    Raises:
        SpecError: a file was changed between planning and import, so that other code would run, or has run.
    """
    for module, path in files(*plugins).items():
        imported = _noted(module, path)[1]
        if imported is not None and imported != planned.get(_file_name(module, path)):
            raise SpecError(
                f"{path} was changed while it was in use: other code was imported than planned; run it again"
            )


def _noted(module: str, path: Path) -> tuple[str, str | None]:
    """Return the hash of a source, and that of what was imported from it; None before it is."""
    text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    digest, loaded = hashlib.sha256(text).hexdigest()[:_DIGITS], sys.modules.get(module)
    return digest, _imported_as.setdefault(loaded, digest) if isinstance(loaded, ModuleType) else None


def place_of(error: BaseException, *plugins: str) -> str:
    """Return where in the user's `files` an error arose, as in "net.py, line 3, in forward"; "" where it did not."""
    own = {str(path) for path in files(*plugins).values()}
    if isinstance(error, SyntaxError) and error.filename in own:
        return f"{error.filename}, line {error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in own:
            return f"{frame.filename}, line {frame.lineno}, in {frame.name}"
    return ""


@contextmanager
def user_errors(*plugins: str, note: str = "") -> Iterator[None]:
    """Turn whatever the user's plug-ins raise inside into a SpecError with file and line, and a note; not other errors.

    An error about memory stays what it is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, EpsgridError) or is_for_memory(error) or not files(*plugins):
            raise
        own, place = " or ".join(name for name in plugins if ":" in name), place_of(error, *plugins)
        what = f"{own} fails{f' in {place}' if place else ''}: {type(error).__name__}: {error}"
        raise SpecError(f"{what}{f'; {note}' if note else ''}") from error


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
    is_new = module_name not in sys.modules
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module from elsewhere may fail in any way when it is imported
        place = place_of(error, name)
        advice = f"see {place}" if place else "is it installed, or its folder on PYTHONPATH?"
        raise UnknownNameError(
            f"{what}: cannot import {module_name!r} ({type(error).__name__}: {error}); {advice}"
        ) from error
    if is_new:
        sources(name)  # notes which text was imported
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UnknownNameError(f"{what}: module {module_name!r} has no {attribute!r}") from None


def _singular(family: str) -> str:
    return family.removesuffix("s")


def _source_of(module: str) -> Path | None:
    """Return the file of a module's source, without importing it; None where there is none."""
    top, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    origin, folders = Path(spec.origin or ""), [Path(each) for each in spec.submodule_search_locations or ()]
    for part in parts:
        places = [place for each in folders for place in (each / part / "__init__.py", each / f"{part}.py")]
        origin = next((place for place in places if place.is_file()), Path())
        folders = [origin.parent] if origin.stem == "__init__" else [each / part for each in folders]
    return origin if origin.suffix == ".py" and origin.is_file() else None


@cache
def _imports(source: bytes, package: str) -> frozenset[str]:
    """Return the modules that a source may import, and names that are none; relative ones begin at `package`."""

    def absolute(name: str, level: int) -> str:
        above = package.split(".")[: len(package.split(".")) + 1 - level] if level else []
        return ".".join(filter(None, (*above, name)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unusual escapes, for one
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # whoever imports it will hear
            return frozenset()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node.module or "", node.level)
            found.update((base, *(f"{base}.{each.name}" for each in node.names)))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.args[0].value
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__") and isinstance(name, str):
                found.add(absolute(name.lstrip("."), len(name) - len(name.lstrip("."))))
    return frozenset(found)


def _file_name(module: str, path: Path) -> str:
    return module.replace(".", "/") + ("/__init__.py" if path.stem == "__init__" else ".py")
