"""A real browser over a real studio, for the tests of pages: Debian's Chromium with Playwright."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from mien.runs.store import Store

CHROMIUM = Path("/usr/bin/chromium")

CHROMIUM_OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

TOKEN = "a-token-of-the-tests"


NEEDS_CHROMIUM = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs the browser {CHROMIUM}")


@contextmanager
def open_browser() -> Iterator[Any]:
    """Provide a browser without any pages."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@contextmanager
def watch_page(browser: Any, address: str, **options: Any) -> "Iterator[Page]":
    """Provide a page that has opened the studio at `address`; afterwards no script has failed and
    no request has left the studio.
    """
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page: Page = context.new_page()
    foreign: list[str] = []
    faults: list[str] = []
    host = urlsplit(address).netloc

    def note_request(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and parts.netloc != host:
            foreign.append(request.url)

    page.on("request", note_request)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console", lambda message: faults.append(message.text) if message.type == "error" else None
    )
    page.goto(address)
    yield page
    context.close()
    assert foreign == [] and faults == []


def find_axe_faults(page: "Page", rules: list[str] | None = None) -> list[str]:
    """Return the rules of axe, or those of `rules`, that a page breaks, each with the first element
    that does.
    """
    script = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)
    result = page.evaluate("rules => axe.run(rules ? {runOnly: rules} : {})", rules)
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in result["violations"]]


def is_too_wide(page: "Page") -> bool:
    """Whether a page scrolls sideways."""
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


@contextmanager
def serve_in_thread(store: "Store", **options: Any) -> Iterator[str]:
    """Serve a studio from this process; provide the address with its token."""
    import uvicorn

    from mien.studio.app import make_app
    from mien.studio.serve import bind_port

    socket = bind_port(0)
    app = make_app(store, token=TOKEN, **options)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{socket.getsockname()[1]}/?token={TOKEN}"
    server.should_exit = True
    thread.join(10)


@contextmanager
def serve_in_process(store: "Store", port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve a studio by its command; provide the process and the address that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mien", "studio", "--no-open", "--port", str(port)],
        env={**os.environ, "MIEN_STORE": str(store.root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
