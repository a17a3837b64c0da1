"""Tables for a paper, in LaTeX with booktabs, for a document to take in with its `input` command.

Every text is escaped, and the symbols that tables use are turned into LaTeX's own, so that the file needs no package
but booktabs, whichever engine reads it. Tables are `table*`, which in a document of two columns take both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.latex_columns import Layout, layout, pages
from epsgrid.report.text.render import stamp
from epsgrid.report.text.searches import best_table, costs_table, regrets_table

_HEAD = "% Written by epsgrid report. Needs \\usepackage{booktabs}."
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "ε": r"$\varepsilon$",
    "β": r"$\beta$",
    "κ": r"$\kappa$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "−": r"$-$",
    "–": "--",
    "…": r"\ldots{}",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "√": r"$\surd$",
    "²": r"$^2$",
    "’": "'",
}
_ROOT = re.compile("√v̂")
_EXPONENT = re.compile(r"(?<![\w.])(\d(?:\.\d+)?)e(-?\d+)(?![\w.])")


def latex_tables(comparison: Comparison) -> str:
    """Return the tables of a comparison that a paper would show: best settings, what each search loses, and costs."""
    tables = (best_table(comparison), regrets_table(comparison), costs_table(comparison))
    title = f"{comparison.optimizer} on {comparison.task}, {comparison.model}"
    notes = [stamp(comparison) or ""]
    return latex_file([table for table in tables if table is not None], title, notes)


def latex_file(tables: list[Table], title: str, notes: list[str]) -> str:
    """Return a file of tables, each captioned with the title, its own title and what to read below it.

    Args:
        tables: may be none; the file says so then.
        title: what all of them are about.
        notes: what stands in every caption, such as that data are a subset; empty ones are left out.
    """
    blocks = [block for table in tables for block in _tables(table, title, [note for note in notes if note])]
    return "\n\n".join([_HEAD, *(blocks or ["% There is nothing to show yet."])]) + "\n"


def latex_table(table: Table, how: Layout | None = None) -> str:
    """Return the rows of a table as a `tabular`, whose columns share the line if a layout says so."""
    numbers = [table.is_of_numbers(column) for column in range(len(table.columns))]
    if how is None or not how.shares:
        columns = "".join("r" if flush else "l" for flush in numbers)
        head, *body = [_line(map(escaped, texts)) for texts in (table.columns, *table.rows)]
    else:
        free = rf"\dimexpr\linewidth-{2 * len(how.shares)}\tabcolsep\relax"
        columns = "".join(rf"p{{{share:.3f}{free}}}" for share in how.shares)
        head, *body = [_broken_line(texts, numbers) for texts in (table.columns, *table.rows)]
    lines = [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *lines, r"\end{tabular}"])


def _tables(table: Table, title: str, notes: list[str]) -> Iterator[str]:
    """Yield a table for each page that it takes."""
    how, what = layout(table), f"{title}: {table.title[:1].lower()}{table.title[1:]}"
    for part, rows in enumerate(pages(table, how)):
        below = [table.note] if table.note and not part else []
        sentences = [f"{what}, continued" if part else what, *notes, *below]
        caption = " ".join(f"{escaped(text[:1].upper() + text[1:]).rstrip('.')}." for text in sentences)
        head = [r"\begin{table*}", r"\centering", rf"\caption{{{caption}}}"]
        look = rf"{how.size}\setlength{{\tabcolsep}}{{{how.gap_pt:g}pt}}"
        yield "\n".join([*head, look, latex_table(replace(table, rows=rows), how), r"\end{table*}"])


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _broken_line(texts: Sequence[str], numbers: Sequence[bool]) -> str:
    """Return a row whose cells may be broken, but not before a unit; its end is one that the last cell knows."""
    cells = []
    for text, flush in zip(texts, numbers, strict=True):
        tied = escaped(text).replace(r" $\pm$ ", r"~$\pm$~").replace(r" \%", r"~\%")
        cells.append(rf"\{'raggedleft' if flush else 'raggedright'} {tied}")
    return " & ".join(cells) + r" \tabularnewline"


def escaped(text: str) -> str:
    r"""Return a text as LaTeX prints it as it is.

    >>> print(escaped("93.1 ± 0.2 % at ε 1e-8"))
    93.1 $\pm$ 0.2 \% at $\varepsilon$ $10^{-8}$
    """
    marked = _EXPONENT.sub(_power, _ROOT.sub("\0v\1", " ".join(text.split())))
    return "".join(_letter(letter) for letter in marked).replace("\0v\1", r"$\sqrt{\hat v}$").replace("\2", "$")


def _power(found: re.Match[str]) -> str:
    """Return a number such as 1e-8 as a power of ten, in marks that the escaping leaves alone."""
    factor = "" if found[1] == "1" else f"{found[1]}\3"
    return f"\2{factor}10\4{found[2]}\5\2"


_MARKS = {"\3": r"\cdot ", "\4": "^{", "\5": "}"}


def _letter(letter: str) -> str:
    """Return one character; a letter that LaTeX may not know is spelled without its accents, or left out."""
    if letter in _MARKS:
        return _MARKS[letter]
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter.isascii():
        return letter
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if part.isascii())
    return "".join(_SPECIAL.get(part, part) for part in plain) or "?"
