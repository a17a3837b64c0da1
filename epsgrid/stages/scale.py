"""Scale a spec to another batch size, with the reason for each number that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
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
from epsgrid.spec.writing import spec_to_yaml
from epsgrid.tasks._divide import DividedImages

_LONGEST_NAME = 80
_EPOCHS = "as many epochs: over κ"
_EPSILON = {
    "outside": "outside the root it moves as √v̂: over √κ",
    "inside": "inside the root it moves as v̂: over κ",
    "in place": "v's floor ε/(1 − β₂) falls by κ: times (1 − β₂')/(κ·(1 − β₂))",
}
_NOISE_DOMINATED = (
    "assumed: the noise of a gradient outweighs its mean, so that √v̂ falls by √κ; early in a training it may not, and"
    " `epsgrid probe --batch-sizes` measures it layer by layer"
)


@dataclass(frozen=True)
class Change:
    """One number of a spec that another batch size changes.

    Attributes:
        path: the dotted field, such as "optimizer.betas".
        before: its value, as plain JSON.
        after: the new value.
        why: the reason, in a few words.
    """

    path: str
    before: Any
    after: Any
    why: str


@dataclass(frozen=True)
class Scaled:
    """A spec at another batch size.

    Attributes:
        spec: the scaled spec.
        kappa: the new batch size over the old one.
        rule: the rule it was scaled by.
        changes: every field that changed, in the order of the spec.
        notes: assumptions, and fields that stay although one might expect otherwise; a sentence each.
    """

    spec: Spec
    kappa: float
    rule: Rule
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return the batch sizes that a list such as "32,128,512" names.

    Raises:
        SpecError: one of them is not a whole number of at least 1.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isdecimal() or int(part) < 1]
    if wrong:
        raise SpecError(
            f"--batch-sizes: expected whole numbers of at least 1, as in 32,128,512, got {', '.join(map(repr, wrong))}"
        )
    return tuple(map(int, parts))


def with_base(sizes: Sequence[int], base: int, data: tasks.PreparedData | None) -> tuple[int, ...]:
    """Return the batch sizes together with the spec's own, rising, each once.

    Args:
        sizes: the sizes asked for.
        base: the spec's batch size.
        data: the task's data; None where they are missing, and nothing is checked.

    Raises:
        SpecError: there is no other size than the base, or one is larger than the training data.
    """
    found = tuple(sorted({base, *sizes}))
    if len(found) < 2:
        raise SpecError(
            f"batch sizes: only {base}, which is the spec's own training.batch_size: there is nothing to compare it"
            f" with; name others, as in --batch-sizes {max(1, base // 4)},{4 * base}"
        )
    if excess := _too_large(found[-1], data):
        raise SpecError(f"batch sizes: {excess}")
    return found


def _too_large(batch_size: int, data: object) -> str | None:
    """Say that a batch is larger than the training data; None where it is not, or data of this kind are not known.

    Args:
        batch_size: in the unit in which the task counts batches: examples, columns of text, or tokens.
        data: the task's prepared data.
    """
    if isinstance(data, DividedImages):
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
    """Return a spec scaled to another batch size, at the same number of epochs.

    Args:
        spec: at its own `training.batch_size`.
        batch_size: the new one, at least 1.
        rule: see `epsgrid.numerics.scaling`.
        half_life: scale decays as β^κ, which is possible at every κ.

    Raises:
        ScalingError: the rule is not derived for the optimizer, or does not reach that far; the message has the largest
            batch size that it allows.
        SpecError: the scaled spec is not valid, such as learning rates that have become equal.
    """
    if batch_size < 1:
        raise ScalingError(f"batch size: expected a whole number of at least 1, got {batch_size}")
    kappa = Fraction(batch_size, spec.training.batch_size)
    changes = tuple(_changes(spec, kappa, rule, half_life))
    if not changes:
        return Scaled(spec, float(kappa), rule, ())
    values = spec.model_dump(mode="json")
    for change in changes:
        *path, last = change.path.split(".")
        inner = values
        for name in path:
            inner = inner[name]
        inner[last] = change.after
    scaled = spec_from_json(values, "the scaled spec")
    return Scaled(scaled, float(kappa), rule, changes, tuple(_notes(spec, rule, half_life)))


def check_size(spec: Spec) -> str | None:
    """Refuse a batch that is larger than the task's training data.

    Returns:
        None where it fits; a sentence where the data are missing, and nothing can be compared.

    Raises:
        ScalingError: the batch is larger.
        SpecError: the task asks for more than its data have.
    """
    try:
        data = tasks.load(spec.task.name).prepare(spec.task)
    except (DataError, ExecutionError) as error:
        return f"not checked whether a batch fits into the training data: {error}"
    if excess := _too_large(spec.training.batch_size, data):
        raise ScalingError(f"training.batch_size: {excess}")
    return None


def renamed(scaled: Scaled) -> Scaled:
    """Return the same with another experiment's name: two batch sizes are two experiments, with a folder each."""
    if not scaled.changes:
        return scaled
    spec = scaled.spec
    name = f"{spec.experiment[:_LONGEST_NAME]}-batch-{spec.training.batch_size}"
    change = Change("experiment", spec.experiment, name, "another batch size is another experiment")
    return replace(scaled, spec=spec.model_copy(update={"experiment": name}), changes=(change, *scaled.changes))


