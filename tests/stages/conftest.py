"""A tiny experiment on disk, run in the test's own process."""

from pathlib import Path

import pytest

from epsgrid.stages.experiment import Asked, resolve

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


@pytest.fixture
def spec_path(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def asked(spec_path: Path, tmp_path: Path) -> Asked:
    return resolve(spec_path, None, (), tmp_path / "runs")
