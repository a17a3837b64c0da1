"""Write the report's folder.

    report.html   everything on one page: answers, figures, costs, bounds, layers, provenance
    report.md     the same in plain text
    report.json   the whole comparison, versioned
    report.csv    one row per learning rate and ε
    report.tex    the tables that a paper would show
    NAME.svg      each figure that `FIGURES` lists and that has something to show; .png and .pdf for a paper

Equal records give equal bytes, and each file is replaced whole.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from epsgrid.report.compare import whole
from epsgrid.report.html.experiment_page import experiment_page
from epsgrid.report.pictures import FIGURES, render_figures
from epsgrid.report.rows import Comparison
from epsgrid.report.text.latex import latex_tables
from epsgrid.report.text.page import page
from epsgrid.selection.load import StoredExperiment
from epsgrid.store.atomic import readable_json, store_errors, write_bytes, write_text

VERSION = 1


@dataclass(frozen=True)
class WrittenReport:
    """A report and its files, the page for people first."""

    comparison: Comparison
    files: tuple[Path, ...]


def write_report(stored: StoredExperiment, *, paper: bool = False) -> WrittenReport:
    """Write the report of an experiment into its folder.

    The page says what is missing; a figure that has nothing to show is not written, and that of an earlier report is
    removed.

    Args:
        stored: the experiment.
        paper: write the figures as PNG and PDF, too.

    Raises:
        CorruptRecordError: records contradict each other.
        StoreError: the folder cannot be written.
    """
    (comparison, _, seen), folder = whole(stored), stored.folder.report_dir
    figures = render_figures(stored, comparison, seen, paper=paper)
    contents: dict[str, str | bytes] = {
        "report.html": experiment_page(comparison, figures),
        "report.md": page(comparison, figures),
        "report.json": readable_json({"version": VERSION, **comparison.to_json()}) + "\n",
        "report.csv": _cells_csv(comparison),
        "report.tex": latex_tables(comparison),
    }
    for figure in figures:
        contents |= {f"{figure.name}.{suffix}": content for suffix, content in figure.files.items()}
    for name, content in contents.items():
        if isinstance(content, str):
            write_text(folder / name, content)
        else:
            write_bytes(folder / name, content)
    for name in (f"{stem}.{suffix}" for stem in FIGURES for suffix in ("svg", "png", "pdf")):
        if name not in contents:
            with store_errors("remove", folder / name):
                (folder / name).unlink(missing_ok=True)
    return WrittenReport(comparison, tuple(folder / name for name in contents))


def _cells_csv(comparison: Comparison) -> str:
    """Return one row per learning rate and ε as CSV; metrics in their stored unit, empty where not known."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for cell in comparison.cells:
        spreads = [(spread.mean, spread.sd) if spread else (None, None) for spread in (cell.score, cell.test)]
        writer.writerow(
            (
                cell.learning_rate,
                cell.epsilon,
                " ".join(cell.grids),
                None if cell.inside is None else str(cell.inside).lower(),
                cell.tally.trials,
                cell.tally.done,
                cell.tally.diverged,
                cell.tally.failed,
                cell.tally.missing,
                comparison.metric.name if comparison.metric else None,
                comparison.selection,
                *spreads[0],
                *spreads[1],
                cell.tally.seconds,
                " ".join(row.name for row in comparison.best if row.choice.cell is cell),
                cell.trained_rate,
                cell.tally.pruned,
            )
        )
    return buffer.getvalue()


_CSV_COLUMNS = (
    *("learning_rate", "epsilon", "grids", "inside_bounds", "seeds", "done", "diverged", "failed", "missing"),
    *("metric", "selection", "selecting_mean", "selecting_sd", "test_mean", "test_sd", "seconds", "best_of"),
    *("trained_rate", "pruned"),
)
