import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from epsgrid import executors
from epsgrid.executors import ExecutorPlugin, Job, ray, slurm
from epsgrid.spec.model import Execution
from tests.executors import fake_slurm
from tests.executors.jobs import is_alive, wait_for


@pytest.fixture(scope="package", autouse=True)
def light_server() -> Iterator[None]:
    """For these tests only a fork server that imports what they run, and no torch."""
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


@dataclass(frozen=True)
class RayCluster:
    """A cluster that stays for these tests, on the loopback device: 4 processors and 1 GPU, both made up."""

    cluster: Any

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    @property
    def named(self) -> tuple[str, ...]:
        """How a spec names it."""
        return "ray", f"execution.ray.address={self.address}"

    def add_node(self, **resources: int) -> Any:
        """Add a node, whose workers can import the tests; return it, for `cluster.remove_node`."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
            patched.setenv("RAY_TMPDIR", tempfile.gettempdir())  # Ray's own sockets need a short path
            return self.cluster.add_node(
                node_ip_address="127.0.0.1", include_dashboard=False, object_store_memory=80 * 2**20, **resources
            )

    def run(self, jobs: Sequence[Job], work: str, *, execution: Execution, **options: Any) -> None:
        """Run jobs on it, as the executor plug-in does."""
        settings = execution.ray.model_copy(update={"address": self.address})
        ray.run(jobs, work, execution=execution.model_copy(update={"ray": settings}), **options)


@pytest.fixture(scope="package")
def ray_cluster() -> Iterator[RayCluster]:
    pytest.importorskip("ray", reason="the package ray is not installed")
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # as for a cluster of our own: loopback
        cluster = RayCluster(Cluster())
        cluster.add_node(num_cpus=4, num_gpus=1)
        yield cluster
        cluster.cluster.shutdown()


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stand-in for Slurm on PATH, and a driver that looks often; yields the folder where it keeps its queue."""
    folder, commands = tmp_path / "slurm queue", tmp_path / "commands"
    folder.mkdir()
    commands.mkdir()
    fake_slurm.install(commands)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    for name, seconds in {"_POLL_S": 0.02, "_ASK_S": 0.2, "_ASK_WHEN_STOPPING_S": 0.2}.items():
        monkeypatch.setattr(slurm, name, seconds)
    yield folder
    for array in folder.glob("[0-9]*"):
        (array / "lose").touch()
    for path in folder.glob("*/controller.pid"):
        wait_for(lambda path=path: not is_alive(int(path.read_text())))


@pytest.fixture(params=["inline", "local", pytest.param("ray", marks=pytest.mark.xdist_group("ray")), "slurm"])
def executor(request: pytest.FixtureRequest) -> ExecutorPlugin:
    """Every place to run, each with what it needs."""
    if request.param == "ray":
        plugin: ExecutorPlugin = request.getfixturevalue("ray_cluster")
        return plugin
    if request.param == "slurm":
        request.getfixturevalue("queue")
    return executors.load(request.param)
