"""LaTeX tables: what is in them, and that no text can break them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from epsgrid.report.text.latex_columns import layout

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
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == 3
    assert r"My\_adam on digits, mlp: best setting of each grid. SUBSET DATA: the scores below do not" in text
    scores = (r"90.04~$\pm$~0.02~\%", r"89.04~$\pm$~0.05~\%", r"88.91 to 89.17~\%")
    numbers = " & ".join(rf"\raggedleft {cell}" for cell in ("$10^{-3}$", "$10^{-3}$", *scores, "3"))
    assert rf"\raggedright narrowed & {numbers} \tabularnewline" in text


def test_every_row_has_as_many_cells_as_columns(tmp_path: Path) -> None:
    text = latex_tables(compare(simulate(tmp_path)))
    tables = re.findall(r"\\begin\{tabular\}\{(.*?)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tables) == 3
    for columns, body in tables:
        rows = [line for line in body.splitlines() if "&" in line]
        assert len(rows) > 1
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {(columns.count("p{") or len(columns)) - 1}


def test_a_column_of_words_is_flush_left_wherever_it_stands() -> None:
    table = Table("T", ("search", "regret", "meaning"), (("narrowed", "0.1 %", "no clear difference"),))
    assert latex_table(table).startswith(r"\begin{tabular}{lrl}")


def test_a_wide_table_shares_the_line_and_no_word_or_score_sticks_out() -> None:
    words = "estimate: middle, median, layers, balanced"
    rows = ((words, "39.08 ± 0.23 %", "36.96 to 41.16 %", "the best of all", "1e-3", "3"),) * 2
    table = Table("T", ("search", "test", "95 % interval", "meaning", "learning rate", "seeds"), rows)
    how = layout(table)
    assert how.size == r"\scriptsize" and sum(how.shares) == pytest.approx(1)
    room = 345 - 2 * how.gap_pt * len(how.shares)
    unbroken = ("balanced", "39.08 ± 0.23 %", "36.96", "meaning", "learning", "seeds")
    for share, longest in zip(how.shares, unbroken, strict=True):
        assert share * room >= 4.0 * len(longest)
    text = latex_table(table, how)
    assert text.count(r"\tabularnewline") == 3 and r"\\" not in text
    assert r"39.08~$\pm$~0.23~\%" in text


@pytest.mark.parametrize(("letters", "size"), [(20, r"\small"), (64, r"\small"), (65, r"\footnotesize")])
def test_a_table_that_fits_is_set_as_large_as_it_fits(letters: int, size: str) -> None:
    how = layout(Table("T", ("a", "b"), (("x" * letters, "12345"),)))
    assert (how.size, how.shares) == (size, ())


def test_a_long_table_takes_several_pages_and_loses_no_row() -> None:
    rows = tuple((f"run {index}", str(index)) for index in range(120))
    text = latex_file([Table("Runs", ("run", "number"), rows, "a note")], "All", [])
    assert text.count(r"\begin{table*}") == text.count(r"\toprule") == 3
    assert text.count("continued") == 2 and text.count("A note.") == 1
    assert re.findall(r"^run (\d+) &", text, re.MULTILINE) == [str(index) for index in range(120)]


def test_nothing_to_show_says_so(tmp_path: Path) -> None:
    assert "% There is nothing to show yet." in latex_file([], "T", [])
    assert "nothing to show" in latex_tables(compare(simulate(tmp_path, sweep=False, probe=False)))
