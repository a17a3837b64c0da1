"""Turn a figure's SVG file into a piece of a page: it follows the page's colours, and can stand beside others.

A file of matplotlib cannot be put into a page as it is: its ids repeat from figure to figure, its colours are those of
white paper, its inline styles are refused by a strict content policy, and two thirds of it are names that nobody uses.
So here

    ids        that something refers to get the figure's name in front; the others go
    colours    become `var(--k-RRGGBB)`, which the page defines for light and dark; black is the text's own colour;
               those of groups of the class "kept" stay
    styles     become presentation attributes, which no content policy stops
    text       takes the page's typeface, at the size it was drawn with
    numbers    are rounded to a hundredth of a point
    the sheet  behind the drawing goes: the page shines through
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from epsgrid.report.html.shades import INK

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_COLOUR = re.compile(r"#[0-9a-f]{6}\Z")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_LINK, _URL = re.compile(r"#(.+)\Z"), re.compile(r"url\(#(.+)\)\Z")
_NUMBERS = ("d", "x", "y", "width", "height", "points", "transform", "cx", "cy", "r")
_DROPPED = {f"{_SVG}metadata", f"{_SVG}style"}
_OWN_TYPEFACE = ("font-family", "font-style")
KEPT = "kept"
"""Class of the groups that keep their colours, see `drawing.keep_colours`."""
SHEET = "patch_1"
"""Id that matplotlib gives to the rectangle behind everything."""


@dataclass(frozen=True)
class Inlined:
    """A piece of a page.

    Attributes:
        markup: an `<svg>` element, well-formed, without a name of its own.
        colours: what it uses, "#rrggbb"; each needs a variable on the page.
    """

    markup: str
    colours: frozenset[str]


def inlined(svg: bytes, prefix: str, label: str) -> Inlined:
    """Return a figure's SVG as a piece of a page.

    Args:
        svg: a whole file.
        prefix: what its ids begin with; another for each figure of a page.
        label: what a screen reader calls it.

    Raises:
        xml.etree.ElementTree.ParseError: it is no SVG.
    """
    root = ElementTree.fromstring(svg)
    _drop(root)
    colours: set[str] = set()
    for element in root.iter():
        _spread_style(element)
        _round(element)
    _use_variables(root, colours)
    _rename(root, prefix)
    _unwrap(root)
    _head(root, label)
    return Inlined(_written(root), frozenset(colours))


def variable(colour: str) -> str:
    """Return the name of the page's variable for a colour.

    >>> variable("#0072b2")
    '--k-0072b2'
    """
    return f"--k-{colour[1:]}"


def _drop(root: ElementTree.Element) -> None:
    """Remove what says nothing: metadata, style sheets, the sheet behind the drawing, empty groups."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in _DROPPED or child.get("id") == SHEET:
                parent.remove(child)
    for parent in reversed(list(root.iter())):
        for child in list(parent):
            if child.tag in (f"{_SVG}g", f"{_SVG}defs") and not len(child):
                parent.remove(child)


def _spread_style(element: ElementTree.Element) -> None:
    """Turn an inline style into attributes; the typeface is the page's."""
    for name, value in _declarations(element.attrib.pop("style", "")):
        if name not in _OWN_TYPEFACE:
            element.set(name, value)


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, map(str.strip, style.split(";"))):
        name, _, value = part.partition(":")
        yield name.strip(), value.strip()


def _use_variables(element: ElementTree.Element, colours: set[str]) -> None:
    """Let an element and all in it take the page's colours, but for what keeps its own."""
    if element.get("class") == KEPT:
        element.set("fill", INK)  # what has no fill of its own is black
        return
    for name in ("fill", "stroke"):
        value = element.get(name, "").lower()
        if value == INK:
            element.set(name, "currentColor")
        elif _COLOUR.match(value):
            colours.add(value)
            element.set(name, f"var({variable(value)})")
    for child in element:
        _use_variables(child, colours)


def _round(element: ElementTree.Element) -> None:
    for name in _NUMBERS:
        if (value := element.get(name)) is not None:
            short = _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
            short = " ".join(short.split())
            if name == "transform" and short.startswith("rotate(-0 "):
                del element.attrib[name]
            else:
                element.set(name, short)


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Give the ids that are referred to the figure's name, and remove the others."""
    for element in root.iter():
        if (link := element.attrib.pop(f"{_XLINK}href", None)) is not None:
            element.set("href", "".join(link.split()))
    used = {found[1] for element in root.iter() for found in map(_reference, element.items()) if found}
    for element in root.iter():
        own = element.attrib.pop("id", None)
        for name, value in element.items():
            if (found := _reference((name, value))) is not None:
                element.set(name, value.replace(f"#{found[1]}", f"#{prefix}-{found[1]}"))
        if own in used:
            element.set("id", f"{prefix}-{own}")


def _reference(attribute: tuple[str, str]) -> re.Match[str] | None:
    """Return what an attribute refers to inside the figure, as the match's first group; None where nothing."""
    name, value = attribute
    return (_LINK if name == "href" else _URL).match(value)


def _unwrap(root: ElementTree.Element) -> None:
    """Take groups away that group nothing: they have no attribute of their own."""
    for parent in reversed(list(root.iter())):
        for place, child in reversed(list(enumerate(parent))):
            if child.tag == f"{_SVG}g" and not child.attrib:
                parent[place : place + 1] = list(child)


def _head(root: ElementTree.Element, label: str) -> None:
    box = root.get("viewBox", "")
    root.attrib.clear()
    lines = {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    for name, value in {"viewBox": box, "role": "img", "aria-label": label, "fill": "currentColor", **lines}.items():
        root.set(name, value)


def _written(root: ElementTree.Element) -> str:
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.tail = None
        if element.tag not in ("text", "tspan", "title"):
            element.text = None
    return ElementTree.tostring(root, encoding="unicode")
