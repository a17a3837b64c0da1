"""ONE FILE PER TOOL: measured bounds of ε as code or configuration of another search tool.

A file `exporters/NAME.py` is used by `epsgrid export bounds --to NAME`; it defines

    USAGE: str                          one line: what to do with the file
    def export(space: Space) -> str     the whole text of the file that the tool reads, `Space.comment` on top

A `Space` (`epsgrid.exporters._space`) holds finite positive numbers and names that no language can misread. No file
imports its tool: the text is for another environment.
"""
