"""List, fetch, check and prepare the data sets that tasks declare as `DATA_SET`; no other command fetches anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from epsgrid import plugins
from epsgrid.data import _iwslt14
from epsgrid.data._cache import arrays_folder, data_folders
from epsgrid.data._fetch import DataSet, Fetcher, Finding
from epsgrid.errors import DataError, UnknownNameError
from epsgrid.tasks import cifar10, ptb, translation

CATALOGUE = (cifar10.DATA_SET, translation.DATA_SET, ptb.DATA_SET)


@dataclass(frozen=True)
class Found:
    """A data set and its place; None if it is not here. `check_data` says whether it is complete."""

    data: DataSet
    place: Path | None


@dataclass(frozen=True)
class Decoded:
    """The cache of decoded data, of all data sets and every state that an image folder has been in."""

    place: Path
    size_bytes: int


@dataclass(frozen=True)
class Fetched:
    """A data set in its place.

    Attributes:
        data: the data set.
        place: its folder.
        fetched_now: whether anything had to be done.
        looked_for: whether tasks find it there without a setting.
    """

    data: DataSet
    place: Path
    fetched_now: bool
    looked_for: bool


@dataclass(frozen=True)
class Prepared:
    """A folder of parallel text and the number of pairs of each split."""

    place: Path
    train: int
    valid: int
    test: int


@dataclass(frozen=True)
class Checked:
    """The result of a check, part by part."""

    data: DataSet
    place: Path
    findings: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        """Whether every part is as it should be."""
        return all(finding.problem is None for finding in self.findings)


def list_data() -> list[Found]:
    """Look for every data set of the catalogue where tasks look for it."""
    return [Found(data, data.find(data_folders())) for data in CATALOGUE]


def decoded() -> Decoded:
    """Return how much decoded data the cache holds; files that another process removes meanwhile count as nothing."""
    place = arrays_folder()
    size = 0
    for folder, _, names in os.walk(place):
        for name in names:
            try:
                size += (Path(folder) / name).stat().st_size
            except OSError:
                continue
    return Decoded(place, size)


def fetch_data(name: str, folder: Path | None, fetcher: Fetcher) -> Fetched:
    """Fetch a data set, or what is missing of it, and check it; one that is here and complete is left alone.

    Args:
        name: of the data set.
        folder: where to put it; None for the folder where it is, or the first folder in which tasks look.
        fetcher: settings of the download.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: it cannot be fetched, and how to get it by hand; or what is here is damaged.
        ExecutionError: a package that prepares it is not installed.
    """
    data = _named(name)
    folders = _folders(folder)
    there = data.find(folders)
    if there is None:
        fetcher.say(f"{name}: {data.contents}. Licence: {data.licence}")
    fetched_now = data.fetch(there.parent if there else folders[0], fetcher)
    fetcher.say("checking what is here")
    checked = check_data(name, folder)
    if not checked.whole:
        problems = "\n".join(f"  {each.what}: {each.problem}" for each in checked.findings if each.problem)
        raise DataError(f"{checked.place} is damaged; move it away, then run the same command again\n{problems}")
    return Fetched(data, checked.place, fetched_now, checked.place.parent in data_folders())


def check_data(name: str, folder: Path | None) -> Checked:
    """Check a data set: checksums if they are published, counts in any case.

    Args:
        name: of the data set.
        folder: the folder that holds it; None for the folders in which tasks look.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: it is not here.
    """
    data = _named(name)
    folders = _folders(folder)
    place = data.find(folders)
    if place is None:
        raise DataError(
            f"{name} is not in {' or '.join(map(str, folders))};"
            f" `epsgrid data fetch {name}` gets it ({data.download_mb} MB), --dir names another folder"
        )
    return Checked(data, place, tuple(data.check(place)))


def prepare_iwslt14(
    archive: Path, folder: Path, *, any_counts: bool = False, tell: Callable[[str], None] = lambda line: None
) -> Prepared:
    """Make a folder of parallel text from an archive of IWSLT14 German-English, wherever either lies.

    Args:
        archive: the official one, or one of the same layout.
        folder: the folder to make; must not exist yet.
        any_counts: accept other numbers of pairs than the official archive gives.
        tell: called with a line about what is being done.

    Raises:
        DataError: the archive is damaged or lacks a file, other counts come out, or the folder already exists or
            cannot be written.
        ExecutionError: sacremoses is not installed.
    """
    place = folder.expanduser().absolute()
    counts = None if any_counts else _iwslt14.COUNTS
    return Prepared(place, *_iwslt14.prepare_archive(archive.expanduser(), place, counts, say=tell))


def _folders(folder: Path | None) -> tuple[Path, ...]:
    return data_folders() if folder is None else (folder.expanduser().absolute(),)


def _named(name: str) -> DataSet:
    names = tuple(data.name for data in CATALOGUE)
    for data in CATALOGUE:
        if data.name == name:
            return data
        if name in data.tasks:
            valid = ", ".join(names)
            raise UnknownNameError(f"unknown data set {name!r}; the task {name} uses {data.name!r} (one of: {valid})")
    if name in plugins.names("tasks"):
        raise UnknownNameError(f"the task {name} needs no data set to be fetched; those are: {', '.join(names)}")
    raise UnknownNameError(f"unknown data set {name!r}{plugins.suggestion(name, names)}")
