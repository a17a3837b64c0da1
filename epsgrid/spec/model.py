"""The typed, frozen form of a spec, with every default filled in.

`task`, `model` and `optimizer` are plug-ins; each brings its own options class (`Options` in its file), so their
fields differ from spec to spec. Everything else is the same for all specs and is defined here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from epsgrid.codec import shown
from epsgrid.spec import BATCH_SIZE

_PositiveFloat = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


def _held_by_float32(epsilon: float) -> float:
    """Refuse an ε that is zero or infinite in float32, in which optimizers compute whatever the precision."""
    if not 2.0**-150 < epsilon < 2.0**128:
        what = "0" if epsilon < 1 else "infinite"
        written = f"{epsilon:g}".replace("e+", "e")
        raise ValueError(f"{written} is {what} in float32, in which the optimizer computes; take 1e-45 to 3e38")
    return epsilon


_Epsilon = Annotated[_PositiveFloat, AfterValidator(_held_by_float32)]


def _margin(margin: Any) -> Any:
    """Refuse what is no margin; see `Report`."""
    is_share = isinstance(margin, str) and re.fullmatch(r"\d*\.?\d+ ?%", margin) and float(margin[:-1]) > 0
    is_number = isinstance(margin, int | float) and not isinstance(margin, bool) and margin > 0
    if not (margin is None or is_share or is_number):
        raise ValueError(
            f"expected a positive number in the metric's unit, or a share as in '2 %', got {shown(margin)}"
        )
    return margin


class Frozen(BaseModel):
    """A group of settings: unknown keys refused, NaN and infinity refused, unchangeable once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class PluginOptions(Frozen):
    """Options of one plug-in; `name` is the stem of its file, or a dotted path `package.module:NAME`.

    `location_fields` say where something lies; they cannot change a trial's numbers and are no part of its identity.
    """

    location_fields: ClassVar[frozenset[str]] = frozenset()

    name: str = Field(min_length=1)

    def identity(self) -> dict[str, Any]:
        """Return the options that can change a trial's numbers, as plain JSON values."""
        return self.model_dump(mode="json", exclude=set(self.location_fields))


class TaskOptions(PluginOptions):
    """Options of a task: which data, which split, how the data are varied.

    `carries_state` says that a model of the task carries a state from batch to batch, so that batches have an order.
    """

    carries_state: ClassVar[bool] = False


class ModelOptions(PluginOptions):
    """Options of a model."""


class OptimizerOptions(PluginOptions):
    """Options of an optimizer, without learning rate and ε: those are what a sweep varies."""


class Schedule(Frozen):
    """How the learning rate changes.

    `step`: it is multiplied by `factor` at each milestone. Milestones are fractions of the epochs, so a shorter run
    keeps the shape; the published recipe, ×0.1 at epoch 150 of 200, is the default. `inverse_sqrt`: it rises linearly
    from 0 over `warmup_steps`, then falls with the inverse root of the step.
    """

    kind: Literal["step", "inverse_sqrt"] = "step"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.75,)
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_steps: Count | None = None

    @model_validator(mode="after")
    def _fields_go_with_the_kind(self) -> Schedule:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise from one to the next")
        if self.kind == "inverse_sqrt" and self.warmup_steps is None:
            raise ValueError("kind: inverse_sqrt needs warmup_steps, such as 4000")
        if self.kind == "step" and self.warmup_steps is not None:
            raise ValueError("warmup_steps is only used with kind: inverse_sqrt; remove one or set the other")
        return self


class Svag(Frozen):
    """Take steps that are worth 1/l² of the time, with l times the noise, to follow its continuous trajectory.

    Each step combines two independent minibatches; an epoch takes l² times the steps and uses 2·l² times the data.
    """

    l: Count  # noqa: E741 - its name in the papers


class Training(Frozen):
    """How one trial trains.

    `clip_norm` bounds the norm of the whole gradient before the optimizer sees it. With `average_last: k` the model
    that is scored in the end is the mean of the weights after each of the last k epochs; with 0 it is that of the best
    epoch. `svag: {l: 4}` follows the stochastic differential equation of the optimizer more closely; `l: 1` is plain
    training.
    """

    epochs: Count = 200
    batch_size: Count = 128
    schedule: Schedule = Schedule()
    clip_norm: _PositiveFloat | None = None
    average_last: Annotated[int, Field(ge=0)] = 0
    selection: Literal["validation", "test"] = "validation"
    precision: Literal["float32", "bfloat16"] = "float32"
    svag: Svag | None = None

    def identity(self) -> dict[str, Any]:
        """Return what can change a trial's numbers, as plain JSON values.

        SVAG with l = 1 changes nothing and is left out, so that trials keep the ids they had before there was SVAG.
        """
        plain = self.svag is None or self.svag.l == 1
        return self.model_dump(mode="json", exclude={"svag"} if plain else None)


