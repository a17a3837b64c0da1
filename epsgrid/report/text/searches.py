"""Tables of what each search found, lost and cost, and of its winners on fresh seeds."""

from __future__ import annotations

from epsgrid.numerics.statistics import Interval
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.selection.best import BestRow, CostRow
from epsgrid.selection.cells import CONVENTIONAL, NARROWED, Cell, Difference, Spread, Tally
from epsgrid.selection.formatting import NOTHING, Metric, count, duration, gain, interval, power, score, score_interval


def best_table(comparison: Comparison) -> Table | None:
    """Return the best setting of each search; None where nothing was swept."""
    if not comparison.best:
        return None
    columns = ("search", *rate_columns(comparison), *score_columns(comparison), "95 % interval", "seeds")

    def row_of(best: BestRow) -> tuple[str, ...]:
        cell = best.choice.cell
        if cell is None:
            return (best.words, *[NOTHING] * (len(columns) - 1))
        measured = scores(cell.score, cell.test, comparison)
        ends = _score_interval(best.interval, comparison)
        return (best.words, *rates(cell, comparison), *measured, ends, seeds_text(cell.tally))

    has_interval = any(row.interval and row.interval.low is not None for row in comparison.best)
    notes = (
        metric_note(comparison),
        "interval: of the mean on test, Student's t" if has_interval else None,
        *(f"{row.words}: {row.choice.unknown}" for row in comparison.best if row.choice.unknown),
        *(row.note for row in comparison.best),
        *(() if _has_others(comparison) else _scoring_notes(comparison)),
    )
    note = "; ".join(filter(None, notes)) or None
    return Table("Best setting of each grid", columns, tuple(map(row_of, comparison.best)), note)


def others_table(comparison: Comparison) -> Table | None:
    """Return the scores that are kept beside the metric, at the chosen settings; None without any."""
    if not _has_others(comparison):
        return None
    rows = tuple(
        (row.words, other.name, *scores(other.selecting, other.test, comparison, Metric(other.name, "max", "")))
        for row in comparison.best
        for other in row.others
    )
    note = "; ".join(["at the same epochs and seeds as the metric", *_scoring_notes(comparison)])
    return Table("Further scores at the best settings", ("search", "score", *score_columns(comparison)), rows, note)


def _has_others(comparison: Comparison) -> bool:
    return any(row.others for row in comparison.best)


def _scoring_notes(comparison: Comparison) -> list[str]:
    return [f"{what}: {how}" for what, how in comparison.scoring]


def regrets_table(comparison: Comparison) -> Table | None:
    """Return what each search loses against the best setting of all; None where only one was swept."""
    rows = tuple(
        (row.words, *_difference_row(row.regret, comparison, "loses", "wins", same="the best of all"))
        for row in comparison.best
    )
    if len(rows) < 2:
        return None
    note = (
        "regret: best swept setting − the best of this search, paired by seed; the best of all was chosen by the "
        f"{comparison.selection} scores, so another may win on test"
    )
    return Table("Regret of each search", ("search", "regret on test", "95 % interval", "seeds", "meaning"), rows, note)


def differences_table(title: str, regret: Difference, gained: Difference, comparison: Comparison) -> Table:
    """Return what the narrowed grid loses against the conventional one, and gains over the default ε."""
    columns = ("difference on test", "mean", "95 % interval", "seeds", "meaning")
    named = (
        ("regret of the narrowed grid (conventional − narrowed)", regret, "narrowed loses", "narrowed wins"),
        ("gain over the default ε (narrowed − default)", gained, "narrowed wins", "default wins"),
    )
    same = "both chose the same setting"
    rows = tuple((name, *_difference_row(gap, comparison, plus, minus, same)) for name, gap, plus, minus in named)
    return Table(title, columns, rows)


