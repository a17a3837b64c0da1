"""Run folders of earlier versions open: their trials count as done, and their reports say the same."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

STORED = Path(__file__).with_name("stored")
GONE = {"0.1": set()}
"""Keys of report.json, by version, that later versions no longer write, as `key` or `key.key`."""


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
    for options in ((), ("--confirm", "2"), ("--batch-sizes", "16,64", "--rules", "sqrt,none")):
        plan = json.loads(epsgrid("sweep", spec, "--out", folder, "--dry-run", "--json", *options))
        assert plan["to_run"] == 0 < plan["trials"], options


def test_the_report_says_the_same(stored: tuple[str, Path]) -> None:
    version, folder = stored
    epsgrid("report", folder, "--quiet")
    old = json.loads((STORED / f"report-{version}.json").read_text())
    new = json.loads((folder / "report" / "report.json").read_text())
    for key in old.keys() - GONE[version]:
        assert without(new[key], key, GONE[version]) == without(old[key], key, GONE[version]), key

    with (STORED / f"report-{version}.csv").open() as before, (folder / "report" / "report.csv").open() as after:
        old_rows, new_rows = list(csv.DictReader(before)), list(csv.DictReader(after))
    assert [{name: row[name] for name in old_rows[0]} for row in new_rows] == old_rows


def without(value: object, key: str, gone: set[str]) -> object:
    if not isinstance(value, dict):
        return value
    return {name: each for name, each in value.items() if f"{key}.{name}" not in gone}
