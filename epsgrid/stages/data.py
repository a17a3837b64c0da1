"""The data sets: which are here, fetch, check or prepare one. Nothing is ever fetched by another command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from epsgrid.data import _iwslt14
from epsgrid.data._catalogue import CATALOGUE, DataSet, named
from epsgrid.data._fetch import Fetcher, Finding
from epsgrid.data._places import arrays_folder, data_folders
from epsgrid.errors import DataError


@dataclass(frozen=True)
class Found:
    """A data set and its place; None where it is not here. Whether it is whole, `check_data` says."""

    data: DataSet
    place: Path | None


@dataclass(frozen=True)
class Decoded:
    """The folder of what was decoded, for all data sets and every state that a folder of images has been in."""

    place: Path
    size_bytes: int


@dataclass(frozen=True)
class Fetched:
    """A data set in its place.

    Attributes:
        data: the data set.
        place: its folder.
        fetched_now: whether anything had to be done.
        looked_for: whether tasks look there without being told.
    """

    data: DataSet
    place: Path
    fetched_now: bool
    looked_for: bool


@dataclass(frozen=True)
class Prepared:
    """A folder of parallel text and the pairs of each split."""

    place: Path
    train: int
    valid: int
    test: int


@dataclass(frozen=True)
class Checked:
    """What a check has seen, part by part."""

    data: DataSet
    place: Path
    findings: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        """Whether every part is as it should be."""
        return all(finding.problem is None for finding in self.findings)


def list_data(environment: Mapping[str, str] = os.environ) -> list[Found]:
    """Look for every data set of the catalogue where tasks look for it."""
    folders = data_folders(environment)
    return [Found(data, data.find(folders)) for data in CATALOGUE]


def decoded(environment: Mapping[str, str] = os.environ) -> Decoded:
    """Look how much of what tasks have decoded is kept; what another process removes meanwhile counts as nothing."""
    place = arrays_folder(environment)
    sizes = []
    for folder, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                sizes.append((Path(folder) / name).stat().st_size)
    return Decoded(place, sum(sizes))


def fetch_data(
    name: str, folder: Path | None, fetcher: Fetcher, environment: Mapping[str, str] = os.environ
) -> Fetched:
    """Fetch a data set, or what is missing of it, and check it; one that is here and whole is left alone.

    Args:
        name: of the data set.
        folder: where to put it; None for where it is, else the first folder in which tasks look.
        fetcher: how files are fetched.
        environment: variables that name the folders.

    Raises:
        UnknownNameError: no such data set.
        DataError: it cannot be fetched, and how to get it by hand; or what is here is damaged.
        ExecutionError: a package that prepares it is not installed.
    """
    data = named(name)
    folders = _folders(folder, environment)
    there = data.find(folders)
    if there is None:
        fetcher.say(f"{name}: {data.contents}. Licence: {data.licence}")
    fetched_now = data.fetch(there.parent if there else folders[0], fetcher)
    fetcher.say("checking what is here")
    checked = check_data(name, folder, environment)
    if not checked.whole:
        problems = "\n".join(f"  {each.what}: {each.problem}" for each in checked.findings if each.problem)
        raise DataError(f"{checked.place} is damaged; move it away, then run the same command again\n{problems}")
    return Fetched(data, checked.place, fetched_now, checked.place.parent in data_folders(environment))


def check_data(name: str, folder: Path | None, environment: Mapping[str, str] = os.environ) -> Checked:
    """Look through a data set: checksums where they are published, counts in any case.

    Args:
        name: of the data set.
        folder: which holds it; None for the folders in which tasks look.
        environment: variables that name the folders.

    Raises:
        UnknownNameError: no such data set.
        DataError: it is not here.
    """
    data = named(name)
    folders = _folders(folder, environment)
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
        folder: what to make; must not be there yet.
        any_counts: take other numbers of pairs than the official archive gives.
        tell: told, in a line, what is being done.

    Raises:
        DataError: the archive is damaged or lacks a file, other counts come out, or the folder is there already or
            cannot be written.
        ExecutionError: sacremoses is not installed.
    """
    place = folder.expanduser().absolute()
    counts = None if any_counts else _iwslt14.COUNTS
    return Prepared(place, *_iwslt14.prepare_archive(archive.expanduser(), place, counts, tell=tell))


def _folders(folder: Path | None, environment: Mapping[str, str]) -> tuple[Path, ...]:
    return data_folders(environment) if folder is None else (folder.expanduser().absolute(),)
