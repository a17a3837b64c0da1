"""docs/own-training.md, read from top to bottom in an empty folder: its files are written, its commands run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import epsgrid
from epsgrid.errors import EpsgridError

TEXT = (Path(__file__).parent.parent / "docs" / "own-training.md").read_text(encoding="utf-8")
TRAIN = """
import epsgrid

print("imported")


def train(trial):
    return trial.seed + 1.0


results = epsgrid.sweep(
    train, learning_rates=[0.1], epsilons=[1e-4], grid="narrowed", seeds=[0, 1], out="runs/script", quiet=True
)
print(results.metric, sorted(row["validation"] for row in results))
"""


def run(folder: Path, *command: str, expect: int = 0) -> str:
    """Return what a command prints on stdout, `python` and `epsgrid` being those of the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    words = {"epsgrid": [sys.executable, "-m", "epsgrid"], "python": [sys.executable, "-W", "error"]}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EPSGRID_")}
    done = subprocess.run(
        [*words[command[0]], *command[1:]],
        cwd=folder,
        env={**kept, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def test_what_it_shows_works(tmp_path: Path) -> None:
    blocks = [*re.finditer(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)]
    assert [block[1] for block in blocks].count("console") == 4
    for block in blocks:
        kind, text = block.groups()
        if kind == "console":
            for command in text.removeprefix("$ ").split("\n$ "):
                line, *printed = command.strip().split("\n")
                said = run(tmp_path, *line.split())
                assert all(each in said for each in printed), said
        else:
            paragraph = TEXT[: block.start()].rstrip().rpartition("\n\n")[2]
            name = re.findall(r"`(\w+\.(?:py|yaml))`", paragraph)[0]
            (tmp_path / name).write_text(text)
    (row, *_) = epsgrid.load(tmp_path / "runs" / "mine")
    assert {"learning_rate", "epsilon", "seed", "state", "validation", "test"} <= row.keys()
    assert len(epsgrid.load(tmp_path / "runs" / "mine").to_frame()) == 16
    assert "mine: adam on function, mine:train; accuracy" in str(epsgrid.load(tmp_path / "runs" / "mine").report())


def test_a_script_without_a_guard_is_imported_as_far_as_its_sweep(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(TRAIN)
    assert run(tmp_path, "python", "script.py") == "imported\nscore [1.0, 1.0, 2.0, 2.0]\n"
    log = next((tmp_path / "runs" / "script" / "trials").glob("*/log.txt")).read_text()
    assert "imported\n" in log and "score" not in log
    (tmp_path / "my-script.py").write_text(TRAIN)
    process = subprocess.run([sys.executable, "my-script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert "rename it to my_script.py" in process.stderr


def module_level(trial):
    return 1.0


def test_a_function_that_no_other_process_can_import_is_refused(tmp_path: Path) -> None:
    def nested(trial):
        return 1.0

    for train in (nested, lambda trial: 1.0, print, "train"):
        with pytest.raises(EpsgridError, match="defined with `def` at the top of a module or notebook"):
            epsgrid.sweep(train, learning_rates=[0.1], out=tmp_path / "runs")


def test_bounds_may_be_given_as_they_are(tmp_path: Path) -> None:
    from torch.optim import Adam

    from tests.stages.test_own_training import bounds_of

    bounds = bounds_of(Adam)
    options = {"learning_rates": [0.1], "seeds": [0], "executor": "inline", "quiet": True, "grid": "narrowed"}
    results = epsgrid.sweep(module_level, bounds=bounds, out=tmp_path / "runs" / "x", **options)
    assert sorted({row["epsilon"] for row in results}) == sorted({1e-8, *bounds.decades})
    assert results.report().comparison.bounds.low == bounds.low
    assert results.report().answers["default"].answer in ("open", "keep")
    assert str(results) == f"{len(results)} trials in {tmp_path / 'runs' / 'x'}: {len(results)} done"
