"""Remember the latest experiment and find it again, so that `epsgrid sweep` and `epsgrid report` need no argument."""

from __future__ import annotations

from pathlib import Path

from epsgrid.errors import StoreError
from epsgrid.store import atomic


def remember(folder: Path, runs_root: Path) -> None:
    """Make `folder` the latest experiment of `runs_root`.

    The file `latest` holds its path: relative when it lies inside `runs_root`, so that the whole can be moved, else
    absolute.

    Raises:
        StoreError: the file cannot be written.
    """
    pointer, folder, root = runs_root / "latest", folder.absolute(), runs_root.absolute()
    if pointer.is_dir():
        raise StoreError(
            f"{pointer} is a folder, but the name is kept for the file that remembers the latest experiment"
        )
    atomic.write_text(pointer, f"{folder.relative_to(root) if folder.is_relative_to(root) else folder}\n")


def latest(runs_root: Path) -> Path:
    """Return the folder of the latest experiment of `runs_root`, absolute.

    Raises:
        StoreError: there is none yet, or its folder is gone.
    """
    pointer = runs_root / "latest"
    if not pointer.is_file():
        raise StoreError(f"no experiment in {runs_root} yet: run `epsgrid probe SPEC` or `epsgrid sweep SPEC` first")
    folder = runs_root.absolute() / atomic.read_text(pointer).removesuffix("\n")
    if not folder.is_dir():
        raise StoreError(
            f"the latest experiment, {folder}, is gone; name a folder, or start one with `epsgrid probe SPEC`"
        )
    return folder
