"""The page: escaped, complete in itself, and under a policy that forbids everything else."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import itertools
import re
from xml.etree import ElementTree

from epsgrid.report.figures.style import VERMILION, applied, finished, new_figure, to_bytes
from epsgrid.report.html.page import Section, _inlined, html_page
from epsgrid.report.pictures import RenderedFigure
from epsgrid.report.table import Table

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Outline(html.parser.HTMLParser):
    """What a page is made of, read by Python's own parser."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def ids(self) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get("id"))]


def page(*sections: Section, **changes: object) -> str:
    arguments: dict[str, object] = {
        "title": "demo: adam on digits",
        "headline": "The best ε lies inside.",
        "answer": "yes",
        "stamp": None,
        "facts": [("What to use now", "lr 1e-3, ε 1e-8")],
        "sections": sections,
    }
    return html_page(**{**arguments, **changes})  # type: ignore[arg-type]


def table(rows: int = 2, title: str = "Best") -> Table:
    return Table(title, ("grid", "ε", "seeds"), tuple((f"row {i}", f"1e-{i}", "3") for i in range(rows)), "a note")


def drawn() -> bytes:
    """A figure with all that matters: text, markers, clipping, a hatch, pixels."""
    with applied():
        figure = new_figure(1.5)
        axes = figure.subplots()
        axes.plot([1, 2], [1, 2], "o", color=VERMILION, mfc="white")
        axes.bar([1], [2], color="#ff0000", hatch="//", ec="black")
        axes.pcolormesh([1, 1.5, 2], [1, 1.5, 2], [[0, 1], [1, 0]], rasterized=True)
        axes.set_xlabel("x < y")
        return to_bytes(finished(figure), "svg")


def figure(name: str = "curve", title: str = 'a "label" < 3', caption: str = "c") -> RenderedFigure:
    return RenderedFigure(name, title, caption, {"svg": drawn()})


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> \"'` & `code</code><script>`"


def test_whatever_is_said_cannot_become_markup() -> None:
    everything = Section(
        HOSTILE,
        text=HOSTILE,
        about=HOSTILE,
        figures=(figure("curve", HOSTILE, HOSTILE),),
        tables=(Table(HOSTILE, (HOSTILE, "b"), ((HOSTILE, HOSTILE),), HOSTILE, (HOSTILE,)),),
    )
    changes = {"title": HOSTILE, "headline": HOSTILE, "answer": HOSTILE, "stamp": HOSTILE, "notes": [HOSTILE]}
    outline = Outline(page(everything, facts=[(HOSTILE, HOSTILE)], **changes))
    tags = {tag for tag, _ in outline.tags}
    assert not tags & {"script", "img"}
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)
    assert "".join(outline.texts).count("<script>alert(1)</script>") >= 10


def test_the_policy_allows_the_one_style_sheet_and_nothing_else() -> None:
    text = page(Section("Result", tables=(table(),), figures=(figure(),)))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert policy is not None and len(style) == 1
    checksum = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in policy[1].replace("&#39;", "'").split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{checksum}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert " style=" not in text and "<script" not in text and "<link" not in text


def test_nothing_is_fetched() -> None:
    outline = Outline(page(Section("Result", figures=(figure(),))))
    addresses = [
        value for _, each in outline.tags for name in ("src", "href", "xlink:href") if (value := each.get(name))
    ]
    assert addresses and all(value.startswith(("#", "data:image/png")) for value in addresses)
    assert "url(http" not in page() and "@import" not in page()


def test_headings_and_names_are_in_order() -> None:
    folded = Section("Maps", about="more", figures=(figure("map"),), tables=(table(),))
    outline = Outline(page(Section("Main", figures=(figure(),)), folded, notes=["a note"]))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(outline.ids()) == len(set(outline.ids()))
    named = [each["aria-labelledby"] for _, each in outline.tags if each.get("aria-labelledby")]
    assert set(named) <= set(outline.ids())


def test_the_answer_is_a_word_and_a_sentence_and_what_follows_is_smaller() -> None:
    text = page(answer="open", headline="Open: a better rate may lie beyond. As far as tried: keep ε = 1e-8.")
    assert '<span class="answer">open</span> A better rate may lie beyond.</h2>' in text
    assert '<p class="rest">As far as tried: keep <span class="w">ε = 1e-8</span>.</p>' in text
    assert "</span> lr may be too low.</h2>" in page(answer="open", headline="Open: lr may be too low.")
    assert '<section class="card good"' in page(answer="keep") and '<section class="card bad"' in page(answer="change")


def test_numbers_stand_at_the_right_and_words_at_the_left() -> None:
    rows = (("a", "97.4 ± 0.3 %", "1 min 30 s", "3.weight", "–"), ("b", "–", "0.2 s", "5.bias", "both chose the same"))
    text = page(Section("Result", tables=(Table("t", ("grid", "test", "time", "layer", "why"), rows),)))
    head = re.search(r"<thead>(.*?)</thead>", text)
    assert head is not None
    assert re.findall(r'class="(\w)"', head[1]) == ["w", "n", "n", "w", "s"]


def test_a_table_has_a_caption_and_says_what_its_heads_are_of() -> None:
    text = page(Section("Result", tables=(table(),)))
    assert "<caption>Best</caption>" in text and "A note." in text
    assert text.count('scope="col"') == 3 and text.count('scope="row"') == 2
    assert text.count('role="region" aria-label="Best" tabindex="0"') == 1


def test_what_is_folded_says_what_is_inside_and_a_table_alone_needs_no_title() -> None:
    text = page(Section("Rules", about="what each loses", tables=(table(title="What rules lose"),)))
    assert "<details>\n<summary><h2>Rules</h2> <span>what each loses</span></summary>" in text
    assert '<caption class="unseen">What rules lose</caption>' in text
    assert "<details" not in page(Section("Cost", tables=(table(),)))


def test_links_lead_to_other_pages_and_are_escaped() -> None:
    text = page(Section("Reports", links=(('a"<b', "../a%20b/report.html"), ("c", 'x"onclick="y'))))
    assert '<li><a href="../a%20b/report.html">a&#34;&lt;b</a></li>' in text
    assert 'onclick="' not in text


def test_a_figure_on_the_page_is_smaller_takes_its_colours_and_has_nothing_that_a_strict_policy_refuses() -> None:
    own = figure()
    markup = _inlined(own)
    assert " style=" not in markup and "<style" not in markup and "<script" not in markup
    assert re.findall(r"(?:http|ftp|file)s?:", markup) == []
    assert "<metadata" not in markup and "xlink" not in markup
    assert re.findall(r"\d\.\d{3,}", re.sub(r'href="data:[^"]*"', "", markup)) == []
    assert len(markup) < 0.85 * len(own.files["svg"])
    assert "var(--vermilion)" in markup and "#ff0000" in markup and "#000000" not in markup
    root, *others = ElementTree.fromstring(markup).iter()
    assert "x < y" in {element.text for element in others if element.tag == "text"}
    assert (root.get("role"), root.get("aria-label")) == ("img", own.title)
