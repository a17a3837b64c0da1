"""What every place to run must do, over every file of executors/."""

from pathlib import Path

import pytest

from epsgrid import executors, plugins
from epsgrid.errors import UnknownNameError
from epsgrid.executors import ExecutorPlugin, Job, JobStatus
from tests.executors.jobs import StopWhen, Told, work

NAMES = plugins.names("executors")


@pytest.fixture(params=NAMES)
def executor(request: pytest.FixtureRequest) -> ExecutorPlugin:
    return executors.load(request.param)


def _jobs(folder: Path, *trials: str) -> list[Job]:
    return [Job(str(folder), trial) for trial in trials]


def test_all_files_are_known() -> None:
    assert {"inline", "local"} <= set(NAMES)
    with pytest.raises(UnknownNameError, match="unknown executor 'lokal'; did you mean 'local'"):
        executors.load("lokal")


def test_all_jobs_end_with_their_own_status(executor: ExecutorPlugin, tmp_path: Path) -> None:
    told = Told()
    executor.run(_jobs(tmp_path, "return-0", "return-3", "return-75"), work, slots=2, notify=told, stop=StopWhen())
    assert told.statuses == {"return-0": 0, "return-3": 3, "return-75": 75}
    assert len(list(tmp_path.glob("*.ended"))) == 3


def test_no_jobs_are_no_work(executor: ExecutorPlugin) -> None:
    told = Told()
    executor.run([], work, slots=1, notify=told, stop=StopWhen())
    assert told.events == []


def test_a_job_that_raises_is_reported_and_the_others_finish(executor: ExecutorPlugin, tmp_path: Path) -> None:
    told = Told()
    executor.run(_jobs(tmp_path, "short-1", "raise-2", "short-3"), work, slots=1, notify=told, stop=StopWhen())
    assert told.statuses == {"short-1": 0, "raise-2": JobStatus.FAILED, "short-3": 0}


@pytest.mark.parametrize("slots", [1, 3])
def test_jobs_begin_in_order_and_never_more_than_slots_at_once(
    executor: ExecutorPlugin, tmp_path: Path, slots: int
) -> None:
    told, trials = Told(), [f"short-{number}" for number in range(7)]
    executor.run(_jobs(tmp_path, *trials), work, slots=slots, notify=told, stop=StopWhen())
    assert told.started == trials
    assert 1 <= told.most_at_once <= slots


def test_a_stop_asked_for_before_the_first_job_starts_none(executor: ExecutorPlugin, tmp_path: Path) -> None:
    told = Told()
    executor.run(_jobs(tmp_path, "short-1"), work, slots=1, notify=told, stop=StopWhen(tmp_path))
    assert told.events == []


def test_a_stop_starts_nothing_more(executor: ExecutorPlugin, tmp_path: Path) -> None:
    told, stop = Told(), StopWhen(tmp_path / "short-1.ended")
    executor.run(_jobs(tmp_path, "short-1", "short-2", "short-3"), work, slots=1, notify=told, stop=stop)
    assert told.started == ["short-1"]
    assert list(told.statuses) == ["short-1"]


def test_what_notify_raises_comes_through(executor: ExecutorPlugin, tmp_path: Path) -> None:
    def notify(_: object) -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError, match="the terminal is gone"):
        executor.run(_jobs(tmp_path, "short-1"), work, slots=1, notify=notify, stop=StopWhen())
