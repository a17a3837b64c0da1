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
from epsgrid.report.html.page import html_page
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
    if (!text || element.closest("title, #map") || !element.getClientRects().length) continue;
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


def unfolded(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")


def test_the_page_opens_on_answer_curve_map_and_cost_and_the_rest_is_folded(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    texts = [text for text in page.locator("h1, h2, h3").all_inner_texts() if text]
    assert texts[1].startswith("open The best learning rate of ε 1e-8")
    assert texts[2:] == [*OPEN, *FOLDED]
    assert page.locator("details[open]").count() == 0
    assert page.locator("svg:visible").count() == 2
    assert page.evaluate("document.documentElement.scrollHeight") < 2200
    page.get_by_role("heading", name="Simple rules").click()
    assert page.get_by_role("table", name="What simple rules lose").is_visible()


OPEN = ("Read this first", "Accuracy over ε", "Learning rate and ε together", "Cost")
FOLDED = (
    *("Each ε", "Simple rules", "All settings", "Bounds", "Learning curves", "Observed training", "Claims"),
    *("Trials without a score", "Provenance"),
)


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_nothing_reaches_over_the_side(browser: Any, report: Path, size: dict[str, int]) -> None:
    page = opened(browser, report, viewport=size)
    unfolded(page)
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    inside = "[...document.querySelectorAll('th, td')].filter(cell => cell.scrollWidth > cell.clientWidth + 1)"
    assert page.evaluate(f"{inside}.map(cell => cell.textContent)") == []
    boxes = [image.bounding_box() for image in page.get_by_role("img").all()]
    assert len(boxes) == 6
    assert all(box["x"] + box["width"] <= size["width"] and box["height"] > 80 for box in boxes)
    heights = "[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height)"
    assert min(page.evaluate(heights)) >= 9.5
    cut = "[...document.querySelectorAll('.scroll')].filter(region => region.scrollWidth > region.clientWidth + 1)"
    if size is WIDE:
        assert page.evaluate(f"{cut}.map(region => region.textContent)") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(scheme: str, wide: Any, dark: Any) -> None:
    page = wide if scheme == "light" else dark
    unfolded(page)
    found = page.evaluate(_CONTRASTS)
    assert len(found) > 400
    assert [text for text in found if text[0] < 4.5] == []


def test_the_keyboard_reaches_every_table_and_all_parts_have_names(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(region => region.tabIndex === 0)")
    for landmark in ("main", "banner", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    assert "SUBSET DATA" in page.get_by_role("note").inner_text()


def test_dark_is_dark_figures_too(wide: Any, dark: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert (wide.evaluate(paper), dark.evaluate(paper)) == ("rgb(255, 255, 255)", "rgb(22, 24, 28)")
    sheet = "getComputedStyle(document.querySelector('#curve svg path')).fill"
    assert (wide.evaluate(sheet), dark.evaluate(sheet)) == ("rgb(255, 255, 255)", "rgb(22, 24, 28)")


def test_on_paper_it_is_light_and_unfolded(browser: Any, report: Path) -> None:
    page = opened(browser, report, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('#answer')).color") == "rgb(27, 30, 35)"
    assert page.evaluate("document.querySelector('details table').getBoundingClientRect().height") > 20
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
