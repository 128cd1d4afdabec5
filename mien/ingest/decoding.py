"""Decoding: the listed pictures of a folder become one array of faces."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mien import strips
from mien.errors import DataError, UsageError
from mien.faces import Faces, make_index
from mien.findings import Finding, list_some
from mien.ingest.reader import Listing
from mien.ingest.specs import IngestSpec
from mien.pictures import (
    SEVERAL_FRAMES,
    TRANSPARENT_PARTS,
    Colour,
    FacePlace,
    Picture,
    convert_to_array,
    convert_to_image,
    decode,
    open_picture,
    resize_image,
)
from mien.prepare import crops
from mien.runs.progress import track

# at most so many pictures are extracted from files before they are decoded
MAX_WAITING_PICTURES = 64

# Decoding


# The place of the face in each image; None if whole images are read.
FacePlaces = list[FacePlace | None] | None


def find_faces(
    listing: Listing, spec: IngestSpec, workers: int | None, model: Path | None, out: Path | None
) -> tuple[Listing, FacePlaces, dict[str, Any]]:
    """Return the listing without the images that are skipped because they show no face, the places
    of the faces, and a summary of the search.

    A report on every image goes to `out`. An image that cannot be read stays, so that decoding
    raises its error.
    """
    if spec.crop is None:
        return listing, None, {}

    # Open each image as the detector needs it.
    rows = listing.rows
    colour: Colour = "rgb" if spec.crop.detector == "yunet" else "grey"

    def open_listed(number: int) -> np.ndarray | None:
        single = replace(listing, rows=rows.iloc[[number]])
        _, picture = next(iter(_iterate_pictures(single)))
        box = rows["box"].iloc[number] if "box" in rows else None
        white = _find_white_values(single)[0]
        if isinstance(picture, DataError):
            return None
        try:
            return open_picture(picture, colour, box=box, white=white)
        except DataError:
            return None

    labels = rows[["emotion", "clip", "frame"]].assign(
        key=[f"{spec.dataset}/{key}" for key in rows["key"]]
    )
    search = crops.search_faces(
        labels,
        open_listed,
        spec.crop,
        size=spec.size,
        model=model,
        threads=choose_thread_count(workers),
        out=out,
    )
    with_faces = replace(listing, rows=rows[search.in_result].reset_index(drop=True))
    return (
        with_faces,
        [
            face_place
            for face_place, stays in zip(search.places, search.in_result, strict=True)
            if stays
        ],
        {"crop": crops.count_faces(search.table)},
    )


def read_listing(
    listing: Listing,
    spec: IngestSpec,
    workers: int | None,
    skip_unreadable: bool,
    places: FacePlaces = None,
) -> tuple[Faces, list[Finding]]:
    """Return the faces, and findings about images that were left out, that are equal, or of which
    only a part was used.

    Raises DataError if an image cannot be read; with `skip_unreadable` only if none can.
    """
    images, faults, remarks = _decode_all(listing, spec, workers, places)
    if faults and not (skip_unreadable and len(faults) < len(images)):
        count_text = (
            f" There are {len(faults)} such images of {len(images)}." if len(faults) > 1 else ""
        )
        remedy = (
            "replace or remove them"
            if len(faults) == len(images)
            else "replace them, or leave them out with --skip-unreadable"
        )
        raise DataError(f"{'; '.join(list(faults.values())[:3])}.{count_text} What to do: {remedy}")

    # Names of different datasets must stay distinct, so all get the dataset's name in front.
    readable = np.array([row not in faults for row in range(len(images))], dtype=bool)
    rows = listing.rows[readable]
    decoded = images if not faults else images[readable]
    index = make_index(
        decoded,
        key=[f"{spec.dataset}/{key}" for key in rows["key"]],
        dataset=spec.dataset,
        subject=[f"{spec.dataset}:{subject}" if subject else "" for subject in rows["subject"]],
        clip=[f"{spec.dataset}:{clip}" if clip else "" for clip in rows["clip"]],
        frame=list(rows["frame"]),
        phase=list(rows["phase"]),
        emotion=list(rows["emotion"]),
        raw_label=list(rows["raw_label"]),
        action_units=list(rows["action_units"]),
        licence=spec.licence or listing.licence,
        **{column: list(rows[column]) for column in ("source", "seed") if column in rows},
    )

    names = listing.list_names()
    findings = [
        Finding(
            "warning",
            "unreadable image",
            names[row],
            f"left out: {_strip_local_details(fault, listing.root)}",
            pictures=(names[row],),
        )
        for row, fault in faults.items()
    ]
    return Faces(decoded, index, channels=listing.channels), [
        *findings,
        *_report_remarks(names, remarks),
        *_report_equal_images(index),
    ]


def _strip_local_details(fault: str, root: Path) -> str:
    """Return an error's text without what differs between machines and runs: the folder's path, and
    addresses in memory.
    """
    return re.sub(
        r" (at|object at) 0x[0-9a-fA-F]+", "", fault.replace(f"{root}/", "").replace(str(root), ".")
    )


def _report_remarks(names: Sequence[str], remarks: dict[int, list[str]]) -> list[Finding]:
    """Return findings for the remarks of decoding on pictures that it could read."""
    messages = {
        SEVERAL_FRAMES: "pictures of several frames or pages, of which the first was taken",
        TRANSPARENT_PARTS: "pictures with transparent parts, which became black",
    }
    findings = []
    for kind, message in messages.items():
        where = [names[row] for row, kinds in sorted(remarks.items()) if kind in kinds]
        if where:
            findings.append(Finding("note", kind, list_some(where), f"{message}: {len(where)}"))
    return findings


def _decode_all(
    listing: Listing, spec: IngestSpec, workers: int | None, places: FacePlaces
) -> tuple[np.ndarray, dict[int, str], dict[int, list[str]]]:
    """Return the images [n, c, h, w], and by row number the error of each unreadable image and the
    remarks on all others.

    Threads are enough: Pillow releases the interpreter lock while it decodes and resizes. Each
    thread holds one image.
    """
    count = len(listing.rows)
    colours = len(listing.channels) or (1 if spec.colour == "grey" else 3)
    images = np.zeros((count, colours, spec.size, spec.size), np.uint8)
    names = listing.list_names()
    boxes = list(listing.rows["box"]) if "box" in listing.rows else [None] * count
    faces, margin = places or [None] * count, spec.crop.margin if spec.crop else 0.0
    whites, remarks = _find_white_values(listing), dict[int, list[str]]()

    # A thread writes only to the rows of its own pictures, so no lock is needed.
    def decode_one(row: int, picture: Picture | DataError) -> tuple[int, str]:
        try:
            if isinstance(picture, DataError):
                raise picture
            image_remarks: list[str] = []
            if listing.channels:
                images[row] = _decode_strip(picture, listing.channels, spec, names[row])
                return row, ""
            images[row] = decode(
                picture,
                spec.size,
                spec.colour,
                spec.filter,
                box=boxes[row],
                face=faces[row],
                margin=margin,
                white=whites[row],
                name=f"{listing.root}/{names[row]}",
                remarks=image_remarks,
            )

            # Remarks and errors are kept by row, for the findings
            if image_remarks:
                remarks[row] = image_remarks
        except DataError as error:
            return row, str(error)
        return row, ""

    # Decode in parallel, and collect the errors instead of stopping at the first.
    faults = {}
    with (
        ThreadPoolExecutor(choose_thread_count(workers)) as pool,
        track("decoding images", count) as bar,
    ):
        for done, (row, fault) in enumerate(
            _map_in_order(pool, decode_one, _iterate_pictures(listing)), start=1
        ):
            if fault:
                faults[row] = fault
            if done % 100 == 0:
                bar.update(done)
    return images, dict(sorted(faults.items())), remarks


def _decode_strip(
    picture: Picture, channels: Sequence[str], spec: IngestSpec, name: str
) -> np.ndarray:
    """Return the channels [c, size, size] that a picture of a release shows as a strip."""
    strip = open_picture(picture, "grey", name=name)
    cut = strips.cut_channels(strip[None, None], channels)[0]
    return np.concatenate(
        [
            convert_to_array(resize_image(convert_to_image(part[None]), spec.size, spec.filter))
            for part in cut
        ]
    )


def _find_white_values(listing: Listing) -> list[float | None]:
    """Return the value that is white in each picture, None for pictures of 8 bits."""
    whites = listing.rows["white"] if "white" in listing.rows else [None] * len(listing.rows)
    return [None if value is None or np.isnan(value) else float(value) for value in whites]


def _iterate_pictures(listing: Listing) -> Iterator[tuple[int, Picture | DataError]]:
    """Yield each row's number with its picture: the path, or the content extracted from the file at
    that path.
    """
    files, inside = listing.group_by_file()
    paths = listing.list_paths()
    yield from ((row, paths[row]) for row in files)
    for path, rows in inside.items():
        yield from listing.extract(path, rows)


def _map_in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[int, Picture | DataError], tuple[int, str]],
    pictures: Iterable[tuple[int, Picture | DataError]],
) -> Iterator[tuple[int, str]]:
    """Yield what `work` returns for each picture, with at most AHEAD pictures waiting."""
    waiting: deque[Future[tuple[int, str]]] = deque()
    for row, picture in pictures:
        waiting.append(pool.submit(work, row, picture))
        if len(waiting) >= MAX_WAITING_PICTURES:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _report_equal_images(index: pd.DataFrame) -> list[Finding]:
    """Return findings about images that are equal, pixel by pixel, and among them those with
    different subjects or emotions.
    """
    twins: dict[str, list[int]] = {}
    for row, content in enumerate(index["sha256"]):
        twins.setdefault(content, []).append(row)
    groups = [rows for rows in twins.values() if len(rows) > 1]
    keys = list(index["key"])
    findings = []

    # Equal images of one subject and emotion are kept: they may be repeated on purpose.
    labels = list(zip(index["subject"], index["emotion"], strict=True))
    agreeing = [rows for rows in groups if len({labels[row] for row in rows}) == 1]
    if agreeing:
        where = list_some([" = ".join(str(keys[row]) for row in rows[:3]) for rows in agreeing], 2)
        message = f"images that occur more than once, pixel by pixel, kept: {len(agreeing)}"
        findings.append(Finding("note", "equal images", where, message))

    # Where the labels differ, at least one of them is wrong.
    for column in ("subject", "emotion"):
        values = list(index[column])
        unequal = [rows for rows in groups if len({values[row] for row in rows}) > 1]
        if unequal:
            message = (
                f"images that occur with more than one {column}: {len(unequal)}; which one is "
                "right is not known"
            )
            where = list_some([" = ".join(keys[row] for row in rows) for rows in unequal], 2)
            findings.append(Finding("warning", f"equal images, unequal {column}s", where, message))
    return findings


def choose_thread_count(workers: int | None) -> int:
    """Return how many threads decode: `workers`, or one per core.

    Raises UsageError if `workers` is less than 1.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be 1 or more, not {workers}; omit it to use every core")
    return workers or os.cpu_count() or 1
