"""The commands, code, files and targets that the README names work and exist."""

import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from epsgrid.spec.loading import parse_spec
from tests.cli.conftest import Shell

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_spec_in_it_is_one():
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    spec = parse_spec(block, "README.md")
    assert spec.experiment == "my-cnn"


def test_its_python_prints_what_it_says(tmp_path: Path):
    blocks = re.findall(r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for code, printed in blocks:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == printed


def test_its_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", TEXT))
    assert {"demo", "test"} <= named <= targets


def test_its_commands_exist(tmp_path: Path):
    named = set(re.findall(r"`epsgrid ([a-z]+)", TEXT))
    listed = Shell(tmp_path).call("--help").stdout
    assert {"probe", "sweep", "report", "list", "convert", "data"} <= named
    assert not [command for command in named if not re.search(rf"\b{command}\b", listed)]


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`epsgrid ((?:convert|list|data list)[^`]*)`", TEXT))))
def test_its_harmless_commands_run(command: str, tmp_path: Path):
    assert Shell(tmp_path).call(*shlex.split(command)).stdout


def test_its_files_and_pictures_are_there():
    links = re.findall(r"\]\(([^)h#][^)]*)\)", TEXT)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_its_walks_name_what_is_there():
    walks = TEXT[TEXT.index("Four walks") : TEXT.index("An optimizer, model or task of your own: write")]
    for walk in walks.split("\n* ")[1:]:
        stops = re.findall(r"`((?:[a-z_]+\.)+\w+)`", walk)
        assert 3 <= len(stops) <= 8, walk
        for stop in stops:
            pkgutil.resolve_name(f"epsgrid.{stop}")
