"""Scale a spec to another batch size, with the reason for each number that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

from epsgrid import tasks
from epsgrid.codec import shown
from epsgrid.data._corpus import Corpus
from epsgrid.data._parallel import ParallelCorpus
from epsgrid.errors import DataError, ExecutionError, ScalingError, SpecError
from epsgrid.numerics import scaling
from epsgrid.numerics.scaling import Rule
from epsgrid.optimizers import _scaling as optimizer_scaling
from epsgrid.spec.loading import spec_from_json
from epsgrid.spec.model import Spec
from epsgrid.spec.options import OptimizerOptions
from epsgrid.spec.writing import spec_to_yaml
from epsgrid.tasks._divide import DividedImages
from epsgrid.tasks.nuclei import Nuclei

_LONGEST_NAME = 80
_EPSILON = {
    "outside": "outside the root it moves as √v̂: over √κ",
    "inside": "inside the root it moves as v̂: over κ",
    "in place": "v's floor ε/(1 − β₂) falls by κ: times (1 − β₂')/(κ·(1 − β₂))",
}


@dataclass(frozen=True)
class Change:
    """One number of a spec that another batch size changes: its dotted field, plain JSON before and after, and why."""

    path: str
    before: Any
    after: Any
    why: str


@dataclass(frozen=True)
class Scaled:
    """A spec at another batch size, κ times the old one: every field that changed, and a sentence per assumption."""

    spec: Spec
    kappa: float
    rule: Rule
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return the batch sizes that a list such as "32,128,512" names; what is no size is a SpecError."""
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isdecimal() or int(part) < 1]
    if wrong:
        raise SpecError(
            f"--batch-sizes: expected whole numbers of at least 1, as in 32,128,512, got {', '.join(map(repr, wrong))}"
        )
    return tuple(map(int, parts))


def with_base(sizes: Sequence[int], base: int, data: tasks.PreparedData | None) -> tuple[int, ...]:
    """Return the batch sizes together with the spec's own, rising, each once; without data none is compared with them.

    Raises SpecError where there is no other size than the base, or one is larger than the training data.
    """
    found = tuple(sorted({base, *sizes}))
    if len(found) < 2:
        raise SpecError(
            f"batch sizes: only {base}, which is the spec's own training.batch_size: there is nothing to compare it"
            f" with; name others, as in --batch-sizes {max(1, base // 4)},{4 * base}"
        )
    if excess := too_large(found[-1], data):
        raise SpecError(f"batch sizes: {excess}")
    return found


def too_large(batch_size: int, data: object) -> str | None:
    """Say that a batch is larger than the training data; None where it is not, or data of this kind are not known."""
    if isinstance(data, DividedImages | Nuclei):
        largest, unit = len(data.train), "training examples"
    elif isinstance(data, Corpus):
        largest = (len(data.train) - 1) // 2
        unit = f"columns of two words that {len(data.train):,} training words make"
    elif isinstance(data, ParallelCorpus):
        largest = len(data.train) * max(data.train.source.longest, data.train.target.longest)
        unit = f"tokens of {len(data.train):,} training pairs, filling counted"
    else:
        return None
    if batch_size <= largest:
        return None
    return f"{batch_size:,} is larger than the data: the largest batch there is holds all {largest:,} {unit}"


