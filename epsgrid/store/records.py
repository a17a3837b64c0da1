"""The stored records: experiments, probes, grids, epochs, results and failures.

Each record is a JSON object `{"version": 1, ...fields..., "checksum": sha256}`. Reading checks all three: a newer
version is refused as such, an unknown or missing field and a checksum that does not match are damage, and damage is
reported, never dropped. Scores of a diverged trial may be NaN or infinite; `epsgrid.codec` says how that is stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from epsgrid import codec
from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.statistics import LEVEL
from epsgrid.spec import BATCH_SIZE
from epsgrid.spec.trial import Trial
from epsgrid.store import atomic
from epsgrid.store.paths import ExperimentFolder

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds

VERSION = 1


def content_of(document: Any, source: str | Path, what: str) -> dict[str, Any]:
    """Return the fields of a sealed JSON object, without version and checksum, after checking both.

    Errors name `source` as its place and `what` as its kind. Raises StoreError where a newer epsgrid wrote it,
    CorruptRecordError where it is damaged, or no such record.
    """
    if not isinstance(document, Mapping):
        raise CorruptRecordError(f"{source} is damaged: expected an object, got {type(document).__name__}")
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        article = "an" if what[0] in "aeiou" else "a"
        raise CorruptRecordError(f"{source} is not {article} {what} of epsgrid: expected a version, got {version!r}")
    if version > VERSION:
        raise StoreError(
            f"{source} was written by a newer epsgrid ({what} version {version}, this one reads up to {VERSION});"
            " update epsgrid to read it"
        )
    return {name: value for name, value in atomic.unseal(document, source).items() if name != "version"}


@dataclass(frozen=True)
class Record:
    """Base of all records: to sealed JSON and back."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as a sealed JSON object."""
        return atomic.seal({"version": VERSION, **codec.to_document(self)})

    def to_line(self) -> str:
        """Return the record as sealed JSON on one line."""
        return json.dumps(self.to_json(), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, document: Any, source: str | Path = "<record>") -> Self:
        """Return the record that a sealed JSON object holds; raises as `content_of`."""
        words = re.sub("(?<!^)(?=[A-Z])", " ", cls.__name__).lower()
        return codec.from_document(cls, content_of(document, source, words), str(source))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the record stored at `path`; raises as `from_json`, and StoreError when there is none."""
        return cls.from_json(atomic.read_json(path), path)

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Return the record stored at `path`, None where there is none; raises as `from_json`."""
        return cls.read(path) if path.exists() else None

    def write(self, path: Path) -> None:
        """Store the record whole at `path`; see `epsgrid.store.atomic`."""
        atomic.write_json(path, self.to_json())

    @property
    def checksum(self) -> str:
        """The checksum the record is sealed with, by which another record can refer to it."""
        return str(self.to_json()[atomic.CHECKSUM])


@dataclass(frozen=True)
class Metric:
    """What trials are judged by, as stored with each result; fractions to be shown in percent have the unit "%"."""

    name: str
    direction: Literal["max", "min"]
    unit: Literal["%", ""]

    @property
    def sign(self) -> float:
        """Factor that makes larger better: −1 for a metric that should be small."""
        return 1.0 if self.direction == "max" else -1.0

    @property
    def factor(self) -> float:
        """Factor from the stored to the shown value."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def difference_unit(self) -> str:
        """Unit of a shown difference, with a leading space: percentage points have their own name."""
        return " points" if self.unit == "%" else ""

    @property
    def label(self) -> str:
        """Name and unit, for axes and column titles."""
        return f"{self.name} / %" if self.unit else self.name


@dataclass(frozen=True)
class Scores:
    """Mean loss, the task's metric and further scores by name on one split; NaN or infinite where training diverged."""

    loss: float
    metric: float
    others: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochRecord(Record):
    """One finished epoch of a trial: a line of `metrics.jsonl`.

    Attributes:
        epoch: counted from 1.
        train_loss: mean over the epoch's steps, as they were taken.
        validation, test: scores, None where the split was not evaluated in this epoch.
        learning_rate: the one the epoch was trained with.
        seconds: wall time, evaluation included.
        metric_direction: whether larger or smaller scores are better; None in files of earlier versions.
    """

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


