import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import Bound
from epsgrid.spec.trial import Trial
from epsgrid.store import atomic
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import (
    BatchesRecord,
    EpochRecord,
    GridRecord,
    Record,
    Scores,
    TrialResult,
    VariedRecord,
    append_epoch,
    read_epochs,
)
from tests.store.samples import DIVERGED_EPOCH, EPOCH, PROBE, RECORDS, RESULT

_RESULT_OF_VERSION_1 = """{
  "version": 1,
  "id": "0123456789abcdef",
  "state": "done",
  "identity": {"task": {"name": "digits"}, "epsilon": 1e-08, "seed": 0},
  "metric_name": "accuracy",
  "metric_direction": "max",
  "metric_unit": "%",
  "epochs_trained": 2,
  "selected_epoch": 1,
  "validation": {"loss": 0.5, "metric": 0.25, "others": {}},
  "test": {"loss": 0.6, "metric": 0.2, "others": {}},
  "steps": 20,
  "seconds": 1.5,
  "device": "cpu",
  "reason": null,
  "provenance": {"command": "epsgrid sweep", "git": null},
  "checksum": "ae0f188c7600ed124703978ffd950fd682b72320e638de18313649ac2698b946"
}
"""


_GRID_BEFORE_RATES = """{
  "version": 1,
  "optimizer": "adam",
  "epsilons": {"conventional": [1e-08]},
  "default_epsilon": 1e-08,
  "cells": [{"id": "ab", "learning_rate": 0.001, "epsilon": 1e-08, "seed": 0, "grids": ["conventional"]}],
  "bounds_checksum": null,
  "checksum": "88b7e4d77ed703d272ee511f90ddfeafae2a711f7b792a8152939f28e7a791e6"
}
"""

_BATCHES_BEFORE_TRIALS = """{
  "version": 1, "base_batch_size": 128, "learning_rate": 0.001, "epsilon": null, "origin": "as asked for",
  "cells": [{"id": "ab", "batch_size": 128, "rule": "base", "learning_rate": 0.001, "epsilon": null, "seed": 0}],
  "changes": {}, "skipped": {}
}"""


def _resealed(record: Record, **changes: Any) -> dict[str, Any]:
    content = atomic.unseal(record.to_json(), "here")
    return atomic.seal({**content, **changes})


def _epochs(count: int) -> list[EpochRecord]:
    return [dataclasses.replace(EPOCH, epoch=number, train_loss=1 / number) for number in range(1, count + 1)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
class TestEveryRecord:
    def test_comes_back_from_disk_equal(self, record: Record, tmp_path: Path) -> None:
        path = tmp_path / "record.json"
        record.write(path)
        assert type(record).read(path) == record
        assert json.loads(path.read_text())["checksum"] == record.checksum

    def test_is_refused_where_a_newer_version_wrote_it(self, record: Record) -> None:
        with pytest.raises(StoreError, match=r"x\.json was written by a newer epsgrid .*version 2.*update epsgrid"):
            type(record).from_json(_resealed(record, version=2), "x.json")

    def test_names_an_unknown_field(self, record: Record) -> None:
        with pytest.raises(CorruptRecordError, match=r"x\.json: unknown field 'colour'"):
            type(record).from_json(_resealed(record, colour="red"), "x.json")

    def test_names_a_missing_field(self, record: Record) -> None:
        first = dataclasses.fields(record)[0].name
        content = {key: value for key, value in record.to_json().items() if key not in (first, "checksum")}
        with pytest.raises(CorruptRecordError, match=rf"x\.json: missing field '{first}'"):
            type(record).from_json(atomic.seal(content), "x.json")

    def test_names_a_file_cut_anywhere(self, record: Record, tmp_path: Path) -> None:
        path = tmp_path / "record.json"
        record.write(path)
        whole = path.read_bytes().rstrip()
        for cut in range(0, len(whole), 7):
            path.write_bytes(whole[:cut])
            with pytest.raises(CorruptRecordError, match=r"record\.json is damaged"):
                type(record).read(path)


def test_a_result_of_version_1_stays_readable_and_is_still_written_so(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(_RESULT_OF_VERSION_1)
    assert TrialResult.read(path) == RESULT
    RESULT.write(path)
    assert path.read_text() == _RESULT_OF_VERSION_1
    path.write_text(_RESULT_OF_VERSION_1.replace("0.25", "0.26"))
    with pytest.raises(CorruptRecordError, match=r"result\.json is damaged or was edited"):
        TrialResult.read(path)


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


def test_validation_selects_where_it_was_looked_at_else_test() -> None:
    scores = Scores(0.5, 0.25)
    assert EPOCH.selecting == scores
    assert dataclasses.replace(EPOCH, validation=None, test=scores).selecting == scores
    assert RESULT.selecting == RESULT.validation
    assert dataclasses.replace(RESULT, validation=None).selecting == RESULT.test
    assert dataclasses.replace(RESULT, validation=None, test=None).selecting is None


def test_a_probe_gives_its_bounds() -> None:
    low, high = (Bound(10.0**k, 10.0**k, float(f"1e{k}"), ("fc1",), 100) for k in (-5, -3))
    bounds = EpsilonBounds(low, high, 0.02, ())
    record = dataclasses.replace(PROBE, bounds_json=bounds.to_json())
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))).bounds() == bounds
    with pytest.raises(CorruptRecordError, match="bounds: missing field"):
        dataclasses.replace(PROBE, bounds_json={"version": 1, "low": 3}).bounds()


def test_epochs_come_back_in_order_and_a_damaged_or_missing_one_is_named(tmp_path: Path) -> None:
    path, epochs = tmp_path / "metrics.jsonl", _epochs(3)
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


def test_a_grid_that_was_stored_before_trained_rates_is_read(tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    path.write_text(_GRID_BEFORE_RATES)
    (cell,) = GridRecord.read(path).cells
    assert (cell.learning_rate, cell.grid_rate, cell.asked_rate) == (1e-3, 1e-3, None)
    assert Trial("ab", 0.5, 1.0, 0, (), asked_rate=0.1).grid_rate == 0.1


def test_batches_that_were_stored_without_grids_are_read() -> None:
    (cell,) = BatchesRecord.from_json(atomic.seal(json.loads(_BATCHES_BEFORE_TRIALS))).cells
    assert cell == Trial("ab", 1e-3, None, 0, batch_size=128, rule="base")


def test_the_batch_sizes_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "batch_bounds.json"
    former = {"version": 1, "base_batch_size": 64, "batch_sizes": [16, 64], "seeds": [0, 1], "examples": None}
    path.write_text(json.dumps(atomic.seal(former)))
    found = VariedRecord.read(path)
    assert found == VariedRecord(("training.batch_size",), ((16.0,), (64.0,)), (64.0,), (0, 1), None)
    folder = ExperimentFolder(tmp_path)
    assert folder.varied(found.keys) == path
    assert found.probe(folder, (16.0,), 1) == tmp_path / "probes" / "batch-16-seed-1.json"
    assert found.written((1048576.0,)) == {"training.batch_size": "1048576"}
