"""The HTML page in headless Chromium: it renders, sorts, adapts, and asks nothing of the network."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compresskit.evaluate.report import html
from tests.evaluate.report import fifteen
from tests.evaluate.report.samples import REPORT
from tests.evaluate.several import a_report

pytestmark = pytest.mark.slow
NAMES = [row.name for row in REPORT.rows]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that resolves no name and keeps a log of its requests."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium with chromedriver; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{option}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    os.environ["SE_AVOID_STATS"] = "true"
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    """The page of the sample report, 1280 px wide, in light colours."""
    path = tmp_path / "report.html"
    path.write_text(html.render(REPORT), encoding="utf-8")
    _emulate(browser, width=1280, scheme="light")
    _requests(browser)
    browser.get(path.as_uri())
    return browser


def _emulate(browser: Any, *, width: int, scheme: str) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def _requests(browser: Any) -> list[str]:
    """The addresses asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def _colours(browser: Any) -> dict[tuple[int, ...], int]:
    """The colours of a screenshot, and how often they occur."""
    image = pytest.importorskip("PIL.Image")
    picture = image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    return {colour: count for count, colour in picture.getcolors(maxcolors=1 << 24)}


def _order(browser: Any) -> list[str]:
    return [link.text for link in browser.find_elements("css selector", "#results tbody th a:first-child")]


def _heading(browser: Any, text: str) -> Any:
    (found,) = [
        button
        for button in browser.find_elements("css selector", "#results thead button")
        if " ".join(button.get_attribute("textContent").split()) == text
    ]
    return found


def test_it_renders_without_an_error(page):
    assert page.title == "Failed: eval.json.gz · compresskit"
    assert len(_colours(page)) > 50
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize(
    ("heading", "first", "turned"),
    [
        # Initials of the names. Ties keep the order that they have, what was not measured comes last either way.
        ("EM", "d i pr pd b", "pd pr i d b"),
        ("Deploy", "i d pr pd b", "pr d i pd b"),
        ("Δ EM", "d i pr pd b", "pd pr i d b"),
        ("HasAns EM", "d pr i pd b", "d pr i pd b"),
        ("zstd", "i d pr pd b", "i d pr pd b"),
        ("Method", "pr i d pd b", "d i pr pd b"),
        ("Checkpoint", "b d i pd pr", "pr pd i d b"),
    ],
)
@pytest.mark.parametrize("key", [None, "\ue007", " "])  # a click, Enter, the space bar
def test_a_heading_sorts_both_ways(heading, first, turned, key, page):
    names = dict(zip(("d", "pr", "i", "pd", "b"), NAMES, strict=True))
    assert _order(page) == NAMES
    page.find_element("id", "all-columns").click()
    button = _heading(page, heading)
    for expected in (first, turned, first):
        page.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", button)
        button.click() if key is None else button.send_keys(key)
        assert _order(page) == [names[initial] for initial in expected.split()]
        (sorted_by,) = page.find_elements("css selector", "#results th[aria-sort]")
        assert sorted_by.find_element("css selector", "button") == button
    assert _heading(page, "F1").find_element("xpath", "..").get_attribute("aria-sort") is None


def test_a_second_heading_takes_over(page):
    _heading(page, "EM").click()
    _heading(page, "F1").click()
    marked = page.find_elements("css selector", "#results th[aria-sort]")
    assert [th.get_attribute("aria-sort") for th in marked] == ["descending"]


@pytest.mark.parametrize("width", [1280, 360])
def test_the_plots_are_shown(width, page):
    _emulate(page, width=width, scheme="light")
    plots = page.find_elements("css selector", "figure > svg")
    assert len(plots) == 2
    for plot in plots:
        assert plot.rect["width"] > min(400, 0.85 * width)
        assert plot.rect["height"] > 200
        marks = plot.find_elements("css selector", ".mark")
        assert len(marks) == 3
        for mark in marks:
            assert mark.rect["width"] > 5
            assert plot.rect["x"] < mark.rect["x"] < plot.rect["x"] + plot.rect["width"]


def test_fifteen_checkpoints_fit_1280_px_until_all_columns_are_asked_for(page, tmp_path):
    path = tmp_path / "fifteen.html"
    path.write_text(html.render(fifteen.REPORT), encoding="utf-8")
    page.get(path.as_uri())
    excess = "const frame = document.querySelector('.wide .scroll'); return frame.scrollWidth - frame.clientWidth"
    assert page.execute_script(excess) == 0
    heads = page.find_elements("css selector", "#results thead tr:last-child th")
    shown = [head for head in heads if head.is_displayed()]
    assert 8 <= len(shown) < len(heads)
    page.find_element("css selector", "label[for=all-columns]").click()
    assert all(head.is_displayed() for head in heads)
    assert page.execute_script(excess) > 0
    _emulate(page, width=390, scheme="light")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    gates = "const frame = document.querySelector('#gates .scroll'); return frame.scrollWidth - frame.clientWidth"
    assert page.execute_script(gates) == 0


