"""The stored records: experiments, probes, grids, epochs, results and failures.

Each record is a JSON object `{"version": 1, ...fields..., "checksum": sha256}`. Reading checks all three: a newer
version is refused as such, an unknown or missing field and a checksum that does not match are damage, and damage is
reported, never dropped. Scores of a diverged trial may be NaN or infinite; `epsgrid.codec` says how that is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

from epsgrid import codec
from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.statistics import LEVEL
from epsgrid.spec.trial import Trial
from epsgrid.store import atomic

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds

VERSION = 1


@dataclass(frozen=True)
class Record:
    """Base of all records: to sealed JSON and back."""

    stored_as: ClassVar[str] = "record"

    def to_json(self) -> dict[str, Any]:
        """Return the record as a sealed JSON object."""
        return atomic.seal({"version": VERSION, **codec.to_document(self)})

    @classmethod
    def from_json(cls, document: Any, source: str | Path = "<record>") -> Self:
        """Return the record that a sealed JSON object holds.

        Args:
            document: a result of `to_json`, stored and read again.
            source: the place that an error names.

        Raises:
            StoreError: a newer epsgrid wrote it.
            CorruptRecordError: it is damaged, or no such record.
        """
        if not isinstance(document, Mapping):
            raise CorruptRecordError(f"{source} is damaged: expected an object, got {type(document).__name__}")
        version = document.get("version")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise CorruptRecordError(
                f"{source} is not a {cls.stored_as} of epsgrid: expected a version, got {version!r}"
            )
        if version > VERSION:
            raise StoreError(
                f"{source} was written by a newer epsgrid ({cls.stored_as} version {version}, this one reads up to"
                f" {VERSION}); update epsgrid to read it"
            )
        content = atomic.unseal(document, source)
        content = {name: value for name, value in content.items() if name != "version"}
        return codec.from_document(cls, content, str(source))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the record stored at `path`; raises as `from_json`, and StoreError when there is none."""
        return cls.from_json(atomic.read_json(path), path)

    def write(self, path: Path) -> None:
        """Store the record whole at `path`; see `epsgrid.store.atomic`."""
        atomic.write_json(path, self.to_json())

    @property
    def checksum(self) -> str:
        """The checksum the record is sealed with, by which another record can refer to it."""
        return str(self.to_json()[atomic.CHECKSUM])


@final
@dataclass(frozen=True)
class Scores:
    """Scores on one split, each possibly NaN or infinite when training diverged.

    Attributes:
        loss: mean loss.
        metric: the task's metric.
        others: further scores by name, such as a second way to compute BLEU.
    """

    loss: float
    metric: float
    others: dict[str, float] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class EpochRecord(Record):
    """One finished epoch of a trial: a line of `metrics.jsonl`.

    Attributes:
        epoch: counted from 1.
        train_loss: mean over the epoch's steps, as they were taken.
        validation: scores on the validation split; None where the published protocol selects on the test split.
        test: scores on the test split, where it was evaluated in this epoch.
        learning_rate: the one the epoch was trained with.
        seconds: wall time of the epoch, evaluation included.
        metric_direction: whether larger or smaller scores are better; None in files of earlier versions.
    """

    stored_as: ClassVar[str] = "epoch"

    epoch: int
    train_loss: float
    validation: Scores | None
    test: Scores | None
    learning_rate: float
    seconds: float
    metric_direction: Literal["max", "min"] | None = None

    @property
    def selecting(self) -> Scores | None:
        """The scores by which an epoch is chosen: validation, or test in the published protocol."""
        return self.validation if self.validation is not None else self.test


