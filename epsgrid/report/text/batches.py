"""What is known of other batch sizes as tables of text; the exponents are in `render_exponents`."""

from __future__ import annotations

from epsgrid.report.batches import BASE, BatchesRow, CurveGap, RuleRow, TrainedBatches, TrainedRow
from epsgrid.report.table import Table
from epsgrid.report.text.exponents import exponent_tables
from epsgrid.report.verdict import Difference
from epsgrid.report.words import NOTHING, Metric, gain, interval, power, score


def batches_tables(batches: BatchesRow | None) -> tuple[Table, ...]:
    """Return the tables of what is known of other batch sizes; none where nothing is."""
    if batches is None:
        return ()
    trained = () if batches.trained is None else (trained_table(batches.trained),)
    return (*(exponent_tables(batches.exponents) if batches.exponents else ()), *trained)


def trained_table(trained: TrainedBatches) -> Table:
    """Return one row per rule and batch size, below what each rule made of the setting."""
    columns = (
        "rule",
        "batch",
        "learning rate",
        "ε",
        "seeds",
        *_score_columns(trained),
        "gap on test",
        "95 % interval",
        "widest gap of the curve",
    )
    points = (
        *(_rule_point(row, trained.metric) for row in trained.rules),
        *(
            f"ε moved along against ε kept, batch {row.batch_size}: {_difference(row.gain, trained.metric)}."
            for row in trained.forgetting
        ),
        *(f"{place} was left out: {why}." for place, why in trained.skipped),
    )
    note = (
        f"{trained.setting} of batch {trained.base_batch_size}, {trained.origin}, trained for as many epochs at every "
        f"batch size; gap: {trained.metric.name} there − at the base, positive where it is better there, by seed;"
        f" widest gap of the curve: of the mean over seeds on the {trained.selection} split, over all epochs"
    )
    rows = tuple(_row(row, trained) for row in trained.rows)
    return Table("Batch sizes: one setting at each", columns, rows, note, points)


def _row(row: TrainedRow, trained: TrainedBatches) -> tuple[str, ...]:
    metric, tally = trained.metric, row.cell.tally
    seeds = f"{tally.done}/{tally.trials}" + (f" ({tally.diverged} diverged)" if tally.diverged else "")
    spreads = (row.cell.score, row.cell.test) if trained.selection != "test" else (row.cell.test,)
    return (
        row.rule + (f": {row.changes}" if row.changes else ""),
        str(row.batch_size),
        power(row.cell.learning_rate),
        power(row.cell.epsilon),
        seeds,
        *(score(spread.mean, spread.sd, metric) if spread else NOTHING for spread in spreads),
        *((NOTHING, NOTHING, NOTHING) if row.rule == BASE else (*_gap(row.gap, metric), _curve(row.widest, metric))),
    )


def _score_columns(trained: TrainedBatches) -> tuple[str, ...]:
    return tuple(dict.fromkeys((trained.selection, "test")))


def _gap(gap: Difference, metric: Metric) -> tuple[str, str]:
    if gap.mean is None:
        return f"not known: {gap.unknown}", NOTHING
    mean = f"{gain(gap.mean, metric)}{metric.difference_unit}"
    return mean, NOTHING if gap.low is None or gap.high is None else interval(gap.low, gap.high, metric)


def _difference(gap: Difference, metric: Metric) -> str:
    mean, ends = _gap(gap, metric)
    if gap.mean is None:
        return mean
    return f"{mean} on test" + (f", 95 % interval {ends} over {gap.n} seeds" if ends != NOTHING else ", one seed")


def _curve(widest: CurveGap | None, metric: Metric) -> str:
    if widest is None:
        return NOTHING
    return f"{gain(widest.gap, metric)}{metric.difference_unit} at epoch {widest.epoch}"


def _rule_point(row: RuleRow, metric: Metric) -> str:
    if row.gap is None or row.gap_at is None:
        return f"{row.rule}: no gap is known" + (f", {row.diverged} trials diverged." if row.diverged else " yet.")
    text = f"{row.rule}: furthest from the base on test {gain(row.gap, metric)}{metric.difference_unit}"
    text += f", at batch {row.gap_at}"
    if row.widest is not None:
        text += f"; along the curve {_curve(row.widest, metric)} of batch {row.widest_at}"
    return text + (f"; {row.diverged} trials diverged." if row.diverged else ".")
