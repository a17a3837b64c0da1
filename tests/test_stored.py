"""Run folders of earlier versions open: their trials count as done, and their reports say the same."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

STORED = Path(__file__).with_name("stored")
GONE = {
    "0.1": {
        "confirmed",  # fresh seeds stand behind the answers
        "costs",  # its parts stand in best.cost and in probe_seconds
        *("verdict", "regret", "gain_over_default", "confirmed", "claims", "notes"),  # answers took their place
        "loose_ends",  # now: unfinished
        *(f"best.{name}" for name in ("regret", "note", "label", "cost.unknown")),
        "observed.most_moved",  # of all trainings together
        "*.method",  # an interval is always Student's t
        *(f"estimates.{name}" for name in ("is_trained", "learning_rate", "test", "regret")),  # in best
        "batches.exponents",  # now: noise, with laws of another form
        *("batches.trained.rules", "batches.trained.rows.widest"),
    }
}
"""Keys of report.json, by version, that later versions no longer write; see `compared` for their form."""
CHANGED = {
    "0.1": {
        "reliability.verdict": (("soft", "medium"),),
    }
}
"""Texts that are written in other words, as parts before and now."""


def epsgrid(*arguments: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EPSGRID_")}
    command = [sys.executable, "-m", "epsgrid", *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", params=["0.1"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(STORED / f"run-{request.param}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return request.param, folder / "run"


def test_nothing_is_left_to_train(stored: tuple[str, Path]) -> None:
    """Ids are the same: every trial that was planned with this spec is found, and done."""
    version, folder = stored
    spec = STORED / f"run-{version}.yaml"
    for options in ((), ("--batch-sizes", "16,64", "--rules", "sqrt,none")):
        plan = json.loads(epsgrid("sweep", spec, "--out", folder, "--dry-run", "--json", *options))
        assert plan["to_run"] == 0 < plan["trials"], options


def test_the_report_says_the_same(stored: tuple[str, Path]) -> None:
    version, folder = stored
    epsgrid("report", folder, "--quiet")
    old = json.loads((STORED / f"report-{version}.json").read_text())
    new = json.loads((folder / "report" / "report.json").read_text())
    compared(new, old, "", version)

    with (STORED / f"report-{version}.csv").open() as before, (folder / "report" / "report.csv").open() as after:
        old_rows, new_rows = list(csv.DictReader(before)), list(csv.DictReader(after))
    for row in old_rows:
        row["best_of"] = " ".join(name for name in row["best_of"].split() if name not in ("boundary", "estimate"))
    assert [{name: row[name] for name in old_rows[0]} for row in new_rows] == old_rows
    assert new["answers"]["answers"][0]["loss"]["n"] == 4, "two seeds of the grids and two fresh ones"


def compared(new: Any, old: Any, place: str, version: str) -> None:
    """Compare a value of report.json; a place is the keys that lead to it with dots between, entries of lists alike."""
    if isinstance(old, dict):
        for key, value in old.items():
            inner = f"{place}.{key}".lstrip(".")
            if not any(fnmatch(inner, gone) for gone in GONE[version]):
                compared(new[key], value, inner, version)
    elif isinstance(old, list):
        if place == "best":  # the two ends and the point estimates are rules now
            old = [row for row in old if row["name"] not in ("boundary", "estimate")]
        assert len(new) == len(old), place
        for new_entry, old_entry in zip(new, old, strict=True):
            compared(new_entry, old_entry, place, version)
    elif place in CHANGED[version]:
        for before, now in CHANGED[version][place]:
            assert before in old
            old = old.replace(before, now, 1)
        assert new == old, place
    elif place in ("adaptive.share", "adaptive.of_moving"):
        assert new == pytest.approx(old, abs=0.002), place  # now interpolated inside a bin
    elif isinstance(old, float):
        assert new == pytest.approx(old, rel=1e-12), place  # quantiles of Student's t differ in their last digits
    else:
        assert new == old, place
