"""LaTeX tables: what is in them, and that no text can break them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from epsgrid.report.compare import compare
from epsgrid.report.table import Table
from epsgrid.report.text.latex import escaped, latex_file, latex_table, latex_tables
from tests.report.simulate import simulate


def test_a_table_is_set_with_booktabs() -> None:
    table = Table("T", ("grid", "ε"), (("a_b", "1e-8"), ("c & d", "93.1 ± 0.2 %")))
    assert latex_table(table) == (
        "\\begin{tabular}{lr}\n\\toprule\ngrid & $\\varepsilon$ \\\\\n\\midrule\na\\_b & $10^{-8}$ \\\\\n"
        "c \\& d & 93.1 $\\pm$ 0.2 \\% \\\\\n\\bottomrule\n\\end{tabular}"
    )


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("100 % & 5 $ of #1_a {b} ~ ^", r"100 \% \& 5 \$ of \#1\_a \{b\} \textasciitilde{} \textasciicircum{}"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("3e-4 and 1e2, not 0x1e-8 or e1e5x", r"$3\cdot 10^{-4}$ and $10^{2}$, not 0x1e-8 or e1e5x"),
        ("√v̂ ≤ ε", r"$\sqrt{\hat v}$ $\leq$ $\varepsilon$"),
        ("−0.12 to +0.3 – done", r"$-$0.12 to +0.3 -- done"),
        ("naïve 模型", "naive ??"),
        ("two\nlines", "two lines"),
    ],
)
def test_every_text_prints_as_it_is(text: str, latex: str) -> None:
    assert escaped(text) == latex


def test_the_file_holds_what_a_paper_shows(tmp_path: Path) -> None:
    text = latex_tables(compare(simulate(tmp_path, data="a subset of digits", optimizer="my_adam")))
    assert text.isascii()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert r"My\_adam on digits, mlp: best setting of each grid. SUBSET DATA: the scores below do not" in text
    assert (
        r"narrowed & $10^{-3}$ & $10^{-3}$ & 90.04 $\pm$ 0.02 \% & 89.04 $\pm$ 0.05 \% & 88.91 to 89.17 \% & 3 \\"
        in text
    )


def test_every_row_has_as_many_cells_as_columns(tmp_path: Path) -> None:
    text = latex_tables(compare(simulate(tmp_path)))
    for columns, body in re.findall(r"\\begin\{tabular\}\{(l+r*)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows and all(len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1 for row in rows)


def test_nothing_to_show_says_so(tmp_path: Path) -> None:
    assert "% There is nothing to show yet." in latex_file([], "T", [])
    assert "nothing to show" in latex_tables(compare(simulate(tmp_path, sweep=False, probe=False)))
