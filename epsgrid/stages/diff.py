"""Say what differs between two experiments."""

from __future__ import annotations

from epsgrid.report.diff import diff as differences
from epsgrid.report.diff_rows import Diff
from epsgrid.report.load import load_experiment
from epsgrid.store.paths import ExperimentFolder


def diff(a: ExperimentFolder, b: ExperimentFolder) -> Diff:
    """Return what differs between two experiments; works at any time, on whatever is there.

    Raises:
        StoreError: one of them is no experiment, or cannot be read.
        CorruptRecordError: a stored record is damaged; the message names it.
    """
    return differences(load_experiment(a), load_experiment(b))
