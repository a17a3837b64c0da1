"""Several experiments side by side, as tables of text."""

from __future__ import annotations

from epsgrid.report.across import Across, Best
from epsgrid.report.table import Table
from epsgrid.report.text.render import claims_table, tally_table
from epsgrid.report.text.searches import difference_texts, whole_number
from epsgrid.selection.difference import Difference
from epsgrid.selection.formatting import NOTHING, Metric, count, duration, power, score


def across_headline(found: Across) -> str:
    """Return how often the optimum was inside, in a sentence."""
    answers = found.answers()
    if not found.rows:
        return "There is no experiment to show."
    if not answers:
        return f"{count(len(found.rows), 'experiment')}, none of an optimizer with ε."
    texts = ", ".join(f"{answer} in {answers[answer]}" for answer in ("yes", "no", "cannot tell") if answers[answer])
    return f"optimum inside: {texts} of {count(sum(answers.values()), 'experiment')}."


def across_tables(found: Across) -> tuple[Table, ...]:
    """Return the tables that have something to show, in reading order."""
    skipped = tuple((skipped.folder, skipped.why) for skipped in found.skipped)
    made = (
        _ranges_table(found),
        _best_table(found),
        _costs_table(found),
        tally_table(found.claims),
        claims_table(found.claims),
        Table("Left out", ("folder", "why"), skipped, texts=2) if skipped else None,
    )
    return tuple(table for table in made if table is not None)


def _ranges_table(found: Across) -> Table | None:
    if not found.rows:
        return None
    rows = tuple(
        (
            row.run,
            row.task + (" (part)" if row.is_partial else ""),
            row.model,
            row.optimizer,
            NOTHING if row.reference is not None else row.answer,
            NOTHING if row.low is None else f"{power(row.low)} to {power(row.high)}",
            whole_number(row.decades_narrowed),
            whole_number(row.decades_conventional),
            NOTHING if row.decades_ratio is None else f"{row.decades_ratio:.3g} ×",
        )
        for row in found.rows
    )
    names = ("run", "task", "model", "optimizer", "optimum inside")
    columns = (*names, "bounds of ε", "decades", "conventional", "narrower")
    note = "decades: of the narrowed grid; narrower: conventional over narrowed"
    return Table("Experiments", columns, rows, note, texts=len(names))


def _best_table(found: Across) -> Table | None:
    rows = tuple(
        (
            *(row.run, row.metric.name),
            *(_best(best, row.metric) for best in (row.narrowed or row.reference, row.conventional, row.default)),
            *(_gap(gap, row.metric) for gap in (row.regret, row.gain_over_default)),
        )
        for row in found.rows
        if row.metric is not None
    )
    columns = ("run", "metric", "narrowed", "conventional", "default ε", "regret of narrowing", "gain over default ε")
    note = (
        "test metric, mean ± standard deviation, at the best ε; differences with their 95 % intervals, paired by seed"
    )
    return Table("Best settings", columns, rows, note, texts=2) if rows else None


def _best(best: Best | None, metric: Metric) -> str:
    if best is None or best.test is None:
        return NOTHING
    where = "" if best.epsilon is None else f" at {power(best.epsilon)}"
    return f"{score(best.test.mean, best.test.sd, metric)}{where}"


def _gap(gap: Difference, metric: Metric) -> str:
    if gap.mean is None:
        return NOTHING
    mean, ends = difference_texts(gap, metric)
    return f"{mean}, same setting" if gap.same_cell else mean if ends == NOTHING else f"{mean} ({ends})"


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
            whole_number(row.saved_trials),
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
                whole_number(sum(row.saved_trials or 0 for row in known)),
                duration(sum(row.saved_seconds or 0.0 for row in known)),
            )
        )
    columns = ("run", "trials", "without a result", "training time", "probe", "trials saved", "time saved")
    note = "saved: conventional − narrowed − probe; all: of the runs where it is known"
    return Table("Cost", columns, tuple(rows), note)
