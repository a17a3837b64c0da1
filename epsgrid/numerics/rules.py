"""The rules by which the bounds of a probe are judged: each looks at one thing and says what it found in a sentence.

Bounds are the decades of a grid, so a choice matters where it moves an end by whole decades. What makes the bounds

    not to be trusted   fewer than 10 steps; an end that rounding noise sets and that moves by a decade or more without
                        it; an end that another seed moves by more than one decade, or that moved by more than one in
                        the second half of the steps; layers with NaN or infinite entries
    soft                an end that another seed, another tail or other weights move by a decade; an end set by a layer
                        of fewer than 50 non-zero entries (at the published 2 %: its minimum or maximum) that moves by
                        a decade or more without such layers; an end that changed its decade in the second half of the
                        steps, or drifted by more than 0.1 decades in it; an end within 0.05 decades of where rounding
                        turns to the next one; fewer than three measured layers

and firm otherwise. What was not looked at is said and lowers nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from epsgrid.numerics.course import LARGEST_DRIFT, Course, End, settled_after
from epsgrid.numerics.magnitudes import Bound, LayerStatistics, LayerStatus, decade_of
from epsgrid.numerics.variants import (
    ROUNDING_NOISE,
    Variant,
    VariantKind,
    least_entries,
    small_label,
)

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds

FEWEST_STEPS = 10
FEWEST_LAYERS = 3
NEAR_A_BOUNDARY = 0.05
"""Decades from where rounding turns within which an end may as well be its neighbour."""

_ENDS: tuple[End, ...] = ("low", "high")
_WORDS = {"low": "lower", "high": "upper"}
_NAMES_IN_A_SENTENCE = 3


class Severity(IntEnum):
    """What a finding does to the verdict."""

    SUPPORTS = 0
    MENTIONED = 1
    SOFT = 2
    DISTRUST = 3


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes:
        severity: what it does to the verdict.
        sentence: for users, with numbers and names.
    """

    severity: Severity
    sentence: str


@dataclass(frozen=True)
class Evidence:
    """All that the rules look at; see `epsgrid.numerics.reliability.judge`.

    Attributes:
        bounds: as the probe estimated them.
        variants: under other choices, those without noise and without small layers among them where there are any.
        course: over the probe's steps.
        noise: share of rounding noise by name of layer.
        noise_checked: whether it was looked for.
        steps: taken by the probe.
    """

    bounds: EpsilonBounds
    variants: tuple[Variant, ...]
    course: Course | None
    noise: Mapping[str, float]
    noise_checked: bool
    steps: int

    @property
    def measured(self) -> tuple[LayerStatistics, ...]:
        """The layers that count for the bounds."""
        return tuple(layer for layer in self.bounds.layers if layer.status is LayerStatus.MEASURED)

    def bound(self, end: End) -> Bound:
        """Return one end of the bounds."""
        return _end(self.bounds, end)

    def of_kind(self, kind: VariantKind) -> tuple[Variant, ...]:
        """Return the variants of one sort of choice."""
        return tuple(variant for variant in self.variants if variant.kind == kind)

    def without(self, label: str) -> Variant | None:
        """Return the variant in which something was left out; None where nothing was, or nothing is left."""
        return next((variant for variant in self.of_kind("without") if variant.label == label), None)


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Return what all rules find, in the order of the rules."""
    return tuple(finding for rule in RULES for finding in rule(evidence))


def enough_steps(evidence: Evidence) -> Iterator[Finding]:
    """Fewer than 10 steps are too few."""
    looked = f"{_count(evidence.steps, 'step')} {'was' if evidence.steps == 1 else 'were'} looked at"
    if evidence.steps < FEWEST_STEPS:
        yield Finding(Severity.DISTRUST, f"only {looked}, fewer than {FEWEST_STEPS}: v has hardly gathered anything")
    else:
        yield Finding(Severity.SUPPORTS, looked)


def finite_layers(evidence: Evidence) -> Iterator[Finding]:
    """A layer with a NaN or an infinity is left out of the bounds, and where there is one there may be more."""
    names = [layer.name for layer in evidence.bounds.layers if layer.status is LayerStatus.NON_FINITE]
    if names:
        verbs = "holds NaN or infinite entries and sets" if len(names) == 1 else "hold NaN or infinite entries and set"
        yield Finding(Severity.DISTRUST, f"{_listed(names)} {verbs} no bound")


def rounding_noise(evidence: Evidence) -> Iterator[Finding]:
    """An end that is set by rounding noise says nothing about gradients."""
    if not evidence.noise:
        yield (
            Finding(Severity.SUPPORTS, "no layer's gradient is only rounding noise")
            if evidence.noise_checked
            else Finding(Severity.MENTIONED, "layers whose gradients are only rounding noise were not looked for")
        )
        return
    set_by_noise = [end for end in _ENDS if set(evidence.bound(end).layers) & set(evidence.noise)]
    for end in set_by_noise:
        yield _set_by_noise(evidence, end)
    if not set_by_noise:
        yield Finding(Severity.MENTIONED, f"rounding noise, in {_listed(list(evidence.noise))}, sets neither bound")


def _set_by_noise(evidence: Evidence, end: End) -> Finding:
    bound, without = evidence.bound(end), evidence.without(ROUNDING_NOISE)
    what = f"the {_WORDS[end]} bound is set by rounding noise, in {_listed(bound.layers)}"
    if without is None:
        return Finding(Severity.DISTRUST, f"{what}; without it there are no bounds")
    if not _shift(bound, _end(without, end)):
        return Finding(Severity.MENTIONED, f"{what}, but keeps its decade without it")
    return Finding(Severity.DISTRUST, f"{what}; without it the bound would be {_moved(bound, _end(without, end))}")


def small_layers(evidence: Evidence) -> Iterator[Finding]:
    """An end that a small layer sets is one entry's, unless larger layers say the same."""
    tail_fraction = evidence.bounds.tail_fraction
    label, least = small_label(tail_fraction), least_entries(tail_fraction)
    if all(layer.nonzero < least for layer in evidence.measured):
        yield Finding(Severity.SOFT, f"all layers have fewer than {least} non-zero entries: each bound is one entry's")
        return
    for end in _ENDS:
        bound, without = evidence.bound(end), evidence.without(label)
        what = f"the {_WORDS[end]} bound is set by {_setters(bound)}"
        if bound.entries >= least or without is None:
            yield Finding(Severity.SUPPORTS, what)
        elif not _shift(bound, _end(without, end)):
            yield Finding(Severity.MENTIONED, f"{what}, but keeps its decade without {label}")
        else:
            yield Finding(Severity.SOFT, f"{what}; without {label} it would be {_moved(bound, _end(without, end))}")


