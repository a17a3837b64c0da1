"""The code and the specs of docs/plugins.md work as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```\w+ (\S+)\n(.*?)```", TEXT, re.DOTALL))


def epsgrid(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "epsgrid", *arguments, "-o", "execution.executor=inline"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert set(FILES) == {"my_module.py", "spec.yaml", "my_task.py", "my_optimizer.py", "own.yaml"}
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("spec", ["spec.yaml", "own.yaml"])
def test_what_it_shows_is_probed_and_trained(spec: str, folder: Path) -> None:
    probed = epsgrid(folder, "probe", spec)
    assert probed.returncode == 0 and "ε bounds: " in probed.stdout, probed.stderr
    swept = epsgrid(folder, "sweep", spec, "--grid", "default")
    assert swept.returncode == 0, swept.stderr
    assert re.search(r"(\d+) trials: \1 done", swept.stdout), swept.stdout


def test_its_example_is_ten_lines_and_its_mistake_is_told_so(folder: Path) -> None:
    assert FILES["my_module.py"].count("\n") <= 12
    wrong = FILES["my_module.py"].replace("nn.Linear(width, outputs)", "nn.Linear(512, outputs)")
    (folder / "my_module.py").write_text(wrong)
    told = " ".join(epsgrid(folder, "sweep", "spec.yaml", "--grid", "default").stderr.split())
    (shown,) = re.findall(r"```text\n(error: .*?)```", TEXT, re.DOTALL)
    said = " ".join(shown.split()).replace("in my_module.py", f"in {folder / 'my_module.py'}")
    assert said.removeprefix("error: ") in told
