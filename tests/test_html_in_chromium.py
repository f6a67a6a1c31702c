"""The page in a browser: nothing overflows, everything can be read, nothing is fetched.

Skipped where there is no chromium, unless MANUAL_LSTM_NEEDS_CHROMIUM=1 says that there must be.
"""

import os

import pytest
from chromium import chromium, find_chromium
from pages import rendered

pytestmark = pytest.mark.sampled

WIDTHS = (360, 1400)
SHOWN = ("agree", "finding", "nan", "hostile", "large")
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
OPEN_ALL = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
COLOURS = """
const channels = text => text.match(/[\\d.]+/g).map(Number);
const luminance = text => {
  const [r, g, b] = channels(text).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
"""
CONTRAST = (
    "(() => {"
    + COLOURS
    + """
  const behind = element => {
    if (element.matches('svg text.in'))
      return getComputedStyle(element.previousElementSibling).fill;
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      const alpha = channels(colour)[3];
      if (alpha === undefined || alpha === 1) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const style = getComputedStyle(element);
    if (!texts.currentNode.data.trim() || !element.getClientRects().length) continue;
    if (element.tagName === 'title' || element.tagName === 'STYLE') continue;
    seen += 1;
    const colour = element.closest('svg') ? style.fill : style.color;
    const [a, b] = [luminance(colour), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (!(ratio >= 4.5)) found.push(`${ratio.toFixed(2)}: ${texts.currentNode.data.trim()}`);
  }
  return seen > 0 ? found : ['no text'];
})()"""
)
LEGEND = (
    "(() => {"
    + COLOURS
    + """
  return [...document.querySelectorAll('.legend rect')]
    .map(rect => luminance(getComputedStyle(rect).fill));
})()"""
)


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests."""
    binary = find_chromium()
    if binary is None:
        if os.environ.get("MANUAL_LSTM_NEEDS_CHROMIUM") == "1":
            pytest.fail("MANUAL_LSTM_NEEDS_CHROMIUM is 1 but there is no chromium to run.")
        pytest.skip("there is no chromium to run")
    with chromium(binary) as found:
        yield found


@pytest.fixture
def show(browser, tmp_path):
    """A function that shows a page's text in a window, and gives the browser."""

    def opened(text, width=1400, dark=False):
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
        browser.open(path, width=width, dark=dark)
        browser.evaluate(OPEN_ALL)
        return browser

    return opened


@pytest.mark.parametrize("kind", SHOWN)
def test_a_page_that_is_wider_than_its_window(show, kind):
    """At 360 and at 1400 pixels nothing overflows; wide tables scroll inside their own box."""
    for width in WIDTHS:
        page = show(rendered(kind), width)
        assert page.evaluate("window.innerWidth") == width
        assert page.evaluate(OVERFLOW) == 0
        assert page.evaluate("document.body.getBoundingClientRect().right") <= width
        if width == 360 and kind != "large":
            box = "document.querySelector('.scroll')"
            assert page.evaluate(f"{box}.scrollWidth - {box}.clientWidth") > 0


@pytest.mark.parametrize("kind", SHOWN)
def test_a_page_that_cannot_be_read(show, kind):
    """Every text stands out from what is behind it, in the light and in the dark scheme."""
    for dark in (False, True):
        assert show(rendered(kind), dark=dark).evaluate(CONTRAST) == []


@pytest.mark.parametrize("kind", SHOWN)
def test_a_page_that_complains_or_fetches(show, kind):
    """The console stays empty and nothing but the file itself is read."""
    for dark in (False, True):
        assert show(rendered(kind), dark=dark).complaints() == []


def test_a_dark_scheme_that_is_the_light_one(show):
    """Page, text and cells have other colours in the dark."""
    colours = []
    for dark in (False, True):
        page = show(rendered("finding"), dark=dark)
        colours.append(
            page.evaluate(
                "['body', '.soft', '.word', '.lines'].map(each => {"
                " const style = getComputedStyle(document.querySelector(each));"
                " return style.color + style.backgroundColor; })"
            )
            + page.evaluate(LEGEND)
        )
    assert all(light != dark for light, dark in zip(*colours, strict=True))


def test_a_scale_that_needs_colour(show):
    """In grey, too, each class of the scale is further from the page than the one before."""
    light = show(rendered("agree")).evaluate(LEGEND)
    dark = show(rendered("agree"), dark=True).evaluate(LEGEND)
    assert len(light) == len(dark) == 8
    assert light == sorted(light, reverse=True)
    assert dark == sorted(dark)
    assert len(set(light)) == len(set(dark)) == 8


FAULTS = {
    "overflow": "<div style='width: 2000px'>wide</div>",
    "contrast": "<p style='color: #999; background: #fff'>pale</p>",
    "contrast of a cell": "<svg><rect style='fill: #555'/><text class='in'>8</text></svg>",
    "console": "<script>console.error('here')</script>",
    "exception": "<script>nothing()</script>",
    "request": "<img src='http://127.0.0.1:9/x.png' alt='x'>",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_browser_that_notices_nothing(show, fault):
    """Each fault, planted in a page of its own, is seen by one of the looks above, and alone."""
    text = f"<!DOCTYPE html><title>x</title><body style='margin: 0'><p>y</p>{FAULTS[fault]}"
    page = show(text, 360)
    seen = {
        "overflow": page.evaluate(OVERFLOW) > 0,
        "contrast": page.evaluate(CONTRAST) != [],
        "complaint": page.complaints() != [],
    }
    first = fault.split()[0]
    expected = first if first in seen else "complaint"
    assert [name for name, found in seen.items() if found] == [expected]
