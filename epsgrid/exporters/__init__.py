"""ONE FILE PER TOOL: measured bounds of ε handed over to another search tool, as code or configuration for it.

A file `exporters/NAME.py` is what `epsgrid export bounds --to NAME` calls; it defines

    def export(space: Space) -> str     the whole text of the file that the tool reads, `Space.header` on top
    def usage(space: Space) -> str      what to do with that file, in one line

A `Space` (`epsgrid.exporters._space`) holds finite positive numbers and names that are free of anything a language
could misread, so that a file only has to write numbers so that its tool reads them as numbers. Files do not import
their tools: what they write is for another environment.
"""

from __future__ import annotations

from typing import Protocol

from epsgrid import plugins
from epsgrid.exporters._space import Space


class ExporterPlugin(Protocol):
    """What a file of this folder provides; see the module's own words."""

    def export(self, space: Space) -> str:
        """Return the text of the file for the tool; equal spaces give equal texts."""
        ...

    def usage(self, space: Space) -> str:
        """Return what to do with the file, in one line."""
        ...


def load(name: str) -> ExporterPlugin:
    """Return the exporter called `name`."""
    plugin: ExporterPlugin = plugins.load("exporters", name)
    return plugin
