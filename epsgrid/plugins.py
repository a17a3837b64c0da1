"""Find a plug-in by the stem of its file.

A plug-in family is a folder of this package: `optimizers`, `tasks`, `models`, `grids`, `exporters`. The file
`optimizers/adam.py` is what a spec calls `optimizer: {name: adam}`; files that begin with an underscore are helpers.
A dotted path `package.module:NAME` names an object outside the package that has the same attributes as such a file.
No file of a family imports torch when it is imported itself: names and options can be checked without it.

What a dotted path names is code of the user's, and `sources` is its identity: the module, and those of the user's that
it imports, found in its text without running it. An `import` anywhere counts, also inside functions, and so does
`import_module("NAME")`; a name that is computed, a data file that the code reads and a compiled module are not seen.
The same goes for scripts that a command runs, which are named FOLDER//FILE here, and for a function of a notebook,
which is a plug-in `__main__:NAME` of the process that has `offered` it.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import shlex
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from epsgrid.errors import EpsgridError, SpecError, UnknownNameError, is_for_memory

_PACKAGE = Path(__file__).parent
_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
_DIGITS = 16
_NOTEBOOK = "__main__"
_LARGEST_SCRIPT = 100 * 2**20
"""Bytes; a larger file on a command line is taken for data."""
_imported_as: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
"""The source, hashed, of each module of the user's that this process has imported."""
_offered: dict[str, Callable[..., Any]] = {}
"""Functions of this process, by the name under which they are plug-ins."""
_importing: list[str] = []
"""The modules of the user's whose text is being run."""


class SweepReached(BaseException):  # which no `except Exception` of a user's script stops
    """A module that is imported for its function has come to its own sweep: it is as far as it was when that began."""


def names(family: str) -> tuple[str, ...]:
    """List the plug-ins of a family by file stem, sorted.

    >>> "adam" in names("optimizers")
    True
    """
    return tuple(sorted(path.stem for path in (_PACKAGE / family).glob("*.py") if not path.stem.startswith("_")))


def load(family: str, name: str) -> Any:
    """Return the plug-in called `name`: a module of ours by its file stem, or the object a dotted path names.

    Raises UnknownNameError, with the valid names, where there is no such file or the dotted path cannot be imported.
    """
    if ":" in name:
        return _load_dotted(family, name)
    check(family, name)
    return importlib.import_module(f"epsgrid.{family}.{name}")


def check(family: str, name: str) -> None:
    """Check that there is a plug-in called `name`, without importing one of ours; raises as `load`."""
    if ":" in name:
        _load_dotted(family, name)
    elif name not in names(family):
        # Names that people ask for and that are missing on purpose; the family says why.
        unsupported: dict[str, str] = getattr(importlib.import_module(f"epsgrid.{family}"), "UNSUPPORTED", {})
        kind, valid = family.removesuffix("s"), names(family)
        if reason := unsupported.get(name.lower().replace("_", "").replace("-", "")):
            raise UnknownNameError(f"{kind} {name!r} is not supported: {reason} (supported: {', '.join(valid)})")
        module, _, attribute = name.rpartition(".")
        colon = f"; one of your own is {module}:{attribute}, with a colon" if module else ""
        raise UnknownNameError(f"unknown {kind} {name!r}{colon}{suggestion(name, valid)}")


def files(*plugins: str) -> dict[str, Path]:
    """Return the user's files behind plug-ins of these names: their modules, by dotted name; ours are left out.

    A module is the user's where it is in the package of a plug-in, or neither installed nor of the standard library.
    """
    modules = [name.partition(":")[0] for name in plugins if ":" in name and "//" not in name]
    return _files_of(modules, {module.partition(".")[0] for module in modules})


def _files_of(modules: Iterable[str], packages: Collection[str] = (), folders: Sequence[str] = ()) -> dict[str, Path]:
    """Return the user's files behind modules, which may also lie in some folders, and all in some packages."""
    waiting = [*modules]
    found: dict[str, Path | None] = {}
    while waiting:
        module = waiting.pop()
        if module in found or module.partition(".")[0] in ("", "epsgrid", _NOTEBOOK):
            continue
        path = _source_of(module, folders)
        is_installed = path is not None and (_INSTALLED & {*path.parts} or any(map(path.is_relative_to, _STANDARD)))
        found[module] = None if is_installed and module.partition(".")[0] not in packages else path
        waiting.append(module.rpartition(".")[0])
        if (own := found[module]) is not None:
            waiting += _imports(own.read_bytes(), module if own.stem == "__init__" else module.rpartition(".")[0])
    return {module: path for module, path in sorted(found.items()) if path is not None}


