"""SMIC (Li et al. 2013): 16 people before a fast (HS), a usual (VIS) and a near-infrared (NIR)
camera.

    SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01/reg_image000001.bmp     cut to the expression, label by folder
    HS_long/SMIC-HS-E/s03/s3_sur_01/image308866.jpg                        with what came before and after
    SMIC-HS-E_annotation.xlsx                                              Subject, Filename, OnsetF, OffsetF, Emotion

No sheet has apexes or action units. A row may name a second expression in the same video.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mien.errors import DataError
from mien.ingest import Finding, IngestSpec, Listing, Look, Reader, label, no_dataset, some, walk
from mien.ingest.clips import (
    Clip,
    Homes,
    assemble,
    by_folder,
    find_tree,
    read_clips,
    row_clip,
    usable_rows,
    without,
)
from mien.ingest.sheets import Columns, Table, find_sheet, number, page_of, table

READER = Reader(
    dataset="smic",
    title="SMIC",
    needs=(
        "FOLDER with HS/s1/micro/LABEL/s1_ne_01/reg_imageN.bmp (or VIS, NIR), or with "
        "SMIC-HS-E/s03/s3_sur_01/imageN.jpg and SMIC-HS-E_annotation.xlsx"
    ),
    subjects="folders",
    clips="folders, or the sheet",
    licence="SMIC agreement: research only, no redistribution",
    citation=(
        "Li X, Pfister T, Huang X, Zhao G, Pietikäinen M (2013) A Spontaneous Micro-expression "
        "Database: Inducement, Collection and Baseline. IEEE FG 2013"
    ),
    obtain="sign the form of the University of Oulu",
    labels={"negative": "negative", "positive": "positive", "surprise": "surprise"},
    options=("sheet",),
    parts={
        "HS": "cut clips of the fast camera, 100 frames a second",
        "VIS": "cut clips of the usual camera, 25 frames a second",
        "NIR": "cut clips of the near-infrared camera, 25 frames a second",
        "HS-E": "longer videos of the fast camera, with a sheet",
        "VIS-E": "longer videos of the usual camera, with a sheet",
        "NIR-E": "longer videos of the near-infrared camera, with a sheet",
    },
)

CODES = {"ne": "negative", "po": "positive", "sur": "surprise"}  # in the names of clips
COLUMNS: Columns = {
    "subject": ("subject",),
    "clip": ("filename",),
    "onset": ("onsetf", "onsetframe", "onset"),
    "offset": ("offsetf", "offsetframe", "offset"),
    "onset 2": ("onset2", "onsetf2", "onset2f", "2ndonset", "secondonset", "onsetf1"),
    "offset 2": ("offset2", "offsetf2", "offset2f", "2ndoffset", "secondoffset", "offsetf1"),
    "emotion": ("emotion",),
}
_CUT = r"s0*(?P<subject>[0-9]{1,3})/micro/(?P<label>[a-z]+)/(?P<clip>[^/]+)/[^/]+$"
_LONG = r"s0*(?P<subject>[0-9]{1,3})/(?P<clip>s[0-9]+_[a-z]+_[0-9]+)/[^/]+$"


def recognise(look: Look) -> str | None:
    """Say by what the folder is SMIC: s1/micro/LABEL, or SMIC-HS-E."""
    found = look.first(r"(.*/)?s[0-9]+/micro/(negative|positive|surprise)/.*") or look.first(
        r"(.*/)?(smic[-_](hs|vis|nir)[-_]e/.*|s[0-9]+/s[0-9]+_(ne|po|sur)_[0-9]+/.*)"
    )
    return f"{found} is named as its folders are" if found else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames of one part: `spec.part`, or the first that is there.

    Of the cut clips these are all frames, of the longer videos those between onset and offset. No
    apex is guessed.

    Raises DataError if the part is not there, or for the longer videos if the sheet is missing or
    lacks a column.
    """
    images = walk(root)[0]
    there = [
        part for part in READER.parts if any(_tail(part, root).search(path) for path in images)
    ]
    if not there:
        raise no_dataset(
            root, READER, "has neither sN/micro nor SMIC-HS-E below a folder called HS, VIS or NIR"
        )
    part = spec.part or there[0]
    if part not in there:
        raise DataError(
            f"{root} must hold the part {part} of SMIC, and holds {', '.join(there)}; name one of "
            "them"
        )
    listing = _long(root, spec, part) if part.endswith("-E") else _cut(root, spec, part)
    others = [other for other in there if other != part]
    read = f"it was read{f', and not {some(others, 6)}, which --part names' if others else ''}"
    what = (
        "SMIC has no apexes: frames keep no phase but onset and offset, and `--frames all` takes "
        "them"
    )
    notes = (Finding("note", "part", part, read), Finding("note", "no apexes", ".", what))
    return replace(listing, findings=(*notes, *listing.findings))


