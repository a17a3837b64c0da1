"""The third stage: compare what was stored and write the report."""

from __future__ import annotations

from epsgrid.report.files import WrittenReport, write_report
from epsgrid.report.load import load_experiment
from epsgrid.store.paths import ExperimentFolder


def report(folder: ExperimentFolder) -> WrittenReport:
    """Compare the grids of an experiment and write its report folder; works at any time, on whatever is there.

    Raises:
        StoreError: there is no experiment, or the folder cannot be written.
        CorruptRecordError: a stored record is damaged; the message names it.
    """
    return write_report(load_experiment(folder))
