"""What a reader must know beside the numbers: what is missing, stale, at an edge, or not comparable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epsgrid.report.cells import Cell, of_grid
from epsgrid.report.load import StoredExperiment
from epsgrid.report.rows import CONVENTIONAL, NARROWED, TOLERANCE, BestRow, TrialNote
from epsgrid.report.words import count, power, powers


def obstacle(stored: StoredExperiment, cells: Sequence[Cell]) -> str | None:
    """Say why it cannot be asked whether the best ε lies inside the bounds; None where it can."""
    if cells and all(cell.epsilon is None for cell in cells):
        return f"{stored.experiment.spec['optimizer']['name']} has no ε, so there is nothing to bound"
    if stored.bounds is None:
        return "no bounds were measured"
    if stored.grid is None:
        return "no grid was swept"
    if is_stale(stored):
        return "the bounds were measured again, and differ from those the narrowed grid was made from"
    if not stored.results:
        return "no trial has finished"
    return None


def is_stale(stored: StoredExperiment) -> bool:
    """Whether the narrowed grid was made from other bounds than those stored now, and is another for it."""
    if stored.grid is None or stored.probe is None or stored.bounds is None or NARROWED not in stored.grid.epsilons:
        return False
    if stored.grid.bounds_checksum == stored.probe.checksum:
        return False
    return stored.grid.epsilons[NARROWED] != stored.bounds.decades


def loose_ends(cells: Sequence[Cell]) -> tuple[TrialNote, ...]:
    """List the trials without a score, cell by cell."""
    return tuple(
        TrialNote(trial.id, cell.words, trial.seed, trial.state, trial.error)
        for cell in cells
        for trial in cell.trials
        if trial.state != "done"
    )


def notes(stored: StoredExperiment, cells: Sequence[Cell], rows: Sequence[BestRow]) -> tuple[str, ...]:
    """Return what a reader must know, a sentence each, without full stop."""
    candidates = (
        *stored.missing,
        _selection_note(stored),
        _stale_note(stored),
        _reach_note(stored),
        _rates_note(cells),
        *(_edge_note(row, cells) for row in rows if row.is_grid),
        *_incomplete_notes(rows),
        _pruned_note(cells),
        _seeds_note(cells),
        *_svag_notes(stored),
        *_mixture_notes(stored),
        _strays_note(stored),
    )
    return tuple(dict.fromkeys(note for note in candidates if note))


def _selection_note(stored: StoredExperiment) -> str | None:
    if stored.experiment.spec["training"]["selection"] != "test":
        return None
    return (
        "epochs and cells were selected on the test split, as in the published protocol: the scores shown are the best "
        "of many looks at it and promise more than new data will give"
    )


def _stale_note(stored: StoredExperiment) -> str | None:
    if not is_stale(stored):
        return None
    return "the narrowed grid was made from earlier bounds; `epsgrid sweep` makes it anew and trains what is missing"


def _reach_note(stored: StoredExperiment) -> str | None:
    """Say where the narrowed grid goes beyond the conventional one."""
    grids = stored.grid.epsilons if stored.grid else {}
    narrowed, conventional = grids.get(NARROWED), grids.get(CONVENTIONAL)
    if not narrowed or not conventional:
        return None
    low, high = min(conventional) * (1 - TOLERANCE), max(conventional) * (1 + TOLERANCE)
    beyond = [epsilon for epsilon in narrowed if not low <= epsilon <= high]
    if not beyond:
        return None
    reach = f"{power(min(conventional))} to {power(max(conventional))}"
    return f"the narrowed grid reaches outside the conventional range, {reach}, with ε {powers(beyond)}"


def _rates_note(cells: Sequence[Cell]) -> str | None:
    if not any(cell.is_rescaled for cell in cells):
        return None
    return (
        "learning rates are effective ones: each trial was trained at lr · (m50 + m(ε)) / m50, which keeps the step of "
        "the entry of median magnitude m50 whatever the ε; tables and figures go by the grid's own lr"
    )


def _edge_note(row: BestRow, cells: Sequence[Cell]) -> str | None:
    """Say where the best learning rate is the smallest or largest tried: a better one may lie beyond."""
    rates = sorted({cell.learning_rate for cell in of_grid(row.name, cells)})
    if row.choice.cell is None or row.choice.cell.learning_rate not in (rates[0], rates[-1]):
        return None
    if len(rates) == 1:
        return f"only one learning rate was tried, {power(rates[0])}"
    which = "smallest" if row.choice.cell.learning_rate == rates[0] else "largest"
    return f"the best learning rate of the {row.name} grid is the {which} tried, so a better one may lie beyond it"


def _incomplete_notes(rows: Sequence[BestRow]) -> list[str]:
    return [
        f"{row.choice.incomplete} of {count(row.choice.candidates, 'cell')} of the {row.name} grid lack trials and "
        "could not be chosen"
        for row in rows
        if row.choice.incomplete and row.is_grid
    ]


def _pruned_note(cells: Sequence[Cell]) -> str | None:
    pruned = len({trial.id for cell in cells for trial in cell.trials if trial.state == "pruned"})
    if not pruned:
        return None
    return (
        f"{count(pruned, 'trial')} pruned: cells that lack them could not be chosen, so the best is best among the "
        "others only and the comparison is not exact; `epsgrid retry pruned` trains them to their end"
    )


def _seeds_note(cells: Sequence[Cell]) -> str | None:
    if not cells or max(len(cell.trials) for cell in cells) > 1:
        return None
    return "one seed only: nothing here says how far another seed would be off"


def _mixture_notes(stored: StoredExperiment) -> list[str]:
    """Say where trials ran under conditions that differ."""
    notes = []
    if len(devices := _devices(stored)) > 1:
        notes.append(f"trials ran on different devices ({', '.join(devices)}), so their seconds do not compare")
    for what, values in (("epsgrid", _packages(stored, "epsgrid")), ("torch", _packages(stored, "torch"))):
        if len(values) > 1:
            notes.append(f"trials were trained with different versions of {what}: {', '.join(values)}")
    return notes


def _svag_notes(stored: StoredExperiment) -> list[str]:
    """Say that trials took finer steps, and what in their model that does not reach, as they found it themselves."""
    svag = stored.experiment.spec["training"].get("svag")
    if svag is None or svag["l"] == 1:
        return []
    factor = svag["l"]
    told = {caveat for result in stored.results.values() for caveat in result.provenance.get("svag", ())}
    return [
        f"trained by SVAG with l = {factor}: an epoch has {factor**2} times the steps, taken with the learning rate"
        f" over {factor}; learning rates and ε are those of the spec",
        *sorted(told),
    ]


def _strays_note(stored: StoredExperiment) -> str | None:
    if not stored.strays:
        return None
    return f"{count(len(stored.strays), 'stored trial')} belong to no grid of this sweep and are left out"


def provenance(stored: StoredExperiment) -> tuple[tuple[str, str], ...]:
    """Return where the numbers come from, as (what, value): the experiment, its probe, and its trials together."""
    experiment = stored.experiment
    rows = [
        ("experiment created", experiment.created),
        ("created by epsgrid", experiment.epsgrid_version),
        ("data checksum", experiment.data_checksum),
        *((f"probe {what}", _flat(value)) for what, value in (stored.probe.provenance if stored.probe else {}).items()),
        ("seeds", ", ".join(map(str, sorted({cell.seed for cell in stored.grid.cells} if stored.grid else ())))),
        ("trials' command", _first(_distinct(stored, "command"))),
        ("trials on", ", ".join(_devices(stored))),
        ("trials' hosts", ", ".join(_distinct(stored, "host"))),
        ("trials' processors", ", ".join(_distinct(stored, "cpu"))),
        ("trials' torch", ", ".join(_packages(stored, "torch"))),
        ("trials' git", "; ".join(_distinct(stored, "git"))),
    ]
    return tuple((what, value) for what, value in rows if value)


def scoring(stored: StoredExperiment) -> tuple[tuple[str, str], ...]:
    """Return how scores were computed, as (what, how): the signatures that the trials keep; all of them where mixed."""
    found: dict[str, set[str]] = {}
    for result in stored.results.values():
        for what, how in (result.provenance.get("scoring") or {}).items():
            found.setdefault(what, set()).add(_flat(how))
    return tuple((what, " or ".join(sorted(hows))) for what, hows in sorted(found.items()))


def _devices(stored: StoredExperiment) -> list[str]:
    return sorted({result.device for result in stored.results.values()})


def _packages(stored: StoredExperiment, package: str) -> list[str]:
    found = (result.provenance.get("packages") or {} for result in stored.results.values())
    return sorted({str(packages[package]) for packages in found if packages.get(package)})


def _distinct(stored: StoredExperiment, key: str) -> list[str]:
    return sorted({text for result in stored.results.values() if (text := _flat(result.provenance.get(key)))})


def _first(texts: Sequence[str]) -> str:
    """Write the first of several texts, and how many more there are."""
    return texts[0] + (f" and {len(texts) - 1} more" if len(texts) > 1 else "") if texts else ""


def _flat(value: Any) -> str:
    """Write a provenance value in one line; what is None is left out."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items() if item is not None)
    return "" if value is None else str(value)
