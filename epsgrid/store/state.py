"""The state of a trial, as its files say."""

from __future__ import annotations

from typing import NamedTuple

from epsgrid.store.lease import is_held
from epsgrid.store.paths import TrialFolder
from epsgrid.store.pruning import Pruning
from epsgrid.store.records import TrialResult

FINISHED = ("done", "diverged")
"""The states of a trial that has a result."""

PRUNED = "pruned"
"""The state of a trial that was ended early because it fell behind: it has no result, and none is missing."""

STATES = ("pending", "running", "interrupted", "failed", PRUNED, *FINISHED)
"""All states of a trial."""


class _Summary(NamedTuple):
    """The state of a trial, one of `STATES`, and the training time of one that has a result."""

    state: str
    seconds: float | None = None


def trial_state(folder: TrialFolder) -> str:
    """Return the state of a trial; see `summary`."""
    return summary(folder).state


def summary(folder: TrialFolder) -> _Summary:
    """Return the state of a trial, and its cost if it has a result.

    The states are "done" or "diverged": there is a result; "running": a living process holds the lease; "failed": the
    last attempt failed; "pruned": it was ended early, and can go on; "interrupted": it was begun and can go on;
    "pending": nothing is stored yet. Raises CorruptRecordError where the result is damaged, StoreError where it is too
    new.
    """
    is_running = not folder.result_json.exists() and is_held(folder.lease)
    if folder.result_json.exists():  # it may have come just before the lease was released
        result = TrialResult.read(folder.result_json)
        return _Summary(result.state, result.seconds)
    if is_running:
        return _Summary("running")
    if folder.failure_json.exists():
        return _Summary("failed")
    if (pruning := Pruning.find(folder.prune_json)) is not None and pruning.state == PRUNED:
        return _Summary(PRUNED)
    begun = (
        folder.checkpoint.exists()
        or folder.has_work
        or (folder.metrics_jsonl.exists() and folder.metrics_jsonl.stat().st_size > 0)
    )
    return _Summary("interrupted" if begun else "pending")
