"""Run commands in the test's own process, or the real one in a process of its own."""

import atexit
import contextlib
import functools
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from epsgrid.cli.app import app

SPEC = """\
experiment: tiny
task: digits
model: {name: mlp, hidden: [16]}
optimizer: adam
training: {epochs: 2, batch_size: 64}
sweep:
  learning_rates: [1e-2]
  seeds: [0, 1]
"""
INLINE = SPEC + "execution: {executor: inline}\n"


@functools.cache
def shared_cache() -> str:
    """Return a cache folder for all commands of this process's tests: to decode the digits takes seconds each time."""
    folder = tempfile.mkdtemp(prefix="epsgrid-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass
class Shell:
    """A folder to work in, and the command; with a cache folder in it, or the one that most tests share."""

    folder: Path
    has_own_cache: bool = False

    def write(self, text: str = SPEC, name: str = "spec.yaml") -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def call(self, *arguments: str, expect: int = 0, **environment: str) -> Result:
        """Run a command in this process."""
        unset = dict.fromkeys(name for name in os.environ if name not in self.environment())
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(
                app, arguments, env={**unset, **self.environment(**environment)}, catch_exceptions=False
            )
        assert done.exit_code == expect, f"exit {done.exit_code}\n{done.output}"
        return done

    def json(self, *arguments: str, **options) -> dict:
        """Return the one document that a command prints in this process."""
        return json.loads(self.call(*arguments, "--json", **options).stdout)

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EPSGRID_")}
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
            kept.pop(name, None)
        cache = str(self.folder / "cache") if self.has_own_cache else shared_cache()
        return kept | {"EPSGRID_CACHE": cache, "PYTHONWARNINGS": "error::ResourceWarning"} | extra

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "epsgrid", *arguments],
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, expect: int = 0, **environment: str) -> subprocess.CompletedProcess:
        """Run a command in a process of its own."""
        process = self.start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == expect, f"exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def in_terminal(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run a command on a pseudo-terminal and return its exit code and output."""
        leader, follower = pty.openpty()
        environment = self.environment(**{"TERM": "xterm-256color", "COLUMNS": "120", **environment})
        process = subprocess.Popen(
            [sys.executable, "-m", "epsgrid", *arguments],
            cwd=self.folder,
            env=environment,
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone with its last process
            while piece := os.read(leader, 65536):
                shown += piece
        os.close(leader)
        return process.wait(), shown.decode()

    def imported(self, *lines: str) -> set[str]:
        """Return the modules that some command lines import, one after another in a process of its own."""
        code = (
            "import shlex, sys; from epsgrid.cli.app import run\n"
            "for line in sys.argv[1:]: sys.argv = ['epsgrid', *shlex.split(line)]; assert run() == 0, line\n"
            "print('MODULES', *sys.modules, sep='\\n')"
        )
        environment = self.environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
        command = [sys.executable, "-c", code, *lines]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return set(done.stdout.partition("MODULES\n")[2].splitlines())

    def results(self, experiment: str = "runs/tiny") -> dict[str, dict]:
        """Return the stored results by trial, without what may differ between two runs of the same trial."""
        found = {}
        for path in sorted((self.folder / experiment / "trials").glob("*/result.json")):
            document = json.loads(path.read_text())
            found[path.parent.name] = {
                key: value for key, value in document.items() if key not in ("seconds", "provenance", "checksum")
            }
        return found

    def wait_for(self, condition, process: subprocess.Popen, timeout: float = 120) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "nothing happened"
            time.sleep(0.02)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Shell(tmp_path_factory.mktemp("finished"))
    made.write(INLINE)
    made.call("probe", "spec.yaml", "-q")
    assert made.json("sweep", "--grid", "default", "-q")["states"] == {"done": 2}
    return made.folder


@pytest.fixture
def swept(tmp_path: Path, finished: Path) -> Shell:
    """A folder with a probe and a finished sweep of the default ε with two seeds."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return Shell(tmp_path)