def sources(*plugins: str) -> dict[str, str]:
    """Return the sha256 of each of the user's `files`, whatever its line ends: 16 hex digits, by name as in "net.py".

    Names are those of modules, wherever these lie. Comments count: what one changes cannot be told without running it.
    Scripts have the names that the command gives them. A function of a notebook is its source, with that of the
    functions, classes and plain values of the notebook that it names.
    """
    found = {_file_name(module, path): _noted(module, path)[0] for module, path in files(*plugins).items()}
    for name in plugins:
        if "//" in name:
            found |= {script: _digest(path.read_bytes()) for script, path in _script_files(name).items()}
        elif name.partition(":")[0] == _NOTEBOOK and name in _offered:
            text, modules = _notebook_source(_offered[name])
            own = {_file_name(module, path): _noted(module, path)[0] for module, path in _files_of(modules).items()}
            found |= {"notebook": _digest(text.encode()), **own}
    return found


def scripts(command: str, folder: str) -> tuple[str, ...]:
    """Return the files that a command run in a folder names, each as FOLDER//FILE: scripts, their configurations.

    They may be written `--config=FILE`, and `-m NAME` is the module of that name. Left out are a program that is found
    elsewhere, and files of more than 100 MiB, which are data.
    """
    program, *words = shlex.split(command)
    found = []
    for before, word in zip(["", program, *words], [program, *words], strict=False):
        names = [word.rpartition("=")[2]]
        if before == "-m":
            names = [f"{word.replace('.', '/')}{end}" for end in (".py", "/__main__.py")]
        if not before and ("/" not in word or Path(word).is_absolute()):
            continue
        for name in names:
            path = Path(folder, name)
            if path.is_file() and path.stat().st_size <= _LARGEST_SCRIPT:
                found.append(f"{path.parent}//{path.name}" if Path(name).is_absolute() else f"{folder}//{name}")
    return tuple(found)


def _script_files(script: str) -> dict[str, Path]:
    """Return a script FOLDER//FILE by its name, and the user's modules that it imports, if it is one of Python."""
    folder, _, name = script.partition("//")
    path, package = Path(folder, name), ".".join(Path(name).parts[:-1])
    found = {os.path.normpath(name): path}
    if path.suffix == ".py" and path.is_file():
        modules = _files_of(_imports(path.read_bytes(), package), folders=[str(path.parent), folder])
        found |= {_file_name(module, own): own for module, own in modules.items()}
    return {own: each for own, each in found.items() if each.is_file()}


def look_in(folder: str) -> None:
    """Let modules of the user's be found in a folder, after all others."""
    if folder not in sys.path:
        sys.path.append(folder)


def offer(name: str, function: Callable[..., Any]) -> None:
    """Make a function the plug-in of a name "module:NAME" in this process, without importing a module for it.

    Raises SpecError where it is one of a notebook and its source is not to be had.
    """
    _offered[name] = function
    if name.startswith(f"{_NOTEBOOK}:"):
        try:
            _notebook_source(function)
        except (OSError, TypeError) as error:
            raise SpecError(
                f"the source of {function.__name__} cannot be read ({error}), so its results could not be told from"
                " those of other code; write it into a file, and import it from there"
            ) from error


def offered() -> frozenset[str]:
    """Return the names of the functions that this process has offered."""
    return frozenset(_offered)


def is_importing() -> bool:
    """Return whether the text of a module of the user's is being run, to have a plug-in from it."""
    return bool(_importing)


