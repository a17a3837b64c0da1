"""What a sweep does after its grids: try learning rates beyond theirs, train fresh seeds until a question is decided.

Nothing is kept in memory that a sweep started again would lack: learning rates that were added stand in the record of
the grids, and contenders, fresh seeds and looks in a record of their own, before the first of these is trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from epsgrid import optimizers
from epsgrid.errors import SpecError
from epsgrid.grids._plan import Plan
from epsgrid.selection import deciding, extending
from epsgrid.selection.answers import NOT_ASKED, NOT_MEASURED, OPEN, Answers, answer
from epsgrid.selection.evidence import MAX_ADDED, counted, evidence
from epsgrid.selection.formatting import count, power, ranges
from epsgrid.selection.load import StoredExperiment, load_experiment
from epsgrid.stages.experiment import Asked, prepare_data, trial_of
from epsgrid.stages.running import HowToRun, SweepPlan, SweepSummary
from epsgrid.stages.sweep import GridChoice, Planned, plan_sweep, sweep
from epsgrid.store.records import AddedRate, ConfirmRecord, GridRecord
from epsgrid.store.state import FINISHED, trial_state

_FIRST_FRESH_SEED = 10_000


@dataclass(frozen=True)
class Further:
    """What a sweep does after its grids.

    It tries learning rates beyond those of the spec where the best is at an edge (`extend_rates`), and trains fresh
    seeds, `max_seeds` at most, `until_decided`; None means the usual number, or the one planned earlier.
    """

    extend_rates: bool = False
    until_decided: bool = False
    max_seeds: int | None = None


@dataclass(frozen=True)
class Preview:
    """What a sweep would train: its grids, the least and the most trainings, and what the difference is made of."""

    grids: SweepPlan
    at_least: int
    at_most: int
    parts: tuple[str, ...]


def sweep_further(asked: Asked, what: GridChoice | Planned, further: Further, how: HowToRun) -> SweepSummary:
    """Train grids and what follows them; a plan is followed by nothing. See `epsgrid.stages.sweep.sweep`.

    Raises SpecError where the spec leaves nothing to decide, or other looks were planned.
    """
    _check(asked, further)
    done: list[SweepSummary] = []

    def is_trained(part: GridChoice | Planned) -> bool:
        done.append(sweep(asked, part, how))
        return done[-1].complete

    if not is_trained(what):
        return _joined(done)
    while further.extend_rates and (added := _rates_beyond(asked, what)):
        epsilons = ["" if each.epsilon is None else f", ε {power(each.epsilon)}" for each in added]
        listed = ", ".join(f"lr {power(each.learning_rate)}{own}" for each, own in zip(added, epsilons, strict=True))
        how.say(f"The best learning rate is at an edge of those tried; trained next: {listed}.")
        grids = GridRecord.read(asked.folder.grid_json)
        replace(grids, added_rates=tuple(dict.fromkeys((*grids.added_rates, *added)))).write(asked.folder.grid_json)
        if not is_trained(what):
            return _joined(done)
    if not further.until_decided:
        return _joined(done)
    if unfinished := _unfinished(asked):
        missing = f"{count(unfinished, 'training')} of grids that were swept before have no result"
        why = f"{missing}; `epsgrid sweep --grid both --until-decided` trains them, too."
        return _joined(done, answers=answer(evidence(load_experiment(asked.folder))), why=why)
    record = _looks_planned(asked, further.max_seeds)
    record.write(asked.folder.confirm_json)
    while (following := _next_block(asked, record)) is not None:
        record = following
        seeds = count(len({cell.seed for cell in record.cells}), "fresh seed")
        how.say(f"Not decided yet; the next look is after {seeds} of {_contenders_text(asked, record)}.")
        if not is_trained(Planned(Plan({}, record.cells), record)):
            return _joined(done)
    stored = load_experiment(asked.folder)
    answers = answer(evidence(stored))
    if further.extend_rates and _is_any_open(answers) and _rates_beyond(asked, what):  # by fresh seeds another is best
        last = sweep_further(asked, what, further, how)
        return _joined([*done, last], answers=last.answers, why=last.why)
    return _joined(done, answers=answers, why=_why(stored, answers, further))


def preview(asked: Asked, what: GridChoice | Planned, further: Further, workers: int | None) -> Preview:
    """Return what `sweep_further` would train, without writing; see `plan_sweep`."""
    _check(asked, further)
    planned, seeds = plan_sweep(asked, what, workers), len(asked.spec.sweep.seeds)
    trials = planned.plan.trials
    settings = {(trial.grid_rate, trial.epsilon) for trial in trials}
    if grids := GridRecord.find(asked.folder.grid_json):
        settings |= {(trial.grid_rate, trial.epsilon) for trial in grids.cells}
    least = most = planned.to_run
    is_trained, rates = not planned.to_run, 0
    parts: list[str] = []
    if further.extend_rates:
        beyond = _rates_beyond(asked, what) if is_trained else ()
        if beyond or not is_trained:
            compared = len({trial.epsilon for trial in trials})
            rates = compared * (MAX_ADDED + (len(asked.spec.sweep.learning_rates) == 1))
        is_trained = is_trained and not beyond
        least, most = least + len(beyond) * seeds, most + rates * seeds
        parts.append(f"{rates * seeds} at learning rates beyond those of the spec")
    if further.until_decided:
        if is_trained and not _unfinished(asked):
            now, fresh = _fresh_trainings(asked, further)
        else:
            before = ConfirmRecord.find(asked.folder.confirm_json)  # which may not hold
            most_seeds = max(further.max_seeds or deciding.MAX_FRESH_SEEDS, len(before.seeds) if before else 0)
            now, fresh = 0, (len(settings) + rates) * most_seeds
        least, most = least + now, most + fresh
        parts.append(f"{fresh} on fresh seeds")
    return Preview(planned, least, most, tuple(parts))


def _fresh_trainings(asked: Asked, further: Further) -> tuple[int, int]:
    """Return how many trainings on fresh seeds follow trained grids at least and at most."""
    record = _looks_planned(asked, further.max_seeds)
    following = _next_block(asked, record)
    if following is None:
        return 0, 0
    block, begun = following.cells, len({cell.seed for cell in following.cells})
    now = sum(trial_state(asked.folder.trial(cell.id)) not in FINISHED for cell in block)
    contenders = sum(cell.seed == block[-1].seed for cell in block)
    return now, now + contenders * (len(record.seeds) - begun)


def _check(asked: Asked, further: Further) -> None:
    """Refuse what cannot be decided, before anything is trained."""
    if not further.until_decided:
        return
    sweep_spec, optimizer = asked.spec.sweep, asked.spec.optimizer.name
    if optimizers.load(optimizer).DEFAULT_EPSILON is None:
        raise SpecError(f"--until-decided: optimizer {optimizer!r} has no ε, so there is no question to decide")
    if len(sweep_spec.seeds) < 2:
        raise SpecError("--until-decided: sweep.seeds has one seed, and one seed has no spread; give two or more")
    if sweep_spec.prune is not None:
        raise SpecError("--until-decided: trials that sweep.prune ends early have no score to compare; leave it out")


def _stored(asked: Asked) -> StoredExperiment:
    """Return what is stored, with the margin that is asked for now."""
    stored = load_experiment(asked.folder)
    spec = {**stored.experiment.spec, "report": asked.spec.report.model_dump(mode="json")}
    return replace(stored, experiment=replace(stored.experiment, spec=spec))


def _rates_beyond(asked: Asked, what: GridChoice | Planned) -> tuple[AddedRate, ...]:
    names = plan_sweep(asked, what, None).plan.epsilons
    return extending.rates_beyond(evidence(_stored(asked)), [*names], asked.spec.sweep.learning_rates)


def _unfinished(asked: Asked) -> int:
    """Return the number of trials of all grids, swept now or before, that have no result."""
    cells = GridRecord.read(asked.folder.grid_json).cells
    return sum(trial_state(asked.folder.trial(cell.id)) not in FINISHED for cell in cells)


def _looks_planned(asked: Asked, max_seeds: int | None) -> ConfirmRecord:
    """Return the record of the looks that were planned for these grids; a new one where the grids have changed.

    What was trained on fresh seeds before is not trained again, for these count from the same number on. Raises
    SpecError where another number of fresh seeds was planned; to change it after a look would favour an answer.
    """
    grid, path = GridRecord.read(asked.folder.grid_json), asked.folder.confirm_json
    before = ConfirmRecord.find(path)
    if before is not None and before.looks and before.grid_checksum == grid.checksum:
        if max_seeds not in (None, before.looks[-1]):
            raise SpecError(
                f"--max-seeds {max_seeds}: {count(before.looks[-1], 'fresh seed')} were planned here before the first"
                " look at results, and to plan others after it makes wrong answers likelier; leave it out, or start"
                " another experiment with --out DIR"
            )
        return before
    own = {cell.seed for cell in grid.cells}
    fresh = (seed for seed in itertools.count(_FIRST_FRESH_SEED) if seed not in {*own, *asked.spec.sweep.seeds})
    looks = deciding.looks(max_seeds or deciding.MAX_FRESH_SEEDS)
    return ConfirmRecord(
        optimizer=asked.spec.optimizer.name,
        seeds=tuple(itertools.islice(fresh, looks[-1])),
        cells=(),
        grid_checksum=grid.checksum,
        looks=looks,
        level=deciding.level_of(tuple(len(own) + look for look in looks)),
    )


def _next_block(asked: Asked, record: ConfirmRecord) -> ConfirmRecord | None:
    """Return the record with the contenders' trials up to the next look; None where the sweep has ended."""
    begun = len({cell.seed for cell in record.cells})
    is_between = any(trial_state(asked.folder.trial(cell.id)) not in FINISHED for cell in record.cells)
    settings = [(cell.learning_rate, cell.epsilon, cell.seed, cell.grids, cell.grid_rate) for cell in record.cells]
    if not is_between:
        if begun == len(record.seeds):
            return None
        chosen = deciding.contenders(evidence(replace(_stored(asked), confirm=record)))
        if not chosen:
            return None
        look = next(look for look in record.looks if look > begun)
        settings += [
            (cell.trained_rate, cell.epsilon, seed, cell.grids, cell.learning_rate)
            for seed in record.seeds[begun:look]
            for cell in chosen
        ]
    data = prepare_data(asked.spec)
    return replace(record, cells=tuple(trial_of(asked.spec, data, *setting) for setting in settings))


