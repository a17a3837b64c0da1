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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup, escape

from epsgrid.report.pictures import RenderedFigure
from epsgrid.report.table import Table

if TYPE_CHECKING:
    from jinja2 import Environment

_LONG_TABLE = 30
"""Rows from which on a table is folded away until it is opened."""
_TONES = {"keep": "good", "change": "bad"}
_CODE = re.compile(r"`([^`]+)`")
_POWER = re.compile(r"(?<![\w.-])[-+]?\d[\d.]*e-\d+(?![\w-])")
_SHORT = 36
"""Characters up to which a text in a table stays in one line."""
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_LENGTHS = ("d", "x", "y", "width", "height", "points", "transform", "cx", "cy", "r")


@dataclass(frozen=True)
class Section:
    """A part of the page, with a heading.

    Attributes:
        title: the heading; an entry of the table of contents.
        tables: one of `_LONG_TABLE` rows or more is folded. One that has the section's title does not
            repeat it.
        figures: below the tables.
        links: other pages, as (name, address relative to this one).
        is_open: whether long tables stand open, too: where they are what the page is about.
    """

    title: str
    tables: tuple[Table, ...] = ()
    figures: tuple[RenderedFigure, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    is_open: bool = False


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
        title: the page's subject; also the window's title.
        headline: the answer in a sentence.
        answer: the answer in a word, such as "keep", "change" or "open"; None shows no word.
        stamp: a warning that applies to every number, such as that data are a subset; None where there is none.
        facts: the summary in the card, as (question, answer), in this order.
        sections: the rest; two of one title are told apart.
        notes: what to read before anything else, a sentence each.
    """
    taken = {"main", "contents", "answer", "notes"}  # the page's own elements
    parts = []
    for section in sections:
        anchor = _anchor(section.title, taken)
        named = [(_anchor(f"figure {figure.name}", taken), figure) for figure in section.figures]
        figures = [(name, figure, _inlined(figure.files["svg"], name, figure.title)) for name, figure in named]
        parts.append((anchor, section, figures))
    style = Markup(_environment().get_template("page.css").render())
    checksum = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{checksum}'; img-src data:; base-uri 'none'; form-action 'none'"
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
            policy=policy,
            long_table=_LONG_TABLE,
        )
    )


def _inlined(svg: bytes, prefix: str, label: str) -> Markup:
    """Return a figure's SVG file as an element of a page.

    Ids get a prefix, because they repeat from figure to figure; inline styles become attributes, because the content
    security policy refuses them; metadata go, and lengths are rounded to a hundredth of a point. Texts were escaped
    when the file was written.

    Args:
        svg: a whole file.
        prefix: of its ids; another for each figure of a page.
        label: what a screen reader calls it.

    Raises:
        xml.etree.ElementTree.ParseError: it is no SVG.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        if element.tag not in ("text", "tspan", "title"):
            element.text = None
        element.tail = None
        for declaration in filter(str.strip, element.attrib.pop("style", "").split(";")):
            name, _, value = declaration.partition(":")
            element.set(name.strip(), value.strip())
        if (link := element.attrib.pop(f"{_XLINK}href", None)) is not None:
            element.set("href", "".join(link.split()).replace("#", f"#{prefix}-"))
        for name, value in element.items():
            if name == "id":
                element.set(name, f"{prefix}-{value}")
            elif name in _LENGTHS:
                element.set(name, " ".join(_LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", value).split()))
            else:
                element.set(name, value.replace("url(#", f"url(#{prefix}-"))
    box = root.get("viewBox", "")
    root.attrib = {"viewBox": box, "role": "img", "aria-label": label, "stroke-linejoin": "round"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _anchor(title: str, taken: set[str]) -> str:
    """Return a name for an element with this title, another than all taken ones, and take it.

    >>> taken = {"cost"}
    >>> _anchor("Cost", taken), _anchor("Cost", taken), _anchor("ε, now", taken)
    ('cost-2', 'cost-3', 'now')
    """
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"
    names = (slug if number == 1 else f"{slug}-{number}" for number in itertools.count(1))
    anchor = next(name for name in names if name not in taken)
    taken.add(anchor)
    return anchor


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
    longest = [max((len(row[column]) for row in table.rows), default=0) for column in range(len(table.columns))]
    looks = zip(table.alignment, longest, strict=True)
    return ["n" if side == "right" else "s" if length <= _SHORT else "t" for side, length in looks]


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
    environment.filters.update({"prose": _prose, "sentence": _sentence, "column_classes": _column_classes})
    return environment
