"""Contact sheets: pictures of many faces, by class or side by side."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.faces import Faces
from mien.runs.progress import quantify
from mien.seeds import make_rng
from mien.strips import show_as_pictures, split_channel

INK, PAPER = (40, 40, 40), (255, 255, 255)

GAP_PIXELS = 2

TITLE_PIXELS = 18

# Of clips: strips of each class on a sheet; and how an animated picture shows them
STRIPS_PER_CLASS, MOVING_COLUMNS, MOMENT_MS = 3, 6, 150


def draw_grid(images: np.ndarray, columns: int, scale: int = 2) -> Image.Image:
    """Return pictures (uint8 [n, 1 or 3, h, w]) in rows of `columns`, each pixel `scale` pixels
    wide.
    """
    n, _, h, w = images.shape
    rows = -(-n // columns)
    sheet = Image.new(
        "RGB",
        (
            columns * (w * scale + GAP_PIXELS) - GAP_PIXELS,
            rows * (h * scale + GAP_PIXELS) - GAP_PIXELS,
        ),
        PAPER,
    )
    for position, image in enumerate(images):
        y, x = divmod(position, columns)
        sheet.paste(
            make_picture(image, scale), (x * (w * scale + GAP_PIXELS), y * (h * scale + GAP_PIXELS))
        )
    return sheet


def make_picture(image: np.ndarray, scale: int = 1) -> Image.Image:
    """Return a picture (uint8 [1 or 3, h, w]) enlarged by a whole factor, with square pixels.

    `Faces.show_pictures` makes pictures of images with any channels.
    """
    _, h, w = image.shape
    enlarged = Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)).convert(
        "RGB"
    )
    return (
        enlarged.resize((w * scale, h * scale), Image.Resampling.NEAREST) if scale > 1 else enlarged
    )


def pick_images(faces: Faces, emotion: str, number: int) -> np.ndarray:
    """Return up to `number` images of a class, those of `pick_positions`."""
    return np.asarray(faces.images[pick_positions(faces, emotion, number)])


def pick_positions(faces: Faces, emotion: str, number: int) -> np.ndarray:
    """Return the positions of up to `number` images of a class, from many subjects.

    The order depends only on the class. Frames at the apex come first: they show the expression.
    """
    positions = np.flatnonzero((faces.index["emotion"] == emotion).to_numpy())
    order = make_rng("sheet", emotion, len(positions)).permutation(len(positions))
    positions = positions[order]
    late = ~faces.index["phase"].isin(["apex", "still"]).to_numpy()[positions]
    subjects = faces.index["subject"].to_numpy(dtype=object)[positions]

    # One image of each subject in each turn
    taken: Counter[tuple[bool, str]] = Counter()
    turns = []
    for owner in zip(late.tolist(), subjects, strict=True):
        turns.append(taken[owner])
        taken[owner] += 1
    return positions[np.lexsort((np.array(turns), late))][:number]


def draw_class_sheet(faces: Faces, per_class: int = 12, scale: int = 2) -> Image.Image:
    """Return a contact sheet with a titled row of up to `per_class` images for each class.

    The title has the name and counts of the class. Channels other than grey or RGB get a row each.
    Of clips, each of STRIPS_PER_CLASS gets a strip, its moments from left to right.
    """
    counts = {row["class"]: row for row in faces.count_images().to_dict("records")}
    titles = []
    for emotion in faces.classes:
        images, clips, subjects = (
            int(counts[emotion][name]) for name in ("images", "clips", "subjects")
        )
        texts = [
            quantify(images, "image"),
            quantify(clips, "clip") if clips else "",
            quantify(subjects, "subject") if subjects else "",
        ]
        titles.append(f"{emotion}   {', '.join(text for text in texts if text)}")
    return _draw_class_rows(faces, dict(zip(faces.classes, titles, strict=True)), per_class, scale)


def draw_side_by_side(
    real: Faces, synthetic: Faces, per_class: int = 8, scale: int = 2
) -> Image.Image:
    """Return a sheet, real images on the left and synthetic on the right, one row per class."""
    classes = [emotion for emotion in [*real.classes, *synthetic.classes] if emotion]
    classes = list(dict.fromkeys(classes))
    left = _draw_class_rows(real, {name: f"{name}   real" for name in classes}, per_class, scale)
    right = _draw_class_rows(
        synthetic, {name: f"{name}   synthetic" for name in classes}, per_class, scale
    )
    sheet = Image.new(
        "RGB", (left.width + 8 * GAP_PIXELS + right.width, max(left.height, right.height)), PAPER
    )
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + 8 * GAP_PIXELS, 0))
    return sheet


def _draw_class_rows(
    faces: Faces, titles: dict[str, str], per_class: int, scale: int
) -> Image.Image:
    """Return a sheet of the classes in `titles`, by channel where these are not grey or RGB."""
    if faces.moments:
        return _draw_strips(faces, titles, scale)
    picked = {emotion: pick_images(faces, emotion, per_class) for emotion in titles}
    if not faces.channels:
        visible = [show_as_pictures(images, ()) for images in picked.values()]
        return draw_rows(list(titles.values()), visible, per_class, scale)
    row_titles = [f"{title}   {name}" for title in titles.values() for name in faces.channels]
    row_images = [
        images[:, [channel]] for images in picked.values() for channel in range(len(faces.channels))
    ]
    return draw_rows(row_titles, row_images, per_class, scale)


def _draw_strips(faces: Faces, titles: dict[str, str], scale: int) -> Image.Image:
    """Return a sheet of clips: a strip for each clip and each of its inputs."""
    channels = find_channels_of_inputs(faces)
    row_titles, row_images = [], []
    for emotion, title in titles.items():
        for number, clip in enumerate(pick_images(faces, emotion, STRIPS_PER_CLASS)):
            for name, positions in channels.items():
                clip_title = f"{title}   clip {number + 1}"
                row_titles.append(clip_title if len(channels) == 1 else f"{clip_title}   {name}")
                row_images.append(clip[positions][:, None])
    return draw_rows(row_titles, row_images, len(faces.moments), scale)


def find_channels_of_inputs(faces: Faces) -> dict[str, list[int]]:
    """Return the positions of each input's channels, one for each moment, of clips."""
    channels: dict[str, list[int]] = {}
    for position, name in enumerate(faces.channels):
        channels.setdefault(split_channel(name)[0], []).append(position)
    return channels


