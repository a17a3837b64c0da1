"""How far the bounds of a probe can be trusted: rules that each look at one thing and report it in a sentence.

Bounds are the decades of a grid, so a choice matters where it moves an end by whole decades. Confidence is

    low      with fewer than 10 steps; an end that rounding noise sets and that moves by a decade or more without it; an
             end that another seed moves by more than one decade, or that moved by more than one in the second half of
             the steps; layers with NaN or infinite entries
    medium   with an end that another seed, another tail or other weights move by a decade; an end set by a layer of
             fewer than 50 non-zero entries (at the published 2 %: its minimum or maximum) that moves by a decade or
             more without such layers; an end that changed its decade in the second half of the steps, or drifted by
             more than 0.1 decades in it; an end within 0.05 decades of where rounding turns to the next one; fewer than
             three measured layers
    high     otherwise

What was not checked is reported and lowers nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from epsgrid.numerics.bounds import ROUNDING_NOISE, EpsilonBounds, Reliability, Variant, VariantKind, Verdict
from epsgrid.numerics.magnitudes import Bound, LayerStatistics, LayerStatus, bounds_of, decade_of, low_rank
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import count, power, shortened
from epsgrid.numerics.trajectory import LARGEST_DRIFT, End, Trajectory, settled_after

_FEWEST_STEPS = 10
_FEWEST_LAYERS = 3
_NEAR_A_BOUNDARY = 0.05
"""Decades from where rounding turns within which an end may as well be its neighbour."""

_ENDS: dict[End, str] = {"low": "lower", "high": "upper"}
_NAMES_IN_A_SENTENCE = 3


def judge(
    bounds: EpsilonBounds,
    placement: Placement,
    variants: Sequence[Variant],
    trajectory: Trajectory | None,
    noise: Mapping[str, float],
    noise_checked: bool,
    steps: int,
    with_noise: EpsilonBounds | None = None,
    who: str = "the probe",
) -> Reliability:
    """Judge how far bounds can be trusted.

    Args:
        bounds: as they were estimated.
        placement: where the optimizer adds its ε.
        variants: the bounds under other choices, as far as they were measured. Those without rounding noise
            (`ROUNDING_NOISE`, then whole layers) and without small layers are built from the layers where they are
            missing.
        trajectory: the bounds over the probe's steps; None where they were not recorded.
        noise: share of rounding noise by name of layer; layers without any are left out.
        noise_checked: whether the layers were checked for rounding noise.
        steps: that were taken.
        with_noise: the bounds with rounding noise, where `bounds`, `variants` and `trajectory` are those without.
        who: took the steps, for the reasons.

    Returns:
        The verdict of the worst finding. Its reasons are the findings that lower it, the worst first, then notes, such
        as what was not checked; at high confidence first what it rests on.
    """
    given = {variant.label for variant in variants if variant.kind == "without"}
    # With fewer non-zero entries, 50 at 2 %, a layer's low end is simply its minimum.
    least = next(entries for entries in itertools.count(1) if low_rank(entries, bounds.tail_fraction))
    small, small_label = [layer.name for layer in bounds.layers if layer.nonzero < least], _small_label(least)
    built = [] if with_noise else [without(bounds.layers, placement, noise, ROUNDING_NOISE)]
    built.append(without(bounds.layers, placement, small, small_label))
    known = (*variants, *(each for each in built if each is not None and each.label not in given))
    judged = _Judgement(bounds, known)
    judged.steps_and_entries(steps, who)
    judged.rounding_noise(noise, noise_checked, with_noise)
    judged.settling(trajectory)
    note = "only one seed was tried: other initial weights and batches may give other bounds"
    judged.compare("seed", "with {}", note, "{seeds} seeds agree on both decades", largest=1)
    note = "moving and frozen weights were not compared"
    judged.compare("weights", "with weights {}", note, "weights {labels} give the same decades")
    note = f"tails other than {100 * bounds.tail_fraction:g} % were not tried"
    judged.compare("tail", "with tails of {}", note, "tails of {labels} give the same decades")
    judged.small_layers(least)
    judged.boundaries_and_layers()
    verdict: Verdict = "low" if judged.low else "medium" if judged.medium else "high"
    supports = judged.supports if verdict == "high" else []
    reasons = (*supports, *judged.low, *judged.medium, *judged.notes)
    return Reliability(verdict, reasons, known, trajectory, dict(noise), noise_checked)


def without(
    layers: Sequence[LayerStatistics], placement: Placement, names: Collection[str], label: str
) -> Variant | None:
    """Return the bounds without some layers; None where no measured layer is left out, or all are."""
    measured = [layer for layer in layers if layer.status is LayerStatus.MEASURED]
    kept = [layer for layer in measured if layer.name not in names]
    ends = bounds_of(kept, placement) if len(kept) < len(measured) else None
    return None if ends is None else Variant("without", label, *ends)


def _small_label(least: int) -> str:
    return f"layers of fewer than {least} entries"


class _Judgement:
    """The findings about some bounds: those that make the confidence low or medium, notes, and what supports it."""

    def __init__(self, bounds: EpsilonBounds, variants: Sequence[Variant]) -> None:
        self.bounds, self.variants = bounds, variants
        self.measured = [layer for layer in bounds.layers if layer.status is LayerStatus.MEASURED]
        self.low: list[str] = []
        self.medium: list[str] = []
        self.notes: list[str] = []
        self.supports: list[str] = []

    def ends(self, label: str | None = None) -> Iterator[tuple[str, Bound, Bound | None]]:
        """Yield the name of each end, that bound, and the same in the "without" variant of a label, if there is one."""
        found = next((each for each in self.variants if (each.kind, each.label) == ("without", label)), None)
        for end, word in _ENDS.items():
            yield f"the {word} bound", getattr(self.bounds, end), None if found is None else getattr(found, end)

    def steps_and_entries(self, steps: int, who: str) -> None:
        """Few steps are too few, and a layer with a NaN or an infinity is left out of the bounds."""
        taken = f"{who} took {count(steps, 'step')}"
        if steps < _FEWEST_STEPS:
            self.low.append(f"{taken}, fewer than {_FEWEST_STEPS}: v has averaged hardly any gradients")
        self.supports.append(taken)
        names = [layer.name for layer in self.bounds.layers if layer.status is LayerStatus.NON_FINITE]
        if names:
            verbs = "hold NaN or infinite entries and set" if names[1:] else "holds NaN or infinite entries and sets"
            self.low.append(f"{_listed(names)} {verbs} no bound")

    def rounding_noise(self, noise: Mapping[str, float], noise_checked: bool, with_noise: EpsilonBounds | None) -> None:
        """An end that is set by rounding noise says nothing about gradients."""
        if with_noise is not None:
            moved = [
                f"the {word} bound would be {_moved(getattr(self.bounds, end).decade, other.decade)}"
                for end, word in _ENDS.items()
                if (other := getattr(with_noise, end)).decade != getattr(self.bounds, end).decade
            ]
            self.notes.append(f"rounding noise, in {_listed(list(noise))}, is left out: with it {_joined(moved)}")
            return
        if not noise_checked and not noise:
            self.notes.append("layers were not checked for gradients that are only rounding noise")
        elif not noise:
            self.supports.append("no layer's gradient is only rounding noise")
        elif not any(noise.keys() & set(bound.layers) for _, bound, _ in self.ends()):
            self.notes.append(f"rounding noise, in {_listed(list(noise))}, sets neither bound")
        for name, bound, other in self.ends(ROUNDING_NOISE):
            if not noise.keys() & set(bound.layers):
                continue
            what = f"{name} is set by rounding noise, in {_listed(bound.layers)}"
            if other is None:
                self.low.append(f"{what}; without it there are no bounds")
            elif _shift(bound.decade, other.decade):
                self.low.append(f"{what}; without it the bound would be {_moved(bound.decade, other.decade)}")
            else:
                self.notes.append(f"{what}, but keeps its decade without it")

    def settling(self, trajectory: Trajectory | None) -> None:
        """An end that still changes at the probe's end would be another after more steps."""
        half = None if trajectory is None else trajectory.since(2)
        if trajectory is None or half is None:
            self.notes.append("it was not checked how the bounds settle over the steps")
            return
        last, is_settled = half.steps[-1], True
        for end, word in _ENDS.items():
            decades = [decade_of(value) for value in getattr(half, end)]
            changes = zip(half.steps, decades, strict=True)
            shift, step, decade = max((abs(_shift(decades[-1], decade)), step, decade) for step, decade in changes)
            drift = half.drift(end)
            if shift:
                was = f"at step {step} of {last} it was {_moved(decades[-1], decade)}"
                found = self.low if shift > self.bounds.step else self.medium
                found.append(f"the {word} bound has not settled: {was}")
            elif abs(drift) > LARGEST_DRIFT:
                by = f"by {abs(drift):.2f} decades from step {half.steps[0]} to {last}"
                self.medium.append(f"the {word} bound still drifts {'up' if drift > 0 else 'down'}, {by}")
            is_settled = is_settled and not shift and abs(drift) <= LARGEST_DRIFT
        if is_settled:
            after = f"from step {settled_after(trajectory)} of {last} on"
            self.supports.append(f"both bounds keep their decade {after}")

    def compare(self, kind: VariantKind, phrase: str, note: str, agree: str, largest: float = math.inf) -> None:
        """Other seeds, moving weights and other tails should give the same decades.

        A variant is introduced by `phrase`, with its label for {}. `note` is the sentence where there are none,
        `agree`, with {labels} and {seeds}, that where none moves an end. One that moves an end by more than `largest`
        decades of √v̂ makes the confidence low.
        """
        variants = [variant for variant in self.variants if variant.kind == kind]
        if not variants:
            self.notes.append(note)
            return
        is_same = True
        for end, word in _ENDS.items():
            decade = getattr(self.bounds, end).decade
            found = [(variant.label, getattr(variant, end).decade) for variant in variants]
            label, other = max(found, key=lambda each: abs(_shift(decade, each[1])))
            if shift := _shift(decade, other):
                is_same = False
                lowered = self.low if abs(shift) > largest * self.bounds.step else self.medium
                lowered.append(f"{phrase.format(label)} the {word} bound would be {_moved(decade, other)}")
        if is_same:
            labels = _joined([variant.label for variant in variants])
            self.supports.append(agree.format(labels=labels, seeds=len(variants) + 1))

    def small_layers(self, least: int) -> None:
        """An end that a small layer sets is one entry's, unless larger layers agree."""
        if all(layer.nonzero < least for layer in self.measured):
            self.medium.append(f"all layers have fewer than {least} non-zero entries: each bound is one entry's")
            return
        label = _small_label(least)
        for name, bound, other in self.ends(label):
            alone = " alone" if len(bound.layers) == 1 else ""
            what = f"{name} is set by {_listed(bound.layers)}{alone}, {count(bound.entries, 'non-zero entry')}"
            if bound.entries >= least or other is None:
                self.supports.append(what)
            elif _shift(bound.decade, other.decade):
                self.medium.append(f"{what}; without {label} it would be {_moved(bound.decade, other.decade)}")
            else:
                self.notes.append(f"{what}, but keeps its decade without {label}")

    def boundaries_and_layers(self) -> None:
        """An end near where rounding turns is one decade by accident, and the extremes of few layers say little."""
        step = self.bounds.step
        for name, bound, _ in self.ends():
            exponent = math.log10(bound.epsilon if step == 1 else bound.magnitude)
            distance = abs(exponent - math.floor(exponent) - 0.5)
            if distance < _NEAR_A_BOUNDARY:
                is_rounded_up = round(exponent) > exponent
                other = 10.0 ** (round(math.log10(bound.decade)) + (-step if is_rounded_up else step))
                near = f"{distance:.2f} decades from where rounding turns to {power(other)}"
                self.medium.append(f"{name}, {power(bound.epsilon)}, lies {near}")
        if len(self.measured) < _FEWEST_LAYERS:
            self.medium.append(f"only {count(len(self.measured), 'layer')} measured, fewer than {_FEWEST_LAYERS}")


def _shift(decade: float, other: float) -> int:
    """Return by how many decades `other` lies above."""
    return round(math.log10(other)) - round(math.log10(decade))


def _moved(decade: float, other: float) -> str:
    """Return another decade and how far it lies from the first, such as "1e-3, one decade lower"."""
    shift = _shift(decade, other)
    size = "one decade" if abs(shift) == 1 else f"{abs(shift)} decades"
    return f"{power(other)}, {size} {'higher' if shift > 0 else 'lower'}"


def _listed(names: Sequence[str]) -> str:
    return _joined(names) if len(names) <= _NAMES_IN_A_SENTENCE else shortened(names, _NAMES_IN_A_SENTENCE)


def _joined(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
