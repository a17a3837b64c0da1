"""observations.jsonl: what is written comes back, what is damaged is named, what is behind a checkpoint goes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epsgrid.errors import CorruptRecordError
from epsgrid.numerics.histogram import LogHistogram, bin_count
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot, Series, Snapshot
from epsgrid.store import atomic, observations


def _layer(generator: np.random.Generator, entries: int, scale: float) -> LayerSnapshot:
    bins = np.clip(generator.normal(3000, 100, entries), 1, bin_count(5) - 1).astype(int)
    histogram = LogHistogram(5, np.bincount(bins, minlength=bin_count(5)), scale)
    quantiles = tuple(value for f in FRACTIONS if (value := histogram.quantile(f)) is not None)
    return LayerSnapshot(scale, 0, histogram.nonzero, 0, quantiles, histogram.fold(1))


def _series(snapshots: int) -> Series:
    generator = np.random.default_rng(0)
    taken = tuple(
        Snapshot(100 * n, n / 2, 1e-8, (None, *(_layer(generator, size, 1 / (1 - 0.999**n)) for size in (10, 500))))
        for n in range(1, snapshots + 1)
    )
    return Series(("a", "b", "c"), ("dense",) * 3, (5, 10, 500), FRACTIONS, taken)


def _written(tmp_path: Path, snapshots: int = 4) -> tuple[Path, Series]:
    path, series = tmp_path / "run" / "observations.jsonl", _series(snapshots)
    observations.write(path, series)
    return path, series


def _first(series: Series, count: int) -> Series:
    return replace(series, snapshots=series.snapshots[:count])


def _change_line(path: Path, number: int, **changes: Any) -> None:
    """Change fields of a line and seal it again."""
    lines = path.read_text().splitlines()
    document = {**json.loads(lines[number - 1]), **changes}
    del document["checksum"]
    lines[number - 1] = json.dumps(atomic.seal(document))
    path.write_text("".join(f"{line}\n" for line in lines))


def test_a_series_comes_back_exactly_written_at_once_or_appended(tmp_path: Path) -> None:
    at_once, series = _written(tmp_path)
    assert observations.read(at_once) == series
    path = tmp_path / "appended.jsonl"
    observations.write(path, _first(series, 0))
    assert observations.read(path) == _first(series, 0)
    for snapshot in series.snapshots:
        observations.append(path, snapshot)
    assert path.read_bytes() == at_once.read_bytes()
    unknown = replace(series.snapshots[0], step=500, epoch=None, threshold=math.inf)
    observations.append(path, unknown)
    assert observations.read(path) == replace(series, snapshots=(*series.snapshots, unknown))


def test_a_half_written_last_line_is_left_out_and_overwritten(tmp_path: Path) -> None:
    path, series = _written(tmp_path)
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for cut in (*range(last, len(whole) - 1, 97), len(whole) - 2):
        path.write_bytes(whole[:cut])
        assert observations.read(path) == _first(series, 3)
    observations.append(path, series.snapshots[3])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("number", [1, 2, 4])
def test_damage_in_any_other_line_is_named(tmp_path: Path, number: int) -> None:
    path, _ = _written(tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    where = lines[number - 1].index("0")
    lines[number - 1] = lines[number - 1][:where] + "1" + lines[number - 1][where + 1 :]
    path.write_text("".join(lines))
    with pytest.raises(CorruptRecordError, match=rf"observations\.jsonl:{number} is damaged or was edited"):
        observations.read(path)


@pytest.mark.parametrize("content", [b"", b'{"version":1,"na'])
@pytest.mark.parametrize("use", [observations.read, lambda path: observations.keep_until(path, 5)])
def test_a_file_without_a_header_is_told(tmp_path: Path, content: bytes, use: Any) -> None:
    path = tmp_path / "observations.jsonl"
    path.write_bytes(content)
    with pytest.raises(CorruptRecordError, match=r"observations\.jsonl is damaged: it has no header"):
        use(path)


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (1, {"names": ["a"]}, r"jsonl:1: names, kinds and entries differ in number"),
        (1, {"fractions": "x"}, r"jsonl:1: fractions: expected a list"),
        (3, {"step": 100}, r"jsonl:3: expected a step after 100, got step 100"),
        (3, {"step": 1.5}, r"jsonl:3: step: expected a whole number"),
        (3, {"layers": [None]}, r"jsonl:3: 1 layers at step 200"),
        (3, {"layers": 3}, r"jsonl:3: layers: expected a list"),
        (3, {"layers": [[1.0, 0, 1, 0, [4000], None], None, None]}, r"jsonl:3: .1. quantiles at step 200"),
        (3, {"colour": "red"}, r"jsonl:3: unknown field 'colour'"),
    ],
    ids=str,
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, number: int, changes: dict[str, Any], message: str) -> None:
    path, _ = _written(tmp_path)
    _change_line(path, number, **changes)
    with pytest.raises(CorruptRecordError, match=message):
        observations.read(path)


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (99, 0), (100, 1), (250, 2), (400, 4), (10_000, 4)])
def test_what_lies_behind_a_checkpoint_is_dropped_once_and_for_all(tmp_path: Path, step: int, kept: int) -> None:
    path, series = _written(tmp_path)
    before = path.read_bytes()
    for _ in range(2):
        observations.keep_until(path, step)
        assert observations.read(path) == _first(series, kept)
        assert before.startswith(path.read_bytes())
    for snapshot in series.snapshots[kept:]:
        observations.append(path, snapshot)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_damage_behind_the_checkpoint_is_dropped_with_the_rest_and_before_it_named(tmp_path: Path) -> None:
    path, series = _written(tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:4], "{}\n"]))
    observations.keep_until(path, 200)
    assert observations.read(path) == _first(series, 2)
    path.write_text("".join([*lines[:2], "{}\n", *lines[3:]]))
    with pytest.raises(CorruptRecordError, match=r"jsonl:3 "):
        observations.keep_until(path, 200)
    path.unlink()
    observations.keep_until(path, 5)
    assert observations.read(path) is None and not path.exists(), "a file that is not there stays so"
