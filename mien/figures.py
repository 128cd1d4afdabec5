"""Pictures for people: contact sheets."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.faces import Faces
from mien.progress import many
from mien.seeds import rng

INK, PAPER = (40, 40, 40), (255, 255, 255)
GAP = 2
TITLE = 18


def grid(images: np.ndarray, columns: int, scale: int = 2) -> Image.Image:
    """Return images (uint8 [n, c, h, w]) side by side, `columns` in a row, each pixel `scale`
    pixels wide.
    """
    n, c, h, w = images.shape
    w = w if c in (1, 3) else c * w
    rows = -(-n // columns)
    sheet = Image.new(
        "RGB", (columns * (w * scale + GAP) - GAP, rows * (h * scale + GAP) - GAP), PAPER
    )
    for place, image in enumerate(images):
        y, x = divmod(place, columns)
        sheet.paste(picture(image, scale), (x * (w * scale + GAP), y * (h * scale + GAP)))
    return sheet


def picture(image: np.ndarray, scale: int = 1) -> Image.Image:
    """Return one image (uint8 [c, h, w]) enlarged by a whole number, pixels left square.

    Three channels are taken for RGB; of two, or more than three, each stands beside the other in
    grey.
    """
    if len(image) not in (1, 3):
        image = np.concatenate(list(image), axis=1)[None]
    _, h, w = image.shape
    whole = Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)).convert(
        "RGB"
    )
    return whole.resize((w * scale, h * scale), Image.Resampling.NEAREST) if scale > 1 else whole


def pick(faces: Faces, emotion: str, number: int) -> np.ndarray:
    """Return up to `number` images of a class, those of `places`."""
    return np.asarray(faces.images[places(faces, emotion, number)])


def places(faces: Faces, emotion: str, number: int) -> np.ndarray:
    """Return where up to `number` images of a class are, drawn by name: many subjects, and the same
    each time.

    Frames at the apex come first, because they show the expression.
    """
    rows = faces.index[faces.index["emotion"] == emotion]
    order = rng("sheet", emotion, len(rows)).permutation(len(rows))
    rows = rows.iloc[order]
    rows = rows.assign(late=~rows["phase"].isin(["apex", "still"]))
    rows = rows.assign(turn=rows.groupby(["late", "subject"]).cumcount()).sort_values(
        ["late", "turn"], kind="stable"
    )
    return rows.index.to_numpy()[:number]


def class_sheet(faces: Faces, per_class: int = 12, scale: int = 2) -> Image.Image:
    """Return a contact sheet with a row of `per_class` images for each class, its name and counts
    above.

    Of faces whose channels are no plain picture, each channel has a row of its own.
    """
    counts = {row["class"]: row for row in faces.counts().to_dict("records")}
    titles = []
    for emotion in faces.classes:
        images, clips, subjects = (
            int(counts[emotion][name]) for name in ("images", "clips", "subjects")
        )
        parts = [
            many(images, "image"),
            many(clips, "clip") if clips else "",
            many(subjects, "subject") if subjects else "",
        ]
        titles.append(f"{emotion}   {', '.join(part for part in parts if part)}")
    return _rows_of(faces, dict(zip(faces.classes, titles, strict=True)), per_class, scale)


def side_by_side(real: Faces, synthetic: Faces, per_class: int = 8, scale: int = 2) -> Image.Image:
    """Return a sheet with real images on the left and synthetic ones on the right, a row for each
    class of either.
    """
    classes = [emotion for emotion in [*real.classes, *synthetic.classes] if emotion]
    classes = list(dict.fromkeys(classes))
    left = _rows_of(real, {name: f"{name}   real" for name in classes}, per_class, scale)
    right = _rows_of(synthetic, {name: f"{name}   synthetic" for name in classes}, per_class, scale)
    both = Image.new(
        "RGB", (left.width + 8 * GAP + right.width, max(left.height, right.height)), PAPER
    )
    both.paste(left, (0, 0))
    both.paste(right, (left.width + 8 * GAP, 0))
    return both


def synthetic_sheet(faces: Faces, per_class: int = 8, scale: int = 2) -> Image.Image:
    """Return a sheet of synthetic images, a row for each class."""
    return _rows_of(
        faces, {name: f"{name}   synthetic" for name in faces.classes}, per_class, scale
    )


def _rows_of(faces: Faces, titles: dict[str, str], per_class: int, scale: int) -> Image.Image:
    """Return a sheet of some images of each class in `titles`, channel by channel where they are no
    plain picture.
    """
    picked = {emotion: pick(faces, emotion, per_class) for emotion in titles}
    if not faces.channels:
        return rows(list(titles.values()), list(picked.values()), per_class, scale)
    named = [f"{title}   {name}" for title in titles.values() for name in faces.channels]
    parts = [part[:, [place]] for part in picked.values() for place in range(len(faces.channels))]
    return rows(named, parts, per_class, scale)


def rows(
    titles: Sequence[str], images: Sequence[np.ndarray], columns: int, scale: int = 2
) -> Image.Image:
    """Return a sheet with one titled row of images for each title; a row may be short or empty."""
    c, h, w = next((part.shape[1:] for part in images if len(part)), (1, 1, 1))
    w = w if c in (1, 3) else c * w
    font = ImageFont.load_default(size=13)
    wide = max(
        [columns * (w * scale + GAP) - GAP, *(2 + round(font.getlength(title)) for title in titles)]
    )
    sheet = Image.new("RGB", (max(1, wide), max(1, len(titles) * (TITLE + h * scale + GAP))), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, (title, part) in enumerate(zip(titles, images, strict=True)):
        top = place * (TITLE + h * scale + GAP)
        pen.text((1, top + 1), title, fill=INK, font=font)
        if len(part):
            sheet.paste(grid(part, columns, scale), (0, top + TITLE))
    return sheet