@final
@dataclass(frozen=True)
class TrialResult(Record):
    """The result of a finished trial.

    Attributes:
        id: the trial's id.
        state: "done", or "diverged" when the loss became NaN or infinite: a result too.
        identity: all that can change the trial's numbers; the id is its hash.
        metric_name: of the task's metric, such as "accuracy".
        metric_direction: whether larger or smaller is better.
        metric_unit: "%" where the metric is a fraction to be shown in percent, else "".
        epochs_trained: whole epochs.
        selected_epoch: the epoch with the best score on the split that selects, from 1; None when no epoch ended, or
            where the weights of several were averaged.
        validation: scores of the selected weights; None where the published protocol selects on the test split.
        test: scores of the selected weights; None when the trial diverged before they were taken.
        steps: optimizer steps taken.
        seconds: wall time of training over all runs of the trial, interruptions left out.
        device: on which it ran.
        reason: why it diverged; None when done.
        provenance: see `epsgrid.store.provenance`.
    """

    stored_as: ClassVar[str] = "trial result"

    id: str
    state: Literal["done", "diverged"]
    identity: dict[str, Any]
    metric_name: str
    metric_direction: Literal["max", "min"]
    metric_unit: Literal["%", ""]
    epochs_trained: int
    selected_epoch: int | None
    validation: Scores | None
    test: Scores | None
    steps: int
    seconds: float
    device: str
    reason: str | None
    provenance: dict[str, Any]

    @property
    def selecting(self) -> Scores | None:
        """The scores by which a trial is chosen: validation, or test in the published protocol; None without epochs."""
        return self.validation if self.validation is not None else self.test


@final
@dataclass(frozen=True)
class TrialFailure(Record):
    """Why the last attempt at a trial failed.

    Attributes:
        id: the trial's id.
        error: one line.
        trace: the traceback, or "" where a signal ended the process.
        log: path of the trial's log.
        attempts: number of attempts so far.
        ended: when, ISO 8601 in UTC.
    """

    stored_as: ClassVar[str] = "trial failure"

    id: str
    error: str
    trace: str
    log: str
    attempts: int
    ended: str


@final
@dataclass(frozen=True)
class ProbeRecord(Record):
    """The result of a probe: `bounds.json`.

    Attributes:
        identity: all that can change the bounds: spec, probe settings and the data's checksum.
        bounds_json: the `EpsilonBounds` as JSON, histograms included; see `bounds`.
        placement: where ε enters the optimizer's update, and how a magnitude becomes an ε there.
        cost_seconds: wall time of the probe.
        steps: number of batches.
        batch_size: entries per batch.
        data_description: one line about the data.
        provenance: see `epsgrid.store.provenance`.
    """

    stored_as: ClassVar[str] = "probe record"

    identity: dict[str, Any]
    bounds_json: dict[str, Any]
    placement: Placement
    cost_seconds: float
    steps: int
    batch_size: int
    data_description: str
    provenance: dict[str, Any]

    def bounds(self) -> EpsilonBounds:
        """Return the bounds, parsed; raises CorruptRecordError where they are damaged."""
        from epsgrid.numerics.bounds import EpsilonBounds  # imports numpy: only where it is needed

        return EpsilonBounds.from_json(self.bounds_json)


@final
@dataclass(frozen=True)
class AddedRate:
    """A learning rate beyond those of the spec that a sweep added at one ε.

    Attributes:
        epsilon: in the optimizer's own ε; None for an optimizer without one.
        learning_rate: as if it stood in the spec; `sweep.lr_mode` may train with another.
    """

    epsilon: float | None
    learning_rate: float


@final
@dataclass(frozen=True)
class GridRecord(Record):
    """Which trials belong to which grid: `grid.json`.

    Attributes:
        optimizer: its name.
        epsilons: the ε values of each grid, rising.
        default_epsilon: the ε a reader would use without a search.
        cells: all points, in the order in which they are trained.
        bounds_checksum: that of the `ProbeRecord` a grid was made from; None where no grid needed one.
        added_rates: learning rates beyond those of the spec, in every grid that holds their ε.
    """

    stored_as: ClassVar[str] = "grid record"

    optimizer: str
    epsilons: dict[str, tuple[float, ...]]
    default_epsilon: float
    cells: tuple[Trial, ...]
    bounds_checksum: str | None
    added_rates: tuple[AddedRate, ...] = field(default=(), metadata=codec.UNLESS_DEFAULT)


