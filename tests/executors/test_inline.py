import os
from pathlib import Path

import pytest

from epsgrid.executors import Job, inline
from tests.executors.jobs import Recorder, StopWhen, work


def test_it_is_this_process(tmp_path: Path) -> None:
    inline.run([Job(str(tmp_path), "return-0")], work, slots=4, notify=Recorder(), stop=StopWhen())
    assert (tmp_path / "return-0.began").read_text() == f"began {os.getpid()}"


def test_what_a_job_raises_is_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder()
    inline.run([Job(str(tmp_path), "raise-2")], work, slots=1, notify=recorder, stop=StopWhen())
    assert recorder.statuses == {"raise-2": 1}
    assert "RuntimeError: job 2 fails" in capsys.readouterr().err


def test_ctrl_c_is_no_failure_of_the_job(tmp_path: Path) -> None:
    def interrupted(_: Job) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inline.run([Job(str(tmp_path), "x")], interrupted, slots=1, notify=Recorder(), stop=StopWhen())
