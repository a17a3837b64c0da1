"""stdout and stderr, terminals and pipes, help texts, and what starts without torch."""

import importlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from epsgrid.cli.app import _COMMANDS, app
from epsgrid.cli.progress import Stop
from tests.cli.conftest import INLINE, SPEC, Shell


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


SILENT = ("{} >/dev/full 2>/dev/full", "{} >&- 2>&-", "{} <&- >&- 2>&-", "{} 2>&1 | head -n 1; exit ${{PIPESTATUS[0]}}")
LOUD = """
from epsgrid.models import mlp
class Loud:
    Options = mlp.Options
    @staticmethod
    def build(*arguments, **named):
        print("built" * 100_000, flush=True)
        return mlp.build(*arguments, **named)
"""


def in_bash(shell, line):
    """Run a line of bash in which {} is the command of epsgrid; return its exit code and output."""
    environment = shell.environment(PYTHONPATH=os.pathsep.join([str(shell.folder), *filter(None, sys.path)]))
    command = ["bash", "-c", line.replace("epsgrid", f"{sys.executable} -m epsgrid")]
    done = subprocess.run(command, cwd=shell.folder, env=environment, capture_output=True, text=True, timeout=300)
    assert not {"Traceback", "BrokenPipeError", "Exception ignored"} & set(done.stderr.split()), done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("line", SILENT)
@pytest.mark.parametrize("executor", ["local", "inline"])
def test_training_goes_on_where_nothing_can_be_shown(shell, line, executor):
    (shell.folder / "loud.py").write_text(LOUD)
    shell.write(SPEC.replace("name: mlp", "name: 'loud:Loud'"))
    sweep = f"epsgrid sweep spec.yaml --grid default -w 1 -o execution.executor={executor}"
    assert in_bash(shell, line.format(sweep))[0] == 0
    assert len(shell.results()) == 2


@pytest.mark.parametrize("command", ["probe spec.yaml --force", "sweep", "report", "sweep --json"])
def test_what_is_stored_decides_where_the_result_cannot_be_shown(swept, command):
    for line in (*SILENT, "{} 2>/dev/full"):
        assert in_bash(swept, line.format(f"epsgrid {command}"))[0] == 0, line
    code, shown = in_bash(swept, f"epsgrid {command} >/dev/full")
    assert code == 0
    assert "warning: stdout could not be written: No space left on device; results are stored" in shown


@pytest.mark.parametrize("command", ["status", "show spec.yaml --json", "list", "inspect", "export bounds --to json"])
def test_a_result_that_is_only_shown_is_lost_with_an_error(swept, command):
    code, shown = in_bash(swept, f"epsgrid {command} >/dev/full")
    assert code == 1
    assert "error: stdout could not be written: No space left on device" in shown
    assert in_bash(swept, f"epsgrid {command} | head -n 1; exit ${{PIPESTATUS[0]}}")[0] == 0
    assert in_bash(swept, f"epsgrid {command} 2>/dev/full")[0] == 0


def test_names_that_are_no_text_are_escaped_on_the_screen_in_json_and_in_what_is_stored(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    shell = Shell(folder)
    shell.write(INLINE)
    for command in ("probe spec.yaml", "sweep --grid default", "report", "status", "inspect"):
        code, shown = in_bash(shell, f"epsgrid {command}")
        assert code == 0, shown
    assert "caf\\udce9" in shown
    shown = in_bash(shell, "epsgrid status --json 2>/dev/null")[1]
    assert json.loads(shown)["experiment"] == str(folder / "runs" / "tiny")
    assert in_bash(shell, "epsgrid status runs/tiny --json 2>/dev/null")[1] == shown


def test_a_closed_terminal_lets_trials_save_unless_it_is_ignored():
    earlier = signal.getsignal(signal.SIGHUP)
    with Stop() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert (stop.level(), stop.exit_code) == (1, 75)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.level() == 0
    finally:
        signal.signal(signal.SIGHUP, earlier)
    with Stop(outlives_terminal=True):
        assert signal.getsignal(signal.SIGHUP) is earlier


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("name", ["", "export", "data", *_COMMANDS])
def test_help_fits_and_shows_no_types_of_flags(monkeypatch, capsys, name, width):
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit, match="0"):
        app([*name.split(), "--help"])
    shown = capsys.readouterr().out
    assert width - 20 < max(map(len, shown.splitlines())) <= width
    assert not {"<bool>", "BOOLEAN", "<path>", "<str>", "\\["} & set(re.split(r"\s+", shown)), shown
    assert "..." not in shown.partition("Commands:")[2], "a command's help is cut"
    assert "\\[" not in shown


def test_a_short_option_means_the_same_everywhere():
    meanings = {}
    for target, _ in _COMMANDS.values():
        module, _, function = target.partition(":")
        alone = typer.Typer(add_completion=False)
        alone.command()(getattr(importlib.import_module(f"epsgrid.cli.commands.{module}"), function))
        for parameter in typer.main.get_command(alone).params:
            for short in (each for each in parameter.opts if len(each) == 2 and parameter.param_type_name == "option"):
                assert meanings.setdefault(short, parameter.name) == parameter.name
    assert set(meanings) == {"-o", "-n", "-q", "-w"}


def test_mistaken_arguments_are_answered_with_what_to_type(swept):
    for command in ("report spec.yaml", "status spec.yaml", "inspect spec.yaml", "export bounds spec.yaml --to json"):
        answer = swept.call(*command.split(), expect=2).stderr
        expected = "spec.yaml is a file, and an experiment's folder or name is expected here: tiny"
        assert expected in answer, command
    assert swept.call("report", "runs/tiny", "runs/latest").exit_code == 0, "as runs/* names them"
    assert "expected here: runs/tiny" in swept.call("status", "runs/tiny/experiment.json", expect=2).stderr
    for command in (
        "sweep tiny",
        "sweep runs/tiny",
        "probe runs/tiny",
        "show runs/tiny",
        "scale runs/tiny --batch-size 32",
    ):
        assert "`epsgrid sweep --out runs/tiny` goes on" in swept.call(*command.split(), expect=2).stderr
    assert "runs is a folder, and a YAML spec is expected" in swept.call("sweep", "runs", expect=2).stderr
    assert swept.call("list", "task").stdout == swept.call("list", "tasks").stdout
    assert "did you mean 'optimizers'" in swept.call("list", "optimiser", expect=2).stderr
    assert "no trial begins with 'deadbeef'" in swept.call("forget", "deadbeef", expect=2).stderr


def test_ctrl_c_says_what_to_type_next(shell):
    shell.write()
    process = shell.start("probe", "spec.yaml", "-o", "probe.epochs=100000")
    shell.wait_for(lambda: "step" in process.stderr.readline(), process)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted: what was finished is stored, the rest is not. Next: the same command again." in shown


def test_a_file_of_the_users_that_cannot_be_used_is_named(shell):
    (shell.folder / "file").write_text("")
    shell.write()
    answer = shell.call("selftest", "--dir", "file/folder", expect=2).stderr
    assert answer == "error: file/folder: Not a directory\n"
