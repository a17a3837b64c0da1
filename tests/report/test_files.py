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

SNAPSHOT = """\
# simulated: adam on digits

Model mlp. Data: a subset of digits

> **SUBSET DATA: the scores below do not compare with published ones.**

**optimum inside: yes – best inside (lr 1e-3, ε 1e-3) 88.00 ± 1.41 %, best outside (lr 1e-3, ε 1e-8) 70.00 ± 1.41 %: \
inside is better, 95 % interval of the difference +9.02 to +26.98 points over 2 seeds.**

## Read this first

- only one learning rate was tried, 1e-3

## Best setting of each grid

| search | learning rate | ε | validation | test | 95 % interval | seeds |
| narrowed | 1e-3 | 1e-3 | 90.00 ± 0.00 % | 88.00 ± 1.41 % | 75.29 to 100.71 % | 2 |
| conventional | 1e-3 | 1e-3 | 90.00 ± 0.00 % | 88.00 ± 1.41 % | 75.29 to 100.71 % | 2 |
| default ε | 1e-3 | 1e-8 | 75.00 ± 0.00 % | 70.00 ± 1.41 % | 57.29 to 82.71 % | 2 |
| estimate: middle, median, layers | 1e-3 | 1e-3 | 90.00 ± 0.00 % | 88.00 ± 1.41 % | 75.29 to 100.71 % | 2 |

Accuracy, mean ± standard deviation over seeds, at each trial's best validation epoch; larger is better; interval: of \
the mean on test, Student's t.

## Differences, paired by seed

| difference on test | mean | 95 % interval | seeds | meaning |
| regret of the narrowed grid (conventional − narrowed) | 0.00 points | – | 2 | both chose the same setting |
| gain over the default ε (narrowed − default) | +18.00 points | +9.02 to +26.98 points | 2 | narrowed wins |

## Regret of each search

| search | regret on test | 95 % interval | seeds | meaning |
| narrowed | 0.00 points | – | 2 | the best of all |
| conventional | 0.00 points | – | 2 | the best of all |
| default ε | +18.00 points | +9.02 to +26.98 points | 2 | loses |
| estimate: middle, median, layers | 0.00 points | – | 2 | the best of all |

Regret: best swept setting − the best of this search, paired by seed; the best of all was chosen by the validation \
scores, so another may win on test.

## Grids

| grid | ε | decades | trials | done | diverged | failed | missing | training time |
| narrowed | 1e-3 | 1 | 2 | 2 | 0 | 0 | 0 | 20.0 s |
| conventional | 1e-8, 1e-3 | 2 | 4 | 4 | 0 | 0 | 0 | 40.0 s |

The conventional grid searches 2 × the decades of the narrowed one.

## Cost

| search | trials | training time | wall time | probe | trials saved | time saved |
| narrowed | 2 | 20.0 s | 20.0 s | 3.0 s | 2 | 17.0 s |
| conventional | 4 | 40.0 s | 20.0 s | – | 0 | 0.0 s |
| default ε | 2 | 20.0 s | 20.0 s | – | 2 | 20.0 s |
| estimate: middle, median, layers | 2 | 20.0 s | 20.0 s | 3.0 s | 2 | 17.0 s |

Each search as if it were run alone; training time: of all its trials together; wall time: while at least one of them \
was training, with as many at once as there were; saved: against the conventional grid, the probe counted; 2 trials \
belong to both grids and were trained once.

## Bounds

| bound | √v̂ | ε | decade | set by | as | non-zero entries |
| lower | 1.08e-4 | 1.08e-4 | 1e-4 | 0.weight | 2 % point | 5,000 |
| upper | 1e-2 | 1e-2 | 1e-2 | 0.bias | maximum: too few entries for a percentile | 10 |

2 of 2 layers measured; ε enters outside the root: √v̂ + ε.
"""
AFTER_THE_ESTIMATES = """\
## Entries whose step still adapts

| ε | weighs as √v̂ | entries with √v̂ above |
| 1e-8 | 1e-8 | 100.0 % |
| 1e-3 | 1e-3 | 37.6 % |

Measured by the probe, before training; zeros count as not adapting.

![Accuracy against ε](metric.svg)

Caption. ([PNG](metric.png))
"""


def written(stored: StoredExperiment) -> tuple[Path, ...]:
    return write_report(stored).files


def text_of(paths: tuple[Path, ...], name: str) -> str:
    return next(path for path in paths if path.name == name).read_text(encoding="utf-8")


