"""The difference of two experiments as tables of text and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epsgrid.report.diff_rows import BoundChange, Change, CostChange, Diff, LayerChanges, WinnerChange
from epsgrid.report.table import Table, shortened
from epsgrid.report.verdict import Difference
from epsgrid.report.words import NOTHING, Metric, count, duration, gain, interval, power, score
from epsgrid.spec.reading import shown

_GRIDS = {"default": "default ε"}


def headline(diff: Diff) -> str:
    """Return in one sentence what differs."""
    parts = diff.differing
    if not parts:
        return "Nothing differs." if _same_costs(diff.costs) else "Nothing differs but the time it took."
    last = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"They differ in {last}."


def tables(diff: Diff) -> tuple[Table, ...]:
    """Return the tables that have something to show, in reading order; costs only where anything differs."""
    made = (
        _spec_table(diff),
        _changes_table("Data", diff.data),
        _changes_table("Environment", diff.environment),
        _changes_table("Progress", diff.progress),
        _bounds_table(diff.bounds),
        _changes_table("The probes", diff.trust),
        _layers_table(diff.layers),
        _winners_table(diff),
        _costs_table(diff.costs) if not _same_costs(diff.costs) else None,
    )
    return tuple(table for table in made if table is not None)


def _spec_table(diff: Diff) -> Table | None:
    if not diff.spec:
        return None
    rows = tuple((each.what, _value(each.a), _value(each.b), each.matters) for each in diff.spec)
    return Table("Spec", ("field", "A", "B", "matters to"), rows, texts=4)


def _changes_table(title: str, changes: Sequence[Change]) -> Table | None:
    if not changes:
        return None
    rows = tuple((each.what, _plain(each.a), _plain(each.b)) for each in changes)
    return Table(title, ("", "A", "B"), rows, texts=3)


def _value(value: Any) -> str:
    return shown(value)


def _plain(value: Any) -> str:
    return NOTHING if value is None else str(value)


def _bounds_table(bounds: Sequence[BoundChange]) -> Table | None:
    if not bounds:
        return None
    rows = []
    for end in bounds:
        moved = "" if end.moved is None else _decades(end.moved)
        sides = ((end.magnitude_a, end.epsilon_a, end.decade_a), (end.magnitude_b, end.epsilon_b, end.decade_b))
        for what, *values in zip(("√v̂", "ε", "decade of ε"), *sides, strict=True):
            rows.append((f"{end.end} {what}", *map(power, values), moved if what == "√v̂" else ""))
        rows.append((f"{end.end} set by", *(shortened(names) or NOTHING for names in (end.layers_a, end.layers_b)), ""))
    return Table("Bounds", ("", "A", "B", "moved by decades"), tuple(rows))


def _layers_table(layers: LayerChanges | None) -> Table | None:
    if layers is None or not (layers.moves or layers.only_a or layers.only_b):
        return None
    rows = tuple((move.name, _decades(move.low), _decades(move.high)) for move in layers.moves)
    lone = [
        f"only {letter} measured {shortened(names)}"
        for letter, names in (("A", layers.only_a), ("B", layers.only_b))
        if names
    ]
    note = "; ".join([f"{count(layers.common, 'layer')} in both; decades of √v̂ from A to B", *lone])
    return Table("Layers that moved most", ("layer", "low", "high"), rows, note)


def _winners_table(diff: Diff) -> Table | None:
    changed = [winner for winner in diff.winners if winner.changed]
    if not changed:
        return None
    rows = tuple(_winner_row(winner, diff.metric) for winner in changed)
    unknown = dict.fromkeys(
        f"{_GRIDS.get(winner.name, winner.name)}: {winner.difference.unknown}"
        for winner in changed
        if winner.difference.unknown
    )
    good = "B − A on test, positive where B is better" if diff.metric else None
    note = "; ".join(filter(None, [good, *unknown])) or None
    columns = ("best of", "A", "test", "B", "test", "B − A", "95 % interval", "seeds")
    return Table("Winners", columns, rows, note)


def _winner_row(winner: WinnerChange, metric: Metric | None) -> tuple[str, ...]:
    tests = [_score(value, metric) for value in (winner.test_a, winner.test_b)]
    name = _GRIDS.get(winner.name, winner.name)
    return (name, winner.a or NOTHING, tests[0], winner.b or NOTHING, tests[1], *_gap(winner.difference, metric))


def _score(value: float | None, metric: Metric | None) -> str:
    return score(value, None, metric) if metric is not None else power(value)


def _gap(gap: Difference, metric: Metric | None) -> tuple[str, str, str]:
    if gap.mean is None or metric is None:
        return NOTHING, NOTHING, NOTHING
    ends = NOTHING if gap.low is None or gap.high is None else interval(gap.low, gap.high, metric)
    return f"{gain(gap.mean, metric)}{metric.difference_unit}", ends, str(gap.n)


def _costs_table(costs: Sequence[CostChange]) -> Table | None:
    if not costs:
        return None
    rows = tuple(
        (
            cost.what,
            *(NOTHING if number is None else str(number) for number in (cost.trials_a, cost.trials_b)),
            *(NOTHING if seconds is None else duration(seconds) for seconds in (cost.seconds_a, cost.seconds_b)),
        )
        for cost in costs
    )
    note = "trials with a result; their training time added up"
    return Table("Costs", ("", "trials A", "trials B", "time A", "time B"), rows, note)


def _same_costs(costs: Sequence[CostChange]) -> bool:
    return all((cost.trials_a, cost.seconds_a) == (cost.trials_b, cost.seconds_b) for cost in costs)


def _decades(move: float) -> str:
    return f"{'−' if move < 0 else '+'}{abs(move):.2f}"
