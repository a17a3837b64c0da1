"""JSON, for a tool of one's own: `epsgrid export bounds --to json`.

version        1
kind           "epsgrid search space"
space          which of the two was asked for: "log-uniform" or "grid"
epsilon        name; low and high, the ends of the range; values, the grid
learning_rate  the same
for            the optimizer whose ε it is, where ε enters its update, and how it was converted, or null
measured       run, task, model, optimizer, data, date, command, commit, steps, batch size; low and high: magnitude
               and ε, not rounded, with the layers that set them; reliability: verdict and reasons, or null

The date is that of the measurement.
"""

from __future__ import annotations

from epsgrid.codec import to_document
from epsgrid.exporters._space import Space
from epsgrid.store.atomic import readable_json

_VERSION = 1

USAGE = "json.load it: epsilon and learning_rate have name, low, high and values"


def export(space: Space) -> str:
    """Return the document; it holds range and grid, whichever was asked for."""
    document = {
        "version": _VERSION,
        "kind": "epsgrid search space",
        "space": space.kind,
        "epsilon": to_document(space.epsilon),
        "learning_rate": to_document(space.learning_rate),
        "for": {
            "optimizer": space.target.name,
            "placement": space.target.placement.description,
            "converted": space.target.converted,
        },
        "measured": space.measured,
    }
    return readable_json(document) + "\n"
