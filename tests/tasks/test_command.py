"""A command as a training: its words, files, score, exit status, signals and what becomes of its processes."""

import json
import linecache
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from epsgrid import plugins
from epsgrid.errors import ExecutionError, SpecError
from epsgrid.tasks import _guard, command
from epsgrid.tasks._own import FunctionTrial

SCORE = {"file": "score.json", "key": "loss", "direction": "min"}
WRITE = "import json, sys, pathlib; folder = pathlib.Path(sys.argv[1]);"


class StoppedError(Exception):
    pass


def options(run, **more):
    score = {**SCORE, **more.pop("score", {})}
    return command.Options(name="command", run=run, score=score, **{"folder": "/", **more})


def script(folder, code, arguments="{folder} {epsilon}", **more):
    (folder / "job.py").write_text(f"{WRITE}\n{code}\n")
    return options(f"{sys.executable} job.py {arguments}", folder=str(folder), **more)


@pytest.fixture
def trial(tmp_path):
    """Return a trial whose log and reports are kept."""
    folder = tmp_path / "work"
    folder.mkdir()
    reported = []
    with (tmp_path / "log.txt").open("a") as log:
        made = FunctionTrial(
            0.01, 1e-8, 3, 5, 0, folder, log, lambda: None, lambda score, epoch: reported.append((epoch, score))
        )
        object.__setattr__(made, "reports", reported)
        yield made


def with_check(trial, check):
    object.__setattr__(trial, "check", check)
    return trial


def printed(trial):
    return Path(trial.log.name).read_text()


def test_each_word_is_filled_in_and_no_shell_reads_it(tmp_path, trial):
    code = "print(sys.argv[2:]); json.dump({'loss': 2, 'eval': {'test': 3}}, (folder / 'score.json').open('w'))"
    arguments = "{folder} '$HOME; {seed}' --set={{a:{learning_rate:g}}} {epsilon} {epochs}"
    made = script(tmp_path, code, arguments, score={"test_key": "eval.test"})
    assert command.train(made, trial) == {"validation": 2.0, "test": 3.0}
    assert "['$HOME; 3', '--set={a:0.01}', '1e-08', '5']" in printed(trial)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("python a.py {eps} {folder}", r"unknown placeholder \{eps\}; did you mean \{epsilon\}\?"),
        ("python a.py {epsilon!r} {folder}", r"unknown placeholder \{epsilon!r\}"),
        ("python a.py {epsilon} {folder} {0}", r"unknown placeholder \{0\}"),
        ("python a.py {epsilon}", r"no \{folder\} in the command, so trials would overwrite"),
        ("python a.py {folder}", r"no \{epsilon\} in the command, so every ε would train the same"),
        ("python 'a.py {epsilon} {folder}", "No closing quotation"),
        ("python {epsilon} {folder} {", "a brace that is no placeholder is doubled"),
    ],
)
def test_a_command_that_cannot_work_is_refused(run, said):
    with pytest.raises(ValidationError, match=said):
        options(run)


def test_a_missing_program_script_or_folder_is_told(tmp_path):
    with pytest.raises(SpecError, match="no program 'pyton' on the path"):
        command.rehearse(options("pyton a.py {epsilon} {folder}"))
    with pytest.raises(SpecError, match=r"job\.sh is no program that may be run"):
        command.rehearse(options("./job.sh {epsilon} {folder}", folder=str(tmp_path)))
    with pytest.raises(SpecError, match=r"no file a\.py in"):
        command.prepare(options("python a.py {epsilon} {folder}", folder=str(tmp_path)))
    with pytest.raises(SpecError, match="no folder"):
        command.prepare(options("python a.py {epsilon} {folder}", folder=str(tmp_path / "absent")))
    assert command.prepare(script(tmp_path, "")).has_validation
    command.rehearse(script(tmp_path, ""))


def test_a_python_that_is_not_on_the_path_is_the_one_that_runs_epsgrid(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(command._program(options("python a.py {epsilon} {folder}"))).parent == Path(sys.executable).parent


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ExecutionError, "(folder / 'score.json').write_text('{')", r"score\.json is not JSON"),
        (ExecutionError, "print('one'); print('two', file=sys.stderr); sys.exit(4)", r"ended with status 4: two$"),
        (ExecutionError, "import os; os.kill(os.getpid(), 9)", r"ended with status 137, by signal 9"),
        # that there is no score is the fault of the spec
        (SpecError, "", r"wrote no score\.json into \{folder\}, .* \(which is empty\)"),
        (SpecError, "(folder / 'other.json').write_text('1')", r"there is other\.json\); correct task\.score\.file"),
        (
            SpecError,
            "(folder / 'score.json').write_text('{\"los\": 1}')",
            r"has no 'loss': it has los; correct task\.score",
        ),
        (
            SpecError,
            "(folder / 'score.json').write_text('{\"loss\": \"1\"}')",
            r"json: loss must be a number, got str '1'",
        ),
    ],
)
def test_what_went_wrong_is_told(tmp_path, trial, error, code, said):
    with pytest.raises(error, match=said):
        command.train(script(tmp_path, code), trial)


def test_nan_and_the_declared_status_are_divergence(tmp_path, trial):
    assert math.isnan(command.train(script(tmp_path, "sys.exit(3)", diverged_exit=3), trial))
    code = "(folder / 'score.json').write_text('{\"loss\": NaN}')"
    assert math.isnan(command.train(script(tmp_path, code), trial)["validation"])


