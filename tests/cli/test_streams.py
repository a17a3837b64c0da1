"""stdout and stderr, terminals and pipes, help texts, and what starts without torch."""

import importlib
import inspect
import subprocess
import sys

import pytest
import typer.main

from epsgrid.cli.app import _COMMANDS, app
from tests.cli.conftest import INLINE


def test_json_is_one_document_and_quiet_shows_no_steps(shell):
    shell.write(INLINE)
    for command in ("probe spec.yaml", "sweep --grid default", "report", "show spec.yaml", "list"):
        assert shell.json(*command.split())["version"] == 1, command
    assert "step" not in shell.call("probe", "spec.yaml", "-q", "--force").stderr


def test_colour_in_a_terminal_and_none_when_asked(swept):
    code, shown = swept.in_terminal("probe", "spec.yaml")
    assert code == 0
    assert "\x1b[1m" in shown
    code, shown = swept.in_terminal("probe", "spec.yaml", NO_COLOR="1")
    assert "\x1b[3" not in shown


def test_live_view_in_a_terminal(shell):
    shell.write(INLINE)
    code, shown = shell.in_terminal("sweep", "spec.yaml", "--grid", "default", "-o", "training.epochs=20")
    assert code == 0
    assert "running" in shown and "2 trials" in shown


def test_what_plans_and_shows_starts_without_torch(shell):
    shell.write()
    assert not [
        name for name in shell.imported("--help") if name.startswith(("epsgrid.cli.commands", "epsgrid.stages"))
    ]
    modules = shell.imported(
        "sweep --help",
        "--version",
        "list",
        "show spec.yaml",
        "sweep spec.yaml --dry-run --grid conventional",
        "scale spec.yaml --batch-size 128",
    )
    assert not {"torch", "matplotlib"} & modules


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_and_option_has_help(shell, name):
    target, about = _COMMANDS[name]
    module, _, function = target.partition(":")
    found = getattr(importlib.import_module(f"epsgrid.cli.commands.{module}"), function)
    paragraph = inspect.getdoc(found).partition("\n\n")[0]
    assert " ".join(paragraph.split()) == about, "the help of the group says the same as the command's own"
    assert about.split()[0] in shell.call(*name.split(), "--help").stdout
    alone = typer.Typer(add_completion=False)
    alone.command()(found)
    assert not [parameter.name for parameter in typer.main.get_command(alone).params if not parameter.help]


def test_a_wrong_command_or_option_exits_2(shell):
    assert "No such command 'prob'" in shell.call("prob", expect=2).stderr
    text = " ".join(shell.call("--help").stdout.split())
    for word in ("0 all trials done", "2 usage", "3 finished", "4 the probe", "75 stopped", "130 Ctrl-C"):
        assert word in text
    assert "No such option" in shell.call("sweep", "--grdi", "both", expect=2).stderr
    assert len(typer.main.get_command(app).list_commands(None)) == len({name.split()[0] for name in _COMMANDS})


def test_output_to_a_closed_pipe_is_quiet(shell):
    command, environment = f"{sys.executable} -m epsgrid list | head -n 1", shell.environment()
    done = subprocess.run(command, shell=True, cwd=shell.folder, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "Error" not in done.stderr