def exact(rate: float, epsilon: float | None, seed: int) -> Outcome:
    validation, test = {1e-3: (0.9, 0.87), 1e-8: (0.75, 0.69)}[epsilon or 0.0]
    return validation, test + 0.02 * seed


def test_the_page_says_the_verdict_first(tmp_path: Path) -> None:
    comparison = compare(simulate(tmp_path, exact, data="a subset of digits", **SMALL))  # type: ignore[arg-type]
    text = unpadded(
        page(comparison, [RenderedFigure("metric", "Accuracy against ε", "Caption.", {"svg": b"", "png": b""})])
    )
    assert text.startswith(SNAPSHOT)
    estimates, after = text.removeprefix(SNAPSHOT).split("## Entries whose", 1)
    assert estimates.startswith("\n## Point estimates of ε, without a sweep\n\n| estimate | formula | ε | decade |")
    assert ("## Entries whose" + after).startswith(AFTER_THE_ESTIMATES)
    assert "\n## Cells\n" in text and "\n## Layers\n" in text and "\n## Provenance\n" in text


def test_all_files_are_written(tmp_path: Path) -> None:
    paths = written(simulate(tmp_path, exact, **SMALL))  # type: ignore[arg-type]
    pages = ["report.html", "report.md", "report.json", "report.csv", "report.tex"]
    figures = ["metric", "histograms", "fractions"]
    assert [path.name for path in paths] == [*pages, *(f"{name}.svg" for name in figures)]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(path.name for path in paths)
    document = json.loads(text_of(paths, "report.json"))
    assert (document["version"], document["verdict"]["answer"], len(document["cells"])) == (1, "yes", 2)
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
        "narrowed conventional estimate",
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
        ({"truth": lambda rate, epsilon, seed: "pending"}, "no trial has finished"),
        ({"truth": lambda rate, epsilon, seed: "diverged"}, "every trial diverged"),
        ({"truth": mostly_failed}, "none of 6 cells has a result for every seed"),
        ({"seeds": (0,)}, "one seed has no spread"),
        ({"probe": False}, "no bounds were measured"),
        ({"conventional": None}, "the conventional grid was not swept"),
        ({"narrowed": None}, "the narrowed grid was not swept"),
        ({"sweep": False}, "no grid was swept"),
        ({"sweep": False, "probe": False}, "no bounds were measured"),
        ({"reference": True, "probe": False, "optimizer": "sgdm"}, "sgdm has no ε"),
        ({"reference": True, "probe": False, "truth": lambda rate, epsilon, seed: "diverged"}, "every trial diverged"),
        ({"selection": "test"}, "selected on the test split"),
    ],
)
def test_whatever_is_stored_there_is_a_clear_page(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    small = {"rates": (1e-3, 1e-2), "seeds": (0, 1), **changes}
    comparison = compare(simulate(tmp_path, **small))  # type: ignore[arg-type]
    for text in (page(comparison, []), experiment_page(comparison, [])):
        assert says in text
        assert re.findall(r"\b(?:None|nan|inf)\b", text) == []


@pytest.mark.parametrize("changes", [{}, {"selection": "test"}, {"sweep": False}, {"reference": True}])
def test_every_row_of_a_table_fits_its_columns(tmp_path: Path, changes: dict[str, object]) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "failed" if epsilon in (1e-8, 1e-3) else peaked()(rate, epsilon, seed)

    comparison = compare(simulate(tmp_path, truth, **changes))  # type: ignore[arg-type]
    layers = layers_table(comparison.bounds) if comparison.bounds else None
    for table in (*tables(comparison), layers, cells_table(comparison)):
        assert table is None or all(len(row) == len(table.columns) for row in table.rows), table


def test_losing_and_winning_are_told_in_words(tmp_path: Path) -> None:
    def told(name: str, best: float) -> list[str]:
        comparison = compare(simulate(tmp_path / name, peaked(best=best)))
        differences = next(table for table in tables(comparison) if table.title.startswith("Differences"))
        return [row[-1] for row in differences.rows]

    assert told("a", 1e-6) == ["narrowed loses", "no clear difference"]
    assert told("b", 1e-7) == ["narrowed loses", "default wins"]
    assert told("c", 1e-3) == ["both chose the same setting", "narrowed wins"]


def test_many_loose_ends_are_shortened(tmp_path: Path) -> None:
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
