"""The folders of caches and data, and cached arrays: made once, complete or missing, whoever else is making them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from epsgrid.data._cache import Arrays, _cache_folder, arrays_folder, cached_arrays, data_folders
from epsgrid.errors import DataError


def make(value: int = 1) -> Arrays:
    arrays = {"some": np.full((3, 2), value, np.int32), "none": np.empty(0, np.int64)}
    return Arrays(arrays, {"name": f"größer {value}"})


def never() -> Arrays:
    raise AssertionError("made again")


def test_the_cache_folder_follows_the_environment() -> None:
    everything = {"EPSGRID_CACHE": "/a", "XDG_CACHE_HOME": "/b"}
    assert _cache_folder(everything) == Path("/a")
    assert _cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/epsgrid")
    assert _cache_folder({"EPSGRID_CACHE": "", "XDG_CACHE_HOME": ""}) == Path.home() / ".cache" / "epsgrid"
    assert _cache_folder({"EPSGRID_CACHE": "~/a"}) == Path.home() / "a"
    assert arrays_folder(everything) == Path("/a/arrays")


def test_own_data_come_before_the_cache() -> None:
    assert data_folders({"EPSGRID_CACHE": "/a", "EPSGRID_DATA": "/d"}) == (Path("/d"), Path("/a/data"))
    assert data_folders({"EPSGRID_CACHE": "/a", "EPSGRID_DATA": ""}) == (Path("/a/data"),)


def test_arrays_are_made_once_and_mapped_read_only(tmp_path: Path) -> None:
    for maker in (make, never):
        kept = cached_arrays(tmp_path / "cache" / "a", maker)
        assert kept.arrays["some"].tolist() == [[1, 1]] * 3
        assert type(kept.arrays["some"]) is np.ndarray
        assert not kept.arrays["some"].flags.writeable
        assert kept.arrays["none"].shape == (0,)
        assert kept.about == {"name": "größer 1"}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["a"]


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "truncated", "other shape", "pickled", "no json", "other version", "missing field"]
)
def test_a_damaged_folder_is_made_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "a"
    cached_arrays(folder, make)
    array, about = folder / "some.npy", folder / "about.json"
    document = json.loads(about.read_text())
    content = array.read_bytes()
    damages: dict[str, Callable[[], object]] = {
        "missing": array.unlink,
        "empty": lambda: array.write_bytes(b""),
        "truncated": lambda: array.write_bytes(content[:-1]),
        "other shape": lambda: np.save(array, np.zeros(5, np.int32)),
        "pickled": lambda: np.save(array, np.array([[{}, {}]] * 3, object), allow_pickle=True),  # is never loaded
        "no json": lambda: about.write_text("{"),
        "other version": lambda: about.write_text(json.dumps(document | {"version": 99})),
        "missing field": lambda: about.write_text(json.dumps({"version": 1})),
    }
    damages[damage]()
    assert cached_arrays(folder, lambda: make(2)).about == {"name": "größer 2"}
    cached_arrays(folder, never)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_first_of_two_makers_wins(tmp_path: Path) -> None:
    def slow() -> Arrays:
        cached_arrays(tmp_path / "a", lambda: make(1))
        return make(2)

    assert cached_arrays(tmp_path / "a", slow).about == {"name": "größer 1"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_maker_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Arrays:
        raise DataError("corrupt")

    with pytest.raises(DataError, match="corrupt"):
        cached_arrays(tmp_path / "arrays" / "key", fail)
    assert not list(tmp_path.rglob("*"))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write prepared data into .*file: .*EPSGRID_CACHE"):
        cached_arrays(tmp_path / "file" / "a", make)
