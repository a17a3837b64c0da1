"""The experiments that are kept in the repository: what is kept makes the same pages as what was trained."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from epsgrid.report.files import write_report
from epsgrid.store import observations
from epsgrid.store.paths import ExperimentFolder
from tests.report.kept import series
from tests.report.simulate import simulate, trial_id

SCRIPT = Path(__file__).parent.parent / "scripts" / "results.py"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = importlib.util.spec_from_file_location("results", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "results", module)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "KEPT", tmp_path / "kept")
    return module


def test_a_kept_experiment_makes_the_same_pages(tmp_path: Path, results: ModuleType) -> None:
    stored = simulate(tmp_path / "runs" / "one")
    for epsilon in (1e-3, 1e-8, 1e-5):
        path = stored.folder.trial(trial_id(1e-3, epsilon, 0)).observations_jsonl
        observations.write(path, series(threshold=epsilon))
    archive = results.keep(stored.folder)
    no_grid = stored.folder.trials_dir / "0000000000000000"
    shutil.copytree(stored.folder.trial(trial_id(1e-3, 1e-5, 0)).path, no_grid)
    assert archive.read_bytes() == results.keep(stored.folder).read_bytes()
    shutil.rmtree(no_grid)
    earlier = tmp_path / "out" / "one" / "trials" / "of another grid"
    earlier.mkdir(parents=True)
    folder = results.unpacked(archive, tmp_path / "out")
    assert not earlier.exists()
    assert not ExperimentFolder(folder).trial(trial_id(1e-3, 1e-5, 0)).observations_jsonl.exists()
    files = write_report(stored).files
    assert {path.name for path in files} == {path.name for path in (folder / "report").iterdir()}
    for path in files:
        assert path.read_bytes() == (folder / "report" / path.name).read_bytes(), path.name


def test_the_tables_of_the_page_are_replaced(
    tmp_path: Path, results: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.keep(simulate(tmp_path / "runs" / "one").folder)
    results.keep(simulate(tmp_path / "runs" / "two").folder)
    page = tmp_path / "RESULTS.md"
    parts = "between\n".join(f"{mark}outdated\n{results.END}" for mark in results.SHOWN)
    page.write_text(f"before\n{parts}after\n", encoding="utf-8")
    monkeypatch.setattr(results, "PAGE", page)
    assert results.build(tmp_path / "out", 1) == tmp_path / "out" / "all" / "index.html"
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "outdated" not in text
    assert text.count("between\n") == 1
    assert "## Answers" in text and "## What rules of thumb lose" in text
    results.build(tmp_path / "out", 1)
    assert page.read_text(encoding="utf-8") == text