def _tail(part: str, root: Path) -> re.Pattern[str]:
    """Return how paths of a part end, from the subject on; the folder above, which names the
    camera, may be `root`.
    """
    camera = part.removesuffix("-E")
    if part == camera:
        above = rf"(?<=\b{camera}/){'|^' if root.name.upper() == camera else ''}"
        return re.compile(rf"(?:{above}){_CUT}", re.IGNORECASE)
    inside = re.search(
        rf"smic[-_]{camera}[-_]e$",
        "/".join(root.parts[-2:]).removesuffix(f"/{camera}"),
        re.IGNORECASE,
    )
    above = (
        rf"(?<=smic[-_]{camera}[-_]e/)|(?<=smic[-_]{camera}[-_]e/{camera}/){'|^' if inside else ''}"
    )
    return re.compile(rf"(?:{above}){_LONG}", re.IGNORECASE)


def _subject(number: str) -> str:
    return f"s{int(number):02d}"


# Cut clips


def _cut(root: Path, spec: IngestSpec, part: str) -> Listing:
    tail = _tail(part, root)
    tree, findings = find_tree(root, tail, READER, f"has no {part}")
    images, passed = walk(tree)
    micro, others = without(images, "/non_micro/")
    homes, strays = by_folder(
        micro, re.compile(_CUT, re.IGNORECASE), _subject, "sN/micro/LABEL/CLIP/...N.suffix"
    )
    clips, torn = _from_folders(homes)
    frames, more = assemble(
        list(clips), {home: homes[home] for home in clips.values()}, {}, str(tree), apexes=False
    )
    labelled, left_out = label(frames, spec, str(tree))
    return Listing(
        tree,
        labelled,
        (),
        (*findings, *passed, *others, *strays, *torn, *more, *left_out),
        READER.licence,
        part,
    )


def _from_folders(homes: Homes) -> tuple[dict[Clip, tuple[str, str]], list[Finding]]:
    """Return a clip for each folder whose name and label agree, and those of which they do not."""
    clips, torn, lost = {}, [], []
    for (subject, name), frames in homes.items():
        raw = {path.split("/")[-3] for path in frames.values()}
        coded = re.fullmatch(r"s0*([0-9]+)_([a-z]+)_[0-9]+", name)
        agree = (
            coded
            and _subject(coded[1]) == subject
            and {CODES.get(coded[2])} == {each.lower() for each in raw}
        )
        if agree:
            clips[Clip(subject, name, min(frames), None, max(frames), "", raw.pop())] = (
                subject,
                name,
            )
        else:
            torn.append(f"{subject}/{'|'.join(sorted(raw))}/{name}")
            lost += frames.values()
    what = f"clips whose name says another person or label than their folder, left out: {len(torn)}"
    return clips, [
        Finding("warning", "contradiction", some(torn), what, pictures=tuple(lost))
    ] if torn else []


# Longer videos


def _long(root: Path, spec: IngestSpec, part: str) -> Listing:
    tail = _tail(part, root)
    tree, findings = find_tree(root, tail, READER, f"has no {part}")
    usual = f"SMIC-{part}_annotation.xlsx"
    sheet, told = find_sheet(
        root, tree, re.compile(rf"^smic[-_]{part}.*\.(xlsx?|csv)$", re.I), spec.sheet, usual
    )
    optional = ["onset 2", "offset 2"]
    found = table(sheet, COLUMNS, optional, page_of(spec.sheet), ["onset", "offset", *optional])
    kept, notes, told_of = usable_rows(found)
    clips, doubts, read = read_clips(sheet.name, _expressions(found, kept), _clip, {})
    images, passed = walk(tree)
    homes, strays = by_folder(
        images, re.compile(_LONG, re.IGNORECASE), _subject, "s03/s3_sur_01/...N.suffix"
    )
    frames, more = assemble(clips, homes, {}, f"{tree} and {sheet}", shared=True, apexes=False)
    labelled, left_out = label(frames, spec, str(sheet))
    findings += [told, *found.findings, *notes, *doubts, *passed, *strays, *more, *left_out]
    return Listing(
        tree, labelled, (sheet,), tuple(findings), READER.licence, part, read=told_of | read
    )


def _expressions(
    found: Table, rows: list[tuple[int, dict[str, str]]]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of the sheet, and once more for its second expression, called CLIP-2, where it
    has one.
    """
    for line, values in rows:
        yield line, {**values, "home": values["clip"]}
        onsets = [*found.all(line, "onset")[1:], values.get("onset 2", "")]
        offsets = [*found.all(line, "offset")[1:], values.get("offset 2", "")]
        later = [pair for pair in zip(onsets, offsets, strict=False) if number(pair[0]) is not None]
        for place, (onset, offset) in enumerate(later, start=2):
            name = f"{values['clip']}-{place}"
            yield (
                line,
                {**values, "home": values["clip"], "clip": name, "onset": onset, "offset": offset},
            )


def _clip(values: dict[str, str]) -> Clip:
    known = re.fullmatch(r"s?0*([0-9]{1,3})", values["subject"], re.IGNORECASE)
    clip = row_clip(values, _subject(known[1]) if known else None)
    coded = re.match(r"s0*([0-9]+)_([a-z]+)", clip.name.lower())
    if (
        coded is None
        or _subject(coded[1]) != clip.subject
        or CODES.get(coded[2]) != clip.raw_label.lower()
    ):
        raise ValueError(
            f"clip {clip.name}, subject {values['subject']} and emotion '{clip.raw_label}' must "
            "agree"
        )
    return replace(clip, homes=(values["home"],))
