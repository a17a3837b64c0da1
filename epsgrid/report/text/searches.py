"""Tables of what was trained: each ε, the best setting of each grid, simple rules, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid.grids import CONVENTIONAL, NARROWED
from epsgrid.report.rows import Comparison, GridRow
from epsgrid.report.table import Table
from epsgrid.selection.answers import EpsilonRow, RuleRow
from epsgrid.selection.best import BestRow
from epsgrid.selection.cells import Cell, Difference, Spread, Tally
from epsgrid.selection.formatting import (
    NOTHING,
    Metric,
    amounts,
    count,
    duration,
    gain,
    interval,
    power,
    ranges,
    score,
    score_interval,
)


def epsilons_table(comparison: Comparison) -> Table | None:
    """Return each ε at its best learning rate; None without any."""
    rows, metric = comparison.answers.epsilons, comparison.metric
    if not rows:
        return None
    cells = {cell.label: cell for cell in comparison.cells}
    columns = ("ε", *rate_columns(comparison)[:-1], *score_columns(comparison), "loses at most", "found")

    def row_of(row: EpsilonRow) -> tuple[str, ...]:
        cell = cells.get(row.cell)
        found = row.standing + (f" ({row.edge} rate{'s' if row.edge == 'flat' else ''})" if row.edge else "")
        if cell is None:
            return (power(row.epsilon), *[NOTHING] * (len(columns) - 2), found)
        at_most = NOTHING if row.loss is None or metric is None else amounts([max(row.loss.high, 0.0)], metric)
        measured = scores(cell.score, cell.test, comparison)
        return (power(row.epsilon), *rates(cell, comparison)[:-1], *measured, at_most, found)

    notes = [metric_note(comparison), "loses: against the best of the other ε, all rows at once"]
    if any(row.edge not in (None, "flat") for row in rows):
        notes.append("lowest, highest or only rate: the best learning rate is at an edge, a better one may lie beyond")
    if any(row.edge == "flat" for row in rows):
        notes.append("flat rates: none of them makes a difference, as where nothing is learned; others may")
    return Table("Each ε at its best learning rate", columns, tuple(map(row_of, rows)), "; ".join(filter(None, notes)))


def rules_table(comparison: Comparison) -> Table | None:
    """Return what it loses to train the ε of a rule alone; None where nothing can be compared."""
    rules, metric = comparison.answers.rules, comparison.metric
    if not rules or metric is None or rules[0].loss.n < 2:
        return None
    trained = [row.epsilon for row in comparison.answers.epsilons]
    margin = comparison.answers.margin or 0.0

    same: dict[tuple[float, ...], list[RuleRow]] = {}
    for rule in rules:
        same.setdefault(rule.epsilons, []).append(rule)

    def row_of(same: Sequence[RuleRow]) -> tuple[str, ...]:
        row, names = same[0], ", ".join(row.name for row in same).replace(", estimate: ", ", ")
        ends = amounts([row.loss.low, row.loss.high], metric)
        return (names, ranges(row.epsilons, trained), amounts([row.loss.mean], metric), ends, row.found(margin))

    note = f"against the best of all other ε, on test; each bound holds with {100 * comparison.answers.level:.4g} %"
    rows = tuple(map(row_of, same.values()))
    return Table("What simple rules lose", ("rule", "ε", "loses", "bounds", "found"), rows, note)


def best_table(comparison: Comparison) -> Table | None:
    """Return the best setting of each grid and of the default ε; None where nothing was swept."""
    if not comparison.best:
        return None
    metric = comparison.metric
    columns = ("grid", *rate_columns(comparison), *score_columns(comparison), "95 % interval", "seeds")

    def row_of(best: BestRow) -> tuple[str, ...]:
        cell = best.choice.cell
        if cell is None:
            return (best.label, *[NOTHING] * (len(columns) - 1))
        measured = scores(cell.score, cell.test, comparison)
        found, ends = best.interval, NOTHING
        if metric is not None and found is not None and found.low is not None and found.high is not None:
            ends = score_interval(found.low, found.high, metric)
        return (best.label, *rates(cell, comparison), *measured, ends, seeds_text(cell.tally))

    has_interval = any(row.interval and row.interval.low is not None for row in comparison.best)
    notes = (
        metric_note(comparison),
        "interval: of the mean on test, Student's t" if has_interval else None,
        *(f"{row.label}: {row.choice.unknown}" for row in comparison.best if row.choice.unknown),
        *(() if _has_others(comparison) else _scoring_notes(comparison)),
    )
    note = "; ".join(filter(None, notes)) or None
    return Table("Best setting of each grid", columns, tuple(map(row_of, comparison.best)), note)


def others_table(comparison: Comparison) -> Table | None:
    """Return the scores that are kept beside the metric, at the chosen settings; None without any."""
    if not _has_others(comparison):
        return None
    rows = tuple(
        (row.label, other.name, *scores(other.selecting, other.test, comparison, Metric(other.name, "max", "")))
        for row in comparison.best
        for other in row.others
    )
    note = "; ".join(["at the same epochs and seeds as the metric", *_scoring_notes(comparison)])
    return Table("Further scores at the best settings", ("search", "score", *score_columns(comparison)), rows, note)


def _has_others(comparison: Comparison) -> bool:
    return any(row.others for row in comparison.best)


def _scoring_notes(comparison: Comparison) -> list[str]:
    return [f"{what}: {how}" for what, how in comparison.scoring]


def difference_texts(gap: Difference, metric: Metric) -> tuple[str, str]:
    """Return the mean of a difference and its interval, a dash where there is none."""
    if gap.mean is None:
        return f"not known: {gap.unknown}", NOTHING
    mean = f"{gain(gap.mean, metric)}{metric.difference_unit}"
    if gap.low is None or gap.high is None or gap.same_cell:
        return mean, NOTHING
    return mean, interval(gap.low, gap.high, metric)


def costs_table(comparison: Comparison) -> Table | None:
    """Return what each grid trained and cost, and what it saves; None where nothing was spent."""
    if not comparison.grids:
        return None
    best = {row.name: row for row in comparison.best}

    def row_of(grid: GridRow) -> tuple[str, ...]:
        row, tally = best.get(grid.name), grid.tally
        seconds = (row.cost.wall_seconds, row.cost.saved_seconds) if row else (None, None)
        return (
            row.label if row else grid.name,
            ranges(grid.epsilons, grid.epsilons),
            str(tally.trials),
            str(tally.trials - tally.done - tally.diverged),
            str(tally.diverged),
            duration(tally.seconds),
            *(NOTHING if own is None else duration(own) for own in seconds),
        )

    notes = [
        "training time: summed over all trainings; wall time: while at least one of them was training",
        "saved: training time of the conventional grid less this one's and the probe's",
    ]
    both = {NARROWED, CONVENTIONAL}
    if shared := sum(cell.tally.trials for cell in comparison.cells if both <= set(cell.grids)):
        notes.append(f"{count(shared, 'training')} belong to both grids and ran once")
    if comparison.probe_seconds is not None:
        notes.append(f"the probe took {duration(comparison.probe_seconds)}")
    if (ratio := comparison.decades_ratio) is not None:
        notes.append(f"the conventional grid spans {ratio:.3g} times the decades of the narrowed one")
    columns = ("grid", "ε", "trainings", "without result", "diverged", "training time", "wall time", "saved")
    return Table("Cost", columns, tuple(map(row_of, comparison.grids)), "; ".join(notes))


def rate_columns(comparison: Comparison) -> tuple[str, ...]:
    """Return the columns of a setting, with the trained learning rates where these are not the grid's."""
    rescaled = any(cell.is_rescaled for cell in comparison.cells)
    return ("learning rate", "trained at", "ε") if rescaled else ("learning rate", "ε")