@final
@dataclass(frozen=True)
class BatchBoundsRecord(Record):
    """The batch sizes at which bounds were measured, beside the spec's own: `batch_bounds.json`.

    Each size and seed has a `ProbeRecord`, see `ExperimentFolder.batch_probe`.

    Attributes:
        base_batch_size: the spec's own.
        batch_sizes: all of them, the base among them, rising.
        seeds: of initial weights and batches; each size was probed with each. The first is that of the spec's bounds.
        examples: number of training examples; None where a batch is not made of examples.
    """

    stored_as: ClassVar[str] = "record of bounds at several batch sizes"

    base_batch_size: int
    batch_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    examples: int | None


@final
@dataclass(frozen=True)
class BatchesRecord(Record):
    """The trials that scale one setting to other batch sizes: `batches.json`.

    Attributes:
        base_batch_size: where the setting comes from.
        learning_rate: of the setting.
        epsilon: of the setting; None for an optimizer that has none.
        origin: how the setting was chosen, in words.
        cells: all trials, those of the setting itself first.
        changes: for each "RULE at SIZE", what the rule changed beside learning rate and ε.
        skipped: for each "RULE at SIZE" that the rule cannot scale to, the reason.
    """

    stored_as: ClassVar[str] = "record of trials at several batch sizes"

    base_batch_size: int
    learning_rate: float
    epsilon: float | None
    origin: str
    cells: tuple[Trial, ...]
    changes: dict[str, str]
    skipped: dict[str, str]


@final
@dataclass(frozen=True)
class ConfirmRecord(Record):
    """The trials that train contenders on fresh seeds, which no grid has used: `confirm.json`.

    Seeds, looks and level are fixed for a grid before results are looked at, and the contenders of a look before the
    first of its seeds is trained, so that a sweep that is started again goes on with them.

    Attributes:
        optimizer: its name.
        seeds: all fresh seeds that may be trained, in their order.
        cells: one for each contender and each seed that was begun, seed by seed.
        grid_checksum: that of the `GridRecord` which holds the contenders.
        looks: after how many fresh seeds results are looked at, rising; empty in records of earlier versions, which
            trained the winners of a sweep on a given number of seeds.
        level: probability with which each bound holds at each look.
    """

    stored_as: ClassVar[str] = "record of trials on fresh seeds"
    FORMER_FIELDS: ClassVar[tuple[str, ...]] = ("selection", "selection_seeds", "chosen_from")

    optimizer: str
    seeds: tuple[int, ...]
    cells: tuple[Trial, ...]
    grid_checksum: str
    looks: tuple[int, ...] = ()
    level: float = LEVEL


@final
@dataclass(frozen=True)
class ExperimentRecord(Record):
    """The experiment as it was asked for: `experiment.json`.

    Attributes:
        name: the experiment's name.
        spec: the effective spec as JSON, with every default filled in.
        data_checksum: sha256 of the data.
        data_description: one line about the data.
        created: when, ISO 8601 in UTC.
        epsgrid_version: of the program that created it.
    """

    stored_as: ClassVar[str] = "experiment record"
    FORMER_FIELDS: ClassVar[tuple[str, ...]] = ("earlier",)

    name: str
    spec: dict[str, Any]
    data_checksum: str
    data_description: str
    created: str
    epsgrid_version: str


def append_epoch(path: Path, record: EpochRecord) -> None:
    """Append an epoch to `metrics.jsonl` and sync it; for the holder of the trial's lease."""
    atomic.append_line(path, atomic.compact_json(record.to_json()))


def read_epochs(path: Path) -> tuple[EpochRecord, ...]:
    """Return the epochs of `metrics.jsonl`, from the first on; none when there is no file.

    A last line that was only half written is left out: that epoch is trained again.

    Raises:
        CorruptRecordError: another line is damaged, or the epochs are not 1, 2, 3, ...; names file and line.
    """
    records = []
    for number, line in enumerate(atomic.read_lines(path), start=1):
        source = f"{path}:{number}"
        record = EpochRecord.from_json(atomic.parse_json(line, source), source)
        if record.epoch != number:
            raise CorruptRecordError(f"{source} is damaged: expected epoch {number}, got epoch {record.epoch}")
        records.append(record)
    return tuple(records)