def _difference_row(gap: Difference, comparison: Comparison, plus: str, minus: str, same: str) -> tuple[str, ...]:
    """Return mean, interval, seeds and meaning: `plus` if clearly positive, `minus` if negative, `same` if one cell."""
    metric = comparison.metric
    if gap.mean is None or metric is None:
        return NOTHING, NOTHING, NOTHING, f"not known: {gap.unknown}"
    mean, ends = difference_texts(gap, metric)
    if gap.same_cell:
        return mean, ends, str(gap.n), same
    if gap.low is None or gap.high is None:
        return mean, ends, str(gap.n), "one seed: no interval"
    return mean, ends, str(gap.n), plus if gap.low > 0 else minus if gap.high < 0 else "no clear difference"


def difference_texts(gap: Difference, metric: Metric) -> tuple[str, str]:
    """Return the mean of a difference and its interval, a dash where there is none."""
    if gap.mean is None:
        return f"not known: {gap.unknown}", NOTHING
    mean = f"{gain(gap.mean, metric)}{metric.difference_unit}"
    if gap.low is None or gap.high is None or gap.same_cell:
        return mean, NOTHING
    return mean, interval(gap.low, gap.high, metric)


def costs_table(comparison: Comparison) -> Table | None:
    """Return what each search costs by itself, and saves; None where nothing was spent."""
    rows = tuple((row.words, *_cost_row(row.cost)) for row in comparison.best)
    if not rows and comparison.probe_seconds is not None:
        rows = (("probe alone", "0", NOTHING, NOTHING, duration(comparison.probe_seconds), NOTHING, NOTHING),)
    if not rows:
        return None
    parts = []
    if comparison.best:
        parts.append(
            "each search as if it were run alone; training time: of all its trials together; wall time: while at least "
            "one of them was training, with as many at once as there were"
        )
    if any(row.cost.saved_trials is not None for row in comparison.best):
        parts.append("saved: against the conventional grid, the probe counted")
    both = {NARROWED, CONVENTIONAL}
    if shared := sum(cell.tally.trials for cell in comparison.cells if both <= set(cell.grids)):
        parts.append(f"{count(shared, 'trial')} belong to both grids and were trained once")
    narrowed = comparison.best_of(NARROWED)
    if narrowed is not None and narrowed.cost.saved_trials is not None:
        if narrowed.cost.saved_trials < 0 or (narrowed.cost.saved_seconds or 0.0) < 0:
            parts.append("a negative saving: narrowing cost more than the conventional search")
        if narrowed.cost.unknown:
            parts.append(f"saved time of the narrowed search not known: {narrowed.cost.unknown}")
    columns = ("search", "trials", "training time", "wall time", "probe", "trials saved", "time saved")
    return Table("Cost", columns, rows, "; ".join(parts) or None)


def _cost_row(cost: CostRow) -> tuple[str, ...]:
    return (
        str(cost.trials),
        duration(cost.device_seconds),
        NOTHING if cost.wall_seconds is None else duration(cost.wall_seconds),
        duration(cost.probe_seconds) if cost.probe_seconds else NOTHING,
        whole_number(cost.saved_trials),
        NOTHING if cost.saved_seconds is None else duration(cost.saved_seconds),
    )


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


def _score_interval(found: Interval | None, comparison: Comparison) -> str:
    if found is None or found.low is None or found.high is None or comparison.metric is None:
        return NOTHING
    return score_interval(found.low, found.high, comparison.metric)


def seeds_text(tally: Tally, asked: int | None = None) -> str:
    """Return the number of seeds with a score, of how many if `asked` is given, and of those that diverged."""
    done = str(tally.done) if asked is None else f"{tally.done}/{asked}"
    return done + (f" ({tally.diverged} diverged)" if tally.diverged else "")


def whole_number(value: int | None) -> str:
    """Return a number that may be negative, or a dash where it is not known."""
    return NOTHING if value is None else str(value).replace("-", "−")


def metric_note(comparison: Comparison) -> str | None:
    """Return what the scores are; None while there are none."""
    metric = comparison.metric
    if metric is None:
        return None
    order, epoch = "larger" if metric.direction == "max" else "smaller", f"best {comparison.selection} epoch"
    return f"{metric.name}, mean ± standard deviation over seeds, at each trial's {epoch}; {order} is better"
