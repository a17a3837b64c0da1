"""Optuna: a Python module with `suggest(trial)`, and for a grid a sampler that visits all of it once."""

from __future__ import annotations

from epsgrid.exporters._space import Space

USAGE = "save it as a module and call suggest(trial) in your objective"

_MODULE = '''{comment}
import optuna
{before}

def suggest(trial: optuna.Trial) -> dict[str, float]:
    """Return the values to train a trial with."""
    return {{{suggestions}}}
{after}'''

_SAMPLER = '''

def sampler(seed: int | None = None) -> optuna.samplers.GridSampler:
    """Return a sampler that visits every point of the grid once."""
    return optuna.samplers.GridSampler(SEARCH_SPACE, seed=seed)
'''


def export(space: Space) -> str:
    """Return the module."""
    if space.kind == "grid":
        values = {each.name: list(each.values) for each in space.dimensions}
        before = f"\nSEARCH_SPACE = {values!r}\n"
        suggestions, after = (
            "name: trial.suggest_categorical(name, values) for name, values in SEARCH_SPACE.items()",
            _SAMPLER,
        )
    else:
        before = after = ""
        suggestions = ", ".join(
            f'"{each.name}": trial.suggest_float("{each.name}", {each.low!r}, {each.high!r}, log=True)'
            for each in space.dimensions
        )
    return _MODULE.format(comment=space.comment, before=before, suggestions=suggestions, after=after)
