"""One page of HTML that holds everything: no file beside it, no request, no script.

Everything is escaped by Jinja2. A content security policy allows the page's one style sheet, by its checksum, and the
pixels inside figures, and forbids all else: even a text that got through the escaping could not run or fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup, escape

from epsgrid.report.figures import style
from epsgrid.report.pictures import RenderedFigure
from epsgrid.report.table import Table

if TYPE_CHECKING:
    from jinja2 import Environment

_TONES = {"keep": "good", "change": "bad"}
_CODE = re.compile(r"`([^`]+)`")
_POWER = re.compile(r"(?<![\w.-])(?:(?:ε|lr) (?:= )?\d[\d.]*(?:e-\d+)?|\d[\d.]*e-\d+)(?![\w-])")
_WORD, _SHORT = 12, 36
"""Characters up to which a text in a table stays in one line: always, and where the page is wide."""
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_LENGTHS = ("d", "x", "y", "width", "height", "points", "transform", "cx", "cy", "r")
_THEME = {
    **{"#000000": "currentColor", "#ffffff": "var(--paper)", style.FAINT: "var(--rule)", style.GREY: "var(--grey)"},
    **{style.BLUE: "var(--blue)", style.SKY: "var(--sky)", style.VERMILION: "var(--vermilion)"},
    **{style.PURPLE: "var(--purple)", style.GREEN: "var(--green)"},
}
"""Colours of figures that the style sheet replaces where the page is dark."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        text: a paragraph below the title; "" without one.
        about: what is inside, for a section that is folded until it is opened; "" for one that stands open.
        figures: above the tables, side by side where there is room.
        tables: one that has the section's title does not repeat it.
        links: other pages, as (name, address relative to this one).
    """

    title: str
    text: str = ""
    about: str = ""
    figures: tuple[RenderedFigure, ...] = ()
    tables: tuple[Table, ...] = ()
    links: tuple[tuple[str, str], ...] = ()


def html_page(
    title: str,
    headline: str,
    sections: Sequence[Section],
    *,
    answer: str | None = None,
    stamp: str | None = None,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return a page as one text: a card with the answer on top, then the sections.

    Equal arguments give equal text.

    Args:
        title: the page's subject; also the window's title.
        headline: the answer in a sentence.
        sections: the rest; no two figures have the same name.
        answer: the answer in a word, such as "keep", "change" or "open"; None shows no word.
        stamp: a warning that applies to every number, such as that data are a subset.
        facts: the summary in the card, as (question, answer).
        notes: what to read before anything else, a sentence each.
    """
    if answer and headline.lower().startswith(f"{answer}: "):  # the word beside it says so already
        headline = _sentence(headline[len(answer) + 2 :].strip())
    first, _, rest = headline.partition(". ")
    templates = _environment()
    css = Markup(templates.get_template("page.css").render())
    checksum = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{checksum}'; img-src data:; base-uri 'none'; form-action 'none'"
    return templates.get_template("page.html.j2").render(
        title=title,
        headline=_sentence(first),
        rest=rest,
        answer=answer,
        tone=_TONES.get(answer, "open") if answer else "plain",
        stamp=stamp,
        facts=facts,
        notes=notes,
        sections=sections,
        style=css,
        policy=policy,
    )


def _inlined(figure: RenderedFigure) -> Markup:
    """Return a figure's SVG file as an element of a page.

    Ids get a prefix, because they repeat from figure to figure; inline styles become attributes, because the content
    security policy refuses them; colours become those of the page; metadata go, and lengths are rounded.
    """
    root = ElementTree.fromstring(figure.files["svg"])
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
            element.set("href", "".join(link.split()).replace("#", f"#{figure.name}-"))
        for name, value in element.items():
            if name == "id":
                element.set(name, f"{figure.name}-{value}")
            elif name in _LENGTHS:
                element.set(name, " ".join(_LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", value).split()))
            else:
                element.set(name, _THEME.get(value, value.replace("url(#", f"url(#{figure.name}-")))
    box = root.get("viewBox", "")
    root.attrib = {"viewBox": box, "role": "img", "aria-label": figure.title, "stroke-linejoin": "round"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _prose(text: str) -> Markup:
    """Escape a text; what stands in backticks becomes code, and numbers in a longer text are not broken at their minus.

    >>> _prose("a < b; `epsgrid sweep`"), _prose("ε 1e-8")
    (Markup('a &lt; b; <code>epsgrid sweep</code>'), Markup('<span class="w">ε 1e-8</span>'))
    """
    found = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(_POWER.sub(r'<span class="w">\g<0></span>', found) if " " in text else found)


def _sentence(text: str) -> str:
    """Return a note with a full stop, and a capital letter in front unless it begins with code, a name or lr."""
    word = re.split(r"[ ,:]", text, maxsplit=1)[0]
    is_plain = word.isalpha() and word.islower() and word != "lr"
    end = "" if text.endswith((".", "!", "?")) else "."
    return f"{text[:1].upper() if is_plain else text[:1]}{text[1:]}{end}"


def _column_classes(table: Table) -> list[str]:
    """Return the look of each column: "n" numbers, at the right; "w" words; "s" short texts; "t" the rest."""
    longest = [max((len(row[column]) for row in table.rows), default=0) for column in range(len(table.columns))]
    texts = ["w" if length <= _WORD else "s" if length <= _SHORT else "t" for length in longest]
    return ["n" if side == "right" else text for side, text in zip(table.alignment, texts, strict=True)]


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
    filters = {"prose": _prose, "sentence": _sentence, "column_classes": _column_classes, "inlined": _inlined}
    environment.filters.update(filters)
    return environment
