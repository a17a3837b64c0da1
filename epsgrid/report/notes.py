"""What a reader must know beside the numbers: what is missing, stale, at an edge, or not comparable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from epsgrid.grids import CONVENTIONAL, NARROWED
from epsgrid.report.rows import TrialNote
from epsgrid.selection.cells import TOLERANCE, Cell
from epsgrid.selection.formatting import bounds_line, count, power, powers
from epsgrid.selection.load import StoredExperiment, code_changes, code_now


def unfinished(cells: Sequence[Cell]) -> tuple[TrialNote, ...]:
    """Return the trials without a score, cell by cell."""
    return tuple(
        TrialNote(trial.id, cell.label, trial.seed, trial.state, trial.error)
        for cell in cells
        for trial in cell.trials
        if trial.state != "done"
    )


def notes(stored: StoredExperiment, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return what a reader must know, a sentence each, without full stop."""
    grids, machines = _about_the_grids(stored, cells), _about_the_machines(stored)
    return tuple(dict.fromkeys([*stored.missing, *grids, *_svag_notes(stored), *machines]))


def _about_the_grids(stored: StoredExperiment, cells: Sequence[Cell]) -> Iterator[str]:
    if stored.experiment.spec["training"]["selection"] == "test":
        yield (
            "epochs and cells were selected on the test split, as in the published protocol: the scores shown are the "
            "best of many looks at it and promise more than new data will give"
        )
    if any(result.state == "done" and result.test is None for result in stored.results.values()):
        yield (
            "the training gives no test score: settings are compared by the validation scores by which they were "
            "chosen, and what is called test repeats these"
        )
    if stored.is_listed:
        yield "the narrowed grid is your list, sweep.epsilons in the spec; the measured bounds had no part in it"
    if stored.measured is not None and (line := bounds_line(stored.measured)):
        yield line if stored.is_listed else f"{line}; the narrowed grid is made from the {stored.bounds_choice} ones"
    grids = stored.grid.epsilons if stored.grid else {}
    narrowed, conventional = grids.get(NARROWED), grids.get(CONVENTIONAL)
    if stored.grid and stored.probe and stored.bounds and not stored.is_listed:
        is_older = stored.grid.bounds_checksum != stored.probe.checksum
        if is_older and narrowed is not None and narrowed != stored.bounds.decades:
            yield (
                "the narrowed grid was made from earlier bounds; `epsgrid sweep` makes it again and trains what is "
                "missing"
            )
    if narrowed and conventional:
        low, high = min(conventional), max(conventional)
        beyond = [epsilon for epsilon in narrowed if not low * (1 - TOLERANCE) <= epsilon <= high * (1 + TOLERANCE)]
        if beyond:
            reach = f"{power(low)} to {power(high)}"
            yield f"the narrowed grid reaches outside the conventional range, {reach}, with ε {powers(beyond)}"
    if any(cell.is_rescaled for cell in cells):
        yield (
            "learning rates are effective ones: at large ε each trial was trained at a higher one, so that steps do "
            "as much as at ε → 0; tables and figures go by the grid's own lr"
        )
    if pruned := len({trial.id for cell in cells for trial in cell.trials if trial.state == "pruned"}):
        yield (
            f"{count(pruned, 'trial')} pruned: settings that lack them are not compared; `epsgrid retry pruned` trains "
            "them to their end"
        )


def _svag_notes(stored: StoredExperiment) -> list[str]:
    """Return that trials took finer steps, and the caveats about their model that they found themselves."""
    svag = stored.experiment.spec["training"].get("svag")
    if svag is None or svag["l"] == 1:
        return []
    factor = svag["l"]
    caveats = {caveat for result in stored.results.values() for caveat in result.provenance.get("svag", ())}
    return [
        f"trained by SVAG with l = {factor}: an epoch has {factor**2} times the steps, taken with the learning rate"
        f" over {factor}; learning rates and ε are those of the spec",
        *sorted(caveats),
    ]


def _about_the_machines(stored: StoredExperiment) -> Iterator[str]:
    if len(devices := _devices(stored)) > 1:
        yield f"trials ran on different devices ({', '.join(devices)}), so their seconds do not compare"
    for package in ("epsgrid", "torch"):
        if len(versions := _versions(stored, package)) > 1:
            yield f"trials were trained with different versions of {package}: {', '.join(versions)}"
    if stored.orphaned:
        yield f"left out: {count(len(stored.orphaned), 'stored trial')} outside the grids of this sweep"
    yield from code_changes(stored.folder, code_now(stored.folder, stored.experiment))


def provenance(stored: StoredExperiment) -> tuple[tuple[str, str], ...]:
    """Return where the numbers come from, as (what, value): the experiment, its probe, and its trials together."""
    experiment = stored.experiment
    command, *other_commands = _distinct(stored, "command") or [""]
    rows = [
        ("experiment created", experiment.created),
        ("created by epsgrid", experiment.epsgrid_version),
        ("data checksum", experiment.data_checksum),
        *((f"probe {what}", _flat(value)) for what, value in (stored.probe.provenance if stored.probe else {}).items()),
        ("seeds", ", ".join(map(str, sorted({cell.seed for cell in stored.grid.cells} if stored.grid else ())))),
        ("trials' command", f"{command} and {len(other_commands)} more" if other_commands else command),
        ("trials on", ", ".join(_devices(stored))),
        ("trials' hosts", ", ".join(_distinct(stored, "host"))),
        ("trials' processors", ", ".join(_distinct(stored, "cpu"))),
        ("trials' torch", ", ".join(_versions(stored, "torch"))),
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


def _versions(stored: StoredExperiment, package: str) -> list[str]:
    found = (result.provenance.get("packages") or {} for result in stored.results.values())
    return sorted({str(packages[package]) for packages in found if packages.get(package)})


def _distinct(stored: StoredExperiment, key: str) -> list[str]:
    return sorted({text for result in stored.results.values() if (text := _flat(result.provenance.get(key)))})


def _flat(value: Any) -> str:
    """Write a provenance value in one line; entries that are None are left out."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items() if item is not None)
    return "" if value is None else str(value)
