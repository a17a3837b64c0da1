"""Carry a spec, an ε or measured bounds to another batch size, and say of each number why it moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from epsgrid.errors import DataError, ExecutionError, ScalingError
from epsgrid.numerics import scaling
from epsgrid.numerics.scaling import Rule
from epsgrid.optimizers import _scaling as optimizer_scaling
from epsgrid.spec import spec_from_json, spec_to_yaml
from epsgrid.spec.model import Spec
from epsgrid.spec.reading import shown
from epsgrid.stages.batch_sizes import too_large

_LONGEST_NAME = 80


@dataclass(frozen=True)
class Change:
    """One number of a spec that another batch size moves.

    Attributes:
        path: the dotted field, such as "optimizer.betas".
        before: its value, as plain JSON.
        after: what it becomes.
        why: in a few words.
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
        changes: every field that moved, in the order of the spec.
        notes: what is assumed, and what was left as it is although one might expect otherwise; a sentence each.
    """

    spec: Spec
    kappa: float
    rule: Rule
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


def scaled_spec(spec: Spec, batch_size: int, rule: Rule = "sqrt", *, half_life: bool = False) -> Scaled:
    """Return a spec carried to another batch size, at the same number of epochs.

    Args:
        spec: at its own `training.batch_size`.
        batch_size: the new one, at least 1.
        rule: see `epsgrid.numerics.scaling`.
        half_life: scale decays as β^κ, which is possible at every κ.

    Raises:
        ScalingError: the rule is not derived for the optimizer, or does not reach that far; the message has the largest
            batch size that it allows.
        SpecError: what comes out is refused where a spec is checked, such as learning rates that have become equal.
    """
    kappa = _kappa(spec.training.batch_size, batch_size)
    changes = tuple(_Moves(spec, kappa, rule, half_life).changes())
    if not changes:
        return Scaled(spec, float(kappa), rule, ())
    values = spec.model_dump(mode="json")
    for change in changes:
        _put(values, change.path.split("."), change.after)
    scaled = spec_from_json(values, "the scaled spec")
    return Scaled(scaled, float(kappa), rule, changes, tuple(_notes(spec, rule, half_life)))


def scaled_epsilon(spec: Spec, epsilon: float, kappa: float, rule: Rule, *, half_life: bool = False) -> float:
    """Return what an ε of a spec's optimizer becomes at κ times the batch size.

    Args:
        spec: names the optimizer, with the options of the base batch size.
        epsilon: in the optimizer's own ε, at the base batch size.
        kappa: the new batch size over the old one, > 0.
        rule: all but "sqrt" leave ε as it is.
        half_life: the decays are scaled as β^κ.

    Raises:
        ScalingError: the rule is not derived for the optimizer.
    """
    return optimizer_scaling.scaled_epsilon(spec.optimizer, epsilon, kappa, rule, half_life=half_life)


def require_fitting(spec: Spec, data: object) -> None:
    """Refuse a batch that is larger than the training data.

    Args:
        spec: says how large a batch is.
        data: what the task prepared; where it does not say how much there is to train on, nothing is checked.

    Raises:
        ScalingError: the batch is larger.
    """
    excess = too_large(spec.training.batch_size, data)
    if excess is not None:
        raise ScalingError(f"training.batch_size: {excess}")


def unchecked_size(spec: Spec) -> str | None:
    """Refuse a batch that is larger than the task's data, as far as these are here.

    Returns:
        None where it fits; else, in words, that the data were not here to compare with.

    Raises:
        ScalingError: the batch is larger.
        SpecError: the task asks for more than its data have.
    """
    from epsgrid import tasks

    try:
        data = tasks.load(spec.task.name).prepare(spec.task)
    except (DataError, ExecutionError) as error:
        return f"not checked whether a batch fits into the training data: {error}"
    require_fitting(spec, data)
    return None


@dataclass(frozen=True)
class _Moves:
    """What happens to each number of a spec."""

    spec: Spec
    kappa: Fraction
    rule: Rule
    half_life: bool

    def changes(self) -> Iterator[Change]:
        """Yield what moves, in the order of the spec; a number that a rule maps onto itself does not."""
        if scaling.is_square_root(self.rule):
            yield from self._optimizer()
        for path, scaled, why in self._numbers():
            before = _json(_value(self.spec, path))
            if before is not None:
                yield from _changed(path, before, _each(scaled, before), why(before))

    def _optimizer(self) -> Iterator[Change]:
        options = self.spec.optimizer
        base = self.spec.training.batch_size
        optimizer_scaling.require_reach(options, base, int(base * self.kappa), half_life=self.half_life)
        scaled = optimizer_scaling.scaled_options(options, self.kappa, half_life=self.half_life)
        decay = "its half-life in epochs stays: β^κ" if self.half_life else "it spans as many epochs: 1 − β times κ"
        why = {"weight_decay": "decoupled, and lr·λ·steps stays: times √κ"}
        for field in type(options).model_fields:
            before, after = _json(getattr(options, field)), _json(getattr(scaled, field))
            yield from _changed(f"optimizer.{field}", before, after, why.get(field, decay))

    def _numbers(self) -> Iterator[tuple[str, Callable[[Any], Any], Callable[[Any], str]]]:
        """Yield the fields that move, how, and why given the value before."""
        kappa, rule = self.kappa, self.rule
        times = scaling_words(kappa)
        yield "training.batch_size", lambda size: int(size * kappa), lambda _: f"the batch is {times}"
        yield "training.schedule.warmup_steps", self._steps, self._why_steps
        if scaling.is_square_root(rule):
            norm = "a gradient's norm is its noise's, so that as many are cut: over √κ (not in the paper)"
            yield "training.clip_norm", lambda bound: scaling.scaled_magnitude(bound, kappa), lambda _: norm
        rate = "the linear rule: times κ" if rule == "linear" else "the square-root rule: times √κ"
        for path in ("probe.batches", "probe.every", "observe.every"):
            if isinstance(_value(self.spec, path), int):
                yield path, self._steps, self._why_steps
        for path in ("probe.learning_rate", "probe.compare_weights", "sweep.learning_rates"):
            yield path, lambda value: scaling.scaled_learning_rate(value, kappa, rule), lambda _: rate
        if rule == "sqrt":
            yield "sweep.default_epsilon", self._epsilon, lambda _: self._why_epsilon()

    def _steps(self, steps: int) -> int:
        return scaling.scaled_steps(steps, self.kappa)

    def _why_steps(self, steps: int) -> str:
        exact = steps / self.kappa
        rounded = "" if exact.denominator == 1 else f" ({float(exact):.6g}, rounded)"
        return f"as many epochs: over κ{rounded}"

    def _epsilon(self, epsilon: float) -> float:
        options = self.spec.optimizer
        return optimizer_scaling.scaled_epsilon(options, epsilon, self.kappa, self.rule, half_life=self.half_life)

    def _why_epsilon(self) -> str:
        place = optimizer_scaling.scaling_of(self.spec.optimizer).epsilon
        return {
            "outside": "outside the root it moves as √v̂: over √κ",
            "inside": "inside the root it moves as v̂: over κ",
            "in place": "v's floor ε/(1 − β₂) falls by κ: times (1 − β₂')/(κ·(1 − β₂))",
        }[place]


def renamed(scaled: Scaled) -> Scaled:
    """Return the same with another experiment's name: two batch sizes are two experiments, with a folder each."""
    spec, size = scaled.spec, scaled.spec.training.batch_size
    name = f"{spec.experiment[:_LONGEST_NAME]}-batch-{size}"
    if not scaled.changes or "experiment" in {change.path for change in scaled.changes}:
        return scaled
    change = Change("experiment", spec.experiment, name, "another batch size is another experiment")
    return replace(scaled, spec=spec.model_copy(update={"experiment": name}), changes=(change, *scaled.changes))


