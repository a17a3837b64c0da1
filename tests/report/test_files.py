"""The report's folder: what is in it, and that it can always be written."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from epsgrid.errors import StoreError
from epsgrid.report.files import write_report
from epsgrid.report.html.experiment_page import experiment_page
from epsgrid.report.pictures import RenderedFigure
from epsgrid.report.text.bounds import layers_table
from epsgrid.report.text.page import page
from epsgrid.report.text.render import cells_table, stamp, tables
from epsgrid.selection.load import StoredExperiment, load_experiment
from epsgrid.store.paths import ExperimentFolder
from tests.report.simulate import Outcome, compare, peaked, simulate, unpadded

SMALL = {"rates": (1e-3,), "seeds": (0, 1), "narrowed": (1e-3,), "conventional": (1e-8, 1e-3)}


def written(stored: StoredExperiment) -> tuple[Path, ...]:
    return write_report(stored).files


def text_of(paths: tuple[Path, ...], name: str) -> str:
    return next(path for path in paths if path.name == name).read_text(encoding="utf-8")


def exact(rate: float, epsilon: float | None, seed: int) -> Outcome:
    validation, test = {1e-3: (0.9, 0.87), 1e-8: (0.75, 0.69)}[epsilon or 0.0]
    return validation, test + 0.02 * seed


def test_the_page_says_the_answers_first(tmp_path: Path) -> None:
    comparison = compare(simulate(tmp_path, data="a subset of digits", rates=(1e-4, 1e-3, 1e-2)))
    figure = RenderedFigure("curve", "Accuracy over ε", "Caption.", {"svg": b"", "png": b""})
    text = unpadded(page(comparison, [figure]))
    assert text.startswith(
        "# simulated: adam on digits\n\nModel mlp. Data: a subset of digits\n\n"
        "> **SUBSET DATA: the scores below do not compare with published ones.**\n\n**Change ε = 1e-8: at its best, "
    )
    titles = [line.split(":")[0] for line in text.splitlines() if line.startswith(("## ", "- **", "!["))]
    assert titles == [
        *(f"- **{name}**" for name in ("Each ε", "Narrowing", "Luck", "Optimizer", "Bounds", "Cost")),
        *(
            "## Each ε at its best learning rate",
            "## Best setting of each grid",
            "## What simple rules lose",
            "## Cost",
        ),
        *("## Bounds", "## Point estimates of ε, without a sweep", "## Entries whose step still adapts"),
        *("## Claims of the paper", "![Accuracy over ε](curve.svg)", "## Cells", "## Layers", "## Provenance"),
    ]
    assert "| narrowed | 1e-4 to 1e-2 | 27 | 0 | 0 | 4 min 30 s |" in text
    assert "Caption. ([PNG](curve.png))" in text


def test_all_files_are_written(tmp_path: Path) -> None:
    paths = written(simulate(tmp_path, exact, **SMALL))  # type: ignore[arg-type]
    pages = ["report.html", "report.md", "report.json", "report.csv", "report.tex"]
    figures = ["curve", "histograms"]
    assert [path.name for path in paths] == [*pages, *(f"{name}.svg" for name in figures)]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(path.name for path in paths)
    document = json.loads(text_of(paths, "report.json"))
    answers = {answer["question"]: answer["answer"] for answer in document["answers"]["answers"]}
    assert (document["version"], answers["default"], len(document["cells"])) == (1, "open", 2)
    first = {path: path.read_bytes() for path in paths}
    assert {path: path.read_bytes() for path in written(load_experiment(ExperimentFolder(tmp_path)))} == first


def test_a_paper_gets_its_formats_too_and_a_later_report_takes_them_away(tmp_path: Path) -> None:
    stored = simulate(tmp_path, sweep=False)
    paths = write_report(stored, paper=True).files
    assert [path.name for path in paths if path.stem == "histograms"] == [
        "histograms.svg",
        "histograms.png",
        "histograms.pdf",
    ]
    content = {path.suffix: path.read_bytes() for path in paths if path.stem == "histograms"}
    assert content[".png"].startswith(b"\x89PNG") and content[".pdf"].startswith(b"%PDF")
    assert "[PNG](histograms.png), [PDF](histograms.pdf)" in text_of(paths, "report.md")
    assert not [path for path in written(stored) if path.suffix in (".png", ".pdf")]
    assert not (tmp_path / "report" / "histograms.pdf").exists()


def test_the_table_has_one_row_per_cell(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "diverged" if epsilon == 1e-8 else exact(rate, epsilon, seed)

    paths = written(simulate(tmp_path, truth, **SMALL))  # type: ignore[arg-type]
    low, high = csv.DictReader(io.StringIO(text_of(paths, "report.csv")))
    assert (low["epsilon"], low["diverged"], low["test_mean"], low["inside_bounds"]) == ("1e-08", "2", "", "false")
    assert (float(high["test_mean"]), float(high["test_sd"])) == pytest.approx((0.88, 0.02 / 2**0.5))
    assert (high["grids"], high["best_of"], high["seconds"]) == (
        "narrowed conventional",
        "narrowed conventional",
        "20.0",
    )


def test_figures_of_an_earlier_report_are_removed(tmp_path: Path) -> None:
    write_report(simulate(tmp_path, exact, **SMALL))  # type: ignore[arg-type]
    (tmp_path / "bounds.json").unlink()
    paths = written(simulate(tmp_path, exact, probe=False, **SMALL))  # type: ignore[arg-type]
    assert not (tmp_path / "report" / "histograms.svg").exists()
    assert "histograms" not in text_of(paths, "report.md") + text_of(paths, "report.html")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    stored = simulate(tmp_path, sweep=False)
    (tmp_path / "report").write_text("a file in the way")
    with pytest.raises(StoreError, match="report"):
        write_report(stored)


def mostly_failed(rate: float, epsilon: float | None, seed: int) -> Outcome:
    return "failed" if seed else peaked()(rate, epsilon, seed)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"truth": lambda rate, epsilon, seed: "pending"}, "48 trainings have no result"),
        ({"truth": lambda rate, epsilon, seed: "diverged"}, "every setting diverged on some seed"),
        ({"truth": mostly_failed}, "trainings have no result"),
        ({"seeds": (0,)}, "one seed cannot tell"),
        ({"probe": False}, "bounds.json: no bounds were measured"),
        ({"conventional": None}, "The default ε = "),
        ({"narrowed": None}, "Change ε = "),
        ({"sweep": False}, "no grid was swept"),
        ({"sweep": False, "probe": False}, "no bounds were measured"),
        ({"reference": True, "probe": False, "optimizer": "sgdm"}, "This optimizer has no ε."),
        ({"reference": True, "probe": False, "truth": lambda rate, epsilon, seed: "diverged"}, "every trial diverged"),
        ({"selection": "test"}, "selected on the test split"),
    ],
)
def test_whatever_is_stored_there_is_a_clear_page(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    small = {"rates": (1e-4, 1e-3, 1e-2), "seeds": (0, 1), **changes}
    comparison = compare(simulate(tmp_path, **small))  # type: ignore[arg-type]
    for text in (page(comparison, []), re.sub("<[^>]+>", "", experiment_page(comparison, []))):
        assert says in text
        assert [table.title for table in tables(comparison) if table.title not in text] == []
        assert re.findall(r"\b(?:None|nan|inf)\b", text) == []


@pytest.mark.parametrize("changes", [{}, {"selection": "test"}, {"sweep": False}, {"reference": True}])
def test_every_row_of_a_table_fits_its_columns(tmp_path: Path, changes: dict[str, object]) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "failed" if epsilon in (1e-8, 1e-3) else peaked()(rate, epsilon, seed)

    comparison = compare(simulate(tmp_path, truth, **changes))  # type: ignore[arg-type]
    layers = layers_table(comparison.bounds) if comparison.bounds else None
    for table in (*tables(comparison), layers, cells_table(comparison)):
        assert table is None or all(len(row) == len(table.columns) for row in table.rows), table


def test_many_unfinished_trials_are_shortened(tmp_path: Path) -> None:
    comparison = compare(simulate(tmp_path, lambda rate, epsilon, seed: "failed"))
    table = next(table for table in tables(comparison) if table.title == "Trials without a score")
    assert (len(table.rows), table.note) == (20, "and 28 more trials: see report.json")


@pytest.mark.parametrize(
    ("data", "begins"),
    [
        ("GENERATED images (no real data): 100 training", "GENERATED DATA"),
        ("a subset of CIFAR-10: 5,000 of 50,000", "SUBSET DATA"),
        ("a subset of GENERATED images", "SUBSET OF GENERATED DATA"),
        ("CIFAR-10: 50,000 training images", None),
    ],
)
def test_data_that_are_not_the_whole_are_stamped(tmp_path: Path, data: str, begins: str | None) -> None:
    found = stamp(compare(simulate(tmp_path, sweep=False, data=data)))
    assert found is None if begins is None else found is not None and found.startswith(begins)
