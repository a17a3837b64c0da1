"""Optuna: a Python module with `suggest(trial)`, and for a grid a sampler that visits all of it once."""

from __future__ import annotations

from epsgrid.exporters._space import Space

USAGE = "save it as a module and call suggest(trial) in your objective"

_RANGE = '''{comment}
import optuna


def suggest(trial: optuna.Trial) -> dict[str, float]:
    """Return the values to train a trial with."""
    return {{
{suggestions}    }}


# study = optuna.create_study(direction="minimize")  # a loss; "maximize" an accuracy
# study.optimize(lambda trial: train(suggest(trial)), n_trials=30)
'''

_GRID = '''{comment}
import optuna

SEARCH_SPACE = {{
{values}}}


def suggest(trial: optuna.Trial) -> dict[str, float]:
    """Return the values to train a trial with."""
    return {{name: trial.suggest_categorical(name, values) for name, values in SEARCH_SPACE.items()}}


def sampler(seed: int | None = None) -> optuna.samplers.GridSampler:
    """Return a sampler that visits every point of the grid once."""
    return optuna.samplers.GridSampler(SEARCH_SPACE, seed=seed)


# study = optuna.create_study(sampler=sampler(), direction="minimize")  # a loss; "maximize" an accuracy
# study.optimize(lambda trial: train(suggest(trial)))  # {points} trials
'''


def export(space: Space) -> str:
    """Return the module."""
    if space.kind == "grid":
        values = "".join(f'    "{each.name}": {list(each.values)!r},\n' for each in space.dimensions)
        points = len(space.epsilon.values) * len(space.learning_rate.values)
        return _GRID.format(comment=space.comment, values=values, points=points)
    suggestions = "".join(
        f'        "{each.name}": trial.suggest_float("{each.name}", {each.low!r}, {each.high!r}, log=True),\n'
        for each in space.dimensions
    )
    return _RANGE.format(comment=space.comment, suggestions=suggestions)
