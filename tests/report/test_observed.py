"""The report of an experiment whose probe and trials kept snapshots; and scores beside the metric."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.errors import CorruptRecordError
from epsgrid.numerics.placement import Placement
from epsgrid.report.files import WrittenReport, write_report
from epsgrid.report.text.page import page
from epsgrid.report.text.render import tables
from epsgrid.selection.load import StoredExperiment, load_experiment
from epsgrid.store import observations
from epsgrid.store.records import Scores
from tests.report.kept import probed, series, trusted
from tests.report.simulate import compare, probe_record, simulate, trial_id, unpadded

SMALL = {"rates": (1e-3,), "seeds": (0, 1), "narrowed": (1e-4, 1e-3), "conventional": (1e-8, 1e-3)}
SEARCH, TRAINING = ["curve", "histograms"], ["percentiles", "damping", "percentiles-default"]


def watched(tmp_path: Path, seeds: dict[float, int], **changes: object) -> StoredExperiment:
    """An experiment whose probe was followed, with snapshots of one seed of some ε."""
    stored = simulate(tmp_path, **{**SMALL, **changes})  # type: ignore[arg-type]
    bounds = probed()
    probe_record(replace(bounds, reliability=trusted(bounds)), Placement.outside()).write(stored.folder.bounds_json)
    for epsilon, seed in seeds.items():
        path = stored.folder.trial(trial_id(1e-3, epsilon, seed)).observations_jsonl
        observations.write(path, series(threshold=epsilon))
    return load_experiment(stored.folder)


def figures(paths: tuple[Path, ...]) -> list[str]:
    return [path.stem for path in paths if path.suffix == ".svg"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> WrittenReport:
    """The report of an experiment with snapshots of both trials that it shows."""
    return write_report(watched(tmp_path_factory.mktemp("watched"), {1e-3: 0, 1e-8: 0}))


def test_figures_of_the_best_narrowed_setting_and_the_default(written: WrittenReport) -> None:
    assert figures(written.files) == [*SEARCH, *TRAINING]
    text = written.files[1].read_text(encoding="utf-8")
    assert "(percentiles.svg)\n\nWhile lr 1e-3, ε 1e-3, seed 0 trained: percentiles of √v̂" in text
    assert "While lr 1e-3, ε 1e-8, seed 0 trained" in text


def test_what_was_seen_becomes_numbers(written: WrittenReport) -> None:
    tuned, default = written.comparison.observed
    kept = series(threshold=1e-3)
    assert (tuned.name, tuned.id, tuned.seed, tuned.snapshots) == ("narrowed", trial_id(1e-3, 1e-3, 0), 0, 9)
    assert (tuned.first, tuned.last) == (1.0, 9.0)
    assert (tuned.adaptable_first, tuned.adaptable_last) == (kept.adaptable()[0][1], kept.adaptable()[-1][1])
    assert tuned.adaptable_first is not None and tuned.adaptable_last is not None
    assert tuned.adaptable_first > 0.4 > 0.1 > tuned.adaptable_last
    assert default.adaptable_last == pytest.approx(0.98, abs=0.01)  # all but the zeros
    assert tuned.low_moved == pytest.approx(-1.5, abs=0.05)
    assert tuned.high_moved == pytest.approx(-0.5, abs=0.05)
    document = json.loads(written.files[2].read_text(encoding="utf-8"))
    assert [row["name"] for row in document["observed"]] == ["narrowed", "default"]
    table = next(table for table in tables(written.comparison) if table.title == "During training")
    assert [row[0] for row in table.rows] == ["best of the narrowed grid", "default ε"]
    assert table.rows[0][-2:] == ("−1.5", "−0.5")


def test_without_snapshots_there_is_nothing_of_training(tmp_path: Path) -> None:
    stored = watched(tmp_path, {})
    observations.write(stored.folder.trial(trial_id(1e-3, 1e-3, 0)).observations_jsonl, series(snapshots=0))
    stored.folder.report_dir.mkdir()
    for name in [*SEARCH, *TRAINING, "trajectory", "metric"]:
        (stored.folder.report_dir / f"{name}.svg").write_text("of an earlier report")
    written = write_report(stored)
    assert figures(written.files) == SEARCH
    assert {path.name for path in stored.folder.report_dir.iterdir()} == {path.name for path in written.files}
    assert "During training" not in written.files[1].read_text(encoding="utf-8")
    assert not [table for table in tables(written.comparison) if table.title.startswith("Further scores")]


def test_damaged_snapshots_are_named_and_not_dropped(tmp_path: Path) -> None:
    stored = watched(tmp_path, {1e-3: 0})
    path = stored.folder.trial(trial_id(1e-3, 1e-3, 0)).observations_jsonl
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].replace('"step":30', '"step":31')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(CorruptRecordError, match=r"observations\.jsonl:4"):
        write_report(stored)


def scored(tmp_path: Path, signature: str | None = "nrefs:1|tok:13a", **changes: object) -> StoredExperiment:
    """Translations: BLEU, its second form, and the signatures that say how they were computed."""
    fields = {**SMALL, "metric": ("bleu", "max", ""), "truth": lambda rate, epsilon, seed: (30.0, 29.0 + seed)}
    stored = simulate(tmp_path, **{**fields, **changes})  # type: ignore[arg-type]
    for trial, result in stored.results.items():
        validation = Scores(1.0, 30.0, {"perplexity": 12.5, "bleu_13a": 28.0})
        test = Scores(1.0, result.test.metric, {"perplexity": float("inf"), "bleu_13a": result.test.metric - 1})  # type: ignore[union-attr]
        scoring = {"sacrebleu signature of bleu": signature} if signature else {}
        selects = None if stored.experiment.spec["training"]["selection"] == "test" else validation
        record = replace(result, validation=selects, test=test, provenance={**result.provenance, "scoring": scoring})
        record.write(stored.folder.trial(trial).result_json)
    return load_experiment(stored.folder)


def test_further_scores_are_shown_at_the_best_settings_and_stored(tmp_path: Path) -> None:
    comparison = compare(scored(tmp_path))
    table = next(table for table in tables(comparison) if table.title.startswith("Further scores"))
    assert table.columns == ("search", "score", "validation", "test")
    assert table.rows[:2] == (
        ("narrowed", "perplexity", "12.50 ± 0.00", "–"),
        ("narrowed", "bleu_13a", "28.00 ± 0.00", "28.50 ± 0.71"),
    )
    assert table.note == ("at the same epochs and seeds as the metric; sacrebleu signature of bleu: nrefs:1|tok:13a")
    assert "| narrowed | bleu_13a |" in unpadded(page(comparison, []))
    assert r"Sacrebleu" not in table.note and r"nrefs:1\|tok:13a" in page(comparison, {})
    document = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    (perplexity, bleu) = document["best"][0]["others"]
    assert (perplexity["name"], perplexity["test"], bleu["test"]["mean"]) == ("perplexity", None, 28.5)
    assert document["scoring"] == [["sacrebleu signature of bleu", "nrefs:1|tok:13a"]]


def test_different_signatures_are_all_told(tmp_path: Path) -> None:
    stored = scored(tmp_path)
    trial, result = next(iter(stored.results.items()))
    mixed = {"sacrebleu signature of bleu": "nrefs:1|tok:none"}
    replace(result, provenance={**result.provenance, "scoring": mixed}).write(stored.folder.trial(trial).result_json)
    comparison = compare(load_experiment(stored.folder))
    assert comparison.scoring == (("sacrebleu signature of bleu", "nrefs:1|tok:13a or nrefs:1|tok:none"),)
