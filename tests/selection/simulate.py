"""Settings with given scores, as a report reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epsgrid.grids import CONVENTIONAL, NARROWED
from epsgrid.selection.cells import Cell, TrialRow, tally
from epsgrid.selection.evidence import Evidence
from epsgrid.selection.formatting import Metric

ACCURACY = Metric("accuracy", "max", "%")
DEFAULT = 1e-8
OUTSIDE, INSIDE = (1e-10, DEFAULT), (1e-5, 1e-4)
BOTH, ONE = (CONVENTIONAL, NARROWED), (CONVENTIONAL,)
NOISE = (0.0, 0.001, -0.001, 0.0005, -0.0005, 0.0008, -0.0003, -0.0007, 0.0004, -0.0002, 0.0006, -0.0004)

Score = float | str
"""Of a trial on both splits; or its state, where it has none."""


def cell(
    rate: float, epsilon: float, scores: Sequence[Score], grids: Sequence[str] | None = None, first: int = 0
) -> Cell:
    """A setting with these scores for the seeds from a first one on."""
    trials = []
    for seed, score in enumerate(scores, first):
        known = None if isinstance(score, str) else score
        state, epoch = ("done", 1) if known is not None else (str(score), None)
        trials.append(TrialRow(f"{rate:g}-{epsilon:g}-{seed}", seed, state, known, known, epoch, 60.0, None))
    names = tuple(grids) if grids is not None else BOTH if epsilon in INSIDE else ONE
    return Cell(rate, rate, epsilon, names, epsilon in INSIDE, tally(trials), None, None, tuple(trials))


def noisy(mean: float, place: int, seeds: int = 4, noise: float = 1.0) -> list[Score]:
    """Scores around a mean, with noise of up to 0.1 points that differs from setting to setting."""
    return [mean + noise * NOISE[(5 * place + 7 * seed + place * seed) % len(NOISE)] for seed in range(seeds)]


def sweep(
    truth: Mapping[float, float], *, rates: Mapping[float, float] | None = None, seeds: int = 4, noise: float = 1.0
) -> dict[tuple[float, float], Cell]:
    """The settings of both grids by learning rate and ε.

    Args:
        truth: mean accuracy of each ε at its best learning rate.
        rates: what each learning rate adds; the middle one of three is best by default.
        seeds: of every setting.
        noise: of a training, at most, in tenths of a point.
    """
    added = rates or {1e-3: -0.02, 1e-2: 0.0, 1e-1: -0.02}
    keys = [(rate, epsilon) for rate in added for epsilon in truth]
    return {
        key: cell(*key, noisy(truth[key[1]] + added[key[0]], place, seeds, noise))
        for place, key in enumerate(sorted(keys))
    }


FLAT = dict.fromkeys((*OUTSIDE, *INSIDE), 0.9)


def evidence(cells: Mapping[tuple[float, float], Cell] | Sequence[Cell], **changes: object) -> Evidence:
    """What the questions are answered from; a margin of one point."""
    own = tuple(cells.values()) if isinstance(cells, Mapping) else tuple(cells)
    fields: dict[str, object] = {"metric": ACCURACY, "default_epsilon": DEFAULT, "margin_asked": 1.0, **changes}
    return Evidence(own, **fields)  # type: ignore[arg-type]