def rates(cell: Cell, comparison: Comparison) -> tuple[str, ...]:
    """Return the texts of a cell, one for each of `rate_columns`."""
    trained = (power(cell.trained_rate),) if len(rate_columns(comparison)) == 3 else ()
    return (power(cell.learning_rate), *trained, power(cell.epsilon))


def score_columns(comparison: Comparison) -> tuple[str, ...]:
    """Return the splits a score is shown on: the one that selects, and test where that is another."""
    return tuple(dict.fromkeys((comparison.selection, "test")))


def scores(
    selecting: Spread | None, test: Spread | None, comparison: Comparison, metric: Metric | None = None
) -> tuple[str, ...]:
    """Return scores as texts, one for each of `score_columns`; of the comparison's metric unless another is given."""
    spreads = (selecting, test)[-len(score_columns(comparison)) :]
    return tuple(_score(spread, metric or comparison.metric) for spread in spreads)


def _score(spread: Spread | None, metric: Metric | None) -> str:
    return NOTHING if spread is None or metric is None else score(spread.mean, spread.sd, metric)


def seeds_text(tally: Tally, asked: int | None = None) -> str:
    """Return the number of seeds with a score, of how many if `asked` is given, and of those that diverged."""
    done = str(tally.done) if asked is None else f"{tally.done}/{asked}"
    return done + (f" ({tally.diverged} diverged)" if tally.diverged else "")


def metric_note(comparison: Comparison) -> str | None:
    """Return what the scores are; None while there are none."""
    metric = comparison.metric
    if metric is None:
        return None
    order, epoch = "larger" if metric.direction == "max" else "smaller", f"best {comparison.selection} epoch"
    return f"{metric.name}, mean ± standard deviation over seeds, at each trial's {epoch}; {order} is better"
