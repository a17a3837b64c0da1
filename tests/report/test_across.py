"""Several experiments side by side: rows, warnings, what is left out, and files."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.errors import StoreError
from epsgrid.report.across import Across, _across_csv, across, across_headline, across_tables, write_across
from epsgrid.stages.report import is_one, report_across
from tests.report.simulate import compare, peaked, simulate, unpadded

SMALL = {"rates": (1e-4, 1e-3, 1e-2), "seeds": (0, 1)}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    simulate(root / "inside", **SMALL)  # type: ignore[arg-type]
    simulate(root / "outside", peaked(best=1e-7), optimizer="adamw", **SMALL)  # type: ignore[arg-type]
    simulate(root / "plain", reference=True, probe=False, optimizer="sgdm", **SMALL)  # type: ignore[arg-type]
    (root / "latest").write_text("inside\n")
    return root


def at(root: Path, *names: str) -> Across:
    return across([root / name for name in names])


def test_each_experiment_has_a_row_that_says_what_its_own_report_says(runs: Path) -> None:
    found = at(runs, "plain", "outside", "inside")
    assert [row.run for row in found.rows] == ["inside", "outside", "plain"]
    inside, outside, plain = found.rows
    assert [row.comparison.answers.of("narrowing").answer for row in (inside, outside)] == ["no cost", "costs"]
    own = compare(simulate(runs / "again", peaked(best=1e-7), **SMALL))  # type: ignore[arg-type]
    assert outside.comparison.answers == own.answers
    assert (inside.tally.trials, inside.tally.seconds, inside.values()["saved_trials"]) == (48, 480.0, 30)
    assert plain.best("reference") is not None and plain.best("narrowed") is None
    assert across_headline(found) == "May the default ε stay? Change in 2 of 2 experiments."


def test_what_is_no_swept_experiment_is_told_and_stops_nothing(runs: Path) -> None:
    simulate(runs / "unswept", sweep=False)
    (runs / "junk").mkdir()
    damaged = simulate(runs / "damaged", **SMALL)  # type: ignore[arg-type]
    damaged.folder.grid_json.write_text("{}")
    newer = simulate(runs / "newer", **SMALL).folder.grid_json  # type: ignore[arg-type]
    newer.write_text(newer.read_text().replace('"version": 1', '"version": 99', 1))
    found = at(runs, "unswept", "junk", "damaged", "newer", "gone", "inside")
    assert [row.run for row in found.rows] == ["inside"]
    why = {Path(skipped.folder).name: skipped.why for skipped in found.skipped}
    assert why["unswept"] == "nothing was swept here yet; `epsgrid sweep` does it"
    assert why["junk"].startswith("no experiment here") and why["gone"].startswith("no experiment here")
    assert "grid.json is not a grid record" in why["damaged"]
    assert "written by a newer epsgrid" in why["newer"]
    assert across_tables(found)[-1].title == "Left out"


def test_what_does_not_compare_is_told(runs: Path) -> None:
    simulate(runs / "subset", data="a subset of digits", **SMALL)  # type: ignore[arg-type]
    simulate(runs / "lost", metric=("loss", "min", ""), **SMALL)  # type: ignore[arg-type]
    simulate(runs / "tested", selection="test", **SMALL)  # type: ignore[arg-type]
    warnings = at(runs, "inside", "subset", "lost", "tested").warnings
    assert warnings[0] == "on part of the data, or on made-up data, so not comparable with the others: subset"
    assert "different data" in warnings[1] and "a subset of digits (subset)" in warnings[1]
    assert "different metrics" in warnings[2] and "loss (lost)" in warnings[2]
    assert "different splits that select" in warnings[3] and "test (tested)" in warnings[3]
    assert at(runs, "inside", "outside", "plain").warnings == ()


def test_equal_names_are_told_apart_and_a_folder_given_twice_counts_once(tmp_path: Path) -> None:
    for place in ("a", "b"):
        simulate(tmp_path / place / "same", **SMALL)  # type: ignore[arg-type]
    found = across([tmp_path / "a" / "same", tmp_path / "b" / "same", tmp_path / "a" / "same"])
    assert [row.run for row in found.rows] == [str(tmp_path / "a" / "same"), str(tmp_path / "b" / "same")]


def test_unfinished_experiments_have_rows_without_scores(runs: Path) -> None:
    simulate(runs / "open", lambda rate, epsilon, seed: "pending", **SMALL)  # type: ignore[arg-type]
    simulate(runs / "lost", lambda rate, epsilon, seed: "diverged", **SMALL)  # type: ignore[arg-type]
    found = at(runs, "open", "lost")
    answers = [row.comparison.answers.of("default").answer for row in found.rows]
    assert [(row.run, row.unfinished, row.best("narrowed")) for row in found.rows] == [
        ("lost", 0, None),
        ("open", 48, None),
    ]
    assert answers == ["open", "not finished"]
    for table in across_tables(found):
        assert all(len(row) == len(table.columns) for row in table.rows), table
        assert not re.search(r"\b(?:None|nan|inf)\b", str(table.rows))


def test_all_files_are_written_beside_the_experiments(runs: Path) -> None:
    written = report_across(sorted(runs.iterdir()), None)
    assert [path.name for path in written.files] == ["index.html", "index.md", "index.json", "index.csv", "index.tex"]
    assert all(path.parent == runs / "report" for path in written.files)
    assert written.found.skipped == ()
    document = json.loads(written.files[2].read_text(encoding="utf-8"))
    assert (document["version"], len(document["rows"])) == (2, 3)
    first = {path: path.read_bytes() for path in written.files}
    again = report_across(sorted(runs.iterdir()), None)
    assert {path: path.read_bytes() for path in again.files} == first


def test_the_page_in_markdown(runs: Path) -> None:
    (runs / "inside" / "report").mkdir()
    (runs / "inside" / "report" / "report.html").write_text("its page")
    text = write_across(at(runs, "inside", "outside", "plain"), runs / "report").files[1].read_text(encoding="utf-8")
    assert unpadded(text).startswith(MARKDOWN.strip())
    assert text.endswith("## Reports of the experiments\n\n- [inside](../inside/report/report.html)\n")


MARKDOWN = """\
# Experiments side by side

