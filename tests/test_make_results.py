"""The gallery leads to the report of every experiment, and says of each what its records say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from epsgrid.report.compare import compare
from epsgrid.report.files import WrittenReport
from epsgrid.selection.load import load_experiment
from epsgrid.store.paths import ExperimentFolder
from tests.report.simulate import simulate

SCRIPT = Path(__file__).parent.parent / "scripts" / "make_results.py"
FEW: dict[str, Any] = {"conventional": (1e-8, 1e-4, 1e-3, 1e-2), "rates": (1e-3,), "seeds": (0, 1)}


def plain_report(folder: ExperimentFolder) -> WrittenReport:
    """A report without its figures, which take time."""
    folder.report_dir.mkdir(exist_ok=True)
    page = folder.report_dir / "report.html"
    page.write_text("a page")
    return WrittenReport(compare(load_experiment(folder)), (page,))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = importlib.util.spec_from_file_location("make_results", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "make_results", module)
    found.loader.exec_module(module)
    monkeypatch.setattr(module, "report", plain_report)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return module


def made(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: Path | str) -> int:
    monkeypatch.setattr(sys, "argv", ["make_results.py", *map(str, words)])
    code: int = script.main()
    return code


def test_the_index_leads_to_every_report(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "a <run> & more"
    simulate(odd, **FEW, data="a subset of digits")
    simulate(tmp_path / "probed", sweep=False)
    out = tmp_path / "gallery"
    assert made(script, monkeypatch, odd, tmp_path / "probed", tmp_path / "nothing", "--out", out) == 0
    index = (out / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]+)"', index) == ["a%20%3Crun%3E%20%26%20more/report.html", "probed/report.html"]
    assert (out / odd.name / "report.html").read_text() == (out / "probed" / "report.html").read_text() == "a page"
    assert "http" not in index and "<script" not in index
    told = capsys.readouterr()
    assert told.out == (out / "summary.md").read_text(encoding="utf-8")
    assert "nothing: no experiment, left out" in told.err
    head, _, first, second, *verdicts = told.out.splitlines()
    row, other = (dict(zip(script.COLUMNS, line.strip("| ").split(" | "), strict=True)) for line in (first, second))
    assert len(head.split(" | ")) == len(script.COLUMNS)
    assert (row["ε between"], row["trials"], row["training"]) == ("1e-4 … 1e-2", "8", "1 min 20 s")
    assert row["narrowed: lr, ε"] == row["conventional: lr, ε"] == "lr 1e-3, ε 1e-3"
    assert (other["trials"], other["default ε: test"]) == ("0", "–")
    assert "SUBSET DATA" in verdicts[1] and "SUBSET" not in verdicts[2]


def test_folders_that_cannot_be_used_are_told(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(script, monkeypatch, tmp_path) == 2
    assert "no experiment among the folders" in capsys.readouterr().err
    for parent in ("one", "other"):
        simulate(tmp_path / parent / "same", sweep=False)
    assert made(script, monkeypatch, tmp_path / "one" / "same", tmp_path / "other" / "same") == 2
    assert "several folders are called same; rename all but one" in capsys.readouterr().err
    (tmp_path / "one" / "same" / "bounds.json").write_text("{}")
    assert made(script, monkeypatch, tmp_path / "one" / "same", "--out", tmp_path / "gallery") == 2
    assert "bounds.json" in capsys.readouterr().err
