"""The data sets that can be fetched: what they are, under what licence, which tasks use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from epsgrid import plugins
from epsgrid.data import _iwslt14, cifar10, ptb
from epsgrid.data._fetch import Fetcher, Finding, Remote
from epsgrid.errors import UnknownNameError


@dataclass(frozen=True)
class DataSet:
    """One that can be fetched.

    Attributes:
        name: what the user calls it.
        contents: what it is.
        files: what is fetched.
        download_mb: their size, in millions of bytes.
        licence: what its owners allow, in a few words.
        tasks: those that train on it.
        find: returns its place in the first of some folders that has it, whole or not; None where none has.
        fetch: puts it into a folder, unless it is there, and returns whether anything had to be done.
        check: looks through it at its place, part by part.
    """

    name: str
    contents: str
    files: tuple[Remote, ...]
    download_mb: int
    licence: str
    tasks: tuple[str, ...]
    find: Callable[[Sequence[Path]], Path | None]
    fetch: Callable[[Path, Fetcher], bool]
    check: Callable[[Path], Iterator[Finding]]


CATALOGUE = (
    DataSet(
        "cifar10",
        "60,000 images of 32×32 pixels in ten classes",
        (cifar10.ARCHIVE,),
        170,
        "none stated; its author asks to cite Krizhevsky 2009",
        ("cifar10",),
        cifar10.find,
        cifar10.fetch,
        cifar10.check,
    ),
    DataSet(
        "iwslt14",
        "German-English transcripts of TED talks, 174,272 pairs",
        (_iwslt14.ARCHIVE,),
        19,
        "TED's: Creative Commons BY-NC-ND",
        ("translation",),
        _iwslt14.find,
        _iwslt14.fetch,
        _iwslt14.check,
    ),
    DataSet(
        "ptb",
        "Penn Treebank as prepared by Mikolov, 1,085,779 words",
        tuple(ptb.remotes().values()),
        6,
        "Linguistic Data Consortium's (LDC99T42), forbids passing it on: fetch it only if you may use it",
        ("ptb",),
        ptb.find,
        ptb.fetch,
        ptb.check,
    ),
)


def named(name: str) -> DataSet:
    """Return a data set by its name.

    Raises:
        UnknownNameError: there is none of that name; the message lists those there are.
    """
    for data in CATALOGUE:
        if data.name == name:
            return data
    names = tuple(data.name for data in CATALOGUE)
    if used := next((data.name for data in CATALOGUE if name in data.tasks), None):
        raise UnknownNameError(f"unknown data set {name!r}; the task {name} uses {used!r} (one of: {', '.join(names)})")
    if name in plugins.names("tasks"):
        raise UnknownNameError(f"the task {name} needs no data set to be fetched; those are: {', '.join(names)}")
    raise UnknownNameError(f"unknown data set {name!r}{plugins.suggestion(name, names)}")