def _notebook_source(function: Callable[..., Any]) -> tuple[str, set[str]]:
    """Return the source of a function of a notebook with all of that which it names, and the modules it names."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [(function.__name__, function)]
    modules: set[str] = set()
    while waiting:
        name, value = waiting.pop()
        if name in found:
            continue
        if isinstance(value, bool | int | float | str | tuple | None):
            found[name] = repr(value)
        elif isinstance(value, ModuleType):
            modules.add(value.__name__)
        elif isinstance(value, FunctionType | type) and value.__module__ != _NOTEBOOK:
            modules.add(value.__module__)
        elif isinstance(value, FunctionType | type):
            found[name] = inspect.getsource(value)
            parts = [value] if isinstance(value, FunctionType) else vars(value).values()
            own = [part for part in parts if isinstance(part, FunctionType)]
            waiting += [
                (each, part.__globals__[each]) for part in own for each in _names_in(part) if each in part.__globals__
            ]
    return "\n".join(f"{name}: {found[name]}" for name in sorted(found)), modules


def _names_in(function: FunctionType) -> set[str]:
    """Return the names that a function, and those inside it, look up."""
    names: set[str] = set()
    waiting: list[CodeType] = [function.__code__]
    while waiting:
        code = waiting.pop()
        names |= set(code.co_names)
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
    return names


def check_imports(planned: Mapping[str, str], *plugins: str) -> None:
    """Check that what this process has imported of the user's `files` is of the `sources` that were planned.

    Raises SpecError where a file was changed between planning and import, so that other code would run, or has run.
    """
    for module, path in files(*plugins).items():
        imported = _noted(module, path)[1]
        if imported is not None and imported != planned.get(_file_name(module, path)):
            raise SpecError(
                f"{path} was changed while it was in use: other code was imported than planned; run it again"
            )


def _noted(module: str, path: Path) -> tuple[str, str | None]:
    """Return the hash of a source, and that of what was imported from it; None before it is."""
    digest, loaded = _digest(path.read_bytes()), sys.modules.get(module)
    return digest, _imported_as.setdefault(loaded, digest) if isinstance(loaded, ModuleType) else None


def _digest(text: bytes) -> str:
    return hashlib.sha256(text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")).hexdigest()[:_DIGITS]


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
    """Turn whatever the user's plug-ins raise inside into a SpecError with file and line, and notes; not other errors.

    An error about memory stays what it is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, EpsgridError) or is_for_memory(error) or not files(*plugins):
            raise
        own, place = " or ".join(name for name in plugins if ":" in name), place_of(error, *plugins)
        noted = "".join(f"; {each}" for each in getattr(error, "__notes__", ()))
        what = f"{own} fails{f' in {place}' if place else ''}: {type(error).__name__}: {error}{noted}"
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
    if name in _offered:
        return _offered[name]
    module_name, _, attribute = name.partition(":")
    what = f"{family.removesuffix('s')} {name!r}"
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise UnknownNameError(f"{what}: not a dotted path; expected package.module:NAME")
    is_new = module_name not in sys.modules
    try:
        module = _imported(module_name)
    except Exception as error:  # a module from elsewhere may fail in any way when it is imported
        place = place_of(error, name)
        advice = f"see {place}" if place else "is it installed, or its folder the current one or on PYTHONPATH?"
        raise UnknownNameError(
            f"{what}: cannot import {module_name!r} ({type(error).__name__}: {error}); {advice}"
        ) from error
    if is_new:
        sources(name)  # notes which text was imported
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UnknownNameError(f"{what}: module {module_name!r} has no {attribute!r}") from None


def _imported(name: str) -> ModuleType:
    """Return a module, imported as far as its own sweep where it has one."""
    if name in sys.modules:
        return sys.modules[name]
    parent, _, last = name.rpartition(".")
    above = importlib.import_module(parent) if parent else None
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return importlib.import_module(name)  # which says what is wrong
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    _importing.append(name)
    try:
        spec.loader.exec_module(module)
    except SweepReached:
        pass
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _importing.pop()
    if above is not None:
        setattr(above, last, module)
    return module


def _source_of(module: str, search: Sequence[str] = ()) -> Path | None:
    """Return the file of a module's source, without importing it; None where there is none.

    Some folders are searched before `sys.path`.
    """
    top, *parts = module.split(".")
    try:
        spec = (PathFinder.find_spec(top, search) if search else None) or importlib.util.find_spec(top)
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
