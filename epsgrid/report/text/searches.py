"""What each way to search found, lost and cost, as tables of text."""

from __future__ import annotations

from epsgrid.numerics.statistics import Interval
from epsgrid.report.cells import Cell, Spread
from epsgrid.report.rows import BestRow, Comparison, OtherRow
from epsgrid.report.spent import CostRow
from epsgrid.report.table import Table
from epsgrid.report.verdict import Difference
from epsgrid.report.words import NOTHING, Metric, count, duration, gain, interval, power, score, score_interval


def best_table(comparison: Comparison) -> Table | None:
    """Return the best setting of each way to search; None where nothing was swept."""
    if not comparison.best:
        return None
    rows = tuple(_best_row(row, comparison) for row in comparison.best)
    unknown = [f"{row.words}: {row.choice.unknown}" for row in comparison.best if row.choice.unknown]
    notes = [*unknown, *(row.note for row in comparison.best if row.note)]
    columns = ("search", "learning rate", *trained_column(comparison), "ε", *score_columns(comparison))
    scoring = [] if _has_others(comparison) else _scoring_words(comparison)
    parts = [metric_note(comparison), _interval_note(comparison), *notes, *scoring]
    return Table(
        "Best setting of each grid",
        (*columns, "95 % interval", "seeds"),
        rows,
        "; ".join(filter(None, parts)) or None,
    )


def _best_row(row: BestRow, comparison: Comparison) -> tuple[str, ...]:
    cell = row.choice.cell
    if cell is None:
        return (row.words, *[NOTHING] * (len(score_columns(comparison)) + len(trained_column(comparison)) + 4))
    seeds = str(cell.tally.done) + (f" ({cell.tally.diverged} diverged)" if cell.tally.diverged else "")
    rates = (power(cell.learning_rate), *trained(cell, comparison))
    ends = interval_words(row.interval, comparison)
    return (row.words, *rates, power(cell.epsilon), *scores(cell, comparison), ends, seeds)


def interval_words(found: Interval | None, comparison: Comparison) -> str:
    """Write the interval of a mean score."""
    if found is None or found.low is None or found.high is None or comparison.metric is None:
        return NOTHING
    return score_interval(found.low, found.high, comparison.metric)


def _interval_note(comparison: Comparison) -> str | None:
    """Return how the intervals were computed; None where there are none."""
    has_intervals = any(row.interval and row.interval.low is not None for row in comparison.best)
    return "interval: of the mean on test, Student's t" if has_intervals else None


def others_table(comparison: Comparison) -> Table | None:
    """Return the scores that are kept beside the metric, at the chosen settings."""
    if not _has_others(comparison):
        return None
    rows = tuple(
        (row.words, other.name, *_other_scores(other, comparison)) for row in comparison.best for other in row.others
    )
    note = "; ".join(["at the same epochs and seeds as the metric", *_scoring_words(comparison)])
    return Table("Further scores at the best settings", ("search", "score", *score_columns(comparison)), rows, note)


def _has_others(comparison: Comparison) -> bool:
    return any(row.others for row in comparison.best)


def _other_scores(other: OtherRow, comparison: Comparison) -> tuple[str, ...]:
    spreads = (other.selecting, other.test) if comparison.selection != "test" else (other.test,)
    plain = Metric(other.name, "max", "")
    return tuple(score(spread.mean, spread.sd, plain) if spread else NOTHING for spread in spreads)


def _scoring_words(comparison: Comparison) -> list[str]:
    return [f"{what}: {how}" for what, how in comparison.scoring]


def regrets_table(comparison: Comparison) -> Table | None:
    """Return what each way to search loses against the best setting of all; None where only one was swept."""
    rows = tuple(
        (row.words, *difference_row(row.regret, comparison, "loses", "wins", same="the best of all"))
        for row in comparison.best
        if row.regret is not None
    )
    if len(rows) < 2:
        return None
    note = (
        "regret: best swept setting − the best of this search, paired by seed; the best of all was chosen by the "
        f"{comparison.selection} scores, so that another may win on test"
    )
    return Table("Regret of each search", ("search", "regret on test", "95 % interval", "seeds", "meaning"), rows, note)


def differences_table(title: str, regret: Difference, gained: Difference, comparison: Comparison) -> Table:
    """Return what the narrowed grid loses against the conventional one, and gains over the default ε."""
    named = (
        ("regret of the narrowed grid (conventional − narrowed)", regret, "narrowed loses", "narrowed wins"),
        ("gain over the default ε (narrowed − default)", gained, "narrowed wins", "default wins"),
    )
    rows = tuple((name, *difference_row(gap, comparison, plus, minus)) for name, gap, plus, minus in named)
    return Table(title, ("difference on test", "mean", "95 % interval", "seeds", "meaning"), rows)


