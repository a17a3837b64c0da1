"""The comparison as tables of text, for the command line and the page alike.

What the probe found is in `render_bounds`.
"""

from __future__ import annotations

import re

from epsgrid.report.cells import Cell, Spread
from epsgrid.report.render_bounds import (
    adaptive_table,
    bounds_table,
    estimates_table,
    kinds_table,
    observed_table,
    reliability_table,
)
from epsgrid.report.rows import CONVENTIONAL, DEFAULT, NARROWED, BestRow, Comparison, GridRow, OtherRow
from epsgrid.report.table import Table
from epsgrid.report.verdict import Difference
from epsgrid.report.words import NOTHING, Metric, count, duration, gain, interval, power, powers, score

_NOT_THE_FULL_DATA = re.compile(r"\b(?:SUBSET|GENERATED|SYNTHETIC|SIMULATED|ARTIFICIAL)\b")
_LOOSE_ENDS_SHOWN = 20


def headline(comparison: Comparison) -> str:
    """Return the verdict in one sentence."""
    return f"optimum inside: {comparison.verdict.answer} – {comparison.verdict.reason}."


def stamp(comparison: Comparison) -> str | None:
    """Return the warning that scores on part of the data, or on made-up data, are not those of the literature."""
    found = _NOT_THE_FULL_DATA.findall(comparison.data_description.upper())
    if not found:
        return None
    return f"{' OF '.join(dict.fromkeys(found))} DATA: the scores below do not compare with published ones."


def tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return the tables of a comparison that have something to show, in reading order; without layers and cells."""
    made = (
        _best_table(comparison),
        _others_table(comparison),
        _differences_table(comparison),
        _grids_table(comparison),
        _costs_table(comparison),
        bounds_table(comparison.bounds) if comparison.bounds else None,
        reliability_table(comparison.reliability) if comparison.reliability else None,
        kinds_table(comparison.kinds),
        estimates_table(comparison.estimates, comparison.metric),
        adaptive_table(comparison.adaptive),
        observed_table(comparison.observed),
        _loose_ends_table(comparison),
    )
    return tuple(table for table in made if table is not None)


def cells_table(comparison: Comparison) -> Table | None:
    """Return one row per learning rate and ε; None where nothing was swept."""
    if not comparison.cells:
        return None
    rows = tuple(_cell_row(cell, comparison) for cell in comparison.cells)
    columns = ("learning rate", "ε", "grids", "seeds", "diverged", *_score_columns(comparison))
    return Table("Cells", columns, rows, _metric_note(comparison))


def _cell_row(cell: Cell, comparison: Comparison) -> tuple[str, ...]:
    return (
        power(cell.learning_rate),
        power(cell.epsilon),
        ", ".join(cell.grids),
        f"{cell.tally.done + cell.tally.diverged}/{cell.tally.trials}",
        str(cell.tally.diverged),
        *_scores(cell, comparison),
    )


def _score_columns(comparison: Comparison) -> tuple[str, ...]:
    """Return the splits a score is shown on: the one that selects, and test where that is another."""
    return tuple(dict.fromkeys((comparison.selection, "test")))


def _scores(cell: Cell, comparison: Comparison) -> tuple[str, ...]:
    spreads = (cell.score, cell.test) if comparison.selection != "test" else (cell.test,)
    return tuple(_spread(spread, comparison) for spread in spreads)


def _best_table(comparison: Comparison) -> Table | None:
    if not comparison.best:
        return None
    rows = tuple(_best_row(row, comparison) for row in comparison.best)
    unknown = [f"{_grid_words(row.name)}: {row.choice.unknown}" for row in comparison.best if row.choice.unknown]
    notes = [*unknown, *(row.note for row in comparison.best if row.note)]
    columns = ("grid", "learning rate", "ε", *_score_columns(comparison), "seeds")
    scoring = [] if _has_others(comparison) else _scoring_words(comparison)
    note = "; ".join(filter(None, [_metric_note(comparison), *notes, *scoring])) or None
    return Table("Best setting of each grid", columns, rows, note)


def _best_row(row: BestRow, comparison: Comparison) -> tuple[str, ...]:
    name = _grid_words(row.name)
    cell = row.choice.cell
    if cell is None:
        return (name, *[NOTHING] * (len(_score_columns(comparison)) + 3))
    seeds = str(cell.tally.done) + (f" ({cell.tally.diverged} diverged)" if cell.tally.diverged else "")
    return (name, power(cell.learning_rate), power(cell.epsilon), *_scores(cell, comparison), seeds)


def _others_table(comparison: Comparison) -> Table | None:
    """Return the scores that are kept beside the metric, at the chosen settings."""
    if not _has_others(comparison):
        return None
    rows = tuple(
        (_grid_words(row.name), other.name, *_other_scores(other, comparison))
        for row in comparison.best
        for other in row.others
    )
    note = "; ".join(["at the same epochs and seeds as the metric", *_scoring_words(comparison)])
    return Table("Further scores at the best settings", ("grid", "score", *_score_columns(comparison)), rows, note)


def _has_others(comparison: Comparison) -> bool:
    return any(row.others for row in comparison.best)


def _other_scores(other: OtherRow, comparison: Comparison) -> tuple[str, ...]:
    spreads = (other.selecting, other.test) if comparison.selection != "test" else (other.test,)
    plain = Metric(other.name, "max", "")
    return tuple(score(spread.mean, spread.sd, plain) if spread else NOTHING for spread in spreads)


def _scoring_words(comparison: Comparison) -> list[str]:
    return [f"{what}: {how}" for what, how in comparison.scoring]


def _differences_table(comparison: Comparison) -> Table | None:
    if comparison.grid(NARROWED) is None and comparison.grid(CONVENTIONAL) is None:
        return None
    named = (
        ("regret of the narrowed grid (conventional − narrowed)", comparison.regret, "narrowed loses", "narrowed wins"),
        ("gain over the default ε (narrowed − default)", comparison.gain_over_default, "narrowed wins", "default wins"),
    )
    rows = tuple((name, *_difference_row(gap, comparison, plus, minus)) for name, gap, plus, minus in named)
    columns = ("difference on test", "mean", "95 % interval", "seeds", "meaning")
    return Table("Differences, paired by seed", columns, rows)


def _difference_row(gap: Difference, comparison: Comparison, plus: str, minus: str) -> tuple[str, ...]:
    metric = comparison.metric
    if gap.mean is None or metric is None:
        return NOTHING, NOTHING, NOTHING, f"not known: {gap.unknown}"
    mean = f"{gain(gap.mean, metric)}{metric.difference_unit}"
    if gap.same_cell:
        return mean, NOTHING, str(gap.n), "both chose the same setting"
    if gap.low is None or gap.high is None:
        return mean, NOTHING, str(gap.n), "one seed: no interval"
    clear = plus if gap.low > 0 else minus if gap.high < 0 else "no clear difference"
    return mean, interval(gap.low, gap.high, metric), str(gap.n), clear


def _grids_table(comparison: Comparison) -> Table | None:
    if not comparison.grids:
        return None
    rows = tuple(_grid_row(row) for row in comparison.grids)
    columns = ("grid", "ε", "decades", "trials", "done", "diverged", "failed", "missing", "training time")
    ratio = comparison.decades_ratio
    note = None if ratio is None else f"the conventional grid searches {ratio:.3g} × the decades of the narrowed one"
    return Table("Grids", columns, rows, note)


def _grid_row(row: GridRow) -> tuple[str, ...]:
    tally = row.tally
    counts = map(str, (tally.trials, tally.done, tally.diverged, tally.failed, tally.missing))
    name = _grid_words(row.name)
    return (name, powers(row.epsilons), str(row.decades), *counts, duration(tally.seconds))


def _costs_table(comparison: Comparison) -> Table | None:
    costs, narrowed, conventional = comparison.costs, comparison.grid(NARROWED), comparison.grid(CONVENTIONAL)
    rows = [_cost_row(f"{row.name} grid", row) for row in (conventional, narrowed) if row is not None]
    if costs.probe_seconds is not None:
        rows.append(("probe", NOTHING, duration(costs.probe_seconds)))
    if narrowed is not None and conventional is not None:
        saved = NOTHING if costs.saved_seconds is None else duration(costs.saved_seconds)
        rows.append(("saved by narrowing", _signed(costs.saved_trials), saved))
    if not rows:
        return None
    return Table("Cost", ("part", "trials", "time"), tuple(rows), _costs_note(comparison))


def _cost_row(name: str, row: GridRow) -> tuple[str, str, str]:
    return name, str(row.tally.trials), duration(row.tally.seconds)


def _costs_note(comparison: Comparison) -> str | None:
    costs = comparison.costs
    parts = []
    if costs.saved_trials is not None:
        parts.append("saved = conventional − narrowed − probe, each grid counted as if it were run alone")
    if costs.saved_trials is not None and costs.shared_trials:
        parts.append(f"{count(costs.shared_trials, 'trial')} belong to both grids and were trained once")
    if (costs.saved_trials or 0) < 0 or (costs.saved_seconds or 0.0) < 0:
        parts.append("a negative saving: narrowing cost more than the conventional search")
    if costs.saved_trials is not None and costs.unknown:
        parts.append(f"saved time not known: {costs.unknown}")
    return "; ".join(parts) or None


def _loose_ends_table(comparison: Comparison) -> Table | None:
    if not comparison.loose_ends:
        return None
    shown = comparison.loose_ends[:_LOOSE_ENDS_SHOWN]
    rows = tuple((end.cell, str(end.seed), end.state, end.error or "", end.id) for end in shown)
    hidden = len(comparison.loose_ends) - len(shown)
    note = f"and {count(hidden, 'more trial')}: see report.json" if hidden else None
    return Table("Trials without a score", ("cell", "seed", "state", "why", "trial"), rows, note)


def _metric_note(comparison: Comparison) -> str | None:
    metric = comparison.metric
    if metric is None:
        return None
    order = "larger is better" if metric.direction == "max" else "smaller is better"
    epoch = f"best {comparison.selection} epoch"
    return f"{metric.name}, mean ± standard deviation over seeds, at each trial's {epoch}; {order}"


def _spread(spread: Spread | None, comparison: Comparison) -> str:
    if spread is None or comparison.metric is None:
        return NOTHING
    return score(spread.mean, spread.sd, comparison.metric)


def _signed(number: int | None) -> str:
    return NOTHING if number is None else str(number).replace("-", "−")


def _grid_words(name: str) -> str:
    return "default ε" if name == DEFAULT else name
