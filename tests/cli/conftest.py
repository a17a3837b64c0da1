"""Run the real command in a process of its own."""

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

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
        process = self.start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == expect, f"exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

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
