"""FROM RECORDS TO PAGES: what an experiment's stored records say, as plain rows first and as text and pictures after.

    load       read an experiment's folder                  -> StoredExperiment
    cells      group trials by learning rate and ε          -> Cell
    verdict    does the best ε lie inside the bounds?       -> Verdict
    trust      how far the bounds can be trusted            -> ReliabilityRow, KindRow
    compare    narrowed, conventional and default ε         -> Comparison
    claims     what that says about the paper's claims      -> ClaimRow
    observed   what was seen of a trial while it trained    -> Observed
    batches    other batch sizes, by each scaling rule      -> BatchesRow
    across     several experiments side by side
    diff       what differs between two experiments
    text/      all of it as tables, Markdown and LaTeX      -> Table
    figures/   each figure, from its numbers to the drawing -> SVG, and for a paper PNG and PDF
    pictures   which figures an experiment has
    html/      sections of text, tables and figures         -> one page
    files      the report's folder                          -> report.html, .md, .json, .csv and figures

Nothing here trains, measures or needs torch: a report can be made again at any time, also while trials are running,
and equal records give equal bytes.
"""

from epsgrid.report.compare import compare
from epsgrid.report.files import write_report
from epsgrid.report.load import StoredExperiment, load_experiment
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.render import headline, stamp, tables

__all__ = [
    "Comparison",
    "StoredExperiment",
    "Table",
    "compare",
    "headline",
    "load_experiment",
    "stamp",
    "tables",
    "write_report",
]
