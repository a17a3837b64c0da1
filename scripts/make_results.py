"""Make the reports of finished experiments, and a table and a page that lead to all of them.

    python scripts/make_results.py runs/first runs/second --out runs/gallery

writes runs/gallery/index.html and runs/gallery/summary.md, and beside them a folder with the report of each experiment.
The table is also printed, for experiments/RESULTS.md. Experiments that are not finished are listed with what they have.
"""

from __future__ import annotations

import argparse
import html
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from epsgrid.errors import EpsgridError
from epsgrid.report.rows import Comparison
from epsgrid.report.text.render import headline, stamp
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED
from epsgrid.selection.formatting import NOTHING, duration, power, score
from epsgrid.stages.report import report
from epsgrid.store.atomic import write_text
from epsgrid.store.paths import ExperimentFolder

COLUMNS = (
    "experiment",
    "task",
    "model",
    "optimizer",
    "ε between",
    "probe",
    "decades saved",
    "narrowed: lr, ε",
    "test",
    "conventional: lr, ε",
    "test",
    "default ε: test",
    "optimum inside",
    "trials",
    "training",
)
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 110rem; padding: 0 1rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .4rem .7rem; text-align: left; white-space: nowrap; border-bottom: 1px solid #8886; }
li { margin: .5rem 0; }
"""


@dataclass(frozen=True)
class Result:
    """An experiment whose report was made.

    Attributes:
        page: the address of its report, as seen from the gallery's folder.
        row: a text for each of `COLUMNS`.
        verdict: in one sentence.
        warning: that data are a part, or generated; None where they are neither.
    """

    page: str
    row: tuple[str, ...]
    verdict: str
    warning: str | None


def main() -> int:
    arguments = _parser().parse_args()
    folders = [folder for folder in arguments.folders if (folder / "experiment.json").exists()]
    for folder in arguments.folders:
        if folder not in folders and folder.resolve() != arguments.out.resolve():
            print(f"{folder}: no experiment, left out", file=sys.stderr)
    if not folders:
        print("error: no experiment among the folders; `epsgrid sweep SPEC` makes one in runs/", file=sys.stderr)
        return 2
    names = [folder.resolve().name for folder in folders]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        print(f"error: several folders are called {', '.join(twice)}; rename all but one", file=sys.stderr)
        return 2
    try:
        results = [result_of(folder, arguments.out) for folder in folders]
    except EpsgridError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    text = summary(results)
    write_text(arguments.out / "summary.md", text)
    write_text(arguments.out / "index.html", index(results))
    print(text, end="")
    print(f"Index: {arguments.out / 'index.html'}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="an experiment's folder")
    parser.add_argument("--out", type=Path, default=Path("runs/gallery"), help="where to [%(default)s]")
    return parser


def result_of(folder: Path, out: Path) -> Result:
    """Make the report of an experiment, and copy it into the gallery.

    Raises:
        EpsgridError: the experiment cannot be read, or the report not be written.
    """
    print(f"{folder}: report", file=sys.stderr)
    written = report(ExperimentFolder(folder.absolute()))
    comparison, source = written.comparison, written.files[0].parent
    name = folder.resolve().name
    shutil.copytree(source, out / name, dirs_exist_ok=True)
    page = next((path.name for path in written.files if path.suffix == ".html"), written.files[0].name)
    return Result(f"{quote(name)}/{page}", row_of(comparison), headline(comparison), stamp(comparison))


def row_of(comparison: Comparison) -> tuple[str, ...]:
    """Return a row of the table, a text for each of `COLUMNS`."""
    bounds, trust = comparison.bounds, comparison.reliability
    ratio = comparison.decades_ratio
    return (
        comparison.experiment,
        comparison.task,
        comparison.model,
        comparison.optimizer,
        f"{power(bounds.low.decade)} … {power(bounds.high.decade)}" if bounds else NOTHING,
        trust.verdict if trust else NOTHING,
        f"{ratio:.1f} times" if ratio is not None else NOTHING,
        *best_of(comparison, NARROWED),
        *best_of(comparison, CONVENTIONAL),
        best_of(comparison, DEFAULT)[1],
        comparison.verdict.answer,
        trials_of(comparison),
        duration(sum(trial.seconds or 0.0 for cell in comparison.cells for trial in cell.trials)),
    )


def best_of(comparison: Comparison, name: str) -> tuple[str, str]:
    """Return the best setting of a grid and its test score as texts."""
    row = comparison.best_of(name)
    cell = row.choice.cell if row else None
    if cell is None or cell.test is None or comparison.metric is None:
        return NOTHING, NOTHING
    return cell.words, score(cell.test.mean, cell.test.sd, comparison.metric)


def trials_of(comparison: Comparison) -> str:
    """Return the number of trials with a result, and of all trials where that is more."""
    states = [trial.state for cell in comparison.cells for trial in cell.trials]
    ended = sum(state in ("done", "diverged") for state in states)
    return str(ended) if ended == len(states) else f"{ended} of {len(states)}"


def summary(results: Sequence[Result]) -> str:
    """Return the table in Markdown, and each verdict below it."""
    lines = [_markdown_row(COLUMNS), _markdown_row(["---"] * len(COLUMNS))]
    for result in results:
        name, *rest = map(_cell, result.row)
        lines.append(_markdown_row((f"[{name}]({result.page})", *rest)))
    lines.append("")
    for result in results:
        warning = f" {result.warning}" if result.warning else ""
        lines.append(f"* **{_cell(result.row[0])}**: {result.verdict}{warning}")
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def index(results: Sequence[Result]) -> str:
    """Return the page that links to the reports; it needs no other file."""
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in COLUMNS)
    rows = "\n".join(_html_row(result) for result in results)
    verdicts = "\n".join(_html_verdict(result) for result in results)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>epsgrid: results</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>Results</h1>\n"
        f"<div><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n"
        f"<ul>\n{verdicts}\n</ul>\n</body>\n</html>\n"
    )


def _html_verdict(result: Result) -> str:
    words = html.escape(" ".join(filter(None, (result.verdict, result.warning))))
    return f"<li><b>{html.escape(result.row[0])}</b>: {words}</li>"


def _html_row(result: Result) -> str:
    link = f'<a href="{html.escape(result.page)}">{html.escape(result.row[0])}</a>'
    cells = [link, *map(html.escape, result.row[1:])]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


if __name__ == "__main__":
    sys.exit(main())