**May the default ε stay? Change in 2 of 2 experiments.**

## Answers

| run | default ε | loses | narrowing | loses | margin | seeds |
| inside | change | 14.96 points (14.85 to 15.06 points) | no cost |
"""


def test_many_answers_are_counted_by_task_and_model(runs: Path) -> None:
    found = at(runs, "inside", "outside", "plain")
    assert across_tables(found)[0].title == "Answers"
    other = replace(found.rows[0], comparison=replace(found.rows[0].comparison, model="lstm"))
    table = across_tables(replace(found, rows=(*found.rows, other)))[0]
    assert table.title == "Answers by task"
    assert [(row[1:3], row[4], sum(map(int, row[6:]))) for row in table.rows] == [
        (("mlp", "2"), "2", 2),
        (("lstm", "1"), "1", 1),
    ]


def test_one_folder_that_holds_experiments_means_all_of_them(runs: Path) -> None:
    assert is_one([]) and is_one([runs / "inside"]) and is_one([runs / "nowhere"])
    assert not is_one([runs]) and not is_one([runs / "inside", runs / "outside"])
    assert [row.run for row in report_across([runs], runs / "page").found.rows] == ["inside", "outside", "plain"]
    assert (runs / "page" / "index.html").exists()


def test_the_page_never_lands_in_an_experiment(runs: Path) -> None:
    with pytest.raises(StoreError, match=r"is the folder of an experiment; name another for the page with --out DIR"):
        report_across([runs / "inside", runs / "outside"], runs / "plain")


def test_the_rows_as_csv(runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(_across_csv(at(runs, "inside", "outside", "plain")))))
    assert [row["default"] for row in rows] == ["change", "change", "not asked"]
    assert [row["narrowing"] for row in rows] == ["no cost", "costs", "not asked"]
    assert float(rows[1]["narrowing_loses"]) == pytest.approx(0.09, abs=0.01)
    assert (rows[0]["narrowed_epsilon"], rows[0]["narrowed_seeds"], rows[2]["narrowed_epsilon"]) == ("0.001", "2", "")
    assert float(rows[2]["reference_test"]) == pytest.approx(0.89, abs=0.01)
