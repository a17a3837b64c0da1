"""Whether a trial is to end early, or did: `prune.json` in its folder.

Whoever sweeps asks; the trial, which alone holds its lease, obeys after the epoch under way and notes how far it came.
A trial that is spared, because somebody wants it trained to its end, is asked no more. The file is replaced whole, and
a state that is out of date by a moment does no harm: a trial that is asked again ends again where it is, and one whose
result is there has ended whatever the file says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import ClassVar, Literal, final

from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import Record


@final
@dataclass(frozen=True)
class Pruning(Record):
    """What became of a trial that fell behind others.

    Attributes:
        id: the trial's id.
        state: "asked": it is to end after the epoch under way. "pruned": it has. "spared": it is to be trained to its
            end all the same.
        judged_epoch: the epoch by whose score it fell behind, from 1.
        epochs_trained: whole epochs it has trained; None unless pruned.
        epochs: what it would train undisturbed.
        why: by which rule it fell behind, in words.
        when: of the latest change, ISO 8601 in UTC.
    """

    stored_as: ClassVar[str] = "pruning record"

    id: str
    state: Literal["asked", "pruned", "spared"]
    judged_epoch: int
    epochs_trained: int | None
    epochs: int
    why: str
    when: str

    @property
    def words(self) -> str:
        """How it ended, in a line."""
        return f"pruned after epoch {self.epochs_trained} of {self.epochs}: {self.why}"


def read_pruning(folder: TrialFolder) -> Pruning | None:
    """Return what is known of a trial's pruning; None for one that was never asked to end.

    Raises:
        CorruptRecordError: the file is damaged; the message names it.
    """
    return Pruning.read(folder.prune_json) if folder.prune_json.exists() else None


def is_asked(folder: TrialFolder) -> bool:
    """Say whether a trial is to end; also one that did so before, and was not spared since."""
    found = read_pruning(folder)
    return found is not None and found.state != "spared"


def ask(folder: TrialFolder, judged_epoch: int, epochs: int, why: str) -> bool:
    """Ask a trial to end after the epoch under way, unless it was asked before or is spared; say whether we did."""
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


def spare(folder: TrialFolder) -> None:
    """Let a trial be trained to its end; one that was never asked to end is left as it is."""
    found = read_pruning(folder)
    if found is not None and found.state != "spared":
        replace(found, state="spared", when=_now()).write(folder.prune_json)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
