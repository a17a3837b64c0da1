"""One page of HTML that holds everything: no file beside it, no request, no script.

The page is made from sections of text, tables and figures, whatever they are about, so that the report of one
experiment and that of several look alike. Everything is escaped by Jinja2. A content security policy allows the
page's one style sheet, by its checksum, and the pixels inside figures, and forbids all else: even a text that got
through the escaping could not run or fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from epsgrid.report.html.inline import Inlined, inlined, variable
from epsgrid.report.html.shades import on_dark
from epsgrid.report.rendered import RenderedFigure
from epsgrid.report.table import Table

if TYPE_CHECKING:
    from jinja2 import Environment

LONG_TABLE = 30
"""Rows from which on a table is folded away until it is asked for."""
_OWN_NAMES = ("main", "contents", "answer", "notes")
"""Names of the page's own elements."""
_TONES = {"yes": "good", "no": "bad"}
_CODE = re.compile(r"`([^`]+)`")
_POWER = re.compile(r"(?<![\w.-])[-+]?\d[\d.]*e-\d+(?![\w-])")
_SHORT = 36
"""Characters up to which a text in a table stays in one line."""


@dataclass(frozen=True)
class Section:
    """A part of the page, with a heading of its own.

    Attributes:
        title: the heading; an entry of the table of contents.
        tables: below the text; one of `LONG_TABLE` rows or more is folded. One that has the section's title does not
            repeat it.
        figures: below the tables.
        text: paragraphs; what stands in `backticks` is set as code.
        links: other pages, as (name, address relative to this one).
        is_open: whether long tables stand open, too: where they are what the page is about.
    """

    title: str
    tables: tuple[Table, ...] = ()
    figures: tuple[RenderedFigure, ...] = ()
    text: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    is_open: bool = False


@dataclass(frozen=True)
class _Figure:
    """A figure as the template takes it."""

    anchor: str
    heading: str
    caption: str
    piece: Inlined

    @property
    def svg(self) -> Markup:
        """The drawing; its texts were escaped when it was written."""
        return Markup(self.piece.markup)


@dataclass(frozen=True)
class _Part:
    """A section as the template takes it."""

    anchor: str
    section: Section
    figures: tuple[_Figure, ...]


def html_page(
    *,
    title: str,
    headline: str,
    answer: str | None,
    stamp: str | None,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    notes: Sequence[str] = (),
) -> str:
    """Return a page as one text: a card with the answer on top, then the sections.

    Equal arguments give equal text.

    Args:
        title: what the page is about; also the window's title.
        headline: the answer in a sentence.
        answer: the answer in a word, such as "yes", "no" or "cannot tell"; None shows no word.
        stamp: a warning that applies to every number, such as that data are a subset; None where there is none.
        facts: what to know at a glance, as (question, answer); shown in the card, in this order.
        sections: the rest; two of one title are told apart.
        notes: what to read before anything else, a sentence each.
    """
    taken = set(_OWN_NAMES)
    parts = [_part(section, taken) for section in sections]
    colours = {colour for part in parts for figure in part.figures for colour in figure.piece.colours}
    style = Markup(_environment().get_template("page.css.j2").render(colours=_colours(sorted(colours))))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            headline=headline,
            answer=answer,
            tone=_TONES.get(answer or "", "open"),
            stamp=stamp,
            facts=facts,
            notes=notes,
            parts=parts,
            style=style,
            policy=_policy(style),
            long_table=LONG_TABLE,
        )
    )


def _policy(style: str) -> str:
    """Return the content security policy that allows this style sheet, pixels inside the page, and nothing else."""
    checksum = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{checksum}'; img-src data:; base-uri 'none'; form-action 'none'"


def _part(section: Section, taken: set[str]) -> _Part:
    return _Part(_anchor(section.title, taken), section, tuple(_figure(each, taken) for each in section.figures))


def _figure(figure: RenderedFigure, taken: set[str]) -> _Figure:
    anchor = _anchor(f"figure {figure.name}", taken)
    return _Figure(anchor, figure.heading, figure.caption, inlined(figure.svg, anchor, figure.description))


def _colours(colours: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return each colour of the figures as (variable, on the light page, on the dark one)."""
    return [(variable(colour), colour, on_dark(colour)) for colour in colours]


def _anchor(title: str, taken: set[str]) -> str:
    """Return a name for what has this title, another than all taken ones, and take it.

    >>> taken = {"cost"}
    >>> _anchor("Cost", taken), _anchor("Cost", taken), _anchor("ε, now", taken)
    ('cost-2', 'cost-3', 'now')
    """
    slug = _slug(title)
    names = (slug if number == 1 else f"{slug}-{number}" for number in itertools.count(1))
    anchor = next(name for name in names if name not in taken)
    taken.add(anchor)
    return anchor


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"


def _prose(text: str) -> Markup:
    """Escape a text; what stands in backticks becomes code, and numbers in a longer text are not broken at their minus.

    >>> _prose("a < b; `epsgrid sweep`"), _prose("ε 1e-8")
    (Markup('a &lt; b; <code>epsgrid sweep</code>'), Markup('ε <span class="w">1e-8</span>'))
    """
    found = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(_POWER.sub(r'<span class="w">\g<0></span>', found) if " " in text else found)


def _sentence(text: str) -> str:
    """Return a note as a sentence: a capital letter in front, unless it begins with code or a name, and a full stop."""
    first, end = text[:1], "" if text.endswith((".", "!", "?")) else "."
    word = re.split(r"[ ,:]", text, maxsplit=1)[0]
    return f"{first.upper() if word.isalpha() and word.islower() else first}{text[1:]}{end}"


def _column_classes(table: Table) -> list[str]:
    """Return the look of each column: "n" numbers, at the right; "s" short texts, in one line; "t" the rest."""
    return [_column_class(table, column) for column in range(len(table.columns))]


def _column_class(table: Table, column: int) -> str:
    if table.is_of_numbers(column):
        return "n"
    return "s" if max((len(row[column]) for row in table.rows), default=0) <= _SHORT else "t"


@cache
def _environment() -> Environment:
    """Return the templates' environment: everything is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("epsgrid.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: Mapping[str, Any] = {"prose": _prose, "sentence": _sentence, "column_classes": _column_classes}
    environment.filters.update(filters)
    return environment
