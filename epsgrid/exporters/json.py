"""JSON, for a tool of one's own: range and grid of ε and learning rate, and where they come from."""

from __future__ import annotations

from epsgrid.codec import to_document
from epsgrid.exporters._space import Space
from epsgrid.store.atomic import readable_json

USAGE = "json.load it: epsilon and learning_rate have name, low, high and values"


def export(space: Space) -> str:
    """Return the document; it holds range and grid, whichever was asked for."""
    document = {
        "version": 1,
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
