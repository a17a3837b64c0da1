"""The scripts are run on demand, but they must start: their imports are those of today's package."""

import runpy
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))
SCRIPTS = [path for path in FILES if "__main__" in path.read_text(encoding="utf-8")]  # others are plug-ins of theirs


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_starts_and_says_what_it_is(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
