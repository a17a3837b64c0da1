"""Ending a trial early: `prune.json` in its folder.

The sweep asks; the trial, which alone holds its lease, ends after the epoch under way and notes how far it came. A
trial that is unpruned, because a user wants it trained to its end, is not asked again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import Record


@dataclass(frozen=True)
class Pruning(Record):
    """The state of a trial that fell behind others.

    Attributes:
        state: "asked": it is to end after the epoch under way. "pruned": it has. "spared": it was unpruned, and is to
            be trained to its end.
        judged_epoch: the epoch by whose score it fell behind, from 1.
        epochs_trained: whole epochs it has trained, of `epochs`; None unless pruned.
        why: by which rule it fell behind, in words.
        when: of the latest change, ISO 8601 in UTC.
    """

    id: str
    state: Literal["asked", "pruned", "spared"]
    judged_epoch: int
    epochs_trained: int | None
    epochs: int
    why: str
    when: str

    @property
    def label(self) -> str:
        """One line about how it ended."""
        return f"pruned after epoch {self.epochs_trained} of {self.epochs}: {self.why}"


def is_asked(folder: TrialFolder) -> bool:
    """Return whether a trial is to end, or has ended early and was not unpruned since."""
    found = Pruning.find(folder.prune_json)
    return found is not None and found.state != "spared"


def ask(folder: TrialFolder, judged_epoch: int, epochs: int, why: str) -> bool:
    """Ask a trial to end after the epoch under way, unless it was asked or unpruned before; return whether we did."""
    if folder.prune_json.exists():
        return False
    Pruning(folder.id, "asked", judged_epoch, None, epochs, why, _now()).write(folder.prune_json)
    return True


def note_pruned(folder: TrialFolder, epochs_trained: int) -> Pruning:
    """Note that a trial has ended as it was asked to; for the holder of its lease."""
    asked = Pruning.read(folder.prune_json)
    noted = replace(asked, state="pruned", epochs_trained=epochs_trained, when=_now())
    noted.write(folder.prune_json)
    return noted


def unprune(folder: TrialFolder) -> None:
    """Let a trial be trained to its end; one that was never asked to end is left as it is."""
    found = Pruning.find(folder.prune_json)
    if found is not None and found.state != "spared":
        replace(found, state="spared", when=_now()).write(folder.prune_json)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
