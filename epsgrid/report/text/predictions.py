"""Tables of a prediction: what ε does to each kind of layer, and the law of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from epsgrid.numerics.laws import Law
from epsgrid.numerics.predicting import Prediction
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import percentiles
from epsgrid.selection.formatting import NOTHING, percent, power


def _exponent(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def predicted_kinds(prediction: Prediction, epsilon: float) -> Table:
    """Return one row for each kind of layer: how √v̂ goes, what `epsilon` does to its steps, and an ε of its own."""
    middle = {law.layer: law for law in prediction.laws if law.statistic == "median"}
    rows = []
    for group in prediction.bounds.epsilon_groups(epsilon):
        laws = [middle[layer] for layer in group.layers if layer in middle]
        rows.append(
            (
                group.name if group.before else "no law",
                str(len(group.layers)),
                _exponent(median(law.exponent for law in laws)) if laws else NOTHING,
                power(median(law.predicted for law in laws)) if laws and group.before else NOTHING,
                percent(group.before.mean) if group.before else NOTHING,
                power(group.epsilon) if group.before else NOTHING,
            )
        )
    columns = ("kind", "layers", "p", "median √v̂", f"steps at {power(epsilon)}", "ε of its own")
    note = "p in √v̂ ∝ size^p and √v̂: medians over layers; steps: relative to ε → 0"
    return Table("By kind of layer", columns, tuple(rows), note)


def laws_table(laws: Sequence[Law], tail_fraction: float, at: float, largest: float) -> Table:
    """Return one row for each layer with its exponents, its median and how uncertain it is; then what was refused.

    The laws hold `at` a size; `largest` is the largest one that was probed.
    """
    by_layer: dict[str, list[Law]] = {}  # of each its low tail, its median and its high tail
    for law in laws:
        by_layer.setdefault(law.layer, []).append(law)
    rows = []
    for name, own in by_layer.items():
        errors = [abs(law.held_out) for law in own if law.held_out is not None]
        rows.append(
            (
                name,
                *(_exponent(law.exponent) for law in own),
                power(own[1].predicted),
                f"{10 ** max(law.decades for law in own):.2g}",
                f"{max(errors):.2f}" if errors else NOTHING,
            )
        )
    low, high = (f"p, {end.removesuffix(' point')}" for end in percentiles(tail_fraction))
    columns = ("layer", low, "p, median", high, "median √v̂", "×/÷", "held out")
    note = (
        f"×/÷: 95 % interval of one probe at {at:g}; held out: decades by which {largest:g} was missed; the most of the"
        " tails and the median"
    )
    refused = tuple(f"{law.layer}, {law.statistic}, is refused: {law.refused}." for law in laws if law.refused)
    return Table("Laws by layer", columns, tuple(rows), note, refused)
