"""What differs between two experiments: in what was asked, in data and surroundings, in bounds, winners and costs.

Everything is read from the store, at any time: what is not there yet is None, and no difference is made of it where the
other experiment has it but a row that says so. Times are told, but two runs never take equally long, so that they are
no difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from epsgrid.errors import EpsgridError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.statistics import LEVEL, paired_difference
from epsgrid.report.cells import Cell, Choice
from epsgrid.report.compare import compare
from epsgrid.report.diff_rows import (
    BoundChange,
    Change,
    CostChange,
    Diff,
    LayerChanges,
    LayerMove,
    Matters,
    SpecChange,
    WinnerChange,
)
from epsgrid.report.load import StoredExperiment
from epsgrid.report.rows import Comparison
from epsgrid.report.verdict import Difference, unknown_difference
from epsgrid.report.words import Metric
from epsgrid.spec.loading import spec_from_json
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import ABSENT, changes

_MATTERS: Mapping[str, Matters] = {
    "task": "numbers of a trial",
    "model": "numbers of a trial",
    "optimizer": "numbers of a trial",
    "training": "numbers of a trial",
    "probe": "bounds",
    "sweep": "which trials",
    "observe": "what is kept",
    "logging": "what is kept",
    "execution": "where it runs",
}
_LAYERS_SHOWN = 10
_SAME = 1e-9
"""Relative; below it two magnitudes are the same."""


def diff(a: StoredExperiment, b: StoredExperiment) -> Diff:
    """Return what differs between two experiments.

    Raises:
        CorruptRecordError: the records of one contradict each other; the message names them.
    """
    compared_a, compared_b = compare(a), compare(b)
    metrics = {each.metric for each in (compared_a, compared_b) if each.metric is not None}
    return Diff(
        a=str(a.folder.root),
        b=str(b.folder.root),
        metric=metrics.pop() if len(metrics) == 1 else None,
        spec=tuple(_spec(a, b)),
        data=tuple(_changes(_data(a), _data(b))),
        environment=tuple(_environment(a, b)),
        progress=tuple(_changes(_progress(a), _progress(b))),
        bounds=_bounds(a, b),
        trust=tuple(_changes(_trust(a), _trust(b))) if a.bounds and b.bounds else (),
        layers=_layers(a.bounds, b.bounds) if a.bounds and b.bounds else None,
        winners=tuple(_winners(compared_a, compared_b)),
        costs=tuple(_costs(compared_a, compared_b)),
        notes=tuple(_notes(compared_a, compared_b)),
    )


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    for what, old, new in changes(a, b):
        yield Change(what, None if old is ABSENT else old, None if new is ABSENT else new)


# What was asked


def _spec(a: StoredExperiment, b: StoredExperiment) -> Iterator[SpecChange]:
    specs = [_parsed(each) for each in (a, b)]
    if None in specs:  # one of another version, or with a plug-in that is gone: both as they are
        values = [each.experiment.spec for each in (a, b)]
    else:
        values = [spec.model_dump(mode="json") for spec in specs if spec is not None]
    places = {f"task.{field}" for spec in specs if spec is not None for field in spec.task.location_fields}
    for change in _changes(*values):
        matters = "nothing" if change.what in places else _MATTERS.get(change.what.partition(".")[0], "nothing")
        yield SpecChange(change.what, change.a, change.b, matters)


def _parsed(stored: StoredExperiment) -> Spec | None:
    """Return the spec with the fields that are newer than its record; None where it is none any more."""
    try:
        return spec_from_json(stored.experiment.spec, str(stored.folder.experiment_json))
    except EpsgridError:
        return None


def _data(stored: StoredExperiment) -> dict[str, Any]:
    return {"checksum": stored.experiment.data_checksum, "description": stored.experiment.data_description}


# Where it was measured and trained


def _environment(a: StoredExperiment, b: StoredExperiment) -> Iterator[Change]:
    """Yield what differs, of the probes where there are two, and of the trials where both have some."""
    if a.probe is not None and b.probe is not None:
        yield from _changes(*({"probe": _surroundings([each.provenance])} for each in (a.probe, b.probe)))
    if a.results and b.results:
        yield from _changes(*({"trials": _of_trials(each)} for each in (a, b)))


def _of_trials(stored: StoredExperiment) -> dict[str, Any]:
    results = stored.results.values()
    found = _surroundings([result.provenance for result in results])
    return {**found, "device": ", ".join(sorted({result.device for result in results}))}


def _surroundings(provenances: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return versions, commit and hardware, several values of several trials in one text; not when and by what call."""
    found: dict[str, set[str]] = {}
    for came_from in provenances:
        git = came_from.get("git") or {}
        flat = {
            **(came_from.get("packages") or {}),
            **{what: came_from.get(what) for what in ("python", "platform", "cpu", "cores", "host")},
            "commit": None if not git else f"{git.get('commit')}{' with changes' if git.get('changed') else ''}",
        }
        for what, value in flat.items():
            if value is not None:
                found.setdefault(what, set()).add(str(value))
    return {what: ", ".join(sorted(values)) for what, values in found.items()}


def _progress(stored: StoredExperiment) -> dict[str, Any]:
    return {
        "probe": "not run" if stored.probe is None else "run",
        "trials": ", ".join(f"{number} {state}" for state, number in stored.counts.items()) or "none planned",
    }


# What was measured


def _bounds(a: StoredExperiment, b: StoredExperiment) -> tuple[BoundChange, ...]:
    ends = tuple(_end(name, a.bounds, b.bounds) for name in ("low", "high"))
    same = all(end.layers_a == end.layers_b and _is_same(end) for end in ends)
    return () if same else ends


