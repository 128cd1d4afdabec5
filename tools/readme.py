"""Write the demo's part of README.md and docs/demo.png from the store that `make demo` leaves.

The numbers go into docs/demo.json, with the digest of the demo's plan, and the README's text is
made from that file alone. So a test can see whether either is out of date.
"""

import json
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mien.cli.demo.findings import Change, DemoFindings, Score, list_lines, read_findings
from mien.cli.demo.plan import PLAN
from mien.faces import Faces
from mien.pages.sheets import draw_side_by_side
from mien.runs.progress import quantify
from mien.runs.store import Store

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- demo: written by `make readme` -->", "<!-- end of demo -->"
REPORT = "mien-demo/report/report.html"
LINE_WIDTH = 100  # characters of a line of the README


def pack(found: DemoFindings) -> str:
    """Return the content of docs/demo.json."""
    return json.dumps({"plan": PLAN.digest, "findings": asdict(found)}, indent=1) + "\n"


def unpack(text: str) -> tuple[str, DemoFindings]:
    """Return the digest of the plan, and the findings, from the content of docs/demo.json."""
    content = json.loads(text)
    fields: dict[str, Any] = content["findings"]
    tables = {
        name: {row: Score(**score) for row, score in fields[name].items()}
        for name in ("frames", "held")
    }
    changes = {name: Change(**change) for name, change in fields["changes"].items()}
    sentences = tuple(fields["sentences"])
    found = DemoFindings(**{**fields, **tables, "changes": changes, "sentences": sentences})
    return content["plan"], found


def render_block(digest: str, found: DemoFindings) -> str:
    """Return the demo's part of the README, between its marks."""
    lines = "\n".join(f"    {line}" for line in list_lines(found, REPORT))
    rows = "\n".join(
        f"| {name} | {_format(found.frames[name])} | {_format(found.held[name])} |"
        for name in found.frames
    )
    frames, held = (
        f"{images:,} images in {quantify(trials, 'trial')}"
        for images, trials in (
            (found.frames_images, found.frames_trials),
            (found.held_images, found.held_trials),
        )
    )
    basis = (
        f"n is {frames} by frame, and {held} by people. Four in five of the "
        f"{found.synthetic} generated faces are trained on. In per cent, with 95 % intervals:"
    )
    return f"""\
{BEGIN}
The demo ends with eight lines. One run printed these (plan `{digest}`, seed 0):

{lines}

{textwrap.fill(basis, LINE_WIDTH)}

| trained on, classifier | random split of frames | {found.held_out} held-out people |
| --- | --: | --: |
{rows}
{END}"""


def _format(score: Score) -> str:
    return f"{score.value:.1f} [{score.low:.1f}, {score.high:.1f}]"


def with_block(text: str, block: str) -> str:
    """Return a README with `block` in the place of the one that it has."""
    before, _, rest = text.partition(BEGIN)
    if not rest:
        raise SystemExit(f"README.md must have the marks {BEGIN} and {END}, and has not")
    return before + block + rest.partition(END)[2]


def main(folder: Path) -> None:
    """Write README.md, docs/demo.json and docs/demo.png from the demo in `folder`."""
    store = Store(folder / "store")
    content = pack(read_findings(store))
    (ROOT / "docs" / "demo.json").write_text(content, encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(with_block(text, render_block(*unpack(content))), encoding="utf-8")

    # Training faces of the demo next to those that it generated
    real, synthetic = (Faces.load(store.run(name).path) for name in ("train", "synthetic"))
    sheet = draw_side_by_side(real, synthetic, per_class=6, scale=2)
    sheet.save(ROOT / "docs" / "demo.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "mien-demo")
