import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import Bound
from epsgrid.store import atomic
from epsgrid.store.records import (
    Record,
    TrialResult,
    append_epoch,
    read_epochs,
)
from tests.store.samples import DIVERGED_EPOCH, EPOCH, PROBE, RECORDS


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
class TestEveryRecord:
    def test_comes_back_from_disk_equal(self, record: Record, tmp_path: Path) -> None:
        path = tmp_path / "record.json"
        record.write(path)
        assert type(record).read(path) == record
        assert json.loads(path.read_text())["checksum"] == record.checksum

    def test_names_a_newer_version_and_an_unknown_and_a_missing_field(self, record: Record) -> None:
        content = atomic.unseal(record.to_json(), "here")
        first = dataclasses.fields(record)[0].name
        for changed, kind, words in (
            (content | {"version": 2}, StoreError, r"was written by a newer epsgrid .*version 2.*update epsgrid"),
            (content | {"colour": "red"}, CorruptRecordError, "unknown field 'colour'"),
            ({key: content[key] for key in content if key != first}, CorruptRecordError, f"missing field '{first}'"),
        ):
            with pytest.raises(kind, match=rf"x\.json:? {words}"):
                type(record).from_json(atomic.seal(changed), "x.json")

    def test_names_a_file_cut_anywhere(self, record: Record, tmp_path: Path) -> None:
        path = tmp_path / "record.json"
        record.write(path)
        whole = path.read_bytes().rstrip()
        for cut in range(0, len(whole), 7):
            path.write_bytes(whole[:cut])
            with pytest.raises(CorruptRecordError, match=r"record\.json is damaged"):
                type(record).read(path)


@pytest.mark.parametrize("document", [[], {}, {"version": "1"}, {"version": True}, {"version": 0}, "text", None])
def test_what_is_no_record_is_told(document: Any) -> None:
    with pytest.raises(CorruptRecordError, match=r"x\.json is (damaged: expected an object|not a trial result)"):
        TrialResult.from_json(document, "x.json")


def test_scores_of_a_diverged_trial_are_strict_json_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_epoch(path, DIVERGED_EPOCH)
    stored = json.loads(path.read_text())
    assert stored["train_loss"] == "inf"
    assert stored["validation"] == {"loss": "nan", "metric": "-inf", "others": {}}
    (back,) = read_epochs(path)
    assert back.train_loss == math.inf
    assert back.validation is not None
    assert math.isnan(back.validation.loss)
    assert back.validation.metric == -math.inf


def test_a_probe_gives_its_bounds() -> None:
    low, high = (Bound(10.0**k, 10.0**k, float(f"1e{k}"), ("fc1",), 100) for k in (-5, -3))
    bounds = EpsilonBounds(low, high, 0.02, ())
    record = dataclasses.replace(PROBE, bounds_json=bounds.to_json())
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))).bounds() == bounds
    with pytest.raises(CorruptRecordError, match="bounds: missing field"):
        dataclasses.replace(PROBE, bounds_json={"version": 1, "low": 3}).bounds()


def test_epochs_come_back_in_order_and_a_damaged_or_missing_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    epochs = [dataclasses.replace(EPOCH, epoch=number, train_loss=1 / number) for number in (1, 2, 3)]
    assert read_epochs(path) == ()
    for epoch in epochs:
        append_epoch(path, epoch)
    assert list(read_epochs(path)) == epochs
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(whole[:-30])
    assert list(read_epochs(path)) == epochs[:2], "a half-written one is left out"
    for changed, words in (
        (lines[0] + lines[2], "expected epoch 2, got epoch 3"),
        (whole.replace(b'"epoch": 2, "train_loss": 0.5', b'"epoch": 2, "train_loss": 0.4'), "or was edited"),
        (lines[0] + b'{"x": "\xff"}\n', "'utf-8' codec"),
    ):
        path.write_bytes(changed)
        with pytest.raises(CorruptRecordError, match=rf"metrics\.jsonl:2 is damaged:? {words}"):
            read_epochs(path)
