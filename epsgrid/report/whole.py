"""An experiment's comparison with all that takes more than its records: what was observed, and the claims."""

from __future__ import annotations

from dataclasses import replace

from epsgrid.report.claims import claims
from epsgrid.report.compare import compare
from epsgrid.report.judgement import run_of
from epsgrid.report.observed import Observed, observed, observed_row
from epsgrid.report.rows import Comparison
from epsgrid.selection.load import StoredExperiment


def whole(stored: StoredExperiment) -> tuple[Comparison, tuple[Observed, ...]]:
    """Return the whole comparison of an experiment, and the trials whose snapshots it shows.

    Raises:
        CorruptRecordError: records contradict each other, or what was observed is damaged.
    """
    comparison = compare(stored)
    seen = observed(stored, comparison.best)
    rows = tuple(observed_row(each, stored, comparison.optimizer) for each in seen)
    comparison = replace(comparison, observed=rows)
    return replace(comparison, claims=claims([run_of(stored, comparison)])), seen