def annotated_yaml(scaled: Scaled) -> str:
    """Return the scaled spec as YAML, with a comment above each number that moved and what is assumed at the top.

    It reads back as `scaled.spec`.
    """
    size = scaled.spec.training.batch_size
    form = f"rule: {scaled.rule}"
    heading = [f"Carried to a batch of {size:,} by epsgrid scale: κ = {scaled.kappa:.6g}, {form}.", *scaled.notes]
    comments = {
        change.path: f"{shown(change.before)} → {shown(change.after)}: {change.why}" for change in scaled.changes
    }
    return spec_to_yaml(scaled.spec, comments, heading)


def scaling_words(kappa: Fraction) -> str:
    """Return how much larger or smaller a batch is, in words.

    >>> scaling_words(Fraction(4)), scaling_words(Fraction(1, 3))
    ('4 times larger', '3 times smaller')
    """
    larger = kappa >= 1
    return f"{float(kappa if larger else 1 / kappa):.4g} times {'larger' if larger else 'smaller'}"


def _notes(spec: Spec, rule: Rule, half_life: bool) -> Iterator[str]:
    """Yield what the result takes for granted, and what was left alone on purpose."""
    if not scaling.is_square_root(rule):
        return
    yield NOISE_DOMINATED
    options = spec.optimizer
    if getattr(options, "weight_decay", 0) and not optimizer_scaling.is_decoupled(options):
        yield "optimizer.weight_decay is part of the gradient and stays as it is"
    if rule == "sqrt-keep-epsilon":
        yield "sweep.default_epsilon stays as it is on purpose; the square-root rule would move it"
    elif optimizer_scaling.scaling_of(options).epsilon == "in place" and not half_life:
        yield "sweep.default_epsilon is added to v in place: its floor ε/(1 − β₂) moves with β₂, and ε stays as it is"


NOISE_DOMINATED = (
    "assumed: the noise of a gradient outweighs its mean, so that √v̂ falls by √κ; early in a training it may not, and"
    " `epsgrid probe --batch-sizes` measures it layer by layer"
)
"""What the square-root rule and carried bounds take for granted."""


def _kappa(base: int, batch_size: int) -> Fraction:
    if batch_size < 1:
        raise ScalingError(f"batch size: expected a whole number of at least 1, got {batch_size}")
    return Fraction(batch_size, base)


def _changed(path: str, before: Any, after: Any, why: str) -> Iterator[Change]:
    if after != before:
        yield Change(path, before, after, why)


def _each(scaled: Callable[[Any], Any], value: Any) -> Any:
    return [scaled(item) for item in value] if isinstance(value, list) else scaled(value)


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _value(spec: Spec, path: str) -> Any:
    found: Any = spec
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        values = values[name]
    values[path[-1]] = value
