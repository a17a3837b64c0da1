"""The third stage: compare the stored results and write the report, of one experiment or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from epsgrid.report.across import WrittenAcross, across, write_across
from epsgrid.report.files import WrittenReport, write_report
from epsgrid.selection.load import load_experiment
from epsgrid.store.paths import ExperimentFolder


def report(folder: ExperimentFolder, *, paper: bool = False) -> WrittenReport:
    """Compare the grids of an experiment and write its report folder; works at any time, on whatever is stored.

    Args:
        folder: the experiment's.
        paper: write the figures as PNG and PDF, too.

    Raises:
        StoreError: there is no experiment, or the folder cannot be written.
        CorruptRecordError: a stored record is damaged; the message names it.
    """
    return write_report(load_experiment(folder), paper=paper)


def is_one(paths: Sequence[Path]) -> bool:
    """Return whether the folders given to the report name a single experiment, or none at all."""
    return len(paths) == 0 or (len(paths) == 1 and not _experiments_in(paths[0]))


def report_across(paths: Sequence[Path], out: Path | None) -> WrittenAcross:
    """Write a page over several experiments; each of them keeps its own report.

    Args:
        paths: their folders, such as a shell makes of `runs/*`; or one folder that holds them. The file `latest` and
            the page itself are skipped.
        out: the page's folder; None means `report` beside the first experiment.

    Raises:
        StoreError: the folder is that of an experiment, or cannot be written.
    """
    inside = _experiments_in(paths[0]) if len(paths) == 1 else ()
    given = inside or tuple(paths)
    folder = (out or given[0].absolute().parent / "report").absolute()
    pointers = [path for path in given if path.name == "latest" and path.is_file()]
    return write_across(across([path for path in given if path.absolute() != folder and path not in pointers]), folder)


def _experiments_in(path: Path) -> tuple[Path, ...]:
    """Return the experiments that a folder holds, by name; none where it is one itself."""
    if not path.is_dir() or ExperimentFolder(path).experiment_json.exists():
        return ()
    return tuple(sorted(found for found in path.iterdir() if ExperimentFolder(found).experiment_json.exists()))
