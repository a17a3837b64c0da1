"""Scripts and job arrays, with a stand-in for Slurm's commands that really runs the scripts; see `fake_slurm`."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from epsgrid.errors import CorruptRecordError, ExecutionError
from epsgrid.executors import Job, JobStatus, slurm
from epsgrid.executors.slurm import Array
from epsgrid.spec.model import Slurm
from tests.executors import fake_slurm
from tests.executors.jobs import StopWhen, When, driver, is_alive, pid_of, run, wait_for

WORK = "tests.executors.jobs:work"


def _script(folder: Path, environment: dict[str, str] | None = None, **settings: object) -> str:
    """Write a script as it would be submitted; return its text."""
    array = Array("epsgrid-1", WORK, str(folder), ("a", "b", "c"))
    text = slurm._script(array, folder / "slurm" / "1", Slurm(**settings), 2, environment or {})
    folder.mkdir(exist_ok=True)
    (folder / "script.sh").write_text(text)
    return text


def _arrays(folder: Path) -> list[tuple[str, ...]]:
    """Return the trials of the arrays of an experiment, oldest first."""
    paths = sorted(folder.glob("slurm/*/array.json"), key=lambda path: path.stat().st_mtime_ns)
    return [Array.read(path).trials for path in paths]


def _file(folder: Path, name: str) -> Path:
    """Return a file of the one array of an experiment."""
    (path,) = folder.glob(f"slurm/*/{name}")
    return path


def test_the_script_asks_for_what_the_spec_says(tmp_path: Path) -> None:
    folder = tmp_path / "100 % #1"
    text = _script(
        folder,
        partition="a b#c;d'e$(f)",
        account="me",
        time="2:00:00",
        memory="16G",
        cpus=4,
        gpus=1,
        signal_s=300,
        directives=("--constraint=a100", '--comment="two words"', "--qos=long", "-x node7"),
        setup=("module load cuda", "umask 002"),
    )
    assert fake_slurm.options_of(folder / "script.sh") == {
        "--job-name": "epsgrid-1",
        "--array": "0-2%2",
        "--chdir": str(Path.cwd()),
        "--output": f"{tmp_path}/100 %% #1/slurm/1/%a.log",
        "--open-mode": "append",
        "--requeue": "",
        "--signal": "B:USR1@300",
        "--nodes": "1",
        "--ntasks": "1",
        "--cpus-per-task": "4",
        "--gres": "gpu:1",
        "--partition": "a b#c;d'e$(f)",
        "--account": "me",
        "--qos": "long",
        "--time": "2:00:00",
        "--mem": "16G",
        "--constraint": "a100",
        "--comment": "two words",
        "-x": "",
        "node7": "",
    }
    assert "\n\nmodule load cuda\numask 002\nexport " in text
    assert text.endswith(f"-m epsgrid.executors._slurm_task '{folder}/slurm/1'\n")
    subprocess.run(["bash", "-n", str(folder / "script.sh")], check=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("partition", value) for value in ("gpu\n#SBATCH --uid=0", 'gpu" --uid=0', "gpu\\", "", "gpu\x00")),
        *((field, "") for field in ("account", "qos", "time", "memory")),
    ],
)
def test_values_that_could_become_more_than_a_value_are_refused(tmp_path: Path, field: str, value: str) -> None:
    with pytest.raises(ExecutionError, match=rf"execution\.slurm\.{field}: .* cannot be written into a Slurm script"):
        _script(tmp_path, **{field: value})
    with pytest.raises(ExecutionError, match=r"the experiment's folder: .* cannot be written into a Slurm script"):
        _script(tmp_path / 'say "hello"')


@pytest.mark.parametrize(
    ("directive", "name"),
    [
        ("--array=0-9", "--array"),
        ("-a 0-9", "--array"),
        ("--nodes=2", "--nodes"),
        ("-N2", "--nodes"),
        ("--no-requeue", "--no-requeue"),
        ("--output x.log", "--output"),
        ("--time=1:00", "--time"),
    ],
)
def test_directives_that_epsgrid_sets_itself_are_refused(tmp_path: Path, directive: str, name: str) -> None:
    with pytest.raises(ExecutionError, match=rf"directives: epsgrid sets {name} itself.* leave out '{directive}'"):
        _script(tmp_path, directives=(directive,), time="2:00:00")
    for none in ("--constraint=a100\nrm -r /", "constraint=a100"):
        with pytest.raises(ExecutionError, match="expected an option on one line, such as --constraint=a100, not '"):
            _script(tmp_path, directives=(none,))


def test_the_environment_that_trials_need_is_in_the_script(tmp_path: Path) -> None:
    text = _script(tmp_path, environment={"EPSGRID_CACHE": "/data/it's here; rm *", "SECRET_TOKEN": "x"})
    assert "SECRET_TOKEN" not in text
    exports = "".join(line + "\n" for line in text.splitlines() if line.startswith("export "))
    shown = subprocess.run(
        ["bash", "-c", exports + 'echo "$EPSGRID_CACHE"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "/data/it's here; rm *\n"


def test_slurm_that_is_not_here_and_sbatch_that_refuses(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        with pytest.raises(ExecutionError, match="PATH has no sbatch, squeue, scancel; run it where jobs"):
            run(slurm, tmp_path, "short-1")
        assert not (tmp_path / "slurm").exists()
        assert slurm._queue(["x"]) is None
        assert slurm.call("scontrol", "requeue", "1_2").returncode
    monkeypatch.setenv("FAKE_SLURM_REFUSE", "invalid partition specified: nope")
    with pytest.raises(ExecutionError, match=r"(?s)sbatch refused the job array: .*specified: nope.*script\.sh"):
        run(slurm, tmp_path, "short-1", slurm=Slurm(partition="nope"))


def test_long_lists_become_several_arrays_one_after_another(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_MOST_TASKS", 2)
    trials = [f"return-{number}" for number in range(5)]
    recorder = run(slurm, tmp_path, *trials)
    assert recorder.statuses == {f"return-{number}": number for number in range(5)}
    assert _arrays(tmp_path) == [("return-0", "return-1"), ("return-2", "return-3"), ("return-4",)]
    assert sorted(path.read_text() for path in tmp_path.glob("slurm/*/job_id")) == ["100\n", "101\n", "102\n"]


def test_a_job_has_one_thread_and_its_signals_and_what_it_prints_is_kept(queue: Path, tmp_path: Path) -> None:
    assert run(slurm, tmp_path, "facts", work="tests.executors.jobs:facts").statuses == {"facts": 0}
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # as in a background job, from which tasks inherit it
    assert (tmp_path / "facts.facts").read_text() == f"facts [] [{ignored}, False] ('1', '1') False"


def test_how_a_job_went_wrong_is_in_its_log_and_that_is_told(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(slurm, tmp_path, "raise-2").statuses == {"raise-2": 1}
    log = _file(tmp_path, "0.log")
    assert f"trial raise-2: ended with status 1; its output is in {log}\n" in capsys.readouterr().err
    assert "RuntimeError: job 2 fails" in log.read_text()


def test_a_stop_that_slurm_does_not_take_says_what_to_call(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = When(tmp_path / "sleep-1.began", (queue / "down").touch, level=2)
    assert run(slurm, tmp_path, "sleep-1", stop=stop).statuses == {}
    assert "to end the trials, call `scancel 100`" in capsys.readouterr().err


def test_near_its_time_limit_a_task_saves_itself_is_queued_again_and_goes_on(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SLURM_LIMIT_S", "4")
    recorder = run(slurm, tmp_path, "resume-1", "short-2", slots=1)
    assert recorder.statuses == {"resume-1": 0, "short-2": 0}
    assert recorder.started == ["resume-1", "short-2"], "reported once, though it ran twice"
    assert (tmp_path / "resume-1.saved").exists()


def test_tasks_that_go_without_a_word_are_noticed(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One ran, one waited; their node failed, or somebody cancelled them."""
    lose = When(tmp_path / "sleep-1.began", (queue / "100" / "lose").touch)
    recorder = run(slurm, tmp_path, "sleep-1", "short-2", slots=1, stop=lose)
    assert recorder.statuses == {"sleep-1": JobStatus.LOST, "short-2": JobStatus.LOST}
    assert "trial sleep-1: its task left Slurm's queue early: cancelled, out of" in capsys.readouterr().err