def enough_layers(evidence: Evidence) -> Iterator[Finding]:
    """The extremes of one or two layers say little about others."""
    count = len(evidence.measured)
    if count < FEWEST_LAYERS:
        yield Finding(Severity.SOFT, f"only {_count(count, 'layer')} measured, fewer than {FEWEST_LAYERS}")


def settling(evidence: Evidence) -> Iterator[Finding]:
    """An end that still changes at the probe's end would be another after more steps."""
    half = None if evidence.course is None else evidence.course.second_half()
    if evidence.course is None or half is None:
        yield Finding(Severity.MENTIONED, "how the bounds settle over the steps was not followed")
        return
    restless = [finding for end in _ENDS for finding in _restless(half, end)]
    yield from restless
    if not restless:
        last = evidence.course.steps[-1]
        after = f"from step {settled_after(evidence.course)} of {last} on"
        yield Finding(Severity.SUPPORTS, f"both bounds keep their decade {after}")


def _restless(half: Course, end: End) -> Iterator[Finding]:
    values, last = half.end(end), half.steps[-1]
    final = decade_of(values[-1])
    changes = [(step, decade_of(value)) for step, value in zip(half.steps, values, strict=True)]
    changes = [(step, decade) for step, decade in changes if decade != final]
    if changes:
        step, decade = max(changes, key=lambda change: (abs(_between(final, change[1])), change[0]))
        severity = Severity.DISTRUST if abs(_between(final, decade)) > 1 else Severity.SOFT
        still = f"at step {step} of {last} it was {_power(decade)}, {_by(_between(final, decade))}"
        yield Finding(severity, f"the {_WORDS[end]} bound has not settled: {still}")
    elif abs(half.drift(end)) > LARGEST_DRIFT:
        way = "up" if half.drift(end) > 0 else "down"
        by = f"by {abs(half.drift(end)):.2f} decades from step {half.steps[0]} to {last}"
        yield Finding(Severity.SOFT, f"the {_WORDS[end]} bound still drifts {way}, {by}")


def seeds(evidence: Evidence) -> Iterator[Finding]:
    """Other initial weights and batches should give the same decades."""
    variants = evidence.of_kind("seed")
    if not variants:
        yield Finding(Severity.MENTIONED, "one seed: other initial weights and batches were not tried")
        return
    yield from _spread(evidence, variants, lambda label: f"with {label}", largest=1)
    if not _any_moves(evidence, variants):
        yield Finding(Severity.SUPPORTS, f"{len(variants) + 1} seeds agree on both decades")


