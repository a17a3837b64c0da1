"""ONE FILE PER TOOL: measured bounds of ε as code or configuration of another search tool.

A file `exporters/NAME.py` is used by `epsgrid export bounds --to NAME`; it defines

    USAGE: str                          one line: what to do with the file
    def export(space: Space) -> str     the whole text of the file that the tool reads, `Space.header` on top

A `Space` (`epsgrid.exporters._space`) holds finite positive numbers and names that no language can misread, so that a
file only has to write numbers so that its tool reads them as numbers. Files do not import their tools: the text is for
another environment.
"""

from __future__ import annotations

from typing import Protocol

from epsgrid import plugins
from epsgrid.exporters._space import Space


class ExporterPlugin(Protocol):
    """What a file of this folder provides."""

    USAGE: str

    def export(self, space: Space) -> str:
        """Return the text of the file for the tool; equal spaces give equal texts."""
        ...


def load(name: str) -> ExporterPlugin:
    """Return the exporter called `name`."""
    plugin: ExporterPlugin = plugins.load("exporters", name)
    return plugin
