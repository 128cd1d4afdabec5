"""Write docs/toy.png, which shows drawn people with each expression."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.ingest.toy.head import draw_face, invent_identity
from mien.pages.sheets import draw_grid

ROOT = Path(__file__).parent.parent
APEXES = {
    "neutral": "",
    "happiness": "6+12",
    "disgust": "4+7+9",
    "surprise": "1+2+5+25",
    "repression": "15+17",
    "sadness": "1+4+15",
    "fear": "1+2+4+5+20",
    "others": "4+14",
}


def toy() -> Image.Image:
    """Return six people with each expression at its apex, large above and as the models see them
    below.
    """
    large, small = [], []
    for number in (1, 3, 5, 6, 9, 12):
        person = invent_identity(0, number)
        for units in APEXES.values():
            drawn = draw_face(person, dict.fromkeys(units.split("+"), 0.95) if units else {})
            large.append(
                np.moveaxis(
                    np.asarray(Image.fromarray(drawn).resize((112, 136), Image.Resampling.BOX)),
                    2,
                    0,
                )
            )
            grey = Image.fromarray(drawn).convert("L").resize((48, 48), Image.Resampling.BILINEAR)
            small.append(np.asarray(grey)[None])
    above = draw_grid(np.stack(large), len(APEXES), 1)
    below = draw_grid(np.stack(small), len(APEXES), 2)
    sheet = Image.new("RGB", (above.width, above.height + below.height + 32), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (name, units) in enumerate(APEXES.items()):
        pen.text(
            (place * 114 + 2, 3),
            f"{name} {units}",
            fill="black",
            font=ImageFont.load_default(size=10),
        )
    sheet.paste(above, (0, 20))
    sheet.paste(below, ((above.width - below.width) // 2, above.height + 32))
    return sheet


if __name__ == "__main__":
    toy().save(ROOT / "docs" / "toy.png", optimize=True)