@dataclass(frozen=True)
class TrialResult(Record):
    """The result of a finished trial.

    Attributes:
        state: "done", or "diverged" when the loss became NaN or infinite: a result too.
        identity: all that can change the trial's numbers; the id is its hash.
        metric_direction: whether larger or smaller is better.
        metric_unit: "%" where the metric is a fraction to be shown in percent, else "".
        selected_epoch: the epoch with the best score on the split that selects, from 1; None when no epoch ended, or
            where the weights of several were averaged.
        validation, test: scores of the selected weights; None where the published protocol selects on the test split,
            or the trial diverged before they were taken.
        seconds: wall time of training over all runs of the trial, interruptions left out.
        reason: why it diverged; None when done.
        provenance: see `epsgrid.store.provenance`.
    """

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
    def metric(self) -> Metric:
        """What the trial is judged by."""
        return Metric(self.metric_name, self.metric_direction, self.metric_unit)

    @property
    def selecting(self) -> Scores | None:
        """The scores by which a trial is chosen: validation, or test in the published protocol; None without epochs."""
        return self.validation if self.validation is not None else self.test


@dataclass(frozen=True)
class TrialFailure(Record):
    """Why the last attempt at a trial failed; `trace` is "" where a signal ended it, `log` the path of its log."""

    id: str
    error: str
    trace: str
    log: str
    attempts: int
    ended: str


@dataclass(frozen=True)
class ProbeRecord(Record):
    """The result of a probe: `bounds.json`; or what probes at other sizes predict: `predicted.json`.

    Attributes:
        identity: all that can change the bounds: spec, probe settings and the data's checksum.
        bounds_json: the `EpsilonBounds` as JSON, histograms included; see `bounds`.
        placement: where ε enters the optimizer's update, and how a magnitude becomes an ε there.
        cost_seconds: wall time; of all probes, where bounds are predicted.
        predicted_at: the values of the keys, as written, that bounds are predicted for; None where they were measured.
        steps, batch_size: number of batches, and entries of each.
        provenance: see `epsgrid.store.provenance`.
    """

    identity: dict[str, Any]
    bounds_json: dict[str, Any]
    placement: Placement
    cost_seconds: float
    steps: int
    batch_size: int
    data_description: str
    provenance: dict[str, Any]
    predicted_at: dict[str, str] | None = field(default=None, metadata=codec.UNLESS_DEFAULT)

    def bounds(self) -> EpsilonBounds:
        """Return the bounds, parsed; raises CorruptRecordError where they are damaged."""
        from epsgrid.numerics.bounds import EpsilonBounds  # imports numpy: only where it is needed

        return EpsilonBounds.from_json(self.bounds_json)


@dataclass(frozen=True)
class AddedRate:
    """A learning rate beyond those of the spec that a sweep added at one ε, None for an optimizer without one.

    It counts as if it stood in the spec; `sweep.lr_mode` may train with another.
    """

    epsilon: float | None
    learning_rate: float


@dataclass(frozen=True)
class GridRecord(Record):
    """Which trials belong to which grid: `grid.json`.

    Attributes:
        optimizer: its name.
        epsilons: the ε values of each grid, rising.
        default_epsilon: the ε a reader would use without a search.
        cells: all points, in the order in which they are trained.
        bounds_checksum: that of the `ProbeRecord` a grid was made from; None where no grid needed one.
        bounds: what the narrowed grid was made from: "trusted" or "published" bounds, or "listed" ε of the spec.
        placement: where the optimizer adds its ε; None without one, and in records of earlier versions.
        added_rates: learning rates beyond those of the spec, in every grid that holds their ε.
    """

    optimizer: str
    epsilons: dict[str, tuple[float, ...]]
    default_epsilon: float
    cells: tuple[Trial, ...]
    bounds_checksum: str | None
    bounds: Literal["trusted", "published", "listed"] = "published"
    placement: Placement | None = None
    added_rates: tuple[AddedRate, ...] = field(default=(), metadata=codec.UNLESS_DEFAULT)


