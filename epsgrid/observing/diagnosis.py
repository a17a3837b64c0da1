"""Whether an ε hurts a training: the layers whose steps it shortens, and when that is worth a warning.

A layer's steps are *shortened* where its damping (see `epsgrid.numerics.damping`) is below `SHORTENED`. It is *partly
stalled* where the damping of many entries is below a tenth, as where one output of a model is in far smaller units than
the others. Where hardly any entry has a √v̂ above ε, all are divided by the same number: the layer is trained by
*momentum SGD* with the learning rate lr/ε. Short steps are not harmful by themselves: a higher learning rate makes up
for them, if not for entries of different sizes. So both remedies are named, a lower ε and a learning rate 1/damping
times higher. `scripts/calibrate_alarm.py` tried the thresholds on trainings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from epsgrid.numerics import notebook
from epsgrid.numerics.damping import Damping, damping_of, largest_harmless, pooled
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import count, percent, power, shortened
from epsgrid.observing.reading import Reading

SHORTENED, RECOVERED = 0.2, 0.4
"""Damping below which steps count as shortened, and above which a layer may be warned of again."""
STALLED_SHARE = 0.25
"""Share of stalled entries from which on a layer counts as partly stalled."""
MOMENTUM_SGD = 0.05
"""Share of adapting entries up to which a shortened layer counts as trained by momentum SGD."""

Finding = Literal["", "partly stalled", "shortened", "momentum SGD"]

_FIRST_LOOK, _GROWTH = 20, 1.25
_MOST_ROWS, _NAME_WIDTH, _MOST_EPSILONS = 12, 36, 3
_NAMES_IN_A_WARNING = 3


class EpsilonWarning(UserWarning):
    """An ε shortens the steps of some layers."""


@dataclass(frozen=True)
class LayerDiagnosis:
    """What an ε does to the steps of one layer.

    Attributes:
        name, kind: of the layer.
        epsilon: the optimizer's own, that it is trained with.
        magnitude: that ε weighs as much as, in √v̂ units.
        learning_rate: of its parameter group; None where that has none.
        damping: of its entries with a √v̂ above zero.
        finding: "" where its steps are not shortened.
        harmless: the largest ε, a power of ten, that does not shorten its steps; None without a finding.
    """

    name: str
    kind: str
    epsilon: float
    magnitude: float
    learning_rate: float | None
    damping: Damping
    finding: Finding
    harmless: float | None

    def __str__(self) -> str:
        """Return a sentence without a full stop, with both remedies where there is a finding."""
        weight = f"ε = {power(self.epsilon)}"
        weight += "" if self.magnitude == self.epsilon else f", as much as √v̂ = {power(self.magnitude)},"
        larger = f"{weight} is larger than √v̂ in {percent(1 - self.damping.adapting)} of {self.name}"
        steps = f"its steps are {percent(self.damping.mean)} of what they would be"
        if self.finding == "partly stalled":
            steps += f", and in {percent(self.damping.stalled)} of it less than a tenth"
        if self.finding == "momentum SGD" and self.learning_rate is not None:
            steps += f", those of momentum SGD with learning rate {power(self.learning_rate / self.magnitude)}"
        text = f"{larger}: {steps}"
        if not self.finding:
            return text
        lower = "" if self.harmless is None else f"from {power(self.harmless)} on they are not shortened; "
        factor = 1 / self.damping.mean
        times = f"{factor:.2g}" if factor < 100 else f"{float(f'{factor:.2g}'):,.0f}"
        return f"{text}; {lower}a learning rate {times} times higher makes up for it"


@dataclass(frozen=True)
class Diagnosis:
    """What ε does to the steps of an optimizer, as `print` shows it in at most 20 lines.

    Attributes:
        optimizer: name of its class.
        step: at which it was looked at.
        layers: those with a second moment and an ε, in the model's order.
        left_out: names of layers whose gradient is only rounding noise.
    """

    optimizer: str
    step: int
    layers: tuple[LayerDiagnosis, ...]
    left_out: tuple[str, ...] = ()

    @property
    def damping(self) -> Damping | None:
        """The damping over the entries of all layers; None where none moves."""
        return pooled(layer.damping for layer in self.layers)

    @property
    def by_kind(self) -> dict[str, Damping]:
        """The damping over the entries of all layers of a kind, by kind."""
        kinds = dict.fromkeys(layer.kind for layer in self.layers)
        pools = ((kind, pooled(layer.damping for layer in self.layers if layer.kind == kind)) for kind in kinds)
        return {kind: pool for kind, pool in pools if pool is not None}

    @property
    def findings(self) -> tuple[LayerDiagnosis, ...]:
        """The layers whose steps are shortened, those of most entries first."""
        found = [layer for layer in self.layers if layer.finding]
        return tuple(sorted(found, key=lambda layer: -layer.damping.moving))

    def __str__(self) -> str:
        """Return the text that fits a screen."""
        before, findings, after = self._parts()
        rows = [f"  {a:{_NAME_WIDTH}}{b:>12}{c:>8}{d:>8}  {e}" for a, b, c, d, e in findings]
        return "\n".join((*before, *rows, *after))

    def _repr_html_(self) -> str:
        before, findings, after = self._parts()
        shown = notebook.table(findings[0], findings[1:]) if findings else ""
        return notebook.paragraph(" ".join(before)) + shown + "".join(map(notebook.paragraph, after))

    def _parts(self) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
        """Return lines, the rows of a table with its head, none without findings, and the lines after it."""
        total, findings = self.damping, self.findings
        if total is None:
            return [f"{self.optimizer}, step {self.step:,}: no layer has a second moment above zero."], [], []
        different = sorted({layer.epsilon for layer in self.layers})
        ends, few = different[:: len(different) - 1 or 1], len(different) <= _MOST_EPSILONS
        epsilons = ", ".join(map(power, different)) if few else " to ".join(map(power, ends))
        before = [
            f"{self.optimizer}, step {self.step:,}, ε = {epsilons}: {percent(total.adapting)} of the entries adapt,",
            f"steps are {percent(total.mean)} of what they would be with ε → 0.",
        ]
        rows, after = [], []
        if findings:
            before.append(f"Shortened in {len(findings)} of {len(self.layers)} layers:")
            rows = [("layer", "entries", "adapt", "steps", "harmless ε"), *map(_row, findings[:_MOST_ROWS])]
        if len(findings) > _MOST_ROWS:
            after.append(f"  and {len(findings) - _MOST_ROWS} more")
        if findings:
            after.append("Lower ε, or raise the learning rate by 1/steps; see what the loss does.")
        if self.left_out:
            after.append(f"Left out as rounding noise: {shortened(self.left_out, _NAMES_IN_A_WARNING)}.")
        return before, rows, after


def _row(layer: LayerDiagnosis) -> tuple[str, ...]:
    """Return the texts of a layer in the table of a diagnosis."""
    found, name = layer.damping, layer.name
    name = name if len(name) < _NAME_WIDTH else f"…{name[2 - _NAME_WIDTH :]}"
    harmless = "?" if layer.harmless is None else power(layer.harmless)
    return name, f"{found.moving:,}", percent(found.adapting), percent(found.mean), harmless


def diagnose(
    optimizer: str,
    step: int,
    layers: Iterable[tuple[str, str, LogHistogram | None, Placement | None, float | None, float | None]],
    left_out: Sequence[str] = (),
) -> Diagnosis:
    """Diagnose layers, each given as the arguments of `diagnose_layer`, but for those left out or with None among them.

    `optimizer` is its name. A learning rate may be None; see `arguments_of`.
    """
    found = (
        diagnose_layer(name, kind, histogram, placement, epsilon, rate)
        for name, kind, histogram, placement, epsilon, rate in layers
        if not (histogram is None or placement is None or epsilon is None or name in left_out)
    )
    return Diagnosis(optimizer, step, tuple(each for each in found if each is not None), tuple(left_out))


def arguments_of(reading: Reading, histogram: LogHistogram | None) -> tuple[Any, ...]:
    """Return the arguments of `diagnose_layer` for a layer that was read and counted."""
    layer = reading.layer
    return layer.name, layer.kind, histogram, reading.placement, reading.epsilon, reading.learning_rate


def diagnose_layer(
    name: str, kind: str, histogram: LogHistogram, placement: Placement, epsilon: float, learning_rate: float | None
) -> LayerDiagnosis | None:
    """Diagnose one layer by its histogram of √v̂; None where no entry moves."""
    damping = damping_of(histogram, placement, epsilon)
    if damping is None:
        return None
    finding = finding_of(damping)
    harmless = largest_harmless([histogram], placement) if finding else None
    magnitude = placement.magnitude_from_epsilon(epsilon)
    return LayerDiagnosis(name, kind, epsilon, magnitude, learning_rate, damping, finding, harmless)


def finding_of(damping: Damping, shortened: float = SHORTENED, stalled: float = STALLED_SHARE) -> Finding:
    """Return the finding about a layer with this damping, by the thresholds at the top of this module or others."""
    if damping.mean < shortened:
        return "momentum SGD" if damping.adapting <= MOMENTUM_SGD else "shortened"
    return "partly stalled" if damping.stalled >= stalled else ""


class Alarm:
    """Decides when to look at an optimizer, and which findings are worth a warning.

    A finding is warned of when two looks in a row have it, once for each layer and finding; a layer whose damping has
    risen above `RECOVERED` in between needs two again. Looks are 20, 40, 60, … steps after the first one, `begin`, and
    farther apart as training goes on, each at a quarter more steps than the last.
    """

    def __init__(self, begin: int = 0) -> None:
        self._begin, self.next_look = begin, begin + _FIRST_LOOK
        self._found: dict[str, Finding] = {}
        self._warned: set[tuple[str, Finding]] = set()

    def look(self, diagnosis: Diagnosis) -> str | None:
        """Take in a diagnosis; return a warning for what is new in it, or None."""
        steps = diagnosis.step - self._begin
        self.next_look = self._begin + max(steps + _FIRST_LOOK, int(steps * _GROWTH))
        new = []
        for layer in diagnosis.layers:
            before = self._found.get(layer.name, "")
            if layer.finding and layer.finding == before and (layer.name, layer.finding) not in self._warned:
                self._warned.add((layer.name, layer.finding))
                new.append(layer)
            if layer.finding or (layer.damping.mean > RECOVERED and layer.damping.stalled < STALLED_SHARE / 2):
                self._found[layer.name] = layer.finding
        if not new:
            return None
        new.sort(key=lambda layer: -layer.damping.moving)
        shortened, total = len(diagnosis.findings), diagnosis.damping
        assert total is not None, "a layer with a finding moves"
        lines = [
            f"{diagnosis.optimizer}, step {diagnosis.step:,}: ε shortens the steps of {shortened} of"
            f" {len(diagnosis.layers)} layers, and of all together to {percent(total.mean)}.",
            *(f"{layer}." for layer in new[:_NAMES_IN_A_WARNING]),
        ]
        if (more := len(new) - _NAMES_IN_A_WARNING) > 0:
            lines.append(f"So it is in {count(more, 'more layer')}.")
        return "\n  ".join(lines)
