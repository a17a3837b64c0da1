"""The third stage: find the experiments that a report is about, and write a page over several of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from epsgrid.report.across import WrittenAcross, across, write_across
from epsgrid.store.paths import ExperimentFolder


def is_one(paths: Sequence[Path]) -> bool:
    """Return whether the folders given to the report name a single experiment, or none at all."""
    return len(paths) == 0 or (len(paths) == 1 and not _experiments_in(paths[0]))


def report_across(paths: Sequence[Path], out: Path | None) -> WrittenAcross:
    """Write a page over several experiments, in `out` or in `report` beside the first; each keeps its own report.

    The paths are their folders, such as a shell makes of `runs/*`, where the file `latest` and the page itself are
    skipped; or one folder that holds them. Raises StoreError where the folder is that of an experiment, or cannot be
    written.
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