def test_lines_of_json_are_epochs_and_those_of_an_earlier_run_are_not_reported_again(tmp_path, trial):
    code = """
with (folder / "log.jsonl").open("a") as file:
    for epoch in range(3):
        print(json.dumps({"epoch": epoch, **({"loss": epoch / 2} if epoch != 1 else {})}), file=file)
"""
    made = script(tmp_path, code, score={"file": "log.jsonl"})
    assert command.train(made, trial) == {"validation": 1.0}
    assert trial.reports == [(0, 0.0), (1, 1.0)], "a line without the key is no epoch"
    object.__setattr__(trial, "reported", 2)
    command.train(made, trial)
    assert trial.reports[2:] == [(2, 0.0), (3, 1.0)]
    (trial.folder / "log.jsonl").unlink()
    object.__setattr__(trial, "reported", 4)
    command.train(made, trial)
    assert trial.reports[4:] == [(0, 0.0), (1, 1.0)], "begun again"


def test_a_stop_is_passed_on_and_a_command_may_save_itself(tmp_path, trial):
    code = """
import signal, time
def save(number, frame):
    (folder / "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
(folder / "ready").touch()
time.sleep(60)
"""

    def check():
        if (trial.folder / "ready").exists():
            raise StoppedError

    with pytest.raises(StoppedError):
        command.train(script(tmp_path, code), with_check(trial, check))
    assert (trial.folder / "saved").exists()


def test_one_that_does_not_end_is_killed_with_its_processes(tmp_path, trial, monkeypatch):
    code = """
import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
(folder / "child").write_text(str(child.pid))
child.wait()
"""
    monkeypatch.setattr(command, "_GRACE_S", 0.2)
    with pytest.raises(ExecutionError, match=r"longer than task\.time_limit_s, 1 s"):
        command.train(script(tmp_path, code, time_limit_s=1.0), trial)
    assert_gone(int((trial.folder / "child").read_text()))


def test_what_a_stopped_command_leaves_is_killed_too(tmp_path, trial):
    code = """
import subprocess, time
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
child.stdout.readline()
(folder / "child").write_text(str(child.pid))
time.sleep(60)
"""

    def check():
        if (trial.folder / "child").exists() and (trial.folder / "child").read_text():
            raise StoppedError

    with pytest.raises(StoppedError):
        command.train(script(tmp_path, code), with_check(trial, check))
    assert_gone(int((trial.folder / "child").read_text()))


def assert_gone(process):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {process} is still there")


def test_a_command_dies_with_whoever_started_it(tmp_path):
    place = str(tmp_path / "pid")
    code = f"import time, pathlib, os; pathlib.Path({place!r}).write_text(str(os.getpid())); time.sleep(60)"
    guard = [sys.executable, "-I", "-S", _guard.__file__, sys.executable, "-c", code]
    process = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.stdin.close()  # as the end of the process that holds it does
    assert process.wait(30) == -9
    assert_gone(int((tmp_path / "pid").read_text()))


def test_it_gets_the_user_s_own_variables_and_one_thread(monkeypatch):
    for name, value in {"PYTHONPATH": "of the sweep", "PYTHONSAFEPATH": "1", "EPSGRID_PYTHONPATH": "mine"}.items():
        monkeypatch.setenv(name, value)
    found = command._environment()
    assert found["PYTHONPATH"] == "mine" and found["OMP_NUM_THREADS"] == "1"
    assert not {"PYTHONSAFEPATH", "EPSGRID_PYTHONPATH"} & found.keys()
    monkeypatch.setenv("EPSGRID_PYTHONPATH", "")
    assert "PYTHONPATH" not in command._environment()


def test_the_files_that_a_command_names_and_what_they_import_are_its_code(tmp_path):
    files = {
        "src/train.py": "import helper, json\n",
        "src/helper.py": "import deeper.inner\n",
        "src/deeper/inner.py": "",
        "pkg/__init__.py": "",
        "pkg/run.py": "from . import part\n",
        "pkg/part.py": "",
        "conf.yaml": "a: 1\n",
        "run.sh": "#!/bin/sh\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def code(run):
        return set(plugins.sources(*plugins.scripts(run, str(tmp_path))))

    assert code("python src/train.py --config=conf.yaml {epsilon}") == {
        *("src/train.py", "helper.py", "deeper/inner.py", "conf.yaml"),
    }
    assert code("python -m pkg.run {epsilon}") == {"pkg/run.py", "pkg/part.py", "pkg/__init__.py"}
    assert code("./run.sh absent.txt {epsilon}") == {"run.sh"}
    assert code(f"{sys.executable} {tmp_path}/conf.yaml") == {"conf.yaml"}
    before = plugins.sources(*plugins.scripts("python src/train.py", str(tmp_path)))
    (tmp_path / "src/helper.py").write_text("")
    assert plugins.sources(*plugins.scripts("python src/train.py", str(tmp_path))) != before


def test_a_notebook_s_function_is_its_source_and_what_it_names(monkeypatch):
    lines = "limit = 3\ndef helper():\n    return json.dumps(limit)\ndef train(trial):\n    return helper()\n"

    def offered(text):
        scope = {"__name__": "__main__", "json": json}
        name = f"<cell {len(text)}>"
        exec(compile(text, name, "exec"), scope)
        source = len(text), None, text.splitlines(keepends=True), name
        monkeypatch.setitem(linecache.cache, name, source)
        plugins.offer("__main__:train", scope["train"])
        return plugins.sources("__main__:train")

    monkeypatch.setattr(plugins, "_offered", {})
    before = offered(lines)
    assert set(before) == {"notebook"} and offered(lines) == before
    assert offered(lines.replace("3", "30")) != before
    assert offered(lines.replace("limit)", "limit )")) != before
    with pytest.raises(SpecError, match="write it into a file, and import it from there"):
        plugins.offer("__main__:train", eval("lambda trial: 1", {"__name__": "__main__"}))
