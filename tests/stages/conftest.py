"""A tiny experiment on disk, run in the test's own process; and a finished sweep of it, trained once and copied."""

import shutil
from pathlib import Path

import pytest

from epsgrid.stages.experiment import Asked, resolve
from epsgrid.stages.running import HowToRun
from epsgrid.stages.sweep import sweep

SPEC = """\
experiment: tiny
task: digits
model: {name: mlp, hidden: [8]}
optimizer: adam
training: {epochs: 1, batch_size: 256}
sweep:
  learning_rates: [1e-2]
  seeds: [0]
execution: {executor: inline}
"""


class NeverStop:
    def level(self) -> int:
        return 0


class StopAtOnce:
    def level(self) -> int:
        return 1


def train(asked, grid="conventional", stop=None):
    """Sweep grids or a plan inline, without showing anything."""
    return sweep(asked, grid, HowToRun(1, lambda event: None, stop or NeverStop()))


@pytest.fixture
def spec_path(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def asking(spec_path: Path, tmp_path: Path):
    """Return a function from overrides to the experiment."""

    def asked(*overrides: str, runs: str = "runs") -> Asked:
        return resolve(spec_path, None, overrides, tmp_path / runs)

    return asked


@pytest.fixture
def asked(asking) -> Asked:
    return asking()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "spec.yaml").write_text(SPEC)
    asked = resolve(folder / "spec.yaml", None, (), folder / "runs")
    assert train(asked).counts == {"done": 13}
    return asked.folder.root


@pytest.fixture
def swept(asked: Asked, finished: Path) -> Asked:
    """The experiment with its conventional grid trained."""
    shutil.copytree(finished, asked.folder.root)
    return asked
