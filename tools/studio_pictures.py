"""Write the pictures of docs/studio.md: pages of the studio over the store of `make demo`.

The set `synthetic` of the demo gets an audit first, if it has none. Needs the browser chromium.
"""

import sys
from importlib import import_module
from pathlib import Path

from PIL import Image

from mien import api
from mien.runs.store import Store

ROOT = Path(__file__).parent.parent

PICTURES = {
    "overview": "/",
    "gallery": "/gallery?set=synthetic&sort=distance&size=80",
    "compare": "/compare?set=synthetic",
}

WIDTH, HEIGHT, COLOURS = 1280, 800, 256


def main(folder: Path) -> None:
    """Write docs/studio-NAME.png for each of PICTURES."""
    store = Store(folder)
    api.audit_faces("synthetic", "train", "test", store=store)
    sys.path.insert(0, str(ROOT / "tests"))
    studio = import_module("studio_browser")  # as the tests open a studio and a browser
    with studio.serve_in_process(store) as (_, address), studio.open_browser() as browser:
        page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
        page.goto(address)
        base = page.url.rstrip("/")
        for name, place in PICTURES.items():
            page.goto(base + place)
            page.wait_for_load_state("networkidle")
            path = ROOT / "docs" / f"studio-{name}.png"
            page.screenshot(path=path)
            picture = Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=COLOURS)
            picture.save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "mien-demo" / "store")
