"""The commands, code, files and targets that the README and the pages in docs/ name work and exist."""

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
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
_TEXT = r"((?:(?!```).)*)"
BLOCKS = re.compile(
    rf"```python\n{_TEXT}```\n\nprints\n\n```text\n{_TEXT}```|```console\n\$ epsgrid (inspect [^\n]*)\n{_TEXT}```",
    re.DOTALL,
)
"""A program and what it prints, or a call of `epsgrid inspect` and what it shows."""


def test_the_spec_in_it_is_one():
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    spec = parse_spec(block, "README.md")
    assert spec.experiment == "my-cnn"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_python_and_inspections_print_what_it_says(page: Path, tmp_path: Path):
    """One after the other in one folder: what a program of a page saves, a later one or a command may read.

    A program that begins with its file's name is one of several seeds, whose numbers may differ from processor to
    processor: of these the first words of the answer are compared.
    """
    for code, printed, command, shown in BLOCKS.findall(page.read_text(encoding="utf-8")):
        if command:
            assert Shell(tmp_path).call(*shlex.split(command)).stdout == shown
            continue
        name = re.match(r"# (\w+\.py)\n", code)
        program = ["-c", code]
        if name:
            (tmp_path / name[1]).write_text(code, encoding="utf-8")
            program = [name[1]]
        done = subprocess.run(
            [sys.executable, "-W", "error", *program], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        if name:
            assert [line[:20] for line in done.stdout.splitlines()[:2]] == [
                line[:20] for line in printed.splitlines()[:2]
            ]
        else:
            assert done.stdout == printed


def test_its_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", TEXT))
    assert {"demo", "test"} <= named <= targets


def test_its_commands_exist(tmp_path: Path):
    named = set(re.findall(r"`epsgrid ([a-z]+)", ALL))
    listed = Shell(tmp_path).call("--help").stdout
    assert {"probe", "sweep", "report", "list", "convert", "data"} <= named
    assert not [command for command in named if not re.search(rf"\b{command}\b", listed)]


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`epsgrid ((?:convert|list|data list)[^`]*)`", ALL))))
def test_its_harmless_commands_run(command: str, tmp_path: Path):
    assert Shell(tmp_path).call(*shlex.split(command)).stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_files_and_pictures_are_there(page: Path):
    links = re.findall(r"\]\(([^)h#][^)]*)\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link.partition("#")[0]).exists()]


def test_its_walks_name_what_is_there():
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    walks = design[design.index("Four walks") : design.index("An optimizer, model or task of your own: write a file")]
    for walk in walks.split("\n* ")[1:]:
        stops = re.findall(r"`((?:[a-z_]+\.)+\w+)`", walk)
        assert 3 <= len(stops) <= 8, walk
        for stop in stops:
            pkgutil.resolve_name(f"epsgrid.{stop}")


def test_the_readme_is_read_in_some_minutes():
    assert len(TEXT.split()) <= 1200


def test_the_readmes_model_is_trained(tmp_path: Path):
    code = re.search(rf"```python\n(# my_module\.py\n{_TEXT})```", TEXT, re.DOTALL)[1]
    (model,) = re.findall(r"`(model: \{name: my_module[^`]*)`", TEXT)
    (tmp_path / "my_module.py").write_text(code, encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(
        f"experiment: mine\ntask: digits\n{model}\noptimizer: adam\ntraining: {{epochs: 1}}\n"
        "sweep: {grid: default, learning_rates: [1e-2], seeds: [0]}\n"
    )
    assert "1 done" in Shell(tmp_path).run("sweep", "spec.yaml", "--quiet").stdout
