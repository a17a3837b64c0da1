"""The settings that can be compared, with their scores; the margin that counts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.errors import SpecError
from epsgrid.selection.cells import Cell, TrialRow
from epsgrid.selection.formatting import Metric

if TYPE_CHECKING:
    from epsgrid.numerics.layout import Layout


@dataclass(frozen=True)
class Trained:
    """The settings that can be compared: those with a score for every seed that is compared.

    Attributes:
        cells: the settings, in the order of the layout.
        layout: their scores, larger is better, those of `seeds` first; None without any.
        diverged: settings that diverged on one of these seeds.
        unfinished, pruned: settings with a trial that failed or has not ended, and with one that was pruned.
        seeds: those that every setting has; contenders may have more.
    """

    cells: tuple[Cell, ...]
    layout: Layout | None
    diverged: tuple[Cell, ...]
    unfinished: tuple[Cell, ...]
    pruned: tuple[Cell, ...]
    seeds: tuple[int, ...]

    def places(self, cells: Sequence[Cell]) -> list[int]:
        """Return the places in the layout of those of some settings that are in it."""
        wanted = {(cell.learning_rate, cell.epsilon) for cell in cells}
        return [place for place, cell in enumerate(self.cells) if (cell.learning_rate, cell.epsilon) in wanted]

    def top(self, cells: Sequence[Cell]) -> Cell | None:
        """Return the best by its selecting scores of those of some settings with the most seeds; None without any."""
        places, layout = self.places(cells), self.layout
        if layout is None or not places:
            return None
        seeds = int(layout.counts[places].max())
        most = [place for place in places if layout.counts[place] == seeds]
        return self.cells[max(most, key=lambda place: layout.selecting[place, :seeds].mean())]


def trained(cells: Sequence[Cell], contenders: Sequence[Cell], metric: Metric | None) -> Trained:
    """Return the settings that can be compared.

    Compared are the seeds on which every setting has ended that has ended on any, so that a sweep under way can be
    looked at, and of the contenders all further ones. Left out are a setting that has ended on none, and one with a
    trial that failed or was pruned.
    """
    import numpy as np

    from epsgrid.numerics.layout import Layout

    lasting = [cell for cell in cells if _ended(cell) and not cell.tally.failed and not cell.tally.pruned]
    ended = [_ended(cell).keys() for cell in lasting]
    seeds = sorted(set.intersection(*map(set, ended))) if ended else []
    left_out = (
        tuple(cell for cell in cells if cell.tally.missing or cell.tally.failed),
        tuple(cell for cell in cells if cell.tally.pruned),
    )
    if metric is None or not seeds:
        return Trained((), None, (), *left_out, ())
    further = {(cell.learning_rate, cell.epsilon): _ended(cell) for cell in contenders}
    owners = Counter(seed for own in further.values() for seed in own if seed not in seeds)
    fresh = sorted(owners, key=lambda seed: (-owners[seed], seed))
    inside, diverged, scores = [], [], []
    for cell in lasting:
        by_seed = _ended(cell) | further.get((cell.learning_rate, cell.epsilon), {})
        rows = [by_seed[seed] for seed in itertools.takewhile(by_seed.__contains__, [*seeds, *fresh])]
        known = [(trial.score, trial.test) for trial in rows if trial.score is not None and trial.test is not None]
        if len(known) < len(rows):
            diverged.append(cell)
        else:
            inside.append(cell)
            scores.append(metric.sign * np.array(known))
    if not inside:
        return Trained((), None, tuple(diverged), *left_out, tuple(seeds))
    array = np.full((len(scores), max(map(len, scores)), 2), np.nan)
    for row, own in zip(array, scores, strict=True):
        row[: len(own)] = own
    layout = Layout(array[:, :, 0], array[:, :, 1])
    return Trained(tuple(inside), layout, tuple(diverged), *left_out, tuple(seeds))


def _ended(cell: Cell) -> dict[int, TrialRow]:
    return {trial.seed: trial for trial in cell.trials if trial.state in ("done", "diverged")}


def margin_of(asked: float | str | None, metric: Metric, scale: float) -> float:
    """Return the margin in the metric's stored unit.

    `asked` is a number in the unit in which the metric is shown, a text such as "2 %" for a share of the best
    score (`scale`), or None for the usual one: 1 point of a metric in percent, 0.5 BLEU, 2 % of any other.

    Raises:
        SpecError: the margin does not suit a metric in percent.
    """
    if metric.unit and (isinstance(asked, str) or (asked is not None and asked >= 100)):
        raise SpecError(f"report.margin: {asked}: {metric.name} is shown in percent; write 1 for a margin of one point")
    if asked is None:
        asked = 1.0 if metric.unit else 0.5 if metric.name == "bleu" else "2 %"
    if isinstance(asked, str):
        return float(asked.removesuffix("%")) / 100 * abs(scale)
    return asked / metric.factor
