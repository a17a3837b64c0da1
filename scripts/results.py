"""Keep finished experiments in the repository, and make every page and table of them again without training.

    python scripts/results.py keep runs-claims/claims-*/    # into experiments/results/, some 30 kB each
    python scripts/results.py build    # into runs/results/, anew: what `make results` does

Of each experiment everything is kept that its report needs: all records and results, and of the trainings at the best
settings also what each epoch scored and what was observed. So the pages are those of the experiment as it was trained,
byte for byte, but for a note on trials of no grid, which are not kept. RESULTS.md, between its marks, gets the tables
over all of them.
"""

from __future__ import annotations

import argparse
import io
import lzma
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from epsgrid.report.across import across, across_tables, write_across
from epsgrid.report.compare import whole
from epsgrid.report.files import write_report
from epsgrid.report.text.page import table_block
from epsgrid.selection.load import load_experiment
from epsgrid.store.paths import ExperimentFolder

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "experiments" / "results"
PAGE = ROOT / "experiments" / "RESULTS.md"
END = "<!-- end of the tables -->\n"
SHOWN = {
    "<!-- the answers in short: make results -->\n": ("Answers by task",),
    "<!-- tables over all kept experiments: make results -->\n": (
        *("Answers", "What rules of thumb lose", "Without ε", "Claims at a glance"),
        *("ε relative to the median gradient magnitude", "Where the best ε lies"),
    ),
}
"""Marks in RESULTS.md, and the tables that stand between each of them and the next end."""
SUFFIX = ".tar.xz"


def needed(folder: ExperimentFolder) -> Iterator[Path]:
    """Yield the files that a report reads; trials of no grid are not among them."""
    stored = load_experiment(folder)
    comparison, _, _ = whole(stored)
    shown = {trial.id for row in comparison.best if row.choice.cell for trial in row.choice.cell.trials}
    yield from folder.root.glob("*.json")
    yield from folder.probes_dir.glob("*.json")
    for trial in folder.trials():
        if trial.id in stored.orphaned:
            continue
        yield from (trial.spec_json, trial.result_json, trial.failure_json, trial.prune_json)
        if trial.id in shown:
            yield from (trial.metrics_jsonl, trial.observations_jsonl)


def keep(folder: ExperimentFolder) -> Path:
    """Pack an experiment; equal experiments give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(path for path in needed(folder) if path.is_file()):
            member = tarfile.TarInfo(path.relative_to(folder.root).as_posix())
            content = path.read_bytes()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{folder.root.name}{SUFFIX}"
    path.write_bytes(lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    return path


def unpacked(path: Path, out: Path) -> Path:
    """Unpack a kept experiment in place of an earlier one, and write its own report; return its folder."""
    folder = out / path.name.removesuffix(SUFFIX)
    if folder.exists():
        shutil.rmtree(folder)
    with tarfile.open(path, "r:xz") as archive:
        archive.extractall(folder, filter="data")
    write_report(load_experiment(ExperimentFolder(folder)))
    return folder


def build(out: Path, workers: int | None) -> Path:
    """Make all pages below `out`, and the tables of RESULTS.md; return the page that leads to the others."""
    kept, one = sorted(KEPT.glob(f"*{SUFFIX}")), partial(unpacked, out=out)
    if workers == 1:
        folders = [one(path) for path in kept]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            folders = list(pool.map(one, kept))
    found = across(folders)
    written = write_across(found, out / "all")
    page, made = PAGE.read_text(encoding="utf-8"), across_tables(found)
    for mark, titles in SHOWN.items():
        before, _, rest = page.partition(mark)
        _, _, after = rest.partition(END)
        tables = "\n\n".join(table_block(table) for table in made if table.title in titles)
        page = f"{before}{mark}\n{tables}\n\n{END}{after}"
    PAGE.write_text(page, encoding="utf-8")
    return written.files[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    keeping = commands.add_parser("keep", help="pack experiments into experiments/results/")
    keeping.add_argument("runs", nargs="+", type=Path)
    building = commands.add_parser("build", help="make every page and table from experiments/results/")
    building.add_argument("--workers", type=int, default=None, help="processes; default: one per core")
    options = parser.parse_args()
    if options.command == "build":
        print(f"Report: {build(ROOT / 'runs' / 'results', options.workers)}")
        return
    for run in options.runs:
        path = keep(ExperimentFolder(run.absolute()))
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
