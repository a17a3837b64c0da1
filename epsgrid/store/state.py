"""The state of a trial, told by its files alone."""

from __future__ import annotations

from epsgrid.store.lease import is_held
from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import TrialResult

FINISHED = ("done", "diverged")
"""The states of a trial that has a result."""


def trial_state(folder: TrialFolder) -> str:
    """Return the state of a trial.

    Args:
        folder: the trial's folder; it need not exist.

    Returns:
        "done" or "diverged": there is a result. "running": a living process holds the lease. "failed": the last attempt
        failed. "interrupted": it was begun and can go on. "pending": nothing is stored yet.

    Raises:
        CorruptRecordError: the result is damaged; the message names it.
    """
    if not folder.result_json.exists() and is_held(folder.lease):
        return "running"
    if folder.result_json.exists():  # looked for again: it may have come just before the lease was given back
        return TrialResult.read(folder.result_json).state
    if folder.failure_json.exists():
        return "failed"
    begun = folder.checkpoint.exists() or (folder.metrics_jsonl.exists() and folder.metrics_jsonl.stat().st_size > 0)
    return "interrupted" if begun else "pending"
