"""The typed, frozen form of a spec, with every default filled in.

The options of a task, a model and an optimizer are those of `epsgrid.spec.options`. Everything else is the same for all
specs and is defined here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from epsgrid.codec import shown
from epsgrid.spec import BATCH_SIZE
from epsgrid.spec.options import Count, Frozen, ModelOptions, OptimizerOptions, PositiveFloat, Seed, Share, TaskOptions


def _held_by_float32(epsilon: float) -> float:
    """Refuse an ε that is zero or infinite in float32, in which optimizers compute whatever the precision."""
    if not 2.0**-150 < epsilon < 2.0**128:
        what = "0" if epsilon < 1 else "infinite"
        written = f"{epsilon:g}".replace("e+", "e")
        raise ValueError(f"{written} is {what} in float32, in which the optimizer computes; take 1e-45 to 3e38")
    return epsilon


_Epsilon = Annotated[PositiveFloat, AfterValidator(_held_by_float32)]


def _bounds(bounds: str) -> str:
    """Refuse what names neither a rule nor a file of bounds; see `Sweep`."""
    if bounds not in ("trusted", "published") and not bounds.endswith(".json"):
        raise ValueError(f"expected 'trusted' or 'published', or a file such as bounds.json, got {shown(bounds)}")
    return bounds


def _margin(margin: Any) -> Any:
    """Refuse what is no margin; see `Report`."""
    is_share = isinstance(margin, str) and re.fullmatch(r"\d*\.?\d+ ?%", margin) and float(margin[:-1]) > 0
    is_number = isinstance(margin, int | float) and not isinstance(margin, bool) and margin > 0
    if not (margin is None or is_share or is_number):
        raise ValueError(
            f"expected a positive number in the metric's unit, or a share as in '2 %', got {shown(margin)}"
        )
    return margin


_OF_TORCH: dict[str, dict[str, float]] = {
    "constant": {},
    "linear": {"final": 0.0},
    "cosine": {"final": 0.0},
    "one_cycle": {"warmup": 0.3, "final": 4e-6},
}
"""Defaults of fields, by the kinds of schedule that torch computes; those of `one_cycle` are torch's."""


def _of_torch(given: dict[str, Any]) -> dict[str, float]:
    return _OF_TORCH.get(given.get("kind", ""), {})


