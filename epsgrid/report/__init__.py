"""FROM SELECTION TO PAGES: what `epsgrid.selection` read and chose, as rows first and as text and pictures after.

    trust      how far the bounds can be trusted            -> ReliabilityRow, KindRow
    compare    narrowed, conventional and default ε         -> Comparison
    observed   gradient magnitudes while a trial trained    -> Observed
    batches    other batch sizes, by each scaling rule      -> BatchesRow
    claims     the paper's claims, judged                   -> ClaimRow
    across     several experiments side by side             -> Across
    text/      all of it as tables, Markdown and LaTeX      -> Table
    figures/   each figure, from its numbers to the drawing -> SVG, and for a paper PNG and PDF
    pictures   which figures an experiment has
    html/      sections of text, tables and figures         -> one page
    files      the report's folder                          -> report.html, .md, .json, .csv and figures

Nothing here needs torch: a report can be made at any time, also while trials run, and equal records give equal bytes.
"""
