"""LaTeX tables: what is in them, and that no text can break them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from epsgrid.report.table import Table
from epsgrid.report.text.latex import latex_file, latex_tables
from tests.report.simulate import compare, simulate


def rows_of(text: str) -> list[list[str]]:
    """The cells of all rows, heads included."""
    lines = [line.removesuffix(r"\\").strip() for line in text.splitlines() if line.endswith(r"\\")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", line)] for line in lines]


def test_a_table_is_set_with_booktabs() -> None:
    table = Table("T", ("grid", "ε", "why"), (("a_b", "1e-8", "x"), ("c & d", "93.1 ± 0.2 %", "–")))
    text = latex_file([table], "All", ["A note"])
    assert re.findall(r"\\(begin|end)\{(table\*|tabular)\}", text) == [
        *(("begin", "table*"), ("begin", "tabular"), ("end", "tabular"), ("end", "table*"))
    ]
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\begin{tabular}{lrl}" in text and r"\caption{All: t. A note.}" in text
    assert rows_of(text) == [
        ["grid", r"$\varepsilon$", "why"],
        [r"a\_b", "1e-8", "x"],
        [r"c \& d", r"93.1 $\pm$ 0.2 \%", "--"],
    ]


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("100 % & 5 $ of #1_a {b} ~ ^", r"100 \% \& 5 \$ of \#1\_a \{b\} \textasciitilde{} \^{}"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("√v̂ · ε", r"$\sqrt{\hat v}$ $\cdot$ $\varepsilon$"),
        ("−0.12 to +0.3 – done", r"$-$0.12 to +0.3 -- done"),
        ("naïve 模型", "naive ??"),
    ],
)
def test_every_text_prints_as_it_is(text: str, latex: str) -> None:
    found = latex_file([Table("T", ("a", "b"), ((text, "1"),))], "T", [f"Note: {text}"])
    assert found.isascii()
    assert rows_of(found)[1][0] == latex
    assert f"Note: {latex}.}}" in found


def test_the_file_holds_the_tables_of_a_paper(tmp_path: Path) -> None:
    text = latex_tables(compare(simulate(tmp_path, data="a subset of digits", optimizer="my_adam")))
    assert text.isascii()
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == 4
    assert r"My\_adam on digits, mlp: best setting of each grid. SUBSET DATA: the scores below do not" in text
    scores = [r"90.04 $\pm$ 0.02 \%", r"89.04 $\pm$ 0.05 \%", r"88.91 to 89.17 \%"]
    assert ["narrowed", "1e-3", "1e-3", *scores, "3"] in rows_of(text)
