"""Figures as pieces of a page: no id twice, no colour that the page does not know, no style that a policy refuses."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from epsgrid.report.drawing.style import fix_layout, hover, keep_colours, new_figure, style, to_svg
from epsgrid.report.html.inline import inlined, variable


def drawn(colour: str = "#0072B2") -> bytes:
    """A figure with all that matters: text, markers, clipping, a hatch, pixels, values to hover over, a kept colour."""
    with style():
        figure = new_figure(1.5)
        axes = figure.subplots()
        (marks,) = axes.plot([1, 2], [1, 2], "o", color=colour, mfc="white")
        hover(marks, "first <b>", 'second & "last"')
        (bar,) = axes.bar([1], [2], color="#ff0000", hatch="//", ec="black")
        hover(bar, "a bar")
        (tile,) = axes.bar([2], [2], color="#123456")
        keep_colours(tile)
        text = axes.text(1, 1, "in the tile")
        keep_colours(text)
        axes.pcolormesh([1, 1.5, 2], [1, 1.5, 2], [[0, 1], [1, 0]], rasterized=True)
        axes.set_xlabel("x < y")
        return to_svg(fix_layout(figure))


@pytest.fixture(scope="module")
def svg() -> bytes:
    return drawn()


def elements(markup: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(markup).iter())


def test_two_figures_on_a_page_share_no_id(svg: bytes) -> None:
    pages = [elements(inlined(svg, prefix, "label").markup) for prefix in ("one", "two")]
    ids = [element.get("id") for page in pages for element in page if element.get("id")]
    assert len(ids) == len(set(ids)) > 4
    for prefix, page in zip(("one", "two"), pages, strict=True):
        own = {element.get("id") for element in page}
        references = re.findall(r'(?:url\(|href=")#([^)"]+)', inlined(svg, prefix, "label").markup)
        assert references and set(references) <= own
        assert {name for name in own if name} == set(references), "an id that nobody refers to"


def test_nothing_is_left_that_a_strict_policy_refuses(svg: bytes) -> None:
    markup = inlined(svg, "p", "label").markup
    assert " style=" not in markup and "<style" not in markup and "<script" not in markup
    assert re.findall(r"(?:http|ftp|file)s?:", markup) == []
    assert "<metadata" not in markup and "xlink" not in markup


def test_colours_become_variables_that_are_told(svg: bytes) -> None:
    piece = inlined(svg, "p", "label")
    assert set(re.findall(r"var\((--k-[0-9a-f]{6})\)", piece.markup)) == set(map(variable, piece.colours))
    assert {"#0072b2", "#ffffff", "#ff0000"} <= piece.colours
    assert 'stroke="currentColor"' in piece.markup
    assert not any(element.get(name) == "#000000" for element in elements(piece.markup) for name in ("stroke",))


def test_what_keeps_its_colours_keeps_them(svg: bytes) -> None:
    kept = [element for element in elements(inlined(svg, "p", "label").markup) if element.get("class") == "kept"]
    assert len(kept) == 2
    assert all(element.get("fill") == "#000000" for element in kept)
    assert kept[0].find("path").get("fill") == "#123456"  # type: ignore[union-attr]
    assert "#123456" not in inlined(svg, "p", "label").colours


def test_each_value_has_its_title(svg: bytes) -> None:
    page = elements(inlined(svg, "p", "label").markup)
    titles = {element.text: parent.tag for parent in page for element in parent if element.tag == "title"}
    assert titles == {"first <b>": "use", 'second & "last"': "use", "a bar": "g"}


def test_words_stay_words(svg: bytes) -> None:
    root = ElementTree.fromstring(inlined(svg, "p", 'a "label" < 3').markup)
    assert "x < y" in {element.text for element in root.iter("text")}
    assert (root.get("role"), root.get("aria-label")) == ("img", 'a "label" < 3')
    assert not any(element.get("font-family") for element in root.iter())


def test_the_page_shines_through(svg: bytes) -> None:
    assert b'id="patch_1"' in svg
    box = ElementTree.fromstring(inlined(svg, "p", "label").markup).get("viewBox")
    assert box is not None
    width = box.split()[2]
    assert f"L {width} 0" not in inlined(svg, "p", "label").markup


def test_numbers_are_rounded_and_the_piece_is_much_smaller(svg: bytes) -> None:
    markup = inlined(svg, "p", "label").markup
    assert re.findall(r"\d\.\d{3,}", re.sub(r'href="data:[^"]*"', "", markup)) == []
    assert len(markup) < 0.75 * len(svg)


def test_equal_figures_give_equal_pieces() -> None:
    assert inlined(drawn(), "p", "label") == inlined(drawn(), "p", "label")
    assert inlined(drawn(), "p", "label") != inlined(drawn("#aa0000"), "p", "label")


def test_the_file_itself_is_whole_and_has_titles_too(svg: bytes) -> None:
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert len(root.findall(".//{http://www.w3.org/2000/svg}title")) == 3
    assert b"value:" not in svg and b"kept:" not in svg
