"""stdout and stderr, terminals and pipes, and what starts without torch."""

import json
import os
import pty
import subprocess
import sys

import pytest


def in_terminal(shell, *arguments, **environment):
    """Run the command on a pseudo-terminal and return what it showed."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "epsgrid", *arguments]
    environment = shell.environment(**{"TERM": "xterm-256color", "COLUMNS": "120", **environment})
    process = subprocess.Popen(
        command, cwd=shell.folder, env=environment, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    return process.wait(), shown.decode()


def test_results_on_stdout_and_progress_on_stderr(shell):
    shell.write()
    probe = shell.run("probe", "spec.yaml")
    assert "step" in probe.stderr
    assert "step " not in probe.stdout
    assert "\x1b" not in probe.stdout + probe.stderr


def test_json_is_one_document(shell):
    shell.write()
    for command in ("probe spec.yaml", "sweep --grid default", "report", "show spec.yaml", "list"):
        out = shell.run(*command.split(), "--json").stdout
        assert json.loads(out)["version"] == 1, command


def test_quiet_says_nothing_on_stderr_but_hints(shell):
    shell.write()
    assert "step" not in shell.run("probe", "spec.yaml", "-q").stderr


def test_heartbeat_off_a_terminal(shell):
    shell.write()
    sweep = shell.run("sweep", "spec.yaml", "--grid", "default", "-o", "training.epochs=60", EPSGRID_HEARTBEAT_S="0.1")
    assert " running" in sweep.stderr


def test_colour_in_a_terminal_and_none_when_asked(shell):
    shell.write()
    code, shown = in_terminal(shell, "probe", "spec.yaml")
    assert code == 0
    assert "\x1b[1m" in shown
    code, shown = in_terminal(shell, "probe", "spec.yaml", NO_COLOR="1")
    assert "\x1b[3" not in shown


def test_live_view_in_a_terminal(shell):
    shell.write()
    code, shown = in_terminal(shell, "sweep", "spec.yaml", "--grid", "default", "-o", "training.epochs=60")
    assert code == 0
    assert "epoch" in shown
    assert "2 trials" in shown


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["probe", "--help"],
        ["sweep", "--help"],
        ["report", "--help"],
        ["inspect", "--help"],
        ["--version"],
        ["list"],
        ["show", "spec.yaml"],
        ["sweep", "spec.yaml", "--dry-run", "--grid", "conventional"],
        ["scale", "spec.yaml", "--batch-size", "128"],
    ],
)
def test_starts_without_torch(shell, command):
    shell.write()
    code = f"import sys; sys.argv[1:] = {command!r}\nfrom epsgrid.cli.app import run\nstatus = run()\n"
    code += "assert status == 0, status\nassert 'torch' not in sys.modules\nassert 'matplotlib' not in sys.modules\n"
    subprocess.run(
        [sys.executable, "-c", code], cwd=shell.folder, env=shell.environment(), check=True, capture_output=True
    )


def test_help_names_exit_codes_and_every_option_has_help(shell):
    text = shell.run("--help").stdout
    for word in ("0 all trials done", "2 usage", "3 finished", "4 the probe", "75 stopped", "130 Ctrl-C"):
        assert word in " ".join(text.split())
    for command in ("probe", "sweep", "report", "inspect", "show", "list"):
        assert command in text
        shell.run(command, "--help")


def test_output_to_a_closed_pipe_is_quiet(shell):
    command = f"{sys.executable} -m epsgrid list | head -n 1"
    done = subprocess.run(
        command, shell=True, cwd=shell.folder, env=shell.environment(), capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
