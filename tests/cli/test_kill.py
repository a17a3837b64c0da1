"""Kill a sweep for real and see that the next one finishes it as if nothing had happened."""

import json
import os
import signal
import time

import pytest

from tests.cli.conftest import Shell

pytestmark = pytest.mark.xdist_group("kill")

TRIALS = 4
SPEC = """\
experiment: tiny
task: digits
model: {name: mlp, hidden: [32]}
optimizer: adam
training: {epochs: 12, batch_size: 16}
sweep:
  grid: default
  learning_rates: [3e-2, 1e-2]
  seeds: [0, 1]
"""


def checkpoints(shell):
    return list(shell.folder.glob("runs/tiny/trials/*/checkpoint.pt"))


def wait_until_gone(group, timeout=20):
    """Wait until no process of a group is left; the fork server needs a moment to see that its command is gone."""
    end = time.monotonic() + timeout
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < end, "processes outlive the command"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results of a sweep that nothing disturbed."""
    shell = Shell(tmp_path_factory.mktemp("undisturbed"))
    shell.write(SPEC)
    shell.run("sweep", "spec.yaml", "-q")
    results = shell.results()
    assert len(results) == TRIALS
    return results


def started(shell, *options):
    """Start a sweep and wait until a trial has saved itself."""
    shell.write(SPEC)
    process = shell.start("sweep", "spec.yaml", *options)
    shell.wait_for(lambda: checkpoints(shell), process)
    return process


def logs(shell):
    return [path.read_text() for path in shell.folder.glob("runs/tiny/trials/*/log.txt")]


def test_sigkill_in_the_middle_then_bit_identical_results(shell, whole):
    for _ in range(2):
        process = started(shell)
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    before = set(shell.results())
    assert len(before) < TRIALS
    resumed = shell.run("sweep", "spec.yaml")
    assert "go on from a checkpoint" in resumed.stderr
    assert shell.results() == whole
    assert all(log.count("done") == 1 for log in logs(shell)), "a trial was trained twice to the end"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 75), (signal.SIGHUP, 75)])
def test_workers_end_with_their_command(shell, number, code):
    if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("these tests were started to outlive the terminal, as by nohup, and so is what they start")
    process = started(shell, "-o", "training.epochs=2000")
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    wait_until_gone(process.pid)


def test_ctrl_c_saves_says_how_to_resume_and_exits_130(shell, whole):
    process = started(shell)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "running trials save themselves" in err
    assert "the same command trains what is missing" in err
    assert "Traceback" not in err
    shell.run("sweep", "spec.yaml")
    assert shell.results() == whole


def test_a_killed_worker_is_tried_again(shell, whole):
    process = started(shell, "--workers", "1")
    leases = [path for path in shell.folder.glob("runs/tiny/trials/*/lease/*") if path.is_file()]
    assert leases
    os.kill(json.loads(leases[0].read_text())["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert shell.results() == whole


def test_two_sweeps_at_once_share_the_work(shell, whole):
    shell.write(SPEC)
    sweeps = [shell.start("sweep", "spec.yaml", "--workers", "1") for _ in range(2)]
    for process in sweeps:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert shell.results() == whole
    assert sum(log.count("start:") for log in logs(shell)) == TRIALS
