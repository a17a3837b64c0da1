import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from epsgrid.store import provenance as module
from epsgrid.store.provenance import provenance


def _git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_it_is_plain_json_and_says_where_and_how(tmp_path: Path) -> None:
    found = provenance(["epsgrid", "probe", "my spec.yaml"], tmp_path)
    assert json.loads(json.dumps(found)) == found
    assert found["command"] == "epsgrid probe 'my spec.yaml'"
    private = provenance(["/home/a/lib/epsgrid/__main__.py", "sweep", "/home/a/runs/x", "-w", "2"], tmp_path)["command"]
    assert private == "epsgrid sweep x -w 2"
    assert found["python"] == platform.python_version()
    assert found["started"].endswith("+00:00")
    assert "." in found["started"], "short trials that begin within a second must not seem to run at once"
    assert found["cores"] >= 1
    assert found["cpu"]
    assert found["packages"]["torch"]


def test_the_commit_is_that_of_the_folder(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-q")
    assert provenance([], tmp_path)["git"] is None  # no commit yet
    (tmp_path / "file").write_text("1")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "-q", "-m", "one")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("1")
    assert provenance([], tmp_path)["git"] == {"commit": commit, "changed": False}
    (tmp_path / "file").write_text("2")
    assert provenance([], tmp_path)["git"] == {"commit": commit, "changed": True}


def test_processor_and_packages_that_are_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n\nmodel name\t: Fast CPU @ 3 GHz\n"
    )
    assert module._cpu(tmp_path / "cpuinfo") == "Fast CPU @ 3 GHz"
    assert module._cpu(tmp_path / "missing")
    monkeypatch.setattr(module, "_PACKAGES", ("no-such-package-here",))
    assert provenance([])["packages"] == {"no-such-package-here": None}


def test_the_store_imports_nothing_heavy() -> None:
    modules = "atomic lease paths provenance records state"
    program = "".join(f"import epsgrid.store.{name}\n" for name in modules.split()) + (
        "import sys\nfrom epsgrid.store.provenance import provenance\nprovenance([])\n"
        "print({'torch', 'numpy', 'scipy', 'typer', 'rich', 'pydantic', 'yaml'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout == "set()\n"


def test_a_slow_or_missing_git_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (FileNotFoundError("git"), subprocess.TimeoutExpired("git", 5)):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(module.subprocess, "run", fail)
        assert provenance([], tmp_path)["git"] is None
