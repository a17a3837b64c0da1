"""The `epsgrid` command: which subcommands there are, and how errors become text and exit codes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from epsgrid import __version__
from epsgrid.cli.commands import (
    anew,
    convert,
    data,
    export,
    inspect,
    list_plugins,
    probe,
    report,
    scale,
    selftest,
    show,
    status,
    sweep,
)
from epsgrid.cli.plain import use_plain_words
from epsgrid.errors import EpsgridError, ExitCode

P = ParamSpec("P")

_HELP = """Find the ε of Adam and its kin.

[bold]probe[/bold] measures the gradient magnitudes of the first epoch and bounds ε, \
[bold]sweep[/bold] trains the narrowed (learning rate × ε × seed) grid, \
[bold]report[/bold] compares it with the conventional 1e-10 … 1e2 grid. \
sweep and report without an argument act on the latest experiment."""

_EPILOG = """Exit codes: 0 all trials done (a diverged trial is done) · 1 unexpected error · 2 usage or invalid spec · \
3 finished, but some trials failed · 4 the probe could not give bounds · 75 stopped on purpose by a signal: run the \
same command to continue · 130 Ctrl-C."""


def _group(name: str, about: str) -> typer.Typer:
    return typer.Typer(
        name=name,
        help=about,
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = _group("epsgrid", _HELP)
_data = _group("data", data.HELP)
_export = _group("export", export.HELP)


def run() -> int:
    """Run the command line of this process and return its exit status."""
    use_plain_words()
    try:
        app()
    except SystemExit as end:
        return int(end.code or 0)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone, as in `epsgrid list | head -1`; Python would complain again at exit.
        sys.stdout = None
        return ExitCode.OK
    return ExitCode.OK


def _command(name: str, function: Callable[P, ExitCode | None], group: typer.Typer = app) -> None:
    """Register a subcommand; a deliberate error becomes its message on stderr and its exit code."""

    @functools.wraps(function)
    def told(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            code = function(*arguments, **options)
        except EpsgridError as error:
            print(f"error: {error}", file=sys.stderr)
            code = error.exit_code
        if code:
            raise typer.Exit(int(code))

    group.command(name, epilog=_EPILOG)(told)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"epsgrid {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


_command("probe", probe.probe)
_command("sweep", sweep.sweep)
_command("report", report.report)
_command("inspect", inspect.inspect)
_command("status", status.status)
_command("retry", anew.retry)
_command("forget", anew.forget)
_command("selftest", selftest.selftest)
_command("show", show.show)
_command("list", list_plugins.list_plugins)
_command("convert", convert.convert)
_command("scale", scale.scale)
app.add_typer(_export)
_command("bounds", export.export_bounds, _export)
app.add_typer(_data)
_command("list", data.list_data, _data)
_command("fetch", data.fetch, _data)
_command("check", data.check, _data)
_command("prepare", data.prepare, _data)
