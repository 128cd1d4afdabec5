"""The pages that look at a store, in a real browser: keyboards, journeys, and what axe finds.

`tools/studio_pictures.py` writes the pictures of docs/studio.md in the same way.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra mien[studio]")
pytest.importorskip("playwright", reason="needs the package playwright")
pytest.importorskip("axe_playwright_python", reason="needs the package axe-playwright-python")
from studio_browser import (
    NEEDS_CHROMIUM,
    find_axe_faults,
    is_too_wide,
    open_browser,
    serve_in_process,
    watch_page,
)
from studios import make_store

from mien.runs.store import Store

pytestmark = NEEDS_CHROMIUM

PLACES = (
    *("/gallery?set=synthetic&sort=distance", "/runs/{audit}", "/", "/gallery?set=bound"),
    *("/compare?set=synthetic", "/compare?set=synthetic&other=faces"),
    *("/gallery/image?set=synthetic&at=0", "/compare?set=bound"),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Store:
    """The small store of the studio's tests."""
    return make_store(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    """The address that the command prints; Ctrl-C ends it well afterwards."""
    with serve_in_process(store) as (process, printed):
        yield printed
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    with open_browser() as opened:
        yield opened


class Tab:
    """A page of a browser that has opened the studio."""

    def __init__(self, page: Any) -> None:
        self.page, self.base = page, page.url.rstrip("/")

    def go(self, place: str) -> None:
        """Open a page of the studio and wait until it has all that it asks for."""
        self.page.goto(self.base + place)
        self.page.wait_for_load_state("networkidle")

    def wait(self, expression: str) -> None:
        """Wait until an expression of JavaScript holds; the page itself may evaluate no text."""
        deadline = time.monotonic() + 20
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)


@pytest.fixture
def open_tab(browser: Any, address: str) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, whose scripts must not fail and ask nothing of other hosts."""
    with ExitStack() as tabs:
        yield lambda **options: Tab(tabs.enter_context(watch_page(browser, address, **options)))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 320)])
def test_every_page_is_accessible_and_fits_into_the_window(
    open_tab: Callable[..., Tab], store: Store, scheme: str, width: int
):
    tab = open_tab(color_scheme=scheme, viewport={"width": width, "height": 800})
    faults = {}
    for place in PLACES if width > 320 else PLACES[::2]:
        tab.go(place.format(audit=store.resolve("audit")))
        found = [*find_axe_faults(tab.page), *(["too wide"] if is_too_wide(tab.page) else [])]
        if found:
            faults[place] = found
    assert faults == {}


def test_the_worst_copies_are_found_tagged_undone_and_exported(
    open_tab: Callable[..., Tab], store: Store
):
    tab = open_tab()
    page = tab.page

    # The worst ten, by the keyboard alone
    tab.go("/gallery?set=synthetic")
    page.select_option("#sort", "distance")
    tab.wait("document.querySelectorAll('.tile b').length > 10")
    assert "sort=distance" in page.url
    page.locator(".tile").first.focus()
    page.keyboard.press("Space")
    for _ in range(9):
        page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#count").inner_text() == "10 selected of 40 images"
    values = [float(text) for text in page.locator(".tile b").all_inner_texts()]
    assert values == sorted(values)

    # A tag, and its end
    page.keyboard.press("t")
    page.keyboard.type("worst")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=10 images tagged")
    tab.wait("document.querySelectorAll('.tile .dots').length >= 10")
    page.locator(".tile").first.focus()
    page.keyboard.press("u")
    page.wait_for_selector("text=Undone: 10 images tagged")

    # A list, and a new run
    with page.expect_download() as saved:
        page.click("#exporting button")
    lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 11 and lines[0].startswith("key,")
    page.select_option("#export-to", "run")
    page.fill("#export-name", "worst-ten")
    page.click("#exporting button")
    page.wait_for_selector("text=10 images are the run")
    assert len(store.run("worst-ten").read_json("summary.json")["counts"]) > 1


def test_an_image_is_shown_large_and_the_focus_comes_back(open_tab: Callable[..., Tab]):
    tab = open_tab()
    tab.go("/gallery?set=synthetic&sort=distance")
    tab.page.locator(".tile").nth(2).focus()
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector("dialog[open] .big")
    assert "distance to the nearest training face" in tab.page.inner_text("dialog")
    assert find_axe_faults(tab.page) == []
    tab.page.keyboard.press("Escape")
    assert tab.page.evaluate("document.activeElement.dataset.place") == "2"


def test_a_clip_plays_while_the_pointer_is_on_it(open_tab: Callable[..., Tab]):
    tab = open_tab()
    tab.go("/gallery?set=clips")
    tile = tab.page.locator(".tile").first
    seen = "document.querySelector('.tile canvas').toDataURL()"
    before = tab.page.evaluate(seen)
    tile.hover()
    tab.wait(f"{seen} !== {before!r}")
    tab.page.mouse.move(0, 0)
    tab.wait(f"{seen} === {before!r}")


def test_two_tabs_see_each_other_s_tags(open_tab: Callable[..., Tab]):
    first, second = open_tab(), open_tab()
    for tab, tag in ((first, "one"), (second, "two")):
        tab.go("/gallery?set=faces")
        tab.page.locator(".tile").first.click()
        tab.page.fill("#tag-name", tag)
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("text=1 image tagged")
    first.go("/gallery?set=faces&tag=two")
    assert first.page.inner_text("#count") == "1 image"
    assert "one" in (first.page.locator(".tile").first.get_attribute("aria-label") or "")


def test_pages_work_without_scripts(open_tab: Callable[..., Tab]):
    tab = open_tab(java_script_enabled=False)
    tab.go("/gallery?set=synthetic")
    tab.page.select_option("#sort", "distance")
    tab.page.click("text=Show")
    assert tab.page.locator("ol.plain li").count() == 40
    tab.page.locator("ol.plain a").first.click()
    assert "/gallery/image" in tab.page.url
    tab.go("/compare?set=synthetic")
    tab.page.click("noscript a")
    assert "searching" not in tab.page.inner_text("table")
