"""How far the bounds of a probe can be trusted: what they would be had something been chosen differently.

A probe states its reliability. Each choice that the published rule makes (the 2 %, one epoch, one seed, frozen weights,
every tensor whatever its size) is made differently once, and the bounds that come out are kept as a `Variant`
(`epsgrid.numerics.variants`). From these, from the `Course` of the bounds over the probe's steps
(`epsgrid.numerics.course`) and from the tensors whose gradients are only rounding noise follows a verdict with its
reasons, by the rules in `epsgrid.numerics.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from epsgrid.numerics.course import Course, course_of, has_settled, settled_after
from epsgrid.numerics.magnitudes import read_document
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.rules import Evidence, Finding, Severity, findings
from epsgrid.numerics.variants import (
    ROUNDING_NOISE,
    Variant,
    VariantKind,
    kind_variants,
    tail_variants,
    without,
    without_small,
)

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds

__all__ = [
    "ROUNDING_NOISE",
    "Course",
    "Reliability",
    "Variant",
    "VariantKind",
    "Verdict",
    "course_of",
    "has_settled",
    "judge",
    "kind_variants",
    "settled_after",
    "tail_variants",
    "without",
    "without_small",
]

Verdict = Literal["firm", "soft", "not to be trusted"]

_VERDICTS: dict[Severity, Verdict] = {
    Severity.SUPPORTS: "firm",
    Severity.MENTIONED: "firm",
    Severity.SOFT: "soft",
    Severity.DISTRUST: "not to be trusted",
}


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


def judge(
    bounds: EpsilonBounds,
    placement: Placement,
    variants: Sequence[Variant],
    course: Course | None,
    noise: Mapping[str, float],
    noise_checked: bool,
    steps: int,
) -> Reliability:
    """Judge how far a probe's bounds can be trusted, by the rules in `epsgrid.numerics.rules`.

    Args:
        bounds: as the probe estimated them.
        placement: where the optimizer adds its ε.
        variants: the bounds under other choices, as far as they were measured. The one without rounding noise
            (labelled `ROUNDING_NOISE`) and the one without small layers are built from the layers where they are not
            among them; the former then leaves out whole layers.
        course: the bounds over the probe's steps; None where they were not followed.
        noise: share of rounding noise by name of layer; layers without any are left out.
        noise_checked: whether rounding noise was looked for.
        steps: steps that the probe took.

    Returns:
        The verdict of the worst finding. Its reasons are the findings that lower it, the worst first, then what was
        not looked at or is merely worth knowing; of a firm verdict first what it rests on.
    """
    known = (*variants, *_left_out(bounds, placement, variants, noise))
    found = findings(Evidence(bounds, known, course, noise, noise_checked, steps))
    worst = max(finding.severity for finding in found)
    return Reliability(_VERDICTS[worst], _reasons(found, worst), known, course, dict(noise), noise_checked)


def _left_out(
    bounds: EpsilonBounds, placement: Placement, variants: Sequence[Variant], noise: Mapping[str, float]
) -> list[Variant]:
    """Return the variants without noise and without small layers that are not among those given."""
    given = {variant.label for variant in variants if variant.kind == "without"}
    built = (
        without(bounds.layers, placement, noise, ROUNDING_NOISE),
        without_small(bounds.layers, placement, bounds.tail_fraction),
    )
    return [variant for variant in built if variant is not None and variant.label not in given]


def _reasons(found: Sequence[Finding], worst: Severity) -> tuple[str, ...]:
    """Return the sentences to be told, in their order."""
    order = [Severity.DISTRUST, Severity.SOFT, Severity.MENTIONED]
    if worst <= Severity.MENTIONED:
        order.insert(0, Severity.SUPPORTS)
    return tuple(finding.sentence for severity in order for finding in found if finding.severity is severity)
