"""Ray itself, on this machine: a cluster that stays, a node that comes and goes, clusters of a command's own."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from epsgrid.errors import ExecutionError
from epsgrid.executors import Job, JobStarted, JobStatus, ray
from epsgrid.spec.model import Execution, Ray
from tests.executors.conftest import RayCluster
from tests.executors.jobs import PATIENCE_S, StopWhen, When, driver, is_alive, parent_of, pid_of, run, wait_for

pytestmark = pytest.mark.xdist_group("ray")

STAY = "tests.executors.jobs:stay"


def _slot_of(folder: Path, trial: str) -> int:
    """Return the worker process of the slot that runs a job: the parent of the server that forked it."""
    return parent_of(parent_of(pid_of(folder, trial)))


def test_a_slot_that_is_killed_takes_its_job_along_and_is_replaced(
    ray_cluster: RayCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill = When(tmp_path / "sleep-1.began", lambda: os.kill(_slot_of(tmp_path, "sleep-1"), signal.SIGKILL))
    recorder = run(ray_cluster, tmp_path, "sleep-1", "short-2", slots=1, stop=kill)
    assert recorder.statuses == {"sleep-1": JobStatus.LOST, "short-2": 0}
    assert "trial sleep-1: its worker or node was lost (" in capsys.readouterr().err
    wait_for(lambda: not is_alive(pid_of(tmp_path, "sleep-1")))


def test_a_node_that_is_lost_in_the_middle(ray_cluster: RayCluster, tmp_path: Path) -> None:
    """Six slots on two nodes; one node is killed with all that runs there. Every job ends, the lost ones as killed."""
    node = ray_cluster.add_node(num_cpus=2)
    there, trials = [], [f"long-{number}" for number in range(10)]

    class KillNodeOnce(StopWhen):
        def level(self) -> int:
            on_node = [trial for trial in running() if _raylet_of(tmp_path, trial) == raylet]
            if on_node and not there:
                there.extend(on_node)
                ray_cluster.cluster.remove_node(node, allow_graceful=False)
            return 0

    def running() -> set[str]:
        begun = {path.stem for path in tmp_path.glob("*.began")}
        return begun - {path.stem for path in tmp_path.glob("*.ended")}

    raylet = node.all_processes["raylet"][0].process.pid
    recorder = run(ray_cluster, tmp_path, *trials, slots=6, stop=KillNodeOnce())
    assert there, "nothing ran on the second node"
    assert set(recorder.statuses) == set(trials)
    lost = {trial for trial, status in recorder.statuses.items() if status == JobStatus.LOST}
    assert lost
    assert all(status == 0 for trial, status in recorder.statuses.items() if trial not in lost)

    again = run(ray_cluster, tmp_path, *sorted(lost), slots=6)  # as the sweep does: elsewhere they run to their end
    assert again.statuses == dict.fromkeys(lost, 0)


def _raylet_of(folder: Path, trial: str) -> int | None:
    """Return the node's own process under which a job runs; None when it is over already."""
    try:
        return parent_of(_slot_of(folder, trial))
    except (FileNotFoundError, ProcessLookupError):
        return None


def test_trials_share_gpus_by_default_and_an_exclusive_one_does_not(ray_cluster: RayCluster, tmp_path: Path) -> None:
    """One GPU, made up: three would fit on it, and the last waits until it is whole again."""
    trials = ["3-0", "3-1", "3-2"]
    alone = Job(str(tmp_path), "3-alone", exclusive=True)
    recorder = run(ray_cluster, tmp_path, *trials, alone, work=STAY, slots=4, device="auto", trials_per_device=3)
    assert recorder.statuses == dict.fromkeys((*trials, "3-alone"), 0)
    assert recorder.most_at_once == 3
    assert isinstance(recorder.events[-2], JobStarted) and recorder.started[-1] == "3-alone"
    assert all("<0>" in (tmp_path / f"{trial}.stay").read_text() for trial in (*trials, "3-alone"))
    run(ray_cluster, tmp_path, "1-none", work=STAY)
    assert "<>" in (tmp_path / "1-none.stay").read_text(), "one that takes no GPU sees none"