def _why(stored: StoredExperiment, answers: Answers, further: Further) -> str:
    """Say why a sweep that was to decide has ended."""
    found = [answers.of(question).answer for question in deciding.QUESTIONS]
    if all(each in (NOT_ASKED, NOT_MEASURED) for each in found):
        return "There is nothing to decide."
    fresh = len({cell.seed for cell in counted(stored)})
    if not _is_any_open(answers):
        return f"Decided with {count(fresh, 'fresh seed')}." if fresh else "Decided with the seeds of the grids."
    if deciding.is_open(answers):
        return f"Not decided with {count(fresh, 'fresh seed')}, all that were planned."
    others = "even beyond the spec's, so set others" if further.extend_rates else "`epsgrid sweep --extend-rates`"
    return f"More seeds would not decide what is open; it takes other learning rates ({others})."


def _is_any_open(answers: Answers) -> bool:
    return any(answers.of(question).answer == OPEN for question in deciding.QUESTIONS)


def _joined(done: Sequence[SweepSummary], **more: Any) -> SweepSummary:
    """Return the summary of several rounds, of which all but the last were complete, with `more` fields."""
    return replace(
        done[-1],
        **more,
        states={trial: state for each in done for trial, state in each.states.items()},
        trained=sum(each.trained for each in done),
        seconds=sum(each.seconds for each in done),
    )


def _contenders_text(asked: Asked, record: ConfirmRecord) -> str:
    """Name the settings of a record."""
    epsilons = sorted({cell.epsilon or 0.0 for cell in GridRecord.read(asked.folder.grid_json).cells})
    by_rate: dict[float, set[float]] = {}
    for cell in record.cells:
        by_rate.setdefault(cell.grid_rate, set()).add(cell.epsilon or 0.0)
    return "; ".join(f"lr {power(rate)}, ε {ranges(sorted(own), epsilons)}" for rate, own in sorted(by_rate.items()))
