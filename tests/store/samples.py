"""One of each record, with values that are hard to store."""

import math

from epsgrid.numerics.placement import Placement
from epsgrid.spec.trial import Trial
from epsgrid.store.pruning import Pruning
from epsgrid.store.records import (
    BatchesRecord,
    ConfirmRecord,
    EpochRecord,
    ExperimentRecord,
    GridRecord,
    ProbeRecord,
    Record,
    Scores,
    TrialFailure,
    TrialResult,
    VariedRecord,
)

EPOCH = EpochRecord(
    epoch=1, train_loss=0.1 + 0.2, validation=Scores(0.5, 0.25), test=None, learning_rate=1e-3, seconds=2.5
)
RESULT = TrialResult(
    id="0123456789abcdef",
    state="done",
    identity={"task": {"name": "digits"}, "epsilon": 1e-08, "seed": 0},
    metric_name="accuracy",
    metric_direction="max",
    metric_unit="%",
    epochs_trained=2,
    selected_epoch=1,
    validation=Scores(0.5, 0.25),
    test=Scores(0.6, 0.2),
    steps=20,
    seconds=1.5,
    device="cpu",
    reason=None,
    provenance={"command": "epsgrid sweep", "git": None},
)
FAILURE = TrialFailure(
    id="ab", error="OSError: ε", trace="Traceback\n  …", log="log.txt", attempts=2, ended="2026-01-01T00:00:00+00:00"
)
PROBE = ProbeRecord(
    identity={"data": "00"},
    bounds_json={"version": 1},
    placement=Placement.outside(),
    cost_seconds=1.0,
    steps=10,
    batch_size=128,
    data_description="digits",
    provenance={},
)
GRID = GridRecord(
    optimizer="adam",
    epsilons={"narrowed": (1e-05, 1e-04), "conventional": (1e-08,)},
    default_epsilon=1e-08,
    cells=(
        Trial("ab", 1e-3, 1e-05, 0, ("narrowed",)),
        Trial("cd", 1e-3, None, 1, ("narrowed", "conventional")),
    ),
    bounds_checksum=None,
)
EXPERIMENT = ExperimentRecord(
    name="demo",
    spec={"experiment": "demo", "sweep": {"learning_rates": [1e-3]}},
    data_checksum="00",
    data_description="digits",
    created="2026-01-01T00:00:00+00:00",
    epsgrid_version="0.1.0",
)
VARIED = VariedRecord(("model.width",), points=((32.0,), (0.5,)), own=(32.0,), seeds=(0, 1), examples=None)
BATCHES = BatchesRecord(
    base_batch_size=128,
    learning_rate=1e-3,
    epsilon=None,
    origin="asked for",
    cells=(
        Trial("ab", 1e-3, None, 0, batch_size=128, rule="base"),
        Trial("cd", 2e-3, 5e-9, 1, batch_size=512, rule="sqrt"),
    ),
    changes={"sqrt at 512": "optimizer.betas [0.6, 0.996]"},
    skipped={"sqrt at 4096": "κ = 32 is too much"},
)
CONFIRM = ConfirmRecord(
    optimizer="adam",
    seeds=(10000, 10001),
    cells=(Trial("ab", 1e-3, 1e-05, 10000, ("narrowed", "default")),),
    grid_checksum="00",
    looks=(0, 2),
    level=0.97,
)
PRUNING = Pruning(
    id="ab",
    state="pruned",
    judged_epoch=2,
    epochs_trained=3,
    epochs=10,
    why="slow",
    when="2026-01-01T00:00:00+00:00",
)
RECORDS: tuple[Record, ...] = (EPOCH, RESULT, FAILURE, PROBE, GRID, EXPERIMENT, VARIED, BATCHES, CONFIRM, PRUNING)
DIVERGED_EPOCH = EpochRecord(
    epoch=1,
    train_loss=math.inf,
    validation=Scores(math.nan, -math.inf),
    test=None,
    learning_rate=1.0,
    seconds=0.1,
)