def _nodes(*resources: dict[str, float]) -> list[dict[str, object]]:
    lost = {"Alive": False, "Resources": {"CPU": 256.0, "GPU": 8.0}}
    return [lost, *({"Alive": True, "Resources": each} for each in resources)]


GPU_NODES = _nodes({"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0, "GPU": 1.0}, {"CPU": 96.0})
CPU_NODES = _nodes({"CPU": 16.0}, {"CPU": 64.0})


@pytest.mark.parametrize(
    ("settings", "nodes", "exclusive", "cpus", "gpus"),
    [
        ({"trials_per_device": 4}, GPU_NODES, False, 1, 0.25),
        ({"trials_per_device": 3}, GPU_NODES, False, 1, 0.3333),  # as Ray counts, in whole ten-thousandths
        ({"trials_per_device": 4}, GPU_NODES, True, 64, 1),
        ({"trials_per_device": 4}, CPU_NODES, False, 1, 0),
        ({"trials_per_device": 4, "device": "cuda"}, CPU_NODES, False, 1, 0.25),
        ({"trials_per_device": 4, "device": "cpu"}, GPU_NODES, False, 1, 0),
        ({"device": "cpu"}, GPU_NODES, True, 96, 0),
        ({"ray": Ray(gpus=0.5, cpus=2), "trials_per_device": 4}, GPU_NODES, False, 2, 0.5),
        ({"ray": Ray(gpus=2)}, GPU_NODES, True, 16, 2),
        ({"ray": Ray(gpus=0)}, GPU_NODES, False, 1, 0),
        ({"ray": Ray(cpus=32)}, [], True, 32, 0),
    ],
)
def test_what_a_trial_takes(
    settings: dict[str, Any], nodes: list[dict[str, Any]], exclusive: bool, cpus: float, gpus: float
) -> None:
    assert ray._needed_resources(Execution(**settings), nodes, exclusive=exclusive) == ray._Resources(cpus, gpus)


class CannotBeMade:
    def __init__(self, *, uses_gpus: bool) -> None:
        raise ModuleNotFoundError("No module named 'epsgrid'")

    def ready(self) -> None:
        """Never called."""


class DiesAtOnce:
    def __init__(self, *, uses_gpus: bool) -> None:
        """Nothing to do."""

    def ready(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("options", "slot", "words"),
    [
        ({"ray": Ray(gpus=2)}, None, r"a trial takes: 1 CPU and 2 GPU\. Its nodes: .*4 CPU and 1 GPU.*\. Change"),
        ({"ray": Ray(cpus=100)}, None, "what a trial takes: 100 CPU and 0 GPU"),
        ({"ray": Ray(gpus=1.5)}, None, r"gpus: 1\.5 is neither at most 1 nor a whole number"),
        (
            {"work": "tests.executors.broken:x"},
            None,
            r"cannot run trials: .* not import tests\.executors\.broken",
        ),
        ({}, CannotBeMade, "(?s)slots cannot start on the Ray cluster.*No module named 'epsgrid'"),
        ({}, DiesAtOnce, "(?s)slots cannot start on the Ray cluster.*The actor died unexpectedly"),
    ],
)
def test_what_cannot_run_is_reported(
    ray_cluster: RayCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    slot: type | None,
    words: str,
) -> None:
    monkeypatch.setattr(ray, "_Slot", slot or ray._Slot)
    monkeypatch.setattr(ray, "_MAX_LOST_STARTS", 1)
    with pytest.raises(ExecutionError, match=words):
        run(ray_cluster, tmp_path, "x", **options)


def test_no_ray_and_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "ray", None)
        with pytest.raises(ExecutionError, match=r"by execution.executor: ray .*`pip install 'epsgrid\[ray\]'`"):
            run(ray, tmp_path, "x")
    pytest.importorskip("ray", reason="the package ray is not installed")
    with pytest.raises(
        ExecutionError, match=r"no Ray cluster could be joined at 127\.0\.0\.1:1; see that it runs.*refused"
    ):
        run(ray, tmp_path, "x", ray=Ray(address="127.0.0.1:1"))


def test_a_cluster_that_cannot_start_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pytest.importorskip("ray", reason="the package ray is not installed")

    def fail(**options: object) -> None:
        raise RuntimeError("no room for shared memory")

    monkeypatch.setattr(real, "init", fail)
    with pytest.raises(ExecutionError, match=r"could be started on this machine \(no room for shared memory\)"):
        run(ray, tmp_path, "x")


def _environment(home: Path) -> dict[str, str]:
    """Return the environment of a command that makes its own cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "HOME": str(home)}


def test_a_cluster_of_its_own_is_quiet_local_and_lets_jobs_save_on_a_signal_to_the_group(tmp_path: Path) -> None:
    with driver("ray", tmp_path, "save-1", "save-2", "save-3", environment=_environment(tmp_path)) as command:
        raylet = parent_of(_slot_of(tmp_path, "save-1"))
        pid_of(tmp_path, "save-2")
        assert b"--node_ip_address=127.0.0.1" in Path(f"/proc/{raylet}/cmdline").read_bytes().split(b"\0")
        time.sleep(0.3)  # until they listen
        os.killpg(command.pid, signal.SIGTERM)
        out, err = command.communicate(timeout=PATIENCE_S)
    assert (err, command.returncode) == ("", 0)
    assert out in ("{'save-1': 75, 'save-2': 75}\n", "{'save-2': 75, 'save-1': 75}\n")
    assert not is_alive(raylet)


def test_a_killed_command_takes_its_cluster_and_jobs_along(tmp_path: Path) -> None:
    with driver("ray", tmp_path, "sleep-1", environment=_environment(tmp_path)) as command:
        pids = [pid_of(tmp_path, "sleep-1"), _slot_of(tmp_path, "sleep-1")]
        pids.append(parent_of(pids[1]))
        assert all(is_alive(pid) for pid in pids)
        command.kill()
        wait_for(lambda: not any(is_alive(pid) for pid in pids))


def test_what_rays_daemons_write_is_not_printed(
    ray_cluster: RayCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray as real

    message = {"is_err": True, "pid": "raylet", "ip": "127.0.0.1", "job": None, "lines": ["state-dump"]}

    def notify(event: object) -> None:
        real._private.worker.print_worker_logs(message, sys.stderr)

    run(ray_cluster, tmp_path, "short-1", notify=notify)
    assert capsys.readouterr().err == ""


def test_waiting_for_room_is_reported_once(
    ray_cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another program holds all processors until it hears that we wait."""
    import ray as real

    monkeypatch.setattr(ray, "_CHECK_S", 0.2)

    class Other:
        def ready(self) -> None: ...

    class GiveBackWhenReported(StopWhen):
        def level(self) -> int:
            super().level()
            printed.append(capsys.readouterr().err)
            if "waiting for room" in "".join(printed) and others:
                real.kill(others.pop())
            return 0

    printed: list[str] = []
    real.init(address=ray_cluster.address, log_to_driver=False)
    try:
        others = [real.remote(num_cpus=4)(Other).remote()]
        real.get(others[0].ready.remote())
        recorder = run(ray_cluster, tmp_path, "short-1", stop=GiveBackWhenReported())
        assert real.is_initialized(), "what was connected before stays so"
    finally:
        real.shutdown()
    assert recorder.statuses == {"short-1": 0}
    assert "".join(printed).count("a trial takes 1 CPU and 0 GPU") == 1
