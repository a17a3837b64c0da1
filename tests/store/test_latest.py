from pathlib import Path

import pytest

from epsgrid.errors import StoreError
from epsgrid.store.latest import latest, remember


def test_the_latest_experiment_is_found_and_the_runs_can_be_moved(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("first", "second"):
        (runs / name).mkdir(parents=True)
        remember(runs / name, runs)
    assert latest(runs) == runs / "second"
    assert (runs / "latest").read_text() == "second\n"
    runs.rename(tmp_path / "moved")
    assert latest(tmp_path / "moved") == tmp_path / "moved" / "second"


def test_an_experiment_elsewhere_is_remembered_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("elsewhere").mkdir()
    remember(Path("elsewhere"), Path("runs"))
    assert latest(Path("runs")) == tmp_path / "elsewhere"


def test_without_an_experiment_the_next_step_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no experiment in .*runs yet: run `epsgrid probe SPEC`"):
        latest(tmp_path / "runs")


def test_an_experiment_that_is_gone_is_told(tmp_path: Path) -> None:
    remember(tmp_path / "gone", tmp_path)
    with pytest.raises(StoreError, match=r"the latest experiment, .*gone, is gone"):
        latest(tmp_path)


def test_an_experiment_called_latest_is_told_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(StoreError, match=r"latest is a folder, but the name is kept"):
        remember(tmp_path / "latest", tmp_path)
