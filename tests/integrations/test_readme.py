"""The callbacks' examples in docs/, as they stand there, print what it says."""

from __future__ import annotations

import importlib.util
import logging
import re
import warnings
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs/observing.md").read_text(encoding="utf-8")
PRINTED = {
    "lightning": r"after 29 steps, 1 epoch, the bounds of ε for Adam are 1e-5 to 0\.1 \(set by net.0.weight, \d+"
    r" entries, and net.2.bias, 10 entries\); it trains with 1e-8\n.*"
    r"\(1e-05, 0\.0001, 0\.001, 0\.01, 0\.1\)\n8[0-3]%\n",
    "transformers": r"after 32 steps, 1 epoch, the bounds of ε for AdamW are 1e-7 to 0\.1 \(set by"
    r" bert\.encoder\.layer\.\d\.attention\.self\.query\.weight, 1024 entries, and classifier\.bias, 2 entries\);"
    r" it trains with 1e-8\n.*ε from 1e-7 to 0\.1: high confidence\nlow: √v̂ [67]\.?\d?e-8 in bert",
}


@pytest.mark.parametrize("package", PRINTED)
def test_the_example(
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if not importlib.util.find_spec(package):
        pytest.skip(f"{package} not installed")
    (code,) = re.findall(rf"```python\n(import torch\nfrom epsgrid\.integrations\.{package} .*?)```", TEXT, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        warnings.simplefilter("ignore")  # third parties' own
        exec(code, {"__name__": "example"})
    told = [record.message + "\n" for record in caplog.records if record.message.startswith("epsgrid")]
    assert re.search("^epsgrid: " + PRINTED[package], "".join(told) + capsys.readouterr().out, re.DOTALL | re.MULTILINE)
