"""Arrays in the cache: made once, whole or not at all, whoever else is making them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from epsgrid.data._arrays import Arrays, cached_arrays

from epsgrid.data import _arrays
from epsgrid.errors import DataError


def make(value: int = 1) -> Arrays:
    return Arrays(
        {"some": np.full((3, 2), value, np.int32), "none": np.empty(0, np.int64)}, {"name": f"größer {value}"}
    )


def test_what_was_kept_comes_back_mapped(tmp_path: Path) -> None:
    for _ in range(2):
        kept = cached_arrays(tmp_path / "cache" / "a", make)
        assert kept.arrays["some"].tolist() == [[1, 1]] * 3
        assert kept.arrays["none"].shape == (0,)
        assert kept.about == {"name": "größer 1"}
        assert not kept.arrays["some"].flags.writeable
    assert cached_arrays(tmp_path / "cache" / "a", lambda: pytest.fail("made again")).about == kept.about
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["a"]


def test_the_first_of_two_makers_wins(tmp_path: Path) -> None:
    def slow() -> Arrays:
        cached_arrays(tmp_path / "a", lambda: make(1))
        return make(2)

    assert cached_arrays(tmp_path / "a", slow).about == {"name": "größer 1"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("damage", ["", "{", '{"version": 2}', '{"version": 1, "shapes": {"gone": [1]}, "about": {}}'])
def test_a_damaged_folder_is_made_again(tmp_path: Path, damage: str) -> None:
    cached_arrays(tmp_path / "a", lambda: make(1))
    (tmp_path / "a" / "about.json").write_text(damage)
    assert cached_arrays(tmp_path / "a", lambda: make(2)).about == {"name": "größer 2"}


def test_an_array_of_another_shape_is_damage(tmp_path: Path) -> None:
    cached_arrays(tmp_path / "a", lambda: make(1))
    np.save(tmp_path / "a" / "some.npy", np.zeros(5, np.int32))
    assert cached_arrays(tmp_path / "a", lambda: make(2)).about == {"name": "größer 2"}


def test_what_cannot_be_read_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_arrays, "_write", lambda folder, made: None)
    with pytest.raises(DataError, match=r"a cannot be read back; delete that folder"):
        cached_arrays(tmp_path / "a", make)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write prepared data into .*file: .*EPSGRID_CACHE"):
        cached_arrays(tmp_path / "file" / "a", make)
