"""CAS(ME)^2 (Qu et al. 2018): macro- and micro-expressions marked in longer videos of 22 people.

rawpic/s15/15_0101disgustingteeth/img1.jpg    person, four digits for the video that was shown, its name
cropped/s15/anger1_1/img1.jpg                 or a folder for each expression
CAS(ME)^2code_final.xlsx                      no header: subject from 1, anger1_1, onset, apex, offset, units, ...
                                              then two pages of naming rules: subject -> s15, anger1
                                              -> 0401
"""

import re
from dataclasses import replace
from pathlib import Path

from mien.errors import DataError
from mien.ingest import Finding, IngestSpec, Listing, Look, Reader, label, some, walk
from mien.ingest.clips import (
    Clip,
    Frames,
    Homes,
    assemble,
    by_folder,
    find_tree,
    read_clips,
    row_clip,
    usable_rows,
)
from mien.ingest.sheets import (
    Page,
    Table,
    find_sheet,
    hidden,
    number,
    one_page,
    page_of,
    pages,
    stored,
)

READER = Reader(
    dataset="casme-squared",
    title="CAS(ME)^2",
    needs=(
        "FOLDER with rawpic/s15/15_0101NAME/imgN.jpg (or cropped/, selectedpic/) and "
        "CAS(ME)^2code_final.xlsx"
    ),
    subjects="the sheet and its naming rules",
    clips="the sheet",
    licence="CAS(ME)^2 agreement: research only, no redistribution",
    citation=(
        "Qu F, Wang S-J, Yan W-J, Li H, Wu S, Fu X (2018) CAS(ME)^2: A Database for Spontaneous "
        "Macro-Expression and Micro-Expression Spotting and Recognition. IEEE Transactions on "
        "Affective Computing 9(4): 424-436"
    ),
    obtain="apply and sign the licence at http://casme.psych.ac.cn/casme/e3",
    labels={
        "negative": "negative",
        "others": "others",
        "positive": "positive",
        "surprise": "surprise",
        "anger": "anger",  # from here on what people said of themselves: --label-column self-report
        "confused": "others",
        "disgust": "disgust",
        "fear": "fear",
        "happiness": "happiness",
        "happyiness": "happiness",
        "helpless": "others",
        "pain": "others",
        "sadness": "sadness",
        "sympathy": "others",
    },
    options=("sheet", "numbers", "label_column"),
    parts={"micro": "micro-expressions", "macro": "macro-expressions", "all": "both"},
)

PLACES = (
    "subject",
    "clip",
    "onset",
    "apex",
    "offset",
    "action_units",
    "category",
    "kind",
    "self-report",
)
LABELS = ("category", "self-report")
KINDS = ("micro", "macro")
SHEET = re.compile(
    r"^(cas\(?me\)?(\^2|2|_?sq(uared)?)[-_ ]?)?code_?final.*\.(xlsx?|csv)$", re.IGNORECASE
)
TAIL = re.compile(
    r"(?:^|(?<=/))s?(?P<subject>[0-9]{1,3})/(?P<clip>[^/]*[a-z][^/]*)/[^/]+$", re.IGNORECASE
)
_VIDEO = re.compile(r"^s?[0-9]{1,3}_(?P<code>[0-9]{4})")


