from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid import plugins
from epsgrid.errors import UnknownNameError
from tests.spec import fakes


def test_names_are_the_stems_of_the_files_without_helpers() -> None:
    assert plugins.names("grids") == ("conventional", "narrowed")


def test_one_of_ours_and_one_by_dotted_path() -> None:
    assert plugins.load("grids", "narrowed").NEEDS_BOUNDS
    assert plugins.load("optimizers", "tests.spec.fakes:adam_like") is fakes.adam_like


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown grid 'narowed'; did you mean 'narrowed'\? \(one of: conv.*, narr"
    ):
        plugins.load("grids", "narowed")
    with pytest.raises(UnknownNameError, match="unknown grid 'zzz'; expected one of: conventional, narrowed"):
        plugins.check("grids", "zzz")


@pytest.mark.parametrize("name", ["_plan", "__init__", "../grids/narrowed", "narrowed.py", ""])
def test_only_plugins_are_plugins(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown grid"):
        plugins.load("grids", name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tests.spec.fakes:none", "task 'tests.spec.fakes:none': module 'tests.spec.fakes' has no 'none'"),
        ("no_such_package.x:A", r"cannot import 'no_such_package.x' \(ModuleNotFoundError: .*PYTHONPATH\?"),
        (":A", "not a dotted path; expected package.module:NAME"),
        ("tests.spec:", "not a dotted path"),
        ("tests.spec.fakes:blobs:more", "not a dotted path"),
    ],
)
def test_a_wrong_dotted_path(name: str, told: str) -> None:
    with pytest.raises(UnknownNameError, match=told):
        plugins.load("tasks", name)


def test_a_module_that_breaks_when_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_for_epsgrid.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownNameError, match=r"cannot import 'broken_for_epsgrid' \(ZeroDivisionError"):
        plugins.load("tasks", "broken_for_epsgrid:task")


@given(st.text(min_size=1), st.lists(st.text(min_size=1), min_size=1))
def test_the_nearest_name_is_a_valid_one(name: str, valid: list[str]) -> None:
    assert plugins.nearest(name, valid) in (None, *valid)
