"""The data sets: list those on this machine, fetch or check one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from epsgrid import plugins
from epsgrid.data._cache import arrays_folder, data_folders
from epsgrid.data._fetch import DataSet, Fetcher, Finding
from epsgrid.errors import DataError, UnknownNameError
from epsgrid.tasks import cifar10, ptb, translation

_CATALOGUE = (cifar10.DATA_SET, translation.DATA_SET, ptb.DATA_SET)


def list_data() -> list[tuple[DataSet, Path | None]]:
    """Return every data set of the catalogue with the folder in which tasks find it; None where there is none."""
    folders = data_folders()
    return [(data, data.find(folders)) for data in _CATALOGUE]


def decoded() -> tuple[Path, int]:
    """Return the folder of decoded arrays and its size in bytes; files that vanish meanwhile count as nothing."""
    place = arrays_folder()
    size = 0
    for path in place.rglob("*"):
        with contextlib.suppress(OSError):
            size += path.stat().st_size if path.is_file() else 0
    return place, size


def fetch_data(name: str, folder: Path | None, fetcher: Fetcher) -> tuple[Path, bool]:
    """Fetch the missing files of a data set and check it; one that is complete is left alone.

    Without a folder it goes where it is, or else into the first folder in which tasks look. Returns the folder of the
    data set, and whether anything had to be done. Raises UnknownNameError or DataError where there is no such data set,
    or it cannot be fetched, or is damaged here.
    """
    data, folders = _named(name), _folders(folder)
    there = data.find(folders)
    if there is None:
        fetcher.say(f"{name}: {data.contents}. Licence: {data.licence}")
    fetched_now = data.fetch(there.parent if there else folders[0], fetcher)
    fetcher.say("checking what is here")
    place, findings = check_data(name, folder)
    if problems := "\n".join(f"  {each.what}: {each.problem}" for each in findings if each.problem):
        raise DataError(f"{place} is damaged; move it away, then run the same command again\n{problems}")
    return place, fetched_now


def check_data(name: str, folder: Path | None) -> tuple[Path, tuple[Finding, ...]]:
    """Check a data set part by part: checksums where they are published, counts in any case.

    Returns the folder of the data set, which is looked for in `folder` or where tasks look, and what was found. Raises
    UnknownNameError or DataError where there is no such data set, or it is not here.
    """
    data, folders = _named(name), _folders(folder)
    place = data.find(folders)
    if place is None:
        raise DataError(
            f"{name} is not in {' or '.join(map(str, folders))};"
            f" `epsgrid data fetch {name}` gets it ({data.download_mb} MB), --dir names another folder"
        )
    return place, tuple(data.check(place))


def _folders(folder: Path | None) -> tuple[Path, ...]:
    return data_folders() if folder is None else (folder.expanduser().absolute(),)


def _named(name: str) -> DataSet:
    names = tuple(data.name for data in _CATALOGUE)
    for data in _CATALOGUE:
        if data.name == name:
            return data
        if name in data.tasks:
            valid = ", ".join(names)
            raise UnknownNameError(f"unknown data set {name!r}; the task {name} uses {data.name!r} (one of: {valid})")
    if name in plugins.names("tasks"):
        raise UnknownNameError(f"the task {name} needs no data set to be fetched; those are: {', '.join(names)}")
    raise UnknownNameError(f"unknown data set {name!r}{plugins.suggestion(name, names)}")