def difference_row(
    gap: Difference, comparison: Comparison, plus: str, minus: str, same: str = "both chose the same setting"
) -> tuple[str, str, str, str]:
    """Return mean, interval, seeds and meaning of a difference.

    Args:
        gap: the difference.
        comparison: whose metric it is of.
        plus: what it means where it is clearly positive.
        minus: likewise, negative.
        same: what it means where both are the same setting.
    """
    metric = comparison.metric
    if gap.mean is None or metric is None:
        return NOTHING, NOTHING, NOTHING, f"not known: {gap.unknown}"
    mean = f"{gain(gap.mean, metric)}{metric.difference_unit}"
    if gap.same_cell:
        return mean, NOTHING, str(gap.n), same
    if gap.low is None or gap.high is None:
        return mean, NOTHING, str(gap.n), "one seed: no interval"
    clear = plus if gap.low > 0 else minus if gap.high < 0 else "no clear difference"
    return mean, interval(gap.low, gap.high, metric), str(gap.n), clear


def costs_table(comparison: Comparison) -> Table | None:
    """Return what each way to search costs by itself, and saves; None where nothing was spent."""
    rows = [(row.words, *_cost_row(row.cost)) for row in comparison.best if row.cost is not None]
    if not rows and comparison.costs.probe_seconds is not None:
        rows = [("probe alone", "0", NOTHING, NOTHING, duration(comparison.costs.probe_seconds), NOTHING, NOTHING)]
    if not rows:
        return None
    columns = ("search", "trials", "training time", "wall time", "probe", "trials saved", "time saved")
    return Table("Cost", columns, tuple(rows), _costs_note(comparison))


def _cost_row(cost: CostRow) -> tuple[str, ...]:
    return (
        str(cost.trials),
        duration(cost.device_seconds),
        _duration(cost.wall_seconds),
        duration(cost.probe_seconds) if cost.probe_seconds else NOTHING,
        NOTHING if cost.saved_trials is None else str(cost.saved_trials).replace("-", "−"),
        _duration(cost.saved_seconds),
    )


def _duration(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration(seconds)


def _costs_note(comparison: Comparison) -> str | None:
    costs, parts = comparison.costs, []
    if comparison.best:
        parts.append(
            "each search as if it were run alone; training time: of all its trials together; wall time: while at least "
            "one of them was training, with as many at once as there were"
        )
    if any(row.cost and row.cost.saved_trials is not None for row in comparison.best):
        parts.append("saved: against the conventional grid, the probe counted")
    if costs.saved_trials is not None and costs.shared_trials:
        parts.append(f"{count(costs.shared_trials, 'trial')} belong to both grids and were trained once")
    if (costs.saved_trials or 0) < 0 or (costs.saved_seconds or 0.0) < 0:
        parts.append("a negative saving: narrowing cost more than the conventional search")
    if costs.saved_trials is not None and costs.unknown:
        parts.append(f"saved time not known: {costs.unknown}")
    return "; ".join(parts) or None


def score_columns(comparison: Comparison) -> tuple[str, ...]:
    """Return the splits a score is shown on: the one that selects, and test where that is another."""
    return tuple(dict.fromkeys((comparison.selection, "test")))


def scores(cell: Cell, comparison: Comparison) -> tuple[str, ...]:
    """Return a cell's scores, one for each of `score_columns`."""
    spreads = (cell.score, cell.test) if comparison.selection != "test" else (cell.test,)
    return tuple(spread_words(spread, comparison) for spread in spreads)


def spread_words(spread: Spread | None, comparison: Comparison) -> str:
    """Write mean and standard deviation of a score."""
    if spread is None or comparison.metric is None:
        return NOTHING
    return score(spread.mean, spread.sd, comparison.metric)


def trained_column(comparison: Comparison) -> tuple[str, ...]:
    """Return the column of the learning rates that trials were trained with, where these are not the grid's."""
    return ("trained at",) if any(cell.is_rescaled for cell in comparison.cells) else ()


def trained(cell: Cell, comparison: Comparison) -> tuple[str, ...]:
    """Return the learning rate a cell was trained with, where `trained_column` shows it."""
    return tuple(power(cell.trained_rate) for _ in trained_column(comparison))


def metric_note(comparison: Comparison) -> str | None:
    """Say what the scores are; None while there are none."""
    metric = comparison.metric
    if metric is None:
        return None
    order = "larger is better" if metric.direction == "max" else "smaller is better"
    epoch = f"best {comparison.selection} epoch"
    return f"{metric.name}, mean ± standard deviation over seeds, at each trial's {epoch}; {order}"
