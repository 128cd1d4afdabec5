"""Journeys through the pages that make and measure, in a real browser."""

import io
import os
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra mien[studio]")
pytest.importorskip("playwright", reason="needs the package playwright")
pytest.importorskip("axe_playwright_python", reason="needs the package axe-playwright-python")
from studio_browser import (
    NEEDS_CHROMIUM,
    find_axe_faults,
    is_too_wide,
    open_browser,
    serve_in_process,
    serve_in_thread,
    watch_page,
)
from studio_rooms import fill_store, name_run

from mien.audit.labels.review import read_decisions
from mien.faces import Faces
from mien.runs.commands import read_command, stop_command
from mien.runs.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = NEEDS_CHROMIUM

PAGES_OF_TOOLS = [
    *("/map", "/map/{map}", "/generate", "/generate?generator=drawer&counts=each:4", "/review"),
    *("/review/{queue}", "/review/{queue}?reviewer=ada", "/audit", "/audit/{audit}", "/study"),
    *("/study/{done}", "/study/{broken}", "/release", "/release/{made}", "/try"),
]

NARROW_PAGES = [
    *("/map/{map}", "/generate", "/review/{queue}?reviewer=ada", "/audit/{audit}", "/study/{done}"),
    *("/release/{made}", "/try"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Store:
    return fill_store(tmp_path_factory.mktemp("journeys"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    with serve_in_thread(store) as printed:
        yield printed


def go(page: "Page", path: str) -> None:
    """Go to a path of the studio that a page is of."""
    page.goto(re.sub(r"(http://[^/]+).*", r"\1", page.url) + path)
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("look", ["wide and light", "narrow and dark"])
def test_axe_finds_nothing_and_no_page_scrolls_sideways(
    store: Store, browser: Any, address: str, look: str
):
    names = {alias: name_run(store, alias) for alias in store.read_aliases()}
    options: dict[str, Any] = {}
    if look == "narrow and dark":
        options = {"viewport": {"width": 320, "height": 700}, "color_scheme": "dark"}
    with watch_page(browser, address, **options) as page:
        for path in PAGES_OF_TOOLS if not options else NARROW_PAGES:
            go(page, path.format(**names))
            rules = ["color-contrast"] if options else None  # the others know no colours
            assert (path, find_axe_faults(page, rules), is_too_wide(page)) == (path, [], False)


def test_a_line_around_faces_on_the_map_chooses_them_and_is_kept_in_the_address(
    store: Store, browser: Any, address: str
):
    run = name_run(store, "map")
    with watch_page(browser, address) as page:
        go(page, f"/map/{run}")
        total = page.locator("#count").inner_text()
        assert total.startswith("All ")

        # A line around the left half
        box = page.locator("#plane").bounding_box()
        assert box
        left, top, width, height = (box[name] for name in ("x", "y", "width", "height"))
        page.mouse.move(left + 2, top + 2)
        page.mouse.down()
        for x, y in (
            (0.25, 0.01),
            (0.5, 0.01),
            (0.5, 0.5),
            (0.5, 0.99),
            (0.25, 0.99),
            (0.01, 0.99),
        ):
            page.mouse.move(left + x * width, top + y * height, steps=3)
        page.mouse.up()
        chosen = page.locator("#count").inner_text()
        assert " of " in chosen and page.locator("#thumbs img").count() > 0
        assert "around=" in page.url

        # The same faces after a reload, and fewer with a range of numbers, by keyboard alone
        page.reload()
        page.wait_for_load_state("networkidle")
        assert page.locator("#count").inner_text() == chosen
        field = page.get_by_label("from").nth(2)
        field.fill("1")
        field.press("Tab")
        assert page.locator("#count").inner_text() != chosen and "distance=1.." in page.url
        numbers = [
            re.search(r"\((\d+) of (\d+)\)", text)
            for text in page.locator("#class option").all_inner_texts()[1:]
        ]
        counted = sum(int(found[1]) for found in numbers if found)
        assert page.locator("#count").inner_text().startswith(f"{counted} of ")

        # What is chosen opens in the gallery
        link = page.locator("#links a:visible").first
        number = link.locator("span").inner_text()
        target = link.get_attribute("href")
        assert target
        back = page.url
        go(page, target)
        page.locator("#gallery").wait_for()
        assert page.locator("#count").inner_text().split()[0] == number
        page.goto(back)
        page.wait_for_load_state("networkidle")
        page.get_by_role("button", name="Show all").click()
        assert page.locator("#count").inner_text() == total

        # Arrows go from face to face, and what a face is can be read
        page.locator("#plane").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("#preview").is_visible()
        assert "distance" in page.locator("#status").inner_text()


def test_ten_labels_are_reviewed_by_keys_alone(store: Store, browser: Any, address: str):
    queue = name_run(store, "queue")
    with watch_page(browser, address) as page:
        go(page, f"/review/{queue}")
        page.get_by_label("Your name").fill("keys")
        page.keyboard.press("Enter")
        page.wait_for_url("**reviewer=keys**")
        page.wait_for_load_state("networkidle")

        # Ten answers, one of them taken back and given again, one image passed over
        for number in range(10):
            page.keyboard.press("x" if number == 3 else "12"[number % 2])
            expected = re.compile(rf"{number + 1} of 12 decided")
            page.get_by_text(expected).wait_for()
        page.keyboard.press("u")
        page.get_by_text("9 of 12 decided").wait_for()
        page.keyboard.press("1")
        page.get_by_text("10 of 12 decided").wait_for()
        assert "Image 11" in page.locator("#desk h2").first.inner_text()
        page.keyboard.press(" ")
        page.get_by_role("heading", name="Image 12").wait_for()
        assert "at=11" in page.url
        table = read_decisions(store.root / "reviews" / queue / "keys.csv").table
        assert len(table) == 10 and (table["decision"] == "reject").sum() == 1

        # Switched off, keys decide nothing
        page.get_by_label("Single keys decide").uncheck()
        page.keyboard.press("1")
        page.wait_for_timeout(300)
        assert page.get_by_text("10 of 12 decided").is_visible()


def test_a_picture_is_named_without_leaving_the_page(store: Store, browser: Any, address: str):
    buffer = io.BytesIO()
    Image.fromarray(Faces.load(store.run("train").path).images[0][0]).save(buffer, "PNG")
    with watch_page(browser, address) as page:
        go(page, "/try")
        picture = {"name": "me.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
        page.set_input_files("#picture", [picture])  # pyright: ignore[reportArgumentType]
        page.get_by_role("button", name="Name the expression").click()
        page.get_by_text("The picture shows:").wait_for()
        shown = page.get_by_alt_text("The face as the classifier saw it")
        assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 24
        assert find_axe_faults(page) == []


@pytest.mark.slow
def test_what_a_page_starts_goes_on_when_the_studio_is_killed(store: Store, browser: Any):
    with serve_in_process(store) as (process, printed):
        with watch_page(browser, printed) as page:
            # A study begins to run, and 20 faces are drawn meanwhile
            broken = name_run(store, "broken")
            go(page, f"/study/{broken}")
            page.get_by_role("button", name="Try again").first.click()
            page.get_by_text("running").first.wait_for()
            go(page, "/generate?generator=drawer")
            page.get_by_label("Images per class").fill("only,happiness=20")
            page.get_by_role("button", name="Generate", exact=True).click()
            page.wait_for_load_state("networkidle")
            filled = page.url

        # The studio is killed in the middle; both commands go on
        process.kill()
        process.wait()
        study = read_command(broken, store)
        assert study is not None and study.running
        os.kill(study.pid, 0)

    # A new studio shows what has become of it; the same address shows the faces
    with serve_in_process(store) as (_, printed):
        base = printed.partition("/?")[0]
        with watch_page(browser, printed) as page:
            page.goto(base + filled[filled.index("/generate") :])
            page.get_by_text("20 images, finished").wait_for(timeout=60_000)
            sheet = page.locator("img.sheet")
            assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
            page.goto(f"{base}/study/{broken}")
            page.get_by_role("heading", name="Study broken").wait_for()
    stop_command(broken, store)
    for _ in range(200):
        study = read_command(broken, store)
        if study is None or not study.running:
            break
        time.sleep(0.1)
    stop_command(broken, store, now=True)
