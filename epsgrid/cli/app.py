"""The `epsgrid` command: its subcommands, and how errors become text and exit codes.

A subcommand's module is imported and its options are built only when it is called: `epsgrid --help` needs neither.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
import typer.core
import typer.main

from epsgrid import streams
from epsgrid._version import __version__
from epsgrid.cli.console import replace_missing_characters
from epsgrid.errors import EpsgridError, ExitCode

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_HELP = """Find the ε of Adam and its kin.

probe measures the gradient magnitudes of the first epoch and bounds ε, sweep trains the narrowed (learning rate × ε ×
seed) grid, report compares it with the conventional 1e-10 … 1e2 grid. sweep and report without an argument act on the
latest experiment."""

_EPILOG = """Exit codes: 0 all trials done (a diverged trial is done) · 1 unexpected error · 2 usage or invalid spec · \
3 finished, but some trials failed · 4 the probe could not give bounds · 75 stopped on purpose by a signal: run the \
same command to continue · 130 Ctrl-C."""

_COMMANDS = {
    "demo": ("demo:demo", "Probe, sweep and report twice on bundled data, a minute, to see what epsgrid is for."),
    "init": ("show:init", "Write a spec to start from, with a comment at every key."),
    "probe": ("probe:probe", "Measure the gradient magnitudes of the first epoch and estimate the bounds of ε."),
    "sweep": ("sweep:sweep", "Train every (learning rate, ε, seed) of the grid that has no result yet."),
    "report": (
        "report:report",
        "Answer what the sweep can tell: may the default ε stay, which ε are as good, did narrowing cost anything.",
    ),
    "inspect": (
        "inspect:inspect",
        "Show the stored gradient magnitudes of a probe, of a trial over its training, or of checkpoints.",
    ),
    "status": ("status:status", "Show the state of a sweep: trials by state and grid, running, failed, time left."),
    "retry": ("retry:retry", "Train chosen trials of the latest experiment again, and no others."),
    "forget": (
        "retry:forget",
        "Archive chosen trials of the latest experiment, so that the next sweep trains them again.",
    ),
    "selftest": (
        "selftest:selftest",
        "Prove that a sweep on this machine and file system loses nothing and repeats nothing, whatever kills it.",
    ),
    "show": ("show:show", "Print the effective spec: every default filled in, every override applied."),
    "schema": ("show:schema", "Print the JSON schema of a spec, by which editors complete and check it."),
    "list": (
        "show:list_plugins",
        "List the names a spec may use, of tasks or optimizers for example; or what this machine trains in.",
    ),
    "convert": ("convert:convert", "Convert an ε between optimizers and frameworks."),
    "scale": ("scale:scale", "Scale a spec to another batch size."),
    "export bounds": ("export:export_bounds", "Write the measured bounds of ε as the search space of another tool."),
    "export groups": (
        "export:export_groups",
        "Write an ε for each group of layers, as a Python module with ready parameter groups.",
    ),
    "data list": ("data:list_data", "List the data sets: their folders, sizes, licences and tasks."),
    "data fetch": ("data:fetch", "Fetch a data set and check it; one that is complete is not fetched again."),
    "data check": ("data:check", "Check a data set on this machine: checksums where published, counts in any case."),
}
"""Module and function of each subcommand, and the first paragraph of its help."""

_STORING = ("demo", "probe", "sweep", "report", "retry", "forget", "selftest", "fetch")
"""Subcommands whose result is not what they print: it stands where stdout cannot be written, and so does the code."""


def _group(name: str, about: str) -> typer.Typer:
    return typer.Typer(
        name=name,
        help=about,
        short_help=about,
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode=None,  # rich takes as long to import as all that `epsgrid --help` needs besides
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )


app = _group("epsgrid", _HELP)


def run() -> int:
    """Run the command line of this process and return its exit status."""
    streams.protect_standard_streams()
    replace_missing_characters()
    try:
        app()
    except SystemExit as end:
        return int(end.code or 0)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.OK


@contextmanager
def _answered() -> Iterator[None]:
    """Turn an error that a user can cause, or Ctrl-C, into a message on stderr and an exit code."""
    try:
        yield
        return
    except EpsgridError as error:
        message, code = f"error: {error}", error.exit_code
    except OSError as error:
        if error.filename is None:  # not about a file of the user's
            raise
        message, code = f"error: {error.filename}: {error.strerror}", ExitCode.USAGE
    except KeyboardInterrupt:
        message = "Interrupted: what was finished is stored, the rest is not. Next: the same command again."
        code = ExitCode.INTERRUPTED
    print(message, file=sys.stderr)
    raise typer.Exit(int(code))


class _Subcommand(typer.core.TyperCommand):
    """A subcommand that answers errors, also where its result could not be written."""

    def invoke(self, ctx: Any) -> None:
        with _answered():
            code = super().invoke(ctx)
        problem = streams.writing_problem(sys.stdout)
        if problem is not None:
            is_stored = ctx.info_name in _STORING
            level, rest = ("warning", "; results are stored all the same") if is_stored else ("error", "")
            print(f"{level}: stdout could not be written: {problem.strerror}{rest}", file=sys.stderr)
            code = code or (ExitCode.OK if is_stored else ExitCode.UNEXPECTED)
        if code:
            raise typer.Exit(int(code))


def _add(group: typer.Typer, name: str, target: str, about: str) -> None:
    """Register a subcommand that is built when it is called."""

    class Lazy(typer.core.TyperCommand):
        def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
            module, _, function = target.partition(":")
            with _answered():
                found = getattr(importlib.import_module(f"epsgrid.cli.commands.{module}"), function)
                alone = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=_CONTEXT)
                alone.command(name, cls=_Subcommand, epilog=_EPILOG)(found)
                command = typer.main.get_command(alone)
                for parameter in command.params:
                    if parameter.param_type_name == "argument":  # its name says more than "<path>"
                        parameter.display_type_rich = lambda ctx: None  # type: ignore[attr-defined]
                return command.make_context(info_name, args, parent, **extra)

    group.command(name, cls=Lazy, short_help=about)(lambda: None)


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


_GROUPS = {
    "": app,
    "export": _group("export", "Hand measured bounds over to other tools."),
    "data": _group("data", "List, fetch and check data sets; nothing is fetched unless you ask."),
}
app.add_typer(_GROUPS["export"])
app.add_typer(_GROUPS["data"])
for _name, (_target, _about) in _COMMANDS.items():
    _group_name, _, _own_name = _name.rpartition(" ")
    _add(_GROUPS[_group_name], _own_name, _target, _about)
