"""What to know at a glance, for the card on top of the page: the answer, and a few facts in a line each."""

from __future__ import annotations

from collections.abc import Iterator

from epsgrid.report.rows import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE, BestRow, Comparison
from epsgrid.report.words import Metric, count, duration, gain, interval, power, score

_HEADLINES = {
    "yes": "The best ε lies inside the measured bounds.",
    "no": "The best ε lies outside the measured bounds.",
    "cannot tell": "It cannot be told whether the best ε lies inside the bounds.",
}


def answer_in_words(comparison: Comparison) -> str:
    """Return the verdict as one short sentence; the reason is a fact of `at_a_glance`."""
    if comparison.verdict.answer == "cannot tell" and comparison.bounds is None:
        return "There are no bounds to judge."
    return _HEADLINES[comparison.verdict.answer]


def at_a_glance(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Return what a reader wants to know first, as (question, answer); what does not apply is left out."""
    return tuple(_facts(comparison))


def _facts(comparison: Comparison) -> Iterator[tuple[str, str]]:
    if comparison.bounds is not None:
        yield "Which ε range", _range(comparison)
    yield "What to use now", _advice(comparison)
    yield "How sure", _sure(comparison)
    if (gained := _gained(comparison)) is not None:
        yield "Against the default ε", gained
    if (fresh := _on_fresh_seeds(comparison)) is not None:
        yield "On fresh seeds", fresh
    if (cost := _cost(comparison)) is not None:
        yield "What it cost", cost


def _range(comparison: Comparison) -> str:
    """Return the bounds as decades, and how wide the conventional grid is beside them."""
    assert comparison.bounds is not None
    low, high = comparison.bounds.low.decade, comparison.bounds.high.decade
    decades = len(comparison.bounds.decades)
    text = f"{power(low)} to {power(high)}, {count(decades, 'decade')}" if low != high else f"{power(low)} alone"
    conventional = comparison.grid(CONVENTIONAL)
    return text if conventional is None else f"{text}; the conventional grid has {conventional.decades}"


def _sure(comparison: Comparison) -> str:
    """Return what the verdict rests on, and whether the bounds can be trusted; if not, for what reason above all."""
    gap, metric = comparison.verdict.difference, comparison.metric
    if comparison.verdict.answer != "cannot tell" and gap and metric and gap.low is not None and gap.high is not None:
        ends = interval(gap.low, gap.high, metric)
        text = f"best inside − best outside: {ends} on test ({100 * gap.level:.0f} %, {count(gap.n, 'seed')})"
    else:
        text = comparison.verdict.reason
    trust = comparison.reliability
    if trust is None:
        return text
    why = f": {trust.reasons[0]}" if trust.verdict != "high" and trust.reasons else ""
    return f"{text}; confidence in the bounds is {trust.verdict}{why}"


def _advice(comparison: Comparison) -> str:
    """Return the best setting found, or what to do to find one."""
    row = best_row(comparison)
    if row is not None and row.choice.cell is not None and comparison.metric is not None:
        cell, metric = row.choice.cell, comparison.metric
        spread, split = cell.test or cell.score, " on test" if cell.test else ""
        return f"{cell.words}: {metric.name} {score(spread.mean, spread.sd, metric)}{split}" if spread else cell.words
    if comparison.bounds is None:
        return (
            "Run `epsgrid probe` to measure the range of ε" if comparison.grids == () else "No setting can be named yet"
        )
    if not comparison.grids:
        return f"Sweep {_decades(comparison)} with `epsgrid sweep`"
    return f"No setting can be named yet; the range to search is {_decades(comparison)}"


def _decades(comparison: Comparison) -> str:
    assert comparison.bounds is not None
    low, high = comparison.bounds.low.decade, comparison.bounds.high.decade
    return f"ε {power(low)} to {power(high)}" if low != high else f"ε {power(low)}"


def best_row(comparison: Comparison) -> BestRow | None:
    """Return the row of the best setting of all grids, by the score that selects; None where there is none.

    A setting with fewer diverged seeds goes first, as within a grid.
    """
    rows = [comparison.best_of(name) for name in (NARROWED, CONVENTIONAL, REFERENCE, DEFAULT)]
    found = [
        row for row in rows if row is not None and row.choice.cell is not None and row.choice.cell.score is not None
    ]
    metric = comparison.metric
    return max(found, key=lambda row: _rank(row, metric)) if found and metric is not None else None


def _rank(row: BestRow, metric: Metric) -> tuple[float, float]:
    cell = row.choice.cell
    assert cell is not None and cell.score is not None
    return -cell.tally.diverged / cell.tally.trials, metric.sign * cell.score.mean


def _gained(comparison: Comparison) -> str | None:
    """Return what the narrowed grid's best gained over the default ε; None where that is not known."""
    gap, metric = comparison.gain_over_default, comparison.metric
    if gap.mean is None or metric is None:
        return None
    if gap.same_cell:
        return "the default ε is the best itself"
    mean = f"{gain(gap.mean, metric)}{metric.difference_unit} on test"
    if gap.low is None or gap.high is None:
        return f"{mean}, one seed"
    return f"{mean} ({100 * gap.level:.0f} %: {interval(gap.low, gap.high, metric)})"


def _on_fresh_seeds(comparison: Comparison) -> str | None:
    """Return what the winner scored on seeds that did not choose it; None where that was not asked for."""
    confirmed, metric = comparison.confirmed, comparison.metric
    if confirmed is None or metric is None:
        return None
    rows = {row.name: row for row in confirmed.rows}
    row = next((rows[name] for name in (NARROWED, CONVENTIONAL, DEFAULT) if name in rows), None)
    if row is None or row.cell.test is None:
        return None
    seeds = count(row.cell.tally.done, "seed")
    text = f"{row.cell.words}: {score(row.cell.test.mean, row.cell.test.sd, metric)} on test ({seeds})"
    return text if row.is_current else f"{text}; another setting wins now"


def _cost(comparison: Comparison) -> str | None:
    """Return what narrowing cost, and what it saved against the conventional search."""
    costs, narrowed, conventional = comparison.costs, comparison.grid(NARROWED), comparison.grid(CONVENTIONAL)
    parts = []
    if costs.probe_seconds is not None:
        parts.append(f"probe {duration(costs.probe_seconds)}")
    for row in (narrowed,) if narrowed is not None else (conventional,):
        if row is not None:
            so_far = "" if row.tally.complete else " so far"
            parts.append(f"{row.name} grid {duration(row.tally.seconds)}{so_far}, {count(row.tally.trials, 'trial')}")
    text = " + ".join(parts)
    if costs.saved_seconds is not None and costs.saved_trials is not None and text:
        verb, seconds, trials = "saved", costs.saved_seconds, costs.saved_trials
        if seconds < 0:
            verb, seconds, trials = "lost", -seconds, -trials
        text += f"; {verb} {duration(seconds)} ({_trials(trials)}) against the conventional search"
    return text or None


def _trials(number: int) -> str:
    return count(number, "trial").replace("-", "−")
