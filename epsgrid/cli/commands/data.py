"""`epsgrid data list|fetch|check|prepare`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epsgrid.cli.options import JsonOption, QuietOption
from epsgrid.errors import ExitCode

if TYPE_CHECKING:
    from epsgrid.stages.data import Checked, Fetched, Found

HELP = "List, fetch, check and prepare data sets. Nothing is fetched unless you ask for it here, or in a spec."

_MEGA = 1_000_000


def _names() -> list[str]:
    from epsgrid.stages.data import CATALOGUE

    return [data.name for data in CATALOGUE]


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="As `epsgrid data list` names it.", autocompletion=_names)
]
DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="Folder that holds data sets.  \\[default: $EPSGRID_DATA, else data in the cache folder]",
        show_default=False,
    ),
]


def list_data(json: JsonOption = False) -> None:
    """List the data sets: where each lies, its size, what its licence allows, which tasks use it."""
    from epsgrid.cli.columns import columns
    from epsgrid.cli.console import err, print_json
    from epsgrid.stages import data as stage

    found, kept = stage.list_data(), stage.decoded()
    if json:
        cache = {"place": str(kept.place), "bytes": kept.size_bytes}
        print_json({"version": 1, "data": {each.data.name: _listed(each) for each in found}, "decoded": cache})
        return
    rows = [("data set", "tasks", "size", "here", "licence")]
    for each in found:
        data = each.data
        rows.append((data.name, ", ".join(data.tasks), f"{data.download_mb} MB", str(each.place or "no"), data.licence))
    for line in columns(rows):
        print(line)
    err().print(
        "Other tasks need nothing fetched: they generate their data, come with them, or read yours.", style="dim"
    )
    if kept.size_bytes:
        size = f"{max(1, round(kept.size_bytes / _MEGA)):,} MB"
        err().print(f"Decoded before: {size} in {kept.place}; delete it at any time, it is made again.", style="dim")
    missing = [each.data.name for each in found if each.place is None]
    err().print(f"Next: epsgrid data {f'fetch {missing[0]}' if missing else 'check NAME'}", style="dim")


def fetch(
    name: NameArgument,
    folder: DirOption = None,
    retries: Annotated[int, typer.Option("--retries", min=0, help="Times to try a broken transfer again.")] = 3,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch a data set and check it; what is here and whole is not fetched again.

    Without a network it says which file to put where by hand.
    """
    from epsgrid.cli.console import print_json
    from epsgrid.data._fetch import Fetcher
    from epsgrid.stages import data as stage

    with _shown(quiet=quiet) as (say, on_bytes):
        fetched = stage.fetch_data(name, folder, Fetcher(say, on_bytes, retries))
    if json:
        print_json({"version": 1, "name": name, "place": str(fetched.place), "fetched_now": fetched.fetched_now})
    else:
        _print_fetched(fetched)


def check(name: NameArgument, folder: DirOption = None, json: JsonOption = False) -> ExitCode:
    """Check a data set that is here: checksums where they are published, counts in any case. Exit code 0 or 2."""
    from epsgrid.cli.console import err, print_json
    from epsgrid.stages import data as stage

    if not json:
        err().print(f"checking {name}", style="dim")
    checked = stage.check_data(name, folder)
    if json:
        print_json(_checked(checked))
    else:
        _print_checked(checked)
    return ExitCode.OK if checked.whole else ExitCode.USAGE


def prepare(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The official de-en.tgz, or one of its layout.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What to make; must not be there yet.")],
    any_counts: Annotated[
        bool, typer.Option("--any-counts", help="Take other numbers of pairs than the official archive gives.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Prepare IWSLT14 German-English from its archive: tokenise, clean, split and count, as published.

    `data fetch iwslt14` does the same with the archive it fetches. Nothing is unpacked outside of FOLDER, which is
    there whole or not at all.
    """
    from epsgrid.cli.console import err, print_json
    from epsgrid.stages import data as stage

    with _shown(quiet=quiet) as (say, _):
        made = stage.prepare_iwslt14(archive, folder, any_counts=any_counts, tell=say)
    if json:
        pairs = {"train": made.train, "valid": made.valid, "test": made.test}
        print_json({"version": 1, "place": str(made.place), "pairs": pairs})
        return
    print(f"{made.train:,} training, {made.valid:,} validation and {made.test:,} test pairs in {made.place}")
    err().print(f"Tasks find it with task.root: {made.place}", style="dim", markup=False)


def _listed(found: Found) -> dict[str, Any]:
    data = found.data
    return {
        "contents": data.contents,
        "place": str(found.place) if found.place else None,
        "download_mb": data.download_mb,
        "licence": data.licence,
        "tasks": list(data.tasks),
        "files": [{"url": file.url, "md5": file.md5} for file in data.files],
    }


def _checked(checked: Checked) -> dict[str, Any]:
    return {
        "version": 1,
        "name": checked.data.name,
        "place": str(checked.place),
        "whole": checked.whole,
        "findings": [{"what": each.what, "problem": each.problem} for each in checked.findings],
    }


def _print_fetched(fetched: Fetched) -> None:
    from epsgrid.cli.console import err

    state = "fetched" if fetched.fetched_now else "already here and whole"
    print(f"{fetched.data.name} {state}: {fetched.place}")
    if not fetched.looked_for:
        err().print(
            f"Tasks find it with EPSGRID_DATA={fetched.place.parent}, or with task.root: {fetched.place}",
            style="dim",
            markup=False,
        )


def _print_checked(checked: Checked) -> None:
    from epsgrid.cli.console import err

    for each in checked.findings:
        print(f"ok     {each.what}" if each.problem is None else f"WRONG  {each.what}: {each.problem}")
    print(f"{checked.data.name} in {checked.place} is {'whole' if checked.whole else 'damaged'}")
    if not checked.whole:
        hint = f"Next: move it away, then epsgrid data fetch {checked.data.name}"
        err().print(hint, style="dim", markup=False)


@contextmanager
def _shown(*, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int], None]]]:
    """Show on stderr what is being done and how far it is; yields `say` and `on_bytes` of a `Fetcher`."""
    from epsgrid.cli.console import err

    if quiet:
        yield (lambda line: None), (lambda name, done, of: None)
    elif err().is_terminal:
        from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

        columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=err(), transient=True) as progress:
            bar = progress.add_task("", total=None, visible=False)

            def on_bytes(name: str, done: int, of: int) -> None:
                progress.update(bar, description=name, completed=done, total=of or None, visible=done != of)

            yield (lambda line: progress.console.print(line, markup=False)), on_bytes
    else:
        yield (lambda line: err().print(line, markup=False)), _ByteLines()


class _ByteLines:
    """A line when a file is there, and one every half minute before."""

    def __init__(self) -> None:
        self.told = time.monotonic()

    def __call__(self, name: str, done: int, of: int) -> None:
        from epsgrid.cli.console import err
        from epsgrid.cli.progress import heartbeat_s

        now = time.monotonic()
        if done == of or now - self.told >= heartbeat_s():
            self.told = now
            whole = f" of {of / _MEGA:.1f}" if of else ""
            err().print(f"{name}: {done / _MEGA:.1f}{whole} MB", markup=False)
