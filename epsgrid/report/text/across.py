"""Several experiments side by side, as tables of text."""

from __future__ import annotations

from epsgrid.report.across import Across, AcrossRow, Best
from epsgrid.report.table import Table
from epsgrid.report.text.claims import claims_table, tally_table
from epsgrid.selection.difference import Difference
from epsgrid.selection.formatting import NOTHING, Metric, count, duration, gain, interval, power, score


def across_headline(found: Across) -> str:
    """Return how often the optimum was inside, in a sentence."""
    answers = found.answers()
    if not found.rows:
        return "There is no experiment to show."
    if not answers:
        return f"{count(len(found.rows), 'experiment')}, none of an optimizer with ε."
    told = ", ".join(f"{answer} in {answers[answer]}" for answer in ("yes", "no", "cannot tell") if answers[answer])
    return f"optimum inside: {told} of {count(sum(answers.values()), 'experiment')}."


def across_tables(found: Across) -> tuple[Table, ...]:
    """Return the tables that have something to show, in reading order."""
    made = (
        _ranges_table(found),
        _best_table(found),
        _costs_table(found),
        tally_table(found.claims),
        claims_table(found.claims),
        _skipped_table(found),
    )
    return tuple(table for table in made if table is not None)


def _ranges_table(found: Across) -> Table | None:
    if not found.rows:
        return None
    rows = tuple((*_names(row), *_range(row)) for row in found.rows)
    columns = (
        "run",
        "task",
        "model",
        "optimizer",
        "optimum inside",
        "bounds of ε",
        "decades",
        "conventional",
        "narrower",
    )
    return Table(
        "Experiments", columns, rows, "decades: of the narrowed grid; narrower: conventional over narrowed", texts=5
    )


def _names(row: AcrossRow) -> tuple[str, ...]:
    return row.run, row.task + (" (part)" if row.is_partial else ""), row.model, row.optimizer


def _range(row: AcrossRow) -> tuple[str, ...]:
    bounds = NOTHING if row.low is None else f"{power(row.low)} to {power(row.high)}"
    ratio = NOTHING if row.decades_ratio is None else f"{row.decades_ratio:.3g} ×"
    answer = NOTHING if row.reference is not None else row.answer
    return answer, bounds, _number(row.decades_narrowed), _number(row.decades_conventional), ratio


def _best_table(found: Across) -> Table | None:
    rows = tuple(_best_row(row) for row in found.rows if row.metric is not None)
    if not rows:
        return None
    columns = ("run", "metric", "narrowed", "conventional", "default ε", "regret of narrowing", "gain over default ε")
    note = (
        "test metric, mean ± standard deviation, at the best ε; differences with their 95 % intervals, paired by seed"
    )
    return Table("Best settings", columns, rows, note, texts=2)


def _best_row(row: AcrossRow) -> tuple[str, ...]:
    assert row.metric is not None
    first = row.narrowed or row.reference
    bests = [_best(best, row.metric) for best in (first, row.conventional, row.default)]
    gaps = [_gap(gap, row.metric) for gap in (row.regret, row.gain_over_default)]
    return (row.run, row.metric.name, *bests, *gaps)


def _best(best: Best | None, metric: Metric) -> str:
    if best is None or best.test is None:
        return NOTHING
    where = "" if best.epsilon is None else f" at {power(best.epsilon)}"
    return f"{score(best.test.mean, best.test.sd, metric)}{where}"


def _gap(gap: Difference, metric: Metric) -> str:
    if gap.mean is None:
        return NOTHING
    mean = f"{gain(gap.mean, metric)}{metric.difference_unit}"
    if gap.same_cell:
        return f"{mean}, same setting"
    return mean if gap.low is None or gap.high is None else f"{mean} ({interval(gap.low, gap.high, metric)})"


def _costs_table(found: Across) -> Table | None:
    if not found.rows:
        return None
    rows = [
        (
            row.run,
            str(row.trials),
            str(row.unfinished),
            duration(row.device_seconds),
            NOTHING if row.probe_seconds is None else duration(row.probe_seconds),
            _number(row.saved_trials),
            NOTHING if row.saved_seconds is None else duration(row.saved_seconds),
        )
        for row in found.rows
    ]
    known = [row for row in found.rows if row.saved_seconds is not None]
    if len(rows) > 1:
        rows.append(
            (
                "all",
                str(sum(row.trials for row in found.rows)),
                str(sum(row.unfinished for row in found.rows)),
                duration(sum(row.device_seconds for row in found.rows)),
                duration(sum(row.probe_seconds or 0.0 for row in found.rows)),
                str(sum(row.saved_trials or 0 for row in known)).replace("-", "−"),
                duration(sum(row.saved_seconds or 0.0 for row in known)),
            )
        )
    columns = ("run", "trials", "without a result", "training time", "probe", "trials saved", "time saved")
    note = "saved: conventional − narrowed − probe; all: of the runs where it is known"
    return Table("Cost", columns, tuple(rows), note)


def _skipped_table(found: Across) -> Table | None:
    if not found.skipped:
        return None
    rows = tuple((skipped.folder, skipped.why) for skipped in found.skipped)
    return Table("Left out", ("folder", "why"), rows, texts=2)


def _number(value: int | None) -> str:
    return NOTHING if value is None else str(value).replace("-", "−")
