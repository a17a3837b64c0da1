import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from epsgrid import executors
from epsgrid.executors import ExecutorPlugin, Job, local, ray, slurm
from epsgrid.spec.model import Execution, Ray
from tests.executors import fake_slurm
from tests.executors.jobs import LIGHT, Recorder, StopWhen, is_alive, wait_for, work


@pytest.fixture(scope="package", autouse=True)
def light_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A fork server that has not imported torch, for these tests only."""
    folder = str(tmp_path_factory.mktemp("light_server"))
    forkserver._forkserver._stop()
    local.run([Job(folder, "return")], work, slots=1, notify=Recorder(), stop=StopWhen(), preload=LIGHT)
    yield
    forkserver._forkserver._stop()


@dataclass(frozen=True)
class RayCluster:
    """A cluster that stays for these tests, on the loopback device: 4 processors and 1 GPU, both made up."""

    cluster: Any
    temporary: Path
    """Where its slots keep temporary files: of its own, for whatever else runs on this machine may have slots too."""

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
            patched.setenv("TMPDIR", str(self.temporary))
            return self.cluster.add_node(
                node_ip_address="127.0.0.1", include_dashboard=False, object_store_memory=80 * 2**20, **resources
            )

    def run(
        self, *arguments: Any, cpus: float = 1, gpus: float | None = 0, trials_per_device: int = 1, **options: Any
    ) -> None:
        """Run jobs on it, as the executor plug-in does."""
        settings = Ray(address=self.address, cpus=cpus, gpus=gpus)
        execution = Execution(ray=settings, trials_per_device=trials_per_device)
        ray.run(*arguments, **{"execution": execution, "preload": LIGHT, **options})


@pytest.fixture(scope="package")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    pytest.importorskip("ray", reason="the package ray is not installed")
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # as for a cluster of our own: loopback
        cluster = RayCluster(Cluster(), tmp_path_factory.mktemp("slots"))
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
    for name, seconds in {"_POLL_S": 0.02, "_ASK_S": 0.2, "_ASK_WHEN_STOPPING_S": 0.2, "_VANISHED_S": 1.0}.items():
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
