r"""Tables for a paper, in LaTeX with booktabs, for a document to take in with its `\input` command.

The file holds ASCII alone and needs no package but booktabs. Tables are `table*`, which take both of two columns.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from tabulate import LATEX_ESCAPE_RULES, tabulate

from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.render import stamp
from epsgrid.report.text.searches import best_table, costs_table, epsilons_table, rules_table

_HEAD = "% Written by epsgrid report. Needs \\usepackage{booktabs}."
_BEGIN = "\\begin{table*}\n\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}"
_SYMBOLS = {
    "√v̂": r"$\sqrt{\hat v}$",
    "ε": r"$\varepsilon$",
    "β": r"$\beta$",
    "κ": r"$\kappa$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "−": "$-$",
    "–": "--",
    "√": r"$\surd$",
    "²": "$^2$",
    "’": "'",
}


def latex_tables(comparison: Comparison) -> str:
    """Return the tables of a comparison that a paper would show: ε, best settings, rules and costs."""
    tables = (epsilons_table(comparison), best_table(comparison), rules_table(comparison), costs_table(comparison))
    title = f"{comparison.optimizer} on {comparison.task}, {comparison.model}"
    return latex_file([table for table in tables if table is not None], title, [stamp(comparison) or ""])


def latex_file(tables: Sequence[Table], title: str, notes: Sequence[str]) -> str:
    """Return a file of tables, each captioned with the title, its own title and what to read below it.

    Args:
        tables: without any the file says so.
        title: the subject of all of them.
        notes: sentences for every caption; empty ones are left out.
    """
    blocks = [_HEAD] if tables else [_HEAD, "% There is nothing to show yet."]
    for table in tables:
        sentences = [f"{title}: {table.title[:1].lower()}{table.title[1:]}", *notes, table.note or ""]
        caption = " ".join(f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in sentences if text)
        escaped = "".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in caption)
        rows = tabulate(table.rows, table.columns, "latex_booktabs", disable_numparse=True, colalign=table.alignment)
        blocks.append(f"{_BEGIN}\n\\caption{{{escaped}}}\n{rows}\n\\end{{table*}}")
    return _ascii("\n\n".join(blocks)) + "\n"


def _ascii(text: str) -> str:
    """Replace symbols by LaTeX's own; other letters lose their accents, or become a question mark."""
    for symbol, latex in _SYMBOLS.items():
        text = text.replace(symbol, latex)
    letters = ("".join(part for part in unicodedata.normalize("NFKD", letter) if part.isascii()) for letter in text)
    return "".join(plain or "?" for plain in letters)