def recognise(look: Look) -> str | None:
    """Say by what the folder is CAS(ME)^2: its sheet, or videos called s15/15_0101NAME."""
    sheet = look.first(r"(.*/)?(cas\(me\)(\^2|2)|casme_?(sq|squared))[-_ ]?code[^/]*\.(xlsx?|csv)")
    if sheet:
        return f"{sheet} is its coding sheet"
    video = look.first(r"(.*/)?s?([0-9]{2})/s?\2_[0-9]{4}[a-z][^/]*/")
    return f"{video} is named as its videos are" if video else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames between onset and offset of each expression that is both in the sheet and
    on the disk.

    The part "micro" is read unless `spec.part` says otherwise. The label is the sheet's category,
    or with label_column "self-report" what people said that they felt. An offset of 0 is unknown,
    and the apex is taken in its place; such clips are reported.

    Raises DataError if there is no tree of frames, no sheet or no naming rules, or a label is
    unknown.
    """
    part = spec.part or "micro"
    column = spec.label_column or LABELS[0]
    if column not in LABELS:
        raise DataError(
            f"label_column must be one of {', '.join(LABELS)} for CAS(ME)^2, and is '{column}'"
        )
    tree, findings = find_tree(root, TAIL, READER, "has no folder s15 with videos in it")
    sheet, told = find_sheet(root, tree, SHEET, spec.sheet, "CAS(ME)^2code_final.xlsx")
    codes, subjects, videos = _workbook(sheet, page_of(spec.sheet))
    every, notes, told_of = usable_rows(codes)
    rows = [
        (line, values) for line, values in every if part == "all" or _kind(values) in (part, "")
    ]
    clips, doubts, read = read_clips(
        sheet.name, rows, lambda values: _clip(values, column, subjects, videos), {}
    )
    images, passed = walk(tree)
    homes, strays = by_folder(images, TAIL, _subject, "s15/VIDEO/...N.suffix")
    coded, doubled = _by_code(homes)
    frames, more = assemble(
        clips, coded, {}, f"{tree} and {sheet}", shared=True, sure=spec.numbers == "sheet"
    )
    labelled, left_out = label(frames, spec, str(sheet))
    findings += [
        told,
        *codes.findings,
        *notes,
        *doubts,
        *_ended(rows, subjects),
        *passed,
        *strays,
        *doubled,
        *more,
        *left_out,
    ]
    mine = {line for line, _ in rows}
    others = tuple(f"{sheet.name}, row {line}" for line, _ in every if line not in mine)
    if others:
        what = f"rows of the part that was not read, left out: {len(others)}"
        findings.append(Finding("note", "other part", part, what, rows=others))
    read |= told_of | dict.fromkeys(others, "")
    return Listing(tree, labelled, (sheet,), tuple(findings), READER.licence, part, read=read)


# The workbook


def _workbook(sheet: Path, wanted: str | None) -> tuple[Table, dict[str, str], dict[str, str]]:
    """Return the codes, the subject of a folder by the codes' own, and the four digits by the name
    of a video.
    """
    found = pages(sheet)
    named = [
        next((each for each in found if each.title.lower().endswith(f"rule{n}")), None)
        for n in (1, 2)
    ]
    rules = [
        each.cells if each else found[place].cells if len(found) > place else []
        for place, each in enumerate(named, 1)
    ]
    subjects = {
        str(number(row[2])): _subject(row[1].lower().lstrip("s"))
        for row in rules[0]
        if _names_a_subject(row)
    }
    videos = {
        row[1].lower(): row[0].zfill(4)
        for row in rules[1]
        if len(row) > 1 and number(row[0]) is not None
    }
    if not subjects or not videos:
        lacking = "videos" if subjects else "subjects"
        raise DataError(
            f"{sheet} must have three pages, the last two the naming rules of subjects (s15 and 1) "
            f"and videos (0101 and disgust1), and none of {lacking} can be read; take the "
            "release's workbook"
        )
    return _codes(sheet, [each for each in found if each not in named], wanted), subjects, videos


def _codes(sheet: Path, found: list[Page], wanted: str | None) -> Table:
    """Return the page whose rows are codes: the visible one, or the one that is wanted."""
    places = {name: [place] for place, name in enumerate(PLACES)}
    tables = [Table(sheet, each.cells, -1, places, each) for each in found]
    coded = [each for each in tables if any(_kind(values) for _, values in each.rows())]
    if wanted is not None:
        coded = [each for each in coded if each.page and each.page.title.lower() == wanted.lower()]
    if not coded:
        titles = some([each.title for each in found])
        raise DataError(
            f"{sheet} must have a page of codes, whose eighth column says micro- or "
            f"macro-expression, and the pages {titles or '(none)'} have "
            f"none{f' called {wanted!r}' if wanted else ''}; take the release's workbook"
        )
    chosen = one_page(sheet, coded, wanted)
    stored(chosen, PLACES[:5])
    return replace(chosen, findings=(*chosen.findings, *hidden(chosen)))


def _names_a_subject(row: list[str]) -> bool:
    return (
        len(row) > 2
        and bool(re.fullmatch(r"s?[0-9]{1,3}", row[1], re.IGNORECASE))
        and number(row[2]) is not None
    )


def _clip(
    values: dict[str, str], column: str, subjects: dict[str, str], videos: dict[str, str]
) -> Clip:
    known = subjects.get(values["subject"])
    if known is None:
        raise ValueError(f"its subject '{values['subject']}' must be in the naming rules")
    if _kind(values) not in KINDS:
        raise ValueError(f"it must be a micro- or macro-expression, and is '{values['kind']}'")
    offset = values["apex"] if number(values["offset"]) == 0 else values["offset"]
    clip = row_clip({**values, "offset": offset, "emotion": values[column]}, known)
    code = videos.get(clip.name.rsplit("_", 1)[0].lower())
    return replace(clip, homes=(f"#{code}",) if code else ())


def _kind(values: dict[str, str]) -> str:
    """Return micro or macro, or nothing if a row says neither."""
    kind = re.split(r"[-_ ]", values["kind"].lower())[0]
    return kind if kind in KINDS else ""


def _ended(rows: list[tuple[int, dict[str, str]]], subjects: dict[str, str]) -> list[Finding]:
    open_ended = [values for _, values in rows if number(values["offset"]) == 0]
    names = [f"{subjects.get(values['subject'], '?')}/{values['clip']}" for values in open_ended]
    what = f"the offset is 0, unknown; they are taken to end at their apex: {len(names)}"
    return [Finding("note", "no offset", some(names), what)] if names else []


# The tree


def _by_code(homes: Homes) -> tuple[Homes, list[Finding]]:
    """Return the folders by #0101 where they are called 15_0101NAME; of two with one code,
    neither.
    """
    coded: dict[tuple[str, str], list[Frames]] = {}
    for (subject, folder), frames in homes.items():
        video = _VIDEO.match(folder)
        coded.setdefault((subject, f"#{video['code']}" if video else folder), []).append(frames)
    doubled = [f"{subject}/{code}" for (subject, code), found in coded.items() if len(found) > 1]
    what = f"two folders of one person with the same video code, left out: {len(doubled)}"
    lost = tuple(
        path
        for found in coded.values()
        if len(found) > 1
        for frames in found
        for path in frames.values()
    )
    findings = (
        [Finding("warning", "repeated video", some(doubled), what, pictures=lost)]
        if doubled
        else []
    )
    return {home: found[0] for home, found in coded.items() if len(found) == 1}, findings


def _subject(number: str) -> str:
    return f"s{int(number):02d}"