@dataclass(frozen=True)
class VariedRecord(Record):
    """At which values of some keys of the spec bounds were measured; see `ExperimentFolder.varied`.

    Attributes:
        keys: dotted, such as "model.width".
        points: their values, those of the first key rising; each point and seed has a `ProbeRecord`, see `probe`.
        own: the values of the spec.
        seeds: the first is that of the spec's bounds.
        examples: in the training data; None where a batch is not made of examples.
    """

    keys: tuple[str, ...]
    points: tuple[tuple[float, ...], ...]
    own: tuple[float, ...]
    seeds: tuple[int, ...]
    examples: int | None

    @classmethod
    def from_json(cls, document: Any, source: str | Path = "<record>") -> Self:
        """Return the record; earlier versions had one of batch sizes alone."""
        content = content_of(document, source, "varied record")
        if "batch_sizes" in content:
            points = [[size] for size in content.pop("batch_sizes")]
            content |= {"keys": [BATCH_SIZE], "points": points, "own": [content.pop("base_batch_size")]}
        return codec.from_document(cls, content, str(source))

    def written(self, point: tuple[float, ...]) -> dict[str, str]:
        """Return the values of a point by key, as in a spec: without a decimal point where there is no need of it."""
        values = (str(int(value)) if value == int(value) else repr(value) for value in point)
        return dict(zip(self.keys, values, strict=True))

    def probe(self, folder: ExperimentFolder, point: tuple[float, ...], seed: int) -> Path:
        """Return the path of the probe of a point and a seed."""
        return folder.varied_probe(self.written(point), seed)


@dataclass(frozen=True)
class BatchesRecord(Record):
    """The trials that scale one setting to other batch sizes: `batches.json`.

    Attributes:
        base_batch_size, learning_rate, epsilon: of the setting; ε is None for an optimizer that has none.
        origin: how the setting was chosen, in words.
        cells: all trials, those of the setting itself first.
        changes: for each "RULE at SIZE", what the rule changed beside learning rate and ε.
        skipped: for each "RULE at SIZE" that the rule cannot scale to, the reason.
    """

    base_batch_size: int
    learning_rate: float
    epsilon: float | None
    origin: str
    cells: tuple[Trial, ...]
    changes: dict[str, str]
    skipped: dict[str, str]


@dataclass(frozen=True)
class ConfirmRecord(Record):
    """The trials that train contenders on fresh seeds, which no grid has used: `confirm.json`.

    Seeds, looks and level are fixed for a grid before results are looked at, and the contenders of a look before the
    first of its seeds is trained, so that a sweep that is started again goes on with them.

    Attributes:
        seeds: all fresh seeds that may be trained, in their order.
        cells: one for each contender and each seed that was begun, seed by seed.
        grid_checksum: that of the `GridRecord` which holds the contenders.
        looks: after how many fresh seeds results are looked at, rising; empty in records of earlier versions, which
            trained the winners of a sweep on a given number of seeds.
        level: probability with which each bound holds at each look.
    """

    FORMER_FIELDS: ClassVar[tuple[str, ...]] = ("selection", "selection_seeds", "chosen_from")

    optimizer: str
    seeds: tuple[int, ...]
    cells: tuple[Trial, ...]
    grid_checksum: str
    looks: tuple[int, ...] = ()
    level: float = LEVEL


@dataclass(frozen=True)
class ExperimentRecord(Record):
    """The experiment as it was asked for, with every default of its spec filled in: `experiment.json`."""

    FORMER_FIELDS: ClassVar[tuple[str, ...]] = ("earlier",)

    name: str
    spec: dict[str, Any]
    data_checksum: str
    data_description: str
    created: str
    epsgrid_version: str


def append_epoch(path: Path, record: EpochRecord) -> None:
    """Append an epoch to `metrics.jsonl` and sync it; for the holder of the trial's lease."""
    atomic.append_line(path, record.to_line())


def read_epochs(path: Path) -> tuple[EpochRecord, ...]:
    """Return the epochs of `metrics.jsonl`, from the first on; none when there is no file.

    A last line that was only half written is left out: that epoch is trained again. Raises CorruptRecordError, with
    file and line, where another is damaged, or the epochs are not 1, 2, 3, ...
    """
    records = []
    for number, line in enumerate(atomic.read_lines(path), start=1):
        source = f"{path}:{number}"
        record = EpochRecord.from_json(atomic.parse_json(line, source), source)
        if record.epoch != number:
            raise CorruptRecordError(f"{source} is damaged: expected epoch {number}, got epoch {record.epoch}")
        records.append(record)
    return tuple(records)
