"""How should the learning rate rise with ε? Compare rules with what sweeps over both grids found best.

    make results                                                 # unpacks the kept experiments
    python scripts/check_rates.py runs/results/claims-*/

Each rule predicts the learning rate at an ε that shortens steps from the best one at the ε that do not, without trying
any other. With s = √v̂ of a moving entry, of all layers that the probe measured, and d its damping at that ε:

    fixed            lr                               as everywhere else
    median           lr · (m + b) / m                 the step of the entry of median magnitude m stays; b: that of ε
    mean step        lr / mean d                      the mean step stays
    rms step         lr / √(mean d²)                  the norm of the step stays
    first order      lr · Σ s / Σ s·d                 what a step lowers the loss by, to first order, stays
    squared          lr · Σ s² / Σ s²·d

"Off" compares predictions with the best learning rate where it is inside those tried, in decades. "Within" takes the
training that was tried nearest to the prediction, up to 0.35 decades away, and says how often it lost less than the
margin against the best learning rate of its ε, and how often it diverged; each task has the same weight.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.placement import Placement
from epsgrid.selection.cells import at_epsilon
from epsgrid.selection.evidence import evidence
from epsgrid.selection.load import load_experiment
from epsgrid.store.paths import ExperimentFolder

Numbers = npt.NDArray[Any]
NEAR = 0.35
SHORTENS = 1.5
"""Factor of the median rule from which on an ε counts as one that shortens steps; below 1.12 it does not."""


class Found(NamedTuple):
    """Of one ε and rule: how far off in decades, and margins lost nearby (infinite: diverged); NaN where not known."""

    task: str
    rule: str
    off: float
    lost: float


def factors(s: Numbers, count: Numbers, placement: Placement, epsilon: float) -> Mapping[str, float]:
    """Return by what each rule multiplies the learning rate at an ε, with so many entries of each magnitude s."""
    order = np.argsort(s)
    middle = s[order][np.searchsorted(np.cumsum(count[order]), count.sum() / 2)]
    d = placement.damping(s, epsilon)
    return {
        "fixed": 1.0,
        "median": float((middle + placement.magnitude_from_epsilon(epsilon)) / middle),
        "mean step": float(count.sum() / (count @ d)),
        "rms step": math.sqrt(count.sum() / (count @ d**2)),
        "first order": float((count @ s) / (count @ (s * d))),
        "squared": float((count @ s**2) / (count @ (s**2 * d))),
    }


def compared(folder: Path) -> Sequence[Found]:
    """Compare the rules at each ε of one experiment that shortens steps."""
    known = evidence(load_experiment(ExperimentFolder(folder)))
    layout, placement, found = known.trained.layout, known.placement, []
    if layout is None or placement is None or known.bounds is None or known.margin is None:
        return []
    scores = layout.test[:, : layout.seeds].mean(1)
    tops = {epsilon: known.trained.top(at_epsilon(epsilon, known.cells)) for epsilon in known.epsilons}
    layers = [layer.histogram.moving() for layer in known.bounds.layers if layer.histogram is not None]
    s, count = (np.concatenate(each) for each in zip(*layers, strict=True))
    by_rule = {epsilon: factors(s, count, placement, epsilon) for epsilon in tops}
    inside = {epsilon: top for epsilon, top in tops.items() if top is not None and known.edge(top) is None}
    small = [top.trained_rate for epsilon, top in inside.items() if by_rule[epsilon]["median"] < 1.12]
    for epsilon, top in tops.items() if small else ():
        if top is None or by_rule[epsilon]["median"] < SHORTENS:
            continue
        for rule, factor in by_rule[epsilon].items():
            rate = 10 ** np.mean(np.log10(small)) * factor
            off = math.log10(rate / top.trained_rate) if epsilon in inside else math.nan
            own = at_epsilon(epsilon, known.cells)
            near = min(own, key=lambda cell: abs(math.log10(cell.trained_rate / rate)))
            lost = math.nan
            if abs(math.log10(near.trained_rate / rate)) < NEAR:
                best, place = known.trained.places([top])[0], known.trained.places([near])
                lost = float(scores[best] - scores[place[0]]) / known.margin if place else math.inf
            found.append(Found(folder.name.removeprefix("claims-").split("-")[0], rule, off, lost))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of experiments")
    found = [each for run in parser.parse_args().runs for each in compared(run)]
    print("| rule | ε | off on average | off (rms) | tried nearby | within the margin | diverged |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for rule in dict.fromkeys(each.rule for each in found):
        off = np.array([each.off for each in found if each.rule == rule and not math.isnan(each.off)])
        lost = defaultdict(list)
        for each in found:
            if each.rule == rule and not math.isnan(each.lost):
                lost[each.task].append(each.lost)
        within, diverged = (
            np.mean([np.mean(test(np.array(own))) for own in lost.values()]) for test in (lambda x: x < 1, np.isinf)
        )
        average = f"{off.mean():+.2f} | {math.sqrt((off**2).mean()):.2f}" if len(off) else "– | –"
        tried = sum(map(len, lost.values()))
        print(f"| {rule} | {len(off)} | {average} | {tried} | {within:.0%} | {diverged:.0%} |")


if __name__ == "__main__":
    main()