def test_while_the_queue_does_not_answer_ends_are_seen_all_the_same(queue: Path, tmp_path: Path) -> None:
    stop = When(tmp_path / "long-1.began", (queue / "down").touch)
    assert run(slurm, tmp_path, "long-1", stop=stop).statuses == {"long-1": 0}


def test_what_a_killed_command_left_in_the_queue_is_not_submitted_again(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = ["short-1", "resume-2", "resume-3", "short-4"]
    with driver("slurm", tmp_path, *trials) as command:
        pids = [pid_of(tmp_path, "resume-2"), pid_of(tmp_path, "resume-3")]
        os.killpg(command.pid, signal.SIGKILL)
    assert all(is_alive(pid) for pid in pids), "the array goes on"
    time.sleep(0.3)  # until they listen

    class SaveThem(StopWhen):
        def level(self) -> int:
            super().level()
            if len(self.asked) == 2:  # they are watched by now
                for pid in pids:
                    os.kill(pid, signal.SIGTERM)
            return 0

    jobs = [Job(str(tmp_path), trial) for trial in (*trials[1:], "short-5")]
    assert slurm.already_submitted(jobs) == frozenset(jobs[:3]), "though somebody holds them"
    recorder = run(slurm, tmp_path, *trials[1:], "short-5", stop=SaveThem())
    assert recorder.statuses == {"resume-2": 75, "resume-3": 75, "short-4": 0, "short-5": 0}
    assert "3 trials are in Slurm's queue already; they are not submitted again" in capsys.readouterr().err
    assert _arrays(tmp_path) == [tuple(trials), ("short-5",)]


def test_nothing_is_submitted_while_it_is_not_known_what_is_queued(queue: Path, tmp_path: Path) -> None:
    run(slurm, tmp_path, "return-0")
    (queue / "down").touch()
    with pytest.raises(ExecutionError, match=r"squeue does not answer, so what is still queued of .* is not known"):
        run(slurm, tmp_path, "return-0")
    path = _file(tmp_path, "array.json")
    path.write_text(path.read_text().replace("return-0", "return-1"))
    with pytest.raises(CorruptRecordError, match=r"array\.json"):
        run(slurm, tmp_path, "return-0")


def test_a_task_that_cannot_be_queued_again_ends_as_stopped(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SLURM_LIMIT_S", "4")
    scontrol = tmp_path / "commands" / "scontrol"
    scontrol.write_text("#!/bin/sh\nexit 1\n")
    assert run(slurm, tmp_path, "resume-1").statuses == {"resume-1": 75}
    assert "scontrol did not queue the task again" in _file(tmp_path, "0.log").read_text()


def test_a_stop_cancels_what_waits(queue: Path, tmp_path: Path) -> None:
    recorder = run(slurm, tmp_path, "save-1", "short-2", slots=1, stop=StopWhen(tmp_path / "save-1.began"))
    assert recorder.started == ["save-1"]
    wait_for(lambda: fake_slurm.state(queue / "100", 1) == "CA")
    assert not (tmp_path / "short-2.began").exists()
