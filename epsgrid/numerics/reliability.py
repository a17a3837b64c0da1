"""How far the bounds of a probe can be trusted: what they would be had something been chosen differently.

A probe states its reliability. Each choice that the published rule makes (the 2 %, one epoch, one seed, frozen weights,
every tensor whatever its size) is made differently once, and the bounds that come out are kept as a `Variant`. From
these, from the `Course` of the bounds over the probe's steps and from the tensors whose gradients are only rounding
noise follows a verdict with its reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from epsgrid.numerics.magnitudes import Bound, read_document

Verdict = Literal["firm", "soft", "not to be trusted"]
VariantKind = Literal["tail", "seed", "weights", "without", "kind", "betas"]


@dataclass(frozen=True)
class Variant:
    """The bounds as they come out where one choice is made differently.

    Attributes:
        kind: which choice. "tail": another tail fraction; "seed": other initial weights and batches; "weights": moving
            instead of frozen, or the reverse; "without": layers or entries left out; "kind": one kind of layer alone;
            "betas": another decay of v or m.
        label: the choice in words, such as "5 %", "seed 1", "moving at lr 0.001", "rounding noise", "convolution" or
            "β₂ = 0.99".
        low: lower end.
        high: upper end.
    """

    kind: VariantKind
    label: str
    low: Bound
    high: Bound

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"kind": self.kind, "label": self.label, "low": self.low.to_json(), "high": self.high.to_json()}

    @classmethod
    def from_json(cls, document: Any) -> Variant:
        """Return the variant that `to_json` wrote; raises CorruptRecordError where it is no such document."""
        return read_document(
            "variant",
            document,
            lambda fields: cls(
                **{**fields, "low": Bound.from_json(fields["low"]), "high": Bound.from_json(fields["high"])}
            ),
        )


@dataclass(frozen=True)
class Course:
    """The bounds after some of a probe's steps, as they would have been had it ended there.

    Attributes:
        steps: numbers of steps taken, rising; the last is the probe's own.
        low: lower ends, in the optimizer's ε, not rounded; one for each of `steps`, off by at most a bin's width.
        high: upper ends, likewise.
    """

    steps: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"steps": list(self.steps), "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_json(cls, document: Any) -> Course:
        """Return the course that `to_json` wrote; raises CorruptRecordError where it is no such document."""
        return read_document(
            "course", document, lambda fields: cls(**{name: tuple(values) for name, values in fields.items()})
        )


@dataclass(frozen=True)
class Reliability:
    """How far the bounds can be trusted.

    Attributes:
        verdict: "firm", "soft" or "not to be trusted".
        reasons: why, a sentence each; of a firm verdict what it rests on.
        variants: the bounds under other choices.
        course: the bounds over the probe's steps; None where they were not followed.
        noise: share of the non-zero entries that are only rounding noise, in (0, 1], by name of layer; layers without
            any are left out.
        noise_checked: whether rounding noise was looked for and could be told.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    variants: tuple[Variant, ...] = ()
    course: Course | None = None
    noise: Mapping[str, float] = field(default_factory=dict)
    noise_checked: bool = False

    def of_kind(self, kind: VariantKind) -> tuple[Variant, ...]:
        """Return the variants in which one sort of choice is made differently."""
        return tuple(variant for variant in self.variants if variant.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "variants": [variant.to_json() for variant in self.variants],
            "course": None if self.course is None else self.course.to_json(),
            "noise": dict(self.noise),
            "noise_checked": self.noise_checked,
        }

    @classmethod
    def from_json(cls, document: Any) -> Reliability:
        """Return what `to_json` wrote; raises CorruptRecordError where it is no such document."""
        return read_document("reliability", document, cls._from_json)

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> Reliability:
        course = document["course"]
        return cls(
            verdict=document["verdict"],
            reasons=tuple(document["reasons"]),
            variants=tuple(Variant.from_json(variant) for variant in document["variants"]),
            course=None if course is None else Course.from_json(course),
            noise=dict(document["noise"]),
            noise_checked=document["noise_checked"],
        )