def write_moving_sheets(faces: Faces, folder: Path, per_class: int = 12, scale: int = 2) -> None:
    """Write clips as an animated picture for each class: motion-happiness.webp.

    It shows up to `per_class` clips side by side, in their first input. Each moment stays for
    MOMENT_MS, and the last for three times as long.
    """
    first_input = next(iter(find_channels_of_inputs(faces).values()))
    for emotion in faces.classes:
        clips = pick_images(faces, emotion, per_class)
        pictures = [
            draw_grid(clips[:, [channel]], min(len(clips), MOVING_COLUMNS), scale)
            for channel in first_input
        ]
        write_moving_picture(pictures, folder / f"motion-{emotion}.webp")


def write_moving_picture(moments: Sequence[Image.Image], path: Path, xmp: str = "") -> None:
    """Write pictures as an animated one without losses (WebP), with a packet of XMP if it is given.

    Each stays for MOMENT_MS, and the last for three times as long.
    """
    packet: dict[str, Any] = {"xmp": xmp.encode()} if xmp else {}
    moments[0].save(
        path,
        save_all=True,
        append_images=list(moments[1:]),
        duration=[MOMENT_MS] * (len(moments) - 1) + [3 * MOMENT_MS],
        loop=0,
        lossless=True,
        **packet,
    )


def draw_rows(
    titles: Sequence[str], images: Sequence[np.ndarray], columns: int, scale: int = 2
) -> Image.Image:
    """Return a sheet with a titled row of images for each title; a row may be short or empty."""
    _, h, w = next((row_images.shape[1:] for row_images in images if len(row_images)), (1, 1, 1))
    font = ImageFont.load_default(size=13)
    width = max(
        [
            columns * (w * scale + GAP_PIXELS) - GAP_PIXELS,
            *(2 + round(font.getlength(title)) for title in titles),
        ]
    )
    sheet = Image.new(
        "RGB", (max(1, width), max(1, len(titles) * (TITLE_PIXELS + h * scale + GAP_PIXELS))), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    for position, (title, row_images) in enumerate(zip(titles, images, strict=True)):
        top = position * (TITLE_PIXELS + h * scale + GAP_PIXELS)
        pen.text((1, top + 1), title, fill=INK, font=font)
        if len(row_images):
            sheet.paste(draw_grid(row_images, columns, scale), (0, top + TITLE_PIXELS))
    return sheet
