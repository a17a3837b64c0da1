"""Which settings make a trial what it is, and the id that stands for them.

Two trials with the same id would give the same numbers, so the second is not run. Left out of the identity is what
cannot change them: the experiment's name, where the data lie (`location_fields` of a task), how and where trials run,
how the bounds were measured, and which grids ask for the trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from epsgrid.spec.model import Spec
from epsgrid.spec.problems import shown

_ID_DIGITS = 16
ABSENT = object()
"""Stands for the value of a field that is not there."""


def identity(spec: Spec) -> dict[str, Any]:
    """Return what all trials of a spec have in common and what can change their numbers, as plain JSON values."""
    return {
        "task": spec.task.identity(),
        "model": spec.model.identity(),
        "optimizer": spec.optimizer.identity(),
        "training": spec.training.identity(),
    }


def trial_identity(
    spec: Spec, data_checksum: str, learning_rate: float, epsilon: float | None, seed: int
) -> dict[str, Any]:
    """Return everything that can change a trial's numbers, as plain JSON values.

    Args:
        spec: the experiment.
        data_checksum: sha256 of the prepared data.
        learning_rate: of this trial, > 0.
        epsilon: of this trial, in the optimizer's own ε; None for an optimizer without one.
        seed: of this trial.
    """
    return at_point(identity(spec), data_checksum, learning_rate, epsilon, seed)


def at_point(
    common: Mapping[str, Any], data_checksum: str, learning_rate: float, epsilon: float | None, seed: int
) -> dict[str, Any]:
    """Return the identity of one trial, given that of its spec; for many trials of one spec."""
    return {
        **common,
        "data": data_checksum,
        "learning_rate": float(learning_rate),
        "epsilon": None if epsilon is None else float(epsilon),
        "seed": seed,
    }


def trial_id(identity: Mapping[str, Any]) -> str:
    """Return the id of a trial: 16 hex digits, the same on every platform and for every order of keys.

    >>> trial_id({"seed": 0, "epsilon": 1e-8}) == trial_id({"epsilon": 1e-8, "seed": 0})
    True
    """
    # Floats are written with the fewest digits that read back as the same float, which is the same everywhere.
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:_ID_DIGITS]


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Name each field in which two identities differ; none where they are equal.

    >>> differences({"training": {"epochs": 2}}, {"training": {"epochs": 3}})
    ['training.epochs: 2 there, 3 asked']
    """
    return [f"{field}: {_told(old)} there, {_told(new)} asked" for field, old, new in changes(there, asked)]


def changes(there: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each field in which two nested mappings differ, with both values; `ABSENT` where one lacks it.

    >>> list(changes({"training": {"epochs": 2}, "seed": 0}, {"training": {"epochs": 3}, "seed": 0}))
    [('training.epochs', 2, 3)]
    """
    for key in dict.fromkeys((*there, *asked)):
        old, new = there.get(key, ABSENT), asked.get(key, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changes(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", old, new


def _told(value: Any) -> str:
    return "not" if value is ABSENT else shown(value)
