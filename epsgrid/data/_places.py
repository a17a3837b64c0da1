"""Where data sets and decoded arrays lie on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder for what can be fetched or made again.

    `$EPSGRID_CACHE`, else `epsgrid` in `$XDG_CACHE_HOME`, else `~/.cache/epsgrid`. An empty variable counts as unset.

    >>> cache_folder({"EPSGRID_CACHE": "/scratch/eps"}).as_posix()
    '/scratch/eps'
    """
    if own := environment.get("EPSGRID_CACHE"):
        return Path(own).expanduser().absolute()
    if shared := environment.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser().absolute() / "epsgrid"
    return Path.home() / ".cache" / "epsgrid"


def arrays_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of the decoded arrays; it may be deleted at any time."""
    return cache_folder(environment) / "arrays"


def data_folders(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders in which data sets are looked for, the first one to be found wins.

    `$EPSGRID_DATA` where it is set, then `data` in the cache folder.
    """
    own = environment.get("EPSGRID_DATA")
    cached = cache_folder(environment) / "data"
    return (Path(own).expanduser().absolute(), cached) if own else (cached,)