def tails(evidence: Evidence) -> Iterator[Finding]:
    """The tail fraction is a convention: the decades should not hang on it."""
    variants = evidence.of_kind("tail")
    if not variants:
        fraction = f"{100 * evidence.bounds.tail_fraction:g} %"
        yield Finding(Severity.MENTIONED, f"tails other than {fraction} were not tried")
        return
    yield from _spread(evidence, variants, lambda label: f"with tails of {label}")
    if not _any_moves(evidence, variants):
        labels = _joined([variant.label for variant in variants])
        yield Finding(Severity.SUPPORTS, f"tails of {labels} give the same decades")


def weights(evidence: Evidence) -> Iterator[Finding]:
    """Training moves the weights, which the published probe does not."""
    variants = evidence.of_kind("weights")
    if not variants:
        yield Finding(Severity.MENTIONED, "moving and frozen weights were not compared")
        return
    yield from _spread(evidence, variants, lambda label: f"with weights {label}")
    if not _any_moves(evidence, variants):
        labels = _joined([variant.label for variant in variants])
        yield Finding(Severity.SUPPORTS, f"weights {labels} give the same decades")


def _spread(
    evidence: Evidence, variants: Sequence[Variant], phrase: Callable[[str], str], largest: float = math.inf
) -> Iterator[Finding]:
    """Find, for each end, the variant that moves it most; by more than `largest` decades is worse than soft."""
    for end in _ENDS:
        bound = evidence.bound(end)
        worst = max(variants, key=lambda variant: abs(_shift(bound, _end(variant, end))))
        shift = _shift(bound, _end(worst, end))
        if shift:
            severity = Severity.DISTRUST if abs(shift) > largest else Severity.SOFT
            would = f"the {_WORDS[end]} bound would be {_moved(bound, _end(worst, end))}"
            yield Finding(severity, f"{phrase(worst.label)} {would}")


def _any_moves(evidence: Evidence, variants: Sequence[Variant]) -> bool:
    return any(_shift(evidence.bound(end), _end(variant, end)) for variant in variants for end in _ENDS)


def boundaries(evidence: Evidence) -> Iterator[Finding]:
    """An end near where rounding turns is one decade by accident."""
    for end in _ENDS:
        bound = evidence.bound(end)
        exponent = math.log10(bound.epsilon)
        distance = abs(exponent - math.floor(exponent) - 0.5)
        if distance < NEAR_A_BOUNDARY:
            (other,) = {decade_of(10.0 ** math.floor(exponent)), decade_of(10.0 ** math.ceil(exponent))} - {
                bound.decade
            }
            near = f"{distance:.2f} decades from where rounding turns to {_power(other)}"
            yield Finding(Severity.SOFT, f"the {_WORDS[end]} bound, {bound.epsilon:.3g}, lies {near}")


RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    enough_steps,
    finite_layers,
    rounding_noise,
    settling,
    seeds,
    weights,
    tails,
    small_layers,
    boundaries,
    enough_layers,
)
"""In the order in which their findings are told."""


def _end(ends: EpsilonBounds | Variant, end: End) -> Bound:
    return ends.low if end == "low" else ends.high


def _shift(bound: Bound, other: Bound) -> int:
    """Return by how many decades `other` lies above."""
    return _between(bound.decade, other.decade)


def _between(decade: float, other: float) -> int:
    return round(math.log10(other)) - round(math.log10(decade))


def _moved(bound: Bound, other: Bound) -> str:
    """Say where an end would be, such as "1e-03, one decade lower"."""
    return f"{_power(other.decade)}, {_by(_shift(bound, other))}"


def _by(shift: int) -> str:
    size = "one decade" if abs(shift) == 1 else f"{abs(shift)} decades"
    return f"{size} {'higher' if shift > 0 else 'lower'}"


def _power(decade: float) -> str:
    return f"{decade:.0e}"


def _setters(bound: Bound) -> str:
    """Say which layers set a bound and how many entries stand behind it."""
    alone = " alone" if len(bound.layers) == 1 else ""
    return f"{_listed(bound.layers)}{alone}, {_count(bound.entries, 'non-zero entry')}"


def _count(count: int, what: str) -> str:
    """Write a count with its noun.

    >>> _count(1, "non-zero entry"), _count(1728, "non-zero entry"), _count(2, "layer")
    ('1 non-zero entry', '1,728 non-zero entries', '2 layers')
    """
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def _listed(names: Sequence[str]) -> str:
    """List names, the first few of many."""
    if len(names) <= _NAMES_IN_A_SENTENCE:
        return _joined(names)
    return f"{', '.join(names[:_NAMES_IN_A_SENTENCE])} and {len(names) - _NAMES_IN_A_SENTENCE} more"


def _joined(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
