"""`epsgrid data list|fetch|check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.console import hint, print_json
from epsgrid.cli.options import JsonOption, QuietOption
from epsgrid.cli.progress import progress_shown
from epsgrid.cli.tables import show, table
from epsgrid.data._cache import data_folders
from epsgrid.data._fetch import Fetcher
from epsgrid.errors import ExitCode
from epsgrid.stages import data as stage

_NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `epsgrid data list` names it.")]
_DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="Folder that holds data sets.  [default: $EPSGRID_DATA, else data in the cache folder]",
    ),
]


def list_data(json: JsonOption = False) -> None:
    """List the data sets: their folders, sizes, licences and tasks."""
    found, (cache, size) = stage.list_data(), stage.decoded()
    if json:
        listed = {
            data.name: {
                "contents": data.contents,
                "place": str(place) if place else None,
                "download_mb": data.download_mb,
                "licence": data.licence,
                "tasks": list(data.tasks),
                "files": [{"url": file.url, "md5": file.md5} for file in data.files],
            }
            for data, place in found
        }
        print_json({"data": listed, "decoded": {"place": str(cache), "bytes": size}})
        return
    rows = [
        (data.name, ", ".join(data.tasks), f"{data.download_mb} MB", str(place or "no"), data.licence)
        for data, place in found
    ]
    columns = ("data set", "tasks", "size", "here", "licence")
    show(table(columns, rows, range(len(columns))))
    if size:
        hint(f"Decoded before: {max(1, round(size / 1e6)):,} MB in {cache}; delete it at any time, it is made again.")
    missing = [data.name for data, place in found if place is None]
    hint(f"Next: epsgrid data {f'fetch {missing[0]}' if missing else 'check NAME'}")


def fetch(name: _NameArgument, folder: _DirOption = None, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Fetch a data set and check it; one that is complete is not fetched again.

    Without a network it says which file to put where by hand.
    """
    with progress_shown(quiet=quiet, in_bytes=True) as (log, on_bytes):
        place, fetched_now = stage.fetch_data(name, folder, Fetcher(log, on_bytes))
    if json:
        print_json({"name": name, "place": str(place), "fetched_now": fetched_now})
        return
    print(f"{name} {'fetched' if fetched_now else 'already here and whole'}: {place}")
    if place.parent not in data_folders():
        hint(f"Tasks find it with EPSGRID_DATA={place.parent}, or with task.root: {place}")


def check(name: _NameArgument, folder: _DirOption = None, json: JsonOption = False) -> ExitCode:
    """Check a data set on this machine: checksums where published, counts in any case.

    The exit code is 0 where it is whole, and 2 where it is damaged.
    """
    if not json:
        hint(f"checking {name}")
    place, findings = stage.check_data(name, folder)
    whole = all(each.problem is None for each in findings)
    if json:
        print_json({"name": name, "place": str(place), "whole": whole, "findings": [vars(each) for each in findings]})
    else:
        for each in findings:
            print(f"ok     {each.what}" if each.problem is None else f"WRONG  {each.what}: {each.problem}")
        print(f"{name} in {place} is {'whole' if whole else 'damaged'}")
        if not whole:
            hint(f"Next: move it away, then epsgrid data fetch {name}")
    return ExitCode.OK if whole else ExitCode.USAGE