class Schedule(Frozen):
    """How the learning rate changes; those of the sweep are the highest.

    `schedule: cosine` is short for `schedule: {kind: cosine}`.
    """

    kind: Literal["step", "inverse_sqrt", "constant", "linear", "cosine", "one_cycle"] = "step"
    """step multiplies it by `factor` at each milestone. inverse_sqrt lets it fall with the inverse root of the step.
    constant, linear and cosine change it at every step, until it is `final` times the highest at the end. one_cycle
    rises to the highest from 1/25 of it and falls to `final` of it, both along a cosine."""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.75,)
    """For step: fractions of the epochs, so that a shorter run keeps the shape; the published recipe, ×0.1 at epoch 150
    of 200, is the default."""
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """For step."""
    warmup_steps: Count | None = None
    """Any kind may begin with a linear warm-up from 0: this is its number of steps. null: none, unless `warmup` is
    set."""
    warmup: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default_factory=lambda given: None if given.get("warmup_steps") else _of_torch(given).get("warmup")
    )
    """The warm-up as a share of all steps. The default is none, of one_cycle 0.3."""
    final: Share | None = Field(default_factory=lambda given: _of_torch(given).get("final"))
    """For linear, cosine and one_cycle: the last learning rate, as a share of the highest. The default is 0, of
    one_cycle 4e-6."""

    @model_validator(mode="after")
    def _fields_go_with_the_kind(self) -> Schedule:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise from one to the next")
        if self.warmup_steps is not None and self.warmup is not None:
            raise ValueError("warmup is a share of all steps and warmup_steps their number; remove one")
        if self.kind == "inverse_sqrt" and self.warmup_steps is None and self.warmup is None:
            raise ValueError("kind: inverse_sqrt needs warmup_steps, such as 4000, or warmup, such as 0.1")
        if self.kind in _OF_TORCH and (unused := {"milestones", "factor"} & self.model_fields_set):
            instead = f"`-o training.schedule={self.kind}` replaces the whole schedule"
            raise ValueError(f"{min(unused)} is only used with kind: step; remove it ({instead})")
        if self.final is not None and "final" not in _OF_TORCH.get(self.kind, {}):
            raise ValueError("final is only used with kind: linear, cosine or one_cycle; remove one or set the other")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_the_kind_does_not_use(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What `step` and `inverse_sqrt` had from the beginning is part of the ids of their trials, used or not.
        unused = {name for name in ("warmup", "final") if getattr(self, name) is None}
        unused |= {"milestones", "factor"} if self.kind in _OF_TORCH else set()
        return {name: value for name, value in dump(self).items() if name not in unused}


class Svag(Frozen):
    """Take steps that are worth 1/l² of the time, with l times the noise, to follow its continuous trajectory.

    Each step combines two independent minibatches; an epoch takes l² times the steps and uses 2·l² times the data.
    """

    l: Annotated[int, Field(ge=1, le=64)]  # noqa: E741 - its name in the papers, which try up to 16
    """Times the noise of plain training, which has 1."""


class Training(Frozen):
    """How one trial trains."""

    epochs: Count = 200
    """Passes over the training data."""
    batch_size: Count = 128
    """Examples in a batch; of language tasks columns of text that are read at once, of translations tokens."""
    schedule: Schedule = Schedule()
    clip_norm: PositiveFloat | None = None
    """Largest norm of the whole gradient: a longer one is shortened before the optimizer sees it. null: no clipping."""
    average_last: Annotated[int, Field(ge=0)] = 0
    """With k, the model that is scored in the end is the mean of the weights after each of the last k epochs; with 0,
    that of the best epoch."""
    selection: Literal["validation", "test"] = "validation"
    """The split by whose score the best epoch and the best learning rate are chosen."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 trains under autocast, where the hardware computes in it (`epsgrid list machine`)."""
    svag: Svag | None = None
    """null: plain steps."""

    def identity(self) -> dict[str, Any]:
        """Return what can change a trial's numbers, as plain JSON values.

        SVAG with l = 1 changes nothing and is left out, so that trials keep the ids they had before there was SVAG.
        """
        plain = self.svag is None or self.svag.l == 1
        return self.model_dump(mode="json", exclude={"svag"} if plain else None)


class Probe(Frozen):
    """How the gradient magnitudes of the first epoch are measured.

    `seeds`, `compare_weights` and `check_rounding` show how far the bounds can be trusted. None of them changes the
    bounds themselves, which are those of the first seed.
    """

    epochs: Count = 1
    """Passes over the training data."""
    batches: Count | Literal["settled"] | None = None
    """Most batches to look at; settled: stop when the bounds have settled. null: all batches of the epochs."""
    update_weights: bool = False
    """false is the published method: the optimizer runs, the weights stay at their initial values. With true they move
    at `learning_rate`."""
    learning_rate: PositiveFloat | None = None
    """The rate at which the weights move with `update_weights: true`."""
    tail_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Share of a layer's non-zero entries that lies below the lower bound, and above the upper one."""
    leave_out: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Layers that have no say in the bounds, as shell patterns of their names, such as "*.bias"."""
    seed: Seed = 0
    """Seed of the initial weights and of the order of the batches."""
    seeds: Count = 1
    """Probes in all, each with other initial weights and batches, to see how far the bounds depend on them."""
    compare_weights: PositiveFloat | None = None
    """Probe once more with weights that move at this learning rate, and compare the bounds. null: do not."""
    check_rounding: bool = True
    """Look for tensors whose gradients are only rounding noise, by computing one batch again in float64."""
    every: Count | None = None
    """Keep the histograms of every N-th step; null keeps about sixty."""
    batch_sizes: tuple[Count, ...] = ()
    """Short for `vary: {training.batch_size: ...}`, which measures at the spec's own batch size as well."""
    vary: dict[str, Annotated[tuple[PositiveFloat, ...], Field(min_length=2)]] = Field(default={})
    """Measure at other values of numbers of the spec, as in {model.width: [32, 64, 128]}, to predict the bounds at
    further ones. Several keys go in step: their first values together, and so on."""

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
    """How often a trial's gradient magnitudes are kept; this changes none of its numbers."""

    every: Count | Literal["epoch"] | None = "epoch"
    """After every epoch, every N steps, or never (null)."""


class Prune(Frozen):
    """Which trials end early because they fall behind others; needs `pip install 'epsgrid[optuna]'`."""

    method: Literal["successive_halving", "hyperband", "median"] = "successive_halving"
    """successive_halving keeps one of `reduction_factor` trials at `first_epoch`, at `reduction_factor` times it, and
    so on, without waiting for the others; hyperband does so in brackets that begin later and later; median ends a trial
    whose best score so far is worse than the median of the finished ones at the same epoch."""
    first_epoch: Count = 1
    """No trial ends before this epoch."""
    reduction_factor: Annotated[int, Field(ge=2)] | None = None
    """One of this many trials goes on, with successive_halving and hyperband. null: 3."""
    startup_trials: Count | None = None
    """Finished trials before which median ends none. null: 5."""

    @model_validator(mode="after")
    def _fields_go_with_the_method(self) -> Prune:
        if self.method == "median" and self.reduction_factor is not None:
            raise ValueError("reduction_factor is not used with method: median; remove one or set the other")
        if self.method != "median" and self.startup_trials is not None:
            raise ValueError("startup_trials is only used with method: median; remove one or set the other")
        return self


class Sweep(Frozen):
    """What to train: every learning rate with every ε of the grid and every seed."""

    grid: Literal["narrowed", "conventional", "both", "default"] = "both"
    """narrowed: ε within the measured bounds, decade by decade; conventional: 1e-10 to 100; both of these; default:
    `default_epsilon` alone."""
    bounds: Annotated[str, AfterValidator(_bounds)] = "trusted"
    """The bounds that make the narrowed grid: trusted leaves out entries that are only rounding noise, published is the
    rule as published; for a training of your own a file, such as bounds.json, that `bounds.save` has written."""
    epsilons: Annotated[tuple[_Epsilon, ...], Field(min_length=1)] | None = None
    """Your own list in place of the narrowed grid, in the optimizer's own ε; it needs no probe. null: by the bounds."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, examples=[[1e-4, 1e-3, 1e-2]])]
    """Learning rates to train with; the best one of each ε should lie inside."""
    lr_mode: Literal["fixed", "effective"] = "fixed"
    """effective is fair to large ε, where a step is about the learning rate / ε: each trial trains with a higher one,
    such that by the √v̂ of the probe a step lowers the loss as much as at ε → 0."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds of initial weights and batches; each setting is trained once with each."""
    default_epsilon: PositiveFloat = 1e-8
    """The ε to compare with; left out, it is the optimizer's own default."""
    prune: Prune | None = None
    """null: all are trained to the end, which keeps the comparison of ε exact."""

    @property
    def bounds_choice(self) -> Literal["trusted", "published"]:
        """Which bounds make the narrowed grid; of a file, the trusted ones."""
        return "published" if self.bounds == "published" else "trusted"

    @field_validator("learning_rates", "seeds", "epsilons")
    @classmethod
    def _values_are_distinct(cls, values: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        if values is not None and len(set(values)) != len(values):
            raise ValueError(f"{info.field_name} names a value twice: {list(values)}")
        return values


class Report(Frozen):
    """What counts as a difference."""

    margin: Annotated[float | str | None, BeforeValidator(_margin)] = None
    """The difference of the metric that does not matter to you, fixed before looking: a number in the unit in which the
    metric is shown (0.5 is half a point of an accuracy in percent), or a share of the best score, such as "2 %". null:
    1 point of a metric in percent, 0.5 BLEU, and 2 % of any other."""


class Ray(Frozen):
    """How trials run with `executor: ray`; needs `pip install 'epsgrid[ray]'`."""

    address: str | None = None
    """A running cluster, such as "10.0.0.1:6379". null: one is started on this machine for the time of the sweep."""
    cpus: PositiveFloat = 1.0
    """Processors that one trial takes."""
    gpus: Annotated[float, Field(ge=0)] | None = None
    """GPUs that one trial takes; 0.25 packs four trials on one. null: 1 / `execution.trials_per_device` where the
    cluster has GPUs and `execution.device` is not cpu."""


class Slurm(Frozen):
    """How trials run with `executor: slurm`: what each task of the job array asks Slurm for.

    null leaves a request to the cluster's own default.
    """

    partition: str | None = None
    """Slurm's partition."""
    account: str | None = None
    """The account that pays."""
    qos: str | None = None
    """Slurm's quality of service."""
    time: str | None = None
    """Time limit of a trial, in Slurm's notation, such as "2:00:00"."""
    memory: str | None = None
    """Memory of a trial, in Slurm's notation, such as "16G"."""
    cpus: Count = 1
    """Processors of a trial."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs of a trial."""
    signal_s: Count = 120
    """Seconds before the time limit at which a trial is asked to save itself; it is then queued again."""
    directives: tuple[str, ...] = ()
    """Further `#SBATCH` options, each a text such as "--constraint=a100"."""
    setup: tuple[str, ...] = ()
    """Shell lines to run before a trial, such as "module load cuda"."""


class Log(Frozen):
    """Where the trials' curves are written besides the store; each needs its extra, as `epsgrid[mlflow]`."""

    tensorboard: bool | Annotated[str, Field(min_length=1)] = False
    """Write event files into a folder; true: into `tensorboard` in the experiment's."""
    mlflow: bool | Annotated[str, Field(min_length=1)] = False
    """Write MLflow runs into a folder, or to the address of a server; true: into `mlflow` in the experiment's."""
    wandb: Literal["offline", "online"] | None = None
    """offline writes files into the experiment's folder, for `wandb sync`; online sends them. null: neither."""


class Execution(Frozen):
    """Where and how trials run; nothing here can change a trial's numbers beyond rounding."""

    executor: str = "local"
    """Where trials run: inline (in this process, one at a time), local (in processes on this machine), ray or slurm;
    `package.module:NAME` for your own."""
    workers: Count | None = None
    """Trials at once. null: as many as there is room for; on this machine one for each processor, or, where CUDA
    trains, `trials_per_device` on each device that CUDA_VISIBLE_DEVICES shows."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What trains; auto: CUDA where there is a device."""
    trials_per_device: Count = 1
    """Trials that share a GPU."""
    retries: Annotated[int, Field(ge=0)] = 1
    """How often a trial that failed is tried again. One that ran out of memory has its device, or the machine, for
    itself then."""
    log: Log = Log()
    ray: Ray = Ray()
    slurm: Slurm = Slurm()

    @property
    def is_here(self) -> bool:
        """Whether trials train on this machine."""
        return self.executor in ("inline", "local") or (self.executor == "ray" and self.ray.address is None)


class Spec(Frozen):
    """One experiment: a task, a model and an optimizer; how to probe, train and sweep them.

    A task that trains itself has no `model`; `optimizer` then says of which rule the ε is that it is given.
    """

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the experiment, and of its folder below `runs/`."""
    task: SerializeAsAny[TaskOptions]
    """The data, the loss and the metric."""
    model: SerializeAsAny[ModelOptions] | None = None
    """The architecture; a task that trains by itself, function or command, has none."""
    optimizer: SerializeAsAny[OptimizerOptions]
    """The optimizer, without learning rate and ε, which the sweep varies; of a task that trains by itself, whose ε it
    is."""
    training: Training = Training()
    probe: Probe = Probe()
    observe: Observe = Observe()
    sweep: Sweep
    report: Report = Report()
    execution: Execution = Execution()

    @property
    def model_name(self) -> str:
        """The name of the model; "" where the task trains itself."""
        return "" if self.model is None else self.model.name

    @model_validator(mode="after")
    def _svag_needs_independent_batches(self) -> Spec:
        if self.training.svag is not None and self.training.svag.l > 1 and self.task.carries_state:
            raise ValueError(
                f"training.svag combines independent minibatches, and batches of {self.task.name!r} have an order;"
                " remove svag"
            )
        return self

    @model_validator(mode="after")
    def _a_training_of_its_own_has_its_own_settings(self) -> Spec:
        if not self.task.trains_itself:
            if self.sweep.bounds.endswith(".json"):
                raise ValueError(
                    "sweep.bounds: a file is for the tasks function and command; remove it, and run `probe`"
                )
            return self
        for name, default in (
            ("training", Training(epochs=self.training.epochs)),
            ("probe", Probe()),
            ("observe", Observe()),
        ):
            own = getattr(self, name)
            if changed := [field for field in type(own).model_fields if getattr(own, field) != getattr(default, field)]:
                raise ValueError(
                    f"{name}.{changed[0]}: task {self.task.name!r} trains by your own code, which this cannot reach;"
                    " remove it, and make it a setting of your code"
                )
        if self.sweep.prune is not None and self.training.epochs == 1:
            raise ValueError("sweep.prune: pruning needs training.epochs, the number of epochs that your code reports")
        return self

    @field_validator("experiment")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name == "latest":
            raise ValueError("'latest' names the file that remembers the latest experiment; choose another name")
        return name