def test_labels_of_a_plot_do_not_cover_each_other(page):
    boxes = page.execute_script(
        "return [...document.querySelectorAll('figure > svg')].map(svg => [...svg.querySelectorAll('.label')]"
        ".map(label => label.getBoundingClientRect()).map(box => [box.left, box.top, box.right, box.bottom]))"
    )
    for plot in boxes:
        assert len(plot) == 3
        for index, (left, top, right, bottom) in enumerate(plot):
            for other in plot[:index]:
                assert right < other[0] or other[2] < left or bottom < other[1] or other[3] < top


def test_dark_mode_has_dark_colours(page):
    def brightness() -> float:
        colours = _colours(page)
        return sum(sum(colour) * count for colour, count in colours.items()) / (3 * 255 * sum(colours.values()))

    light = brightness()
    _emulate(page, width=1280, scheme="dark")
    assert light > 0.85
    assert brightness() < 0.25


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(scheme, page):
    """WCAG 2.1 AA: 4.5 to 1 between a text and what it stands on."""
    _emulate(page, width=1280, scheme=scheme)
    pairs = page.execute_script("""
        const found = new Set();
        for (const details of document.querySelectorAll("details")) details.open = true;
        const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
          const node = walker.currentNode.parentElement;
          if (!walker.currentNode.data.trim() || node.closest("svg")) continue;
          const colourBehind = (at) => getComputedStyle(at).backgroundColor;
          let ground = node;
          while (colourBehind(ground) === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
          found.add(getComputedStyle(node).color + "/" + colourBehind(ground));
        }
        return [...found];""")
    assert len(pairs) > 6

    def luminance(colour: str) -> float:
        channels = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for pair in pairs:
        low, high = sorted(luminance(colour) for colour in pair.split("/"))
        assert (high + 0.05) / (low + 0.05) >= 4.5, pair


@pytest.mark.parametrize("width", [360, 390, 768])
def test_a_narrow_page_does_not_scroll_sideways(width, page):
    _emulate(page, width=width, scheme="light")
    page.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.execute_script("return innerWidth") == width
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    wide = page.execute_script(
        "return [...document.querySelectorAll('main *')].filter(node => !node.closest('.scroll') &&"
        " node.getBoundingClientRect().right > innerWidth + 1).map(node => node.outerHTML.slice(0, 80))"
    )
    assert wide == []
    frame = page.find_element("css selector", ".wide .scroll")
    name = page.find_element("css selector", "#results tbody th")
    left = name.rect["x"]
    assert page.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", frame)
    page.execute_script("arguments[0].scrollLeft = 300", frame)
    assert name.rect["x"] == pytest.approx(left, abs=1), "the names stay"


def test_a_link_opens_the_details_of_its_row(page):
    details = page.find_elements("css selector", "details.row")
    assert [part.get_attribute("open") for part in details] == [None] * len(NAMES)
    page.find_element("link text", "pruned-0.9").click()
    assert [part.get_attribute("open") is not None for part in details] == [name == "pruned-0.9" for name in NAMES]


def test_nothing_is_asked_of_the_network(page):
    for part in page.find_elements("css selector", "details.row summary"):
        part.click()
    (asked,) = _requests(page)
    assert asked.endswith("/report.html")
    assert asked.startswith("file://")
    # The log tells of a request where there is one, and the page's policy blocks what a script would fetch.
    blocked = page.execute_async_script(
        "const done = arguments[0]; document.addEventListener('securitypolicyviolation', e => done(e.blockedURI));"
        "fetch('http://elsewhere.invalid/x').catch(() => {})"
    )
    assert blocked == "http://elsewhere.invalid/x"
    page.get("data:text/html,<img src='http://elsewhere.invalid/y.png'>")
    assert "http://elsewhere.invalid/y.png" in _requests(page)


def test_runs_are_shown_when_asked_for_and_stay_below_their_mean(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "runs.html"
    path.write_text(html.render(a_report()), encoding="utf-8")
    browser.get(path.as_uri())
    lines = browser.find_elements("css selector", "#results tbody tr.run")
    assert [line.is_displayed() for line in lines] == [False] * 4
    browser.find_element("id", "all-runs").click()
    assert [line.is_displayed() for line in lines] == [True] * 4
    runs = ["seed42", "seed43"]
    assert _order(browser) == ["dense", *runs, "smp", *runs, "one"]
    _heading(browser, "EM").click()  # the best first
    best_first = [row.name for row in sorted(a_report().rows, key=lambda row: -(row.em or 0.0))]
    assert _order(browser) == [each for name in best_first for each in (name, *(runs if name != "one" else ()))]
    _heading(browser, "EM").click()
    assert _order(browser) == [each for name in best_first[::-1] for each in (name, *(runs if name != "one" else ()))]
