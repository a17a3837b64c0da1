"""JSON, for a tool of one's own: `epsgrid export bounds --to json`.

version        1
kind           "epsgrid search space"
space          which of the two was asked for: "log-uniform" or "grid"
epsilon        name; low and high, the ends of the range; values, the grid
learning_rate  likewise
for            the optimizer whose ε it is, and where that enters its update; converted: how, or null
measured       run, task, model, optimizer, data, date, command, commit, steps, batch size; low and high: magnitude
               and ε, not rounded, with the layers that set them; reliability: verdict and reasons, or null

The date is that of the measurement.
"""

from __future__ import annotations

from epsgrid.exporters._space import Space
from epsgrid.store.atomic import readable_json

VERSION = 1


def export(space: Space) -> str:
    """Return the document; it holds range and grid, whichever was asked for."""
    document = {
        "version": VERSION,
        "kind": "epsgrid search space",
        "space": space.kind,
        "epsilon": {"name": space.epsilon.name, **space.epsilon.to_json()},
        "learning_rate": {"name": space.learning_rate.name, **space.learning_rate.to_json()},
        "for": {
            "optimizer": space.target.name,
            "placement": space.target.description,
            "converted": space.target.converted,
        },
        "measured": space.measured,
    }
    return readable_json(document) + "\n"


def usage(space: Space) -> str:
    """Return what to do with the file."""
    return "json.load it: epsilon and learning_rate have name, low, high and values"