class Probe(Frozen):
    """How the gradient magnitudes of the first epoch are measured.

    `update_weights: false` is the published method: the optimizer runs, the weights stay at their initial values. With
    `true` the weights move at `learning_rate`. `batches` limits the number of batches; `batches: settled` stops when
    the bounds have settled, at the latest after `epochs`. `leave_out: ["*.bias"]` are shell patterns of the names of
    layers that have no say in the bounds.

    These show how far the bounds can be trusted: `seeds` probes in all, with other initial weights and batches;
    `compare_weights` probes once more with the weights moving at this learning rate; `check_rounding` looks for tensors
    whose gradients are only rounding noise. None of these changes the bounds themselves, which are those of the first
    seed.

    `every: N` keeps the histograms of every N-th step; left out, about sixty are kept.

    `vary: {model.width: [32, 64, 128]}` measures the bounds at other values of a number of the spec, to predict them at
    further ones; several keys go in step, their first values together, and so on. `batch_sizes` is short for `vary:
    {training.batch_size: ...}`, which measures at the spec's own batch size as well.
    """

    epochs: Count = 1
    batches: Count | Literal["settled"] | None = None
    update_weights: bool = False
    learning_rate: _PositiveFloat | None = None
    tail_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    leave_out: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    seed: Seed = 0
    seeds: Count = 1
    compare_weights: _PositiveFloat | None = None
    check_rounding: bool = True
    every: Count | None = None
    batch_sizes: tuple[Count, ...] = ()
    vary: dict[str, Annotated[tuple[_PositiveFloat, ...], Field(min_length=2)]] = {}

    @property
    def varied(self) -> dict[str, tuple[float, ...]]:
        """The keys that are varied and their values."""
        return {BATCH_SIZE: self.batch_sizes} if self.batch_sizes else self.vary

    @model_validator(mode="after")
    def _varied_values_fit_together(self) -> Probe:
        if self.vary and self.batch_sizes:
            raise ValueError(f"batch_sizes is short for vary: {{{BATCH_SIZE}: ...}}; give one of them")
        lengths = {key: len(values) for key, values in self.vary.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{length} of {key}" for key, length in lengths.items())
            raise ValueError(f"vary takes its keys in step, and so needs as many values of each; got {counts}")
        if any(len(set(values)) < len(values) for values in [*self.vary.values()][:1]):
            raise ValueError(f"vary names a value of {next(iter(self.vary))} twice")
        if self.update_weights and BATCH_SIZE in self.varied:
            raise ValueError("batch_sizes compares gradients at the same weights; remove update_weights: true")
        return self

    @model_validator(mode="after")
    def _moving_needs_a_learning_rate(self) -> Probe:
        if self.update_weights and self.learning_rate is None:
            raise ValueError("update_weights: true needs probe.learning_rate, the rate at which the weights move")
        if not self.update_weights and self.learning_rate is not None:
            raise ValueError("learning_rate is only used with update_weights: true; remove one or set the other")
        if self.update_weights and self.compare_weights is not None:
            raise ValueError("compare_weights compares frozen weights with moving ones; remove update_weights: true")
        return self


class Observe(Frozen):
    """How often a trial's gradient magnitudes are kept: after every epoch, every N steps, or never (null).

    This does not change a trial's numbers, so it is no part of its identity.
    """

    every: Count | Literal["epoch"] | None = "epoch"


class Prune(Frozen):
    """Which trials end early because they fall behind others; see `epsgrid.stages.pruning`.

    No trial ends before `first_epoch`. `successive_halving` keeps one of `reduction_factor` trials at that epoch, at
    `reduction_factor` times it, and so on, without waiting for the others; `hyperband` does so in brackets that begin
    later and later; `median` ends a trial whose best score so far is worse than the median of the finished ones at the
    same epoch, once there are `startup_trials` of these. Left out, they are 3 and 5.
    """

    method: Literal["successive_halving", "hyperband", "median"] = "successive_halving"
    first_epoch: Count = 1
    reduction_factor: Annotated[int, Field(ge=2)] | None = None
    startup_trials: Count | None = None

    @model_validator(mode="after")
    def _fields_go_with_the_method(self) -> Prune:
        if self.method == "median" and self.reduction_factor is not None:
            raise ValueError("reduction_factor is not used with method: median; remove one or set the other")
        if self.method != "median" and self.startup_trials is not None:
            raise ValueError("startup_trials is only used with method: median; remove one or set the other")
        return self


class Sweep(Frozen):
    """Which grid to train; the ε values themselves come from the grid and the measured bounds.

    `bounds` says which bounds make the narrowed grid: those of the `published` rule, or the `trusted` ones, without
    entries that are only rounding noise. `epsilons` lists its ε instead, in the optimizer's own ε; then it needs no
    probe.

    `default` trains `default_epsilon` alone, which every other grid holds or is compared with. Left out, it is the
    optimizer's own default.

    `lr_mode: effective` is fair to large ε, where a step is about the learning rate / ε: each trial trains with
    lr · (m50 + m(ε)) / m50, which keeps lr / (m50 + m(ε)) at its value for a tiny ε. m50 is the median
    magnitude of the probe, m(ε) that at which ε has the same weight; the product is rounded to three digits.

    `prune` ends trials early. Without it the comparison of the grids is exact, which is the default.
    """

    grid: Literal["narrowed", "conventional", "both", "default"] = "both"
    bounds: Literal["trusted", "published"] = "trusted"
    epsilons: Annotated[tuple[_Epsilon, ...], Field(min_length=1)] | None = None
    learning_rates: Annotated[tuple[_PositiveFloat, ...], Field(min_length=1)]
    lr_mode: Literal["fixed", "effective"] = "fixed"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    default_epsilon: _PositiveFloat = 1e-8
    prune: Prune | None = None

    @field_validator("learning_rates", "seeds", "epsilons")
    @classmethod
    def _values_are_distinct(cls, values: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        if values is not None and len(set(values)) != len(values):
            raise ValueError(f"{info.field_name} names a value twice: {list(values)}")
        return values


class Report(Frozen):
    """What counts as a difference.

    `margin` is the difference of the metric that does not matter to you, fixed before looking: a number in the unit in
    which the metric is shown (0.5 is half a point of an accuracy in percent), or a share of the best score, such as
    "2 %". Left out, it is 1 point of a metric in percent, 0.5 BLEU, and 2 % of any other.
    """

    margin: Annotated[float | str | None, BeforeValidator(_margin)] = None


class Ray(Frozen):
    """How trials run with `executor: ray`.

    `address` is that of a running cluster, such as "10.0.0.1:6379"; without it a cluster is started on this machine for
    the time of the sweep. `cpus` and `gpus` are what one trial takes; `gpus: 0.25` packs four trials on one GPU. Left
    out, `gpus` is 1 / `execution.trials_per_device` where the cluster has GPUs and `execution.device` is not cpu.
    """

    address: str | None = None
    cpus: _PositiveFloat = 1.0
    gpus: Annotated[float, Field(ge=0)] | None = None


class Slurm(Frozen):
    """How trials run with `executor: slurm`: what each task of the job array asks Slurm for.

    `time` and `memory` are in Slurm's own notation, such as "2:00:00" and "16G". `signal_s` is how long before the time
    limit a trial is asked to save itself, so that it is queued again. `directives` are further `#SBATCH` options, each
    a text such as "--constraint=a100"; `setup` are shell lines run before a trial, such as "module load cuda".
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: str | None = None
    memory: str | None = None
    cpus: Count = 1
    gpus: Annotated[int, Field(ge=0)] = 0
    signal_s: Count = 120
    directives: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


class Log(Frozen):
    """Where the trials' curves are written besides the store; each needs the extra of its name, as `epsgrid[mlflow]`.

    `tensorboard` and `mlflow`: true for a folder of that name in the experiment's, or a folder; for `mlflow` also the
    address of a server. `wandb: offline` writes files into the experiment's folder, for `wandb sync`; `online` sends
    them.
    """

    tensorboard: bool | Annotated[str, Field(min_length=1)] = False
    mlflow: bool | Annotated[str, Field(min_length=1)] = False
    wandb: Literal["offline", "online"] | None = None


class Execution(Frozen):
    """Where and how trials run; nothing here can change a trial's numbers beyond rounding.

    `workers` is how many trials run at once: left out, as many as there is room for. On this machine that is one for
    each processor, or, where CUDA trains, `trials_per_device` on each device that CUDA_VISIBLE_DEVICES shows; more
    workers than that are not used. A trial that runs out of memory is one of its `retries` and has its device, or the
    machine, for itself then.
    """

    executor: str = "local"
    workers: Count | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    trials_per_device: Count = 1
    retries: Annotated[int, Field(ge=0)] = 1
    log: Log = Log()
    ray: Ray = Ray()
    slurm: Slurm = Slurm()


class Spec(Frozen):
    """One experiment: a task, a model and an optimizer; how to probe, train and sweep them."""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    task: SerializeAsAny[TaskOptions]
    model: SerializeAsAny[ModelOptions]
    optimizer: SerializeAsAny[OptimizerOptions]
    training: Training = Training()
    probe: Probe = Probe()
    observe: Observe = Observe()
    sweep: Sweep
    report: Report = Report()
    execution: Execution = Execution()

    @model_validator(mode="after")
    def _svag_needs_independent_batches(self) -> Spec:
        if self.training.svag is not None and self.training.svag.l > 1 and self.task.carries_state:
            raise ValueError(
                f"training.svag combines independent minibatches, and batches of {self.task.name!r} have an order;"
                " remove svag"
            )
        return self

    @field_validator("experiment")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name == "latest":
            raise ValueError("'latest' names the file that remembers the latest experiment; choose another name")
        return name