def scaled_spec(spec: Spec, batch_size: int, rule: Rule = "sqrt", *, half_life: bool = False) -> Scaled:
    """Return a spec scaled to another batch size by a rule of `epsgrid.numerics.scaling`, at the same number of epochs.

    With `half_life` decays are scaled as β^κ, which is possible at every κ.

    Raises:
        ScalingError: the rule is not derived for the optimizer, or does not reach that far; the message has the largest
            batch size that it allows.
        SpecError: the scaled spec is not valid, such as learning rates that have become equal.
    """
    if batch_size < 1:
        raise ScalingError(f"batch size: expected a whole number of at least 1, got {batch_size}")
    options, base, is_root = spec.optimizer, spec.training.batch_size, scaling.is_square_root(rule)
    kappa = Fraction(batch_size, base)
    values = spec.model_dump(mode="json")
    changes: list[Change] = []

    def change(path: str, why: str, scaled: Callable[[Any], Any]) -> None:
        *groups, field = path.split(".")
        inner = values
        for name in groups:
            inner = inner[name]
        before = inner[field]
        if before is None or isinstance(before, str):  # "settled" batches, or once an "epoch"
            return
        after = [scaled(item) for item in before] if isinstance(before, list) else scaled(before)
        if after != before:
            inner[field] = after
            changes.append(Change(path, before, after, why))

    residual = ""
    if is_root:
        optimizer_scaling.require_reach(options, base, batch_size, half_life=half_life)
        scaled_options = optimizer_scaling.scaled_options(options, kappa, half_life=half_life)
        factor = float(optimizer_scaling.noise_factor(options, kappa, half_life=half_life))
        residual = "" if factor == 1 else f"{factor:.4g} (see below)"
        decay = "its half-life in epochs stays: β^κ" if half_life else "it spans as many epochs: 1 − β times κ"
        for field, after in scaled_options.model_dump(mode="json").items():
            before, values["optimizer"][field] = values["optimizer"][field], after
            if after != before:
                why = "decoupled, and lr·λ·steps stays: times √κ" if field == "weight_decay" else decay
                why += f" over {residual}" if field == "weight_decay" and residual else ""
                changes.append(Change(f"optimizer.{field}", before, after, why))
    change("training.batch_size", "the new batch size", lambda size: batch_size)
    change("training.schedule.warmup_steps", "as many epochs: over κ", lambda steps: scaling.scaled_steps(steps, kappa))
    if is_root:
        why = "a gradient's norm is its noise's, so that as many are cut: over √κ (not in the paper)"
        change("training.clip_norm", why, lambda bound: scaling.scaled_magnitude(bound, kappa))
    for path in ("probe.batches", "probe.every", "observe.every"):
        change(path, "as many epochs: over κ", lambda steps: scaling.scaled_steps(steps, kappa))
    why = "the linear rule: times κ" if rule == "linear" else "the square-root rule: times √κ"
    why += f" and {residual}" if residual else ""
    scaled_rate = partial(optimizer_scaling.scaled_learning_rate, options, kappa=kappa, rule=rule, half_life=half_life)
    for path in ("probe.learning_rate", "probe.compare_weights", "sweep.learning_rates"):
        change(path, why, scaled_rate)
    if rule == "sqrt":
        place = optimizer_scaling.scaling_of(options).epsilon
        for path in ("sweep.epsilons", "sweep.default_epsilon"):
            change(
                path,
                _EPSILON[place] + (f", and the square of {residual}" if residual else ""),
                lambda value: optimizer_scaling.scaled_epsilon(options, value, kappa, rule, half_life=half_life),
            )
    if not changes:
        return Scaled(spec, float(kappa), rule, ())
    notes = tuple(_assumptions(options, rule, half_life, is_residual=bool(residual))) if is_root else ()
    return Scaled(spec_from_json(values, "the scaled spec"), float(kappa), rule, tuple(changes), notes)


def _assumptions(options: OptimizerOptions, rule: Rule, half_life: bool, *, is_residual: bool) -> Iterator[str]:
    """Yield a sentence for each thing that a square-root rule assumes of an optimizer, or leaves as it is."""
    yield (
        "assumed: the noise of a gradient outweighs its mean, so that √v̂ falls by √κ; early in a training it may not,"
        " and `epsgrid probe --batch-sizes` measures it layer by layer"
    )
    if is_residual:
        yield (
            "v averages (g − m)², whose noise changes with β₁: √v̂ by c(β₁')/c(β₁) as well, c = β₁·√(2/(1 + β₁)), and"
            " with it the learning rate, and ε in place by its square"
        )
    if getattr(options, "weight_decay", 0) and not optimizer_scaling.is_decoupled(options):
        yield "optimizer.weight_decay is part of the gradient and stays as it is"
    is_in_place = optimizer_scaling.scaling_of(options).epsilon == "in place"
    if rule == "sqrt" and is_in_place and not half_life and not is_residual:
        yield "sweep.default_epsilon is added to v in place: its floor ε/(1 − β₂) moves, ε stays as it is"


def check_size(spec: Spec) -> str | None:
    """Refuse a batch that is larger than the task's training data; return a sentence where the data are missing.

    Raises:
        ScalingError: the batch is larger.
        SpecError: the task asks for more than its data have.
    """
    try:
        data = tasks.load(spec.task.name).prepare(spec.task)
    except (DataError, ExecutionError) as error:
        return f"not checked whether a batch fits into the training data: {error}"
    if excess := too_large(spec.training.batch_size, data):
        raise ScalingError(f"training.batch_size: {excess}")
    return None


def renamed(scaled: Scaled) -> Scaled:
    """Return the same with another experiment's name: two batch sizes are two experiments, with a folder each."""
    if not scaled.changes:
        return scaled
    name = f"{scaled.spec.experiment[:_LONGEST_NAME]}-batch-{scaled.spec.training.batch_size}"
    change = Change("experiment", scaled.spec.experiment, name, "another batch size is another experiment")
    spec = scaled.spec.model_copy(update={"experiment": name})
    return replace(scaled, spec=spec, changes=(change, *scaled.changes))


def annotated_yaml(scaled: Scaled) -> str:
    """Return the scaled spec as YAML below comments: a line for each number that changed, then the assumptions."""
    size = scaled.spec.training.batch_size
    lines = [f"Scaled to a batch of {size:,} by epsgrid scale: κ = {scaled.kappa:.6g}, rule: {scaled.rule}."]
    lines += [f"  {each.path}: {shown(each.before)} → {shown(each.after)}: {each.why}" for each in scaled.changes]
    return "".join(f"# {line}\n" for line in (*lines, *scaled.notes)) + spec_to_yaml(scaled.spec)