def _end(name: str, a: EpsilonBounds | None, b: EpsilonBounds | None) -> BoundChange:
    one, other = (None if bounds is None else getattr(bounds, name) for bounds in (a, b))
    return BoundChange(
        end=name,
        magnitude_a=one and one.magnitude,
        magnitude_b=other and other.magnitude,
        epsilon_a=one and one.epsilon,
        epsilon_b=other and other.epsilon,
        decade_a=one and one.decade,
        decade_b=other and other.decade,
        layers_a=one.layers if one else (),
        layers_b=other.layers if other else (),
        moved=math.log10(other.magnitude / one.magnitude) if one and other else None,
    )


def _is_same(end: BoundChange) -> bool:
    pairs = ((end.magnitude_a, end.magnitude_b), (end.epsilon_a, end.epsilon_b))
    return all(
        one == other if one is None or other is None else math.isclose(one, other, rel_tol=_SAME)
        for one, other in pairs
    )


def _trust(stored: StoredExperiment) -> dict[str, Any]:
    assert stored.bounds is not None and stored.probe is not None
    trust = stored.bounds.reliability
    return {
        "reliability": None if trust is None else trust.verdict,
        "where ε enters": stored.probe.placement.description,
        "steps of the probe": stored.probe.steps,
        "batch size": stored.probe.batch_size,
    }


def _layers(a: EpsilonBounds, b: EpsilonBounds) -> LayerChanges:
    measured_a, measured_b = (
        {layer.name: (layer.low, layer.high) for layer in bounds.layers if layer.low and layer.high}
        for bounds in (a, b)
    )
    moves = [
        LayerMove(name, *(math.log10(new / old) for old, new in zip(ends, measured_b[name], strict=True)))
        for name, ends in measured_a.items()
        if name in measured_b
    ]
    only_a, only_b = measured_a.keys() - measured_b.keys(), measured_b.keys() - measured_a.keys()
    greatest = sorted((move for move in moves if move.most > _SAME), key=lambda move: -move.most)
    return LayerChanges(len(moves), tuple(greatest[:_LAYERS_SHOWN]), tuple(sorted(only_a)), tuple(sorted(only_b)))


# What came out


def _winners(a: Comparison, b: Comparison) -> Iterator[WinnerChange]:
    for name in dict.fromkeys(row.name for row in (*a.best, *b.best)):
        one, other = (_choice(each, name) for each in (a, b))
        first, second = (choice.cell if choice else None for choice in (one, other))
        words = [cell.words if cell else None for cell in (first, second)]
        means = [cell.test.mean if cell and cell.test else None for cell in (first, second)]
        yield WinnerChange(
            name=name,
            a=words[0],
            b=words[1],
            test_a=means[0],
            test_b=means[1],
            difference=_difference(one, other, (a, b)),
            changed=words[0] != words[1] or means[0] != means[1],
        )


def _choice(comparison: Comparison, name: str) -> Choice | None:
    return next((row.choice for row in comparison.best if row.name == name), None)


def _difference(a: Choice | None, b: Choice | None, compared: tuple[Comparison, Comparison]) -> Difference:
    """Return second − first, paired by seed, or why it is not known."""
    for letter, choice in (("A", a), ("B", b)):
        if choice is None:
            return unknown_difference(f"{letter} did not sweep it")
        if choice.cell is None:
            return unknown_difference(f"{letter}: {choice.unknown}")
    assert a is not None and b is not None and a.cell is not None and b.cell is not None
    metrics = [each.metric for each in compared]
    if compared[0].task != compared[1].task or metrics[0] != metrics[1] or metrics[0] is None:
        return unknown_difference("they are judged by different things")
    return _paired(a.cell, b.cell, metrics[0])


def _paired(a: Cell, b: Cell, metric: Metric) -> Difference:
    first, second = a.test_by_seed(), b.test_by_seed()
    if not first.keys() & second.keys():
        return unknown_difference("no seed in common that has a test score")
    is_same = {trial.id for trial in a.trials} == {trial.id for trial in b.trials} and first == second
    if is_same:
        return Difference(0.0, 0.0, 0.0, len(first), LEVEL, same_cell=True, unknown=None)
    sign = metric.sign
    found = paired_difference({k: sign * v for k, v in second.items()}, {k: sign * v for k, v in first.items()})
    return Difference(found.mean, found.low, found.high, found.n, found.level, same_cell=False, unknown=None)


def _costs(a: Comparison, b: Comparison) -> Iterator[CostChange]:
    probes = a.costs.probe_seconds, b.costs.probe_seconds
    if probes != (None, None):
        yield CostChange("probe", None, None, *probes)
    for name in dict.fromkeys(row.name for row in (*a.grids, *b.grids)):
        one, other = (row.tally if (row := each.grid(name)) else None for each in (a, b))
        trials = [None if tally is None else tally.done + tally.diverged for tally in (one, other)]
        seconds = [None if tally is None else tally.seconds for tally in (one, other)]
        yield CostChange(f"{name} grid", *trials, *seconds)


def _notes(a: Comparison, b: Comparison) -> Iterator[str]:
    for letter, each in (("A", a), ("B", b)):
        if each.metric is None and each.grids:
            yield f"{letter}: no trial has finished"
    if a.metric and b.metric and a.metric != b.metric:
        yield f"A is judged by {a.metric.label} and B by {b.metric.label}: their scores do not compare"
    if a.selection != b.selection:
        yield f"A selects on {a.selection} and B on {b.selection} scores"
