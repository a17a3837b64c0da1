"""The page in a real browser: nothing is fetched, nothing complains, everything can be read and reached.

Chromium is started once for all tests; where there is none they are skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from epsgrid.report.files import write_report
from epsgrid.report.html.page import Section, html_page
from epsgrid.report.table import Table
from tests.report.simulate import Outcome, peaked
from tests.report.test_learning import with_epochs
from tests.report.test_observed import watched

pytestmark = pytest.mark.xdist_group("browser")  # what its fixtures made is made once

sync_api = pytest.importorskip("playwright.sync_api")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

_CONTRASTS = """() => {
  const channel = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) =>
    0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const own = parts(getComputedStyle(at).backgroundColor);
      if (own.length < 4 || own[3] === 1) return own;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join("");
    if (!text || element.closest("title, #figure-map") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const colour = element.closest("svg") ? style.fill : style.color;
    const [low, high] = [luminance(parts(colour)), luminance(behind(element))].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), text, colour]);
  }
  return found;
}"""


def some_diverged(rate: float, epsilon: float | None, seed: int) -> Outcome:
    return "diverged" if epsilon == 1e-8 and rate == 1e-2 else peaked()(rate, epsilon, seed)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an experiment that has every figure."""
    changes = {"truth": some_diverged, "rates": (1e-3, 1e-2), "data": "a SUBSET of digits"}
    stored = watched(tmp_path_factory.mktemp("watched"), {1e-3: 0, 1e-8: 0}, **changes)
    return write_report(with_epochs(stored)).files[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser here: none of {', '.join(_BROWSERS)} is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
        yield browser
        browser.close()


def opened(browser: Any, path: Path, **options: Any) -> Any:
    """A page, with what it asked for and complained of kept beside it."""
    page = browser.new_page(**{"viewport": WIDE, **options})
    page.asked, page.refused, page.complaints = [], [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("requestfailed", lambda request: page.refused.append(request.url if request.failure == "csp" else "gone"))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(path.as_uri())
    return page


@pytest.fixture(scope="module")
def wide(browser: Any, report: Path) -> Any:
    return opened(browser, report)


@pytest.fixture(scope="module")
def phone(browser: Any, report: Path) -> Any:
    return opened(browser, report, viewport=PHONE)


@pytest.fixture(scope="module")
def dark(browser: Any, report: Path) -> Any:
    return opened(browser, report, color_scheme="dark")


def test_nothing_is_fetched_and_nothing_complains(report: Path, wide: Any, phone: Any, dark: Any) -> None:
    for page in (wide, phone, dark):
        assert page.asked == [report.as_uri()]
        assert page.complaints == []


def test_the_policy_holds_against_what_gets_onto_the_page(browser: Any, tmp_path: Path) -> None:
    """Even a hole in the escaping could neither run, load nor restyle anything."""
    script, image = "<script>document.title = 'owned'</script>", "<img src='https://example.org/'>"
    hole = f"<p id='hole' style='color: red'>x</p>{script}{image}"
    text = html_page(title="t", headline="HOLE", answer=None, stamp=None, facts=[], sections=[])
    (tmp_path / "page.html").write_text(text.replace("HOLE", hole), encoding="utf-8")
    page = opened(browser, tmp_path / "page.html")
    assert page.title() == "t"
    assert page.asked[1:] == page.refused == ["https://example.org/"]
    assert page.evaluate("getComputedStyle(document.querySelector('#hole')).color") != "rgb(255, 0, 0)"
    assert len(page.complaints) >= 3


def test_every_figure_is_drawn_and_has_a_name(wide: Any) -> None:
    images = wide.get_by_role("img").all()
    names = [image.get_attribute("aria-label") for image in images]
    assert len(names) == len(set(names)) == 10
    assert all(image.bounding_box()["height"] > 80 for image in images)
    assert wide.get_by_role("figure").count() == 10


def test_nothing_reaches_over_the_side_of_a_phone(phone: Any) -> None:
    assert phone.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    inside = "[...document.querySelectorAll('th, td')].filter(cell => cell.scrollWidth > cell.clientWidth + 1)"
    assert phone.evaluate(f"{inside}.map(cell => cell.textContent)") == []
    widths = phone.evaluate(
        "[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().right)"
    )
    assert len(widths) == 10 and max(widths) <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(scheme: str, wide: Any, dark: Any) -> None:
    found = (wide if scheme == "light" else dark).evaluate(_CONTRASTS)
    assert len(found) > 400
    assert [text for text in found if text[0] < 4.5] == []


def test_the_keyboard_reaches_the_skip_link_first_and_every_wide_table(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(region => region.tabIndex === 0)")


def test_tables_and_parts_have_names(wide: Any) -> None:
    assert wide.get_by_role("table", name="Best setting of each grid").count() == 1
    for landmark in ("main", "banner", "navigation", "contentinfo"):
        assert wide.get_by_role(landmark).count() == 1
    assert wide.locator("html").get_attribute("lang") == "en"
    assert "SUBSET DATA" in wide.get_by_role("note").inner_text()
    links = wide.get_by_role("navigation").get_by_role("link").all()
    assert all(wide.locator(link.get_attribute("href")).count() == 1 for link in links)


def test_no_table_is_cut_on_a_wide_page(wide: Any) -> None:
    cut = "[...document.querySelectorAll('.scroll')].filter(region => region.scrollWidth > region.clientWidth + 1)"
    assert wide.evaluate(f"{cut}.map(region => region.textContent)") == []


def test_dark_is_dark_and_figures_lie_on_white(wide: Any, dark: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert (wide.evaluate(paper), dark.evaluate(paper)) == ("rgb(255, 255, 255)", "rgb(22, 24, 28)")
    for page in (wide, dark):
        sheets = page.evaluate(
            "[...document.querySelectorAll('figure svg')].map(svg => getComputedStyle(svg).backgroundColor)"
        )
        assert set(sheets) == {"rgb(255, 255, 255)"}


def test_values_show_where_the_pointer_rests(wide: Any) -> None:
    titles = wide.locator("svg title").all_text_contents()
    assert any(title.startswith("lr 1e-3, ε 1e-3: ") for title in titles)
    assert "lr 1e-2, ε 1e-8: 2 of 2 seeds diverged" in titles


def test_on_paper_it_is_light_and_unfolded(browser: Any, report: Path) -> None:
    page = opened(browser, report, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(27, 30, 35)"
    assert page.locator("nav").is_hidden()
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_a_long_table_opens(browser: Any, tmp_path: Path) -> None:
    table = Table("Cells", ("ε",), tuple((f"1e-{row}",) for row in range(50)))
    text = html_page(title="t", headline="h", answer=None, stamp=None, facts=[], sections=[Section("All", (table,))])
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page = opened(browser, tmp_path / "page.html")
    assert page.get_by_role("table").is_hidden()
    page.get_by_text("Cells (50 rows)").click()
    assert page.get_by_role("table").is_visible()