def annotated_yaml(scaled: Scaled) -> str:
    """Return the scaled spec as YAML, with a comment above each number that changed and the assumptions at the top.

    It reads back as `scaled.spec`.
    """
    size = scaled.spec.training.batch_size
    top = f"Scaled to a batch of {size:,} by epsgrid scale: κ = {scaled.kappa:.6g}, rule: {scaled.rule}."
    comments = {
        change.path: f"{shown(change.before)} → {shown(change.after)}: {change.why}" for change in scaled.changes
    }
    return spec_to_yaml(scaled.spec, comments, [top, *scaled.notes])


def _changes(spec: Spec, kappa: Fraction, rule: Rule, half_life: bool) -> Iterator[Change]:
    """Yield the changes in the order of the spec; a number that a rule maps onto itself is left out."""
    options, base, is_root = spec.optimizer, spec.training.batch_size, scaling.is_square_root(rule)
    if is_root:
        optimizer_scaling.require_reach(options, base, int(base * kappa), half_life=half_life)
        scaled_options = optimizer_scaling.scaled_options(options, kappa, half_life=half_life)
        decay = "its half-life in epochs stays: β^κ" if half_life else "it spans as many epochs: 1 − β times κ"
        for field in type(options).model_fields:
            before, after = _json(getattr(options, field)), _json(getattr(scaled_options, field))
            if after != before:
                is_weight_decay = field == "weight_decay"
                why = "decoupled, and lr·λ·steps stays: times √κ" if is_weight_decay else decay
                yield Change(f"optimizer.{field}", before, after, why)

    def rate(value: float) -> float:
        return scaling.scaled_learning_rate(value, kappa, rule)

    def epsilon(value: float) -> float:
        return optimizer_scaling.scaled_epsilon(options, value, kappa, rule, half_life=half_life)

    factor = f"{float(max(kappa, 1 / kappa)):.4g} times {'larger' if kappa >= 1 else 'smaller'}"
    why_rate = "the linear rule: times κ" if rule == "linear" else "the square-root rule: times √κ"
    norm = "a gradient's norm is its noise's, so that as many are cut: over √κ (not in the paper)"
    moves: dict[str, tuple[Callable[[Any], Any], str]] = {
        "training.batch_size": (lambda size: int(size * kappa), f"the batch is {factor}"),
        "training.schedule.warmup_steps": (lambda steps: scaling.scaled_steps(steps, kappa), _EPOCHS),
        **({"training.clip_norm": (lambda bound: scaling.scaled_magnitude(bound, kappa), norm)} if is_root else {}),
        "probe.batches": (lambda steps: scaling.scaled_steps(steps, kappa), _EPOCHS),
        "probe.every": (lambda steps: scaling.scaled_steps(steps, kappa), _EPOCHS),
        "observe.every": (lambda steps: scaling.scaled_steps(steps, kappa), _EPOCHS),
        "probe.learning_rate": (rate, why_rate),
        "probe.compare_weights": (rate, why_rate),
        "sweep.learning_rates": (rate, why_rate),
    }
    if rule == "sqrt":
        for path in ("sweep.epsilons", "sweep.default_epsilon"):
            moves[path] = (epsilon, _EPSILON[optimizer_scaling.scaling_of(options).epsilon])
    for path, (scaled, why) in moves.items():
        value: Any = spec
        for name in path.split("."):
            value = getattr(value, name)
        if value is None or isinstance(value, str):  # "settled" batches, or once an "epoch"
            continue
        before = _json(value)
        after = [scaled(item) for item in before] if isinstance(before, list) else scaled(before)
        if why == _EPOCHS and (exact := before / kappa).denominator > 1:
            why += f" ({float(exact):.6g}, rounded)"
        if after != before:
            yield Change(path, before, after, why)


def _notes(spec: Spec, rule: Rule, half_life: bool) -> Iterator[str]:
    """Yield the assumptions of the square-root rule, and what it leaves alone on purpose."""
    if not scaling.is_square_root(rule):
        return
    yield _NOISE_DOMINATED
    options = spec.optimizer
    if getattr(options, "weight_decay", 0) and not optimizer_scaling.is_decoupled(options):
        yield "optimizer.weight_decay is part of the gradient and stays as it is"
    if rule == "sqrt-keep-epsilon":
        yield "sweep.default_epsilon stays as it is on purpose; the square-root rule would move it"
    elif optimizer_scaling.scaling_of(options).epsilon == "in place" and not half_life:
        yield "sweep.default_epsilon is added to v in place: its floor ε/(1 − β₂) moves with β₂, and ε stays as it is"


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
