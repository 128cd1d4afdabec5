"""CAS(ME)^2 (Qu et al. 2018): long videos of 22 people.

rawpic/s15/15_0101disgustingteeth/img1.jpg    subject, four digits for the stimulus video, its name
cropped/s15/anger1_1/img1.jpg                 or a folder for each expression
CAS(ME)^2code_final.xlsx                      no header: subject from 1, anger1_1, onset, apex,
                                              offset, units, ...; then two pages of naming rules:
                                              subject -> s15, anger1 -> 0401
"""

import re
from dataclasses import replace
from pathlib import Path

from mien.errors import DataError
from mien.findings import Finding, list_some
from mien.ingest.emotions import label_rows
from mien.ingest.folders import FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.clips import (
    ClipFolders,
    Frames,
    SheetClip,
    find_tree,
    group_by_folder,
    join_clips_and_frames,
    parse_clip_row,
    read_clips,
    select_clip_rows,
)
from mien.ingest.readers.sheets import (
    SheetPage,
    SheetTable,
    choose_page,
    find_sheet,
    parse_number,
    parse_page,
    read_pages,
    report_hidden,
    require_stored_values,
)
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms

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
    terms=make_request_terms("CAS(ME)^2", "http://casme.psych.ac.cn/casme/e3"),
    other_names=("casmesq", "cas(me)^2"),
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
        # The following labels are what the subjects reported: --label-column self-report.
        "anger": "anger",
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

COLUMN_ORDER = (
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

CODED_LABEL_COLUMNS = ("category", "self-report")

EXPRESSION_KINDS = ("micro", "macro")

SHEET_PATTERN = re.compile(
    r"^(cas\(?me\)?(\^2|2|_?sq(uared)?)[-_ ]?)?code_?final.*\.(xlsx?|csv)$", re.IGNORECASE
)

PATH_PATTERN = re.compile(
    r"(?:^|(?<=/))s?(?P<subject>[0-9]{1,3})/(?P<clip>[^/]*[a-z][^/]*)/[^/]+$", re.IGNORECASE
)

_VIDEO_PATTERN = re.compile(r"^s?[0-9]{1,3}_(?P<code>[0-9]{4})")


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is CAS(ME)^2: its sheet, or a video s15/15_0101NAME."""
    sheet = look.find_first(
        r"(.*/)?(cas\(me\)(\^2|2)|casme_?(sq|squared))[-_ ]?code[^/]*\.(xlsx?|csv)"
    )
    if sheet:
        return f"{sheet} is its coding sheet"
    video = look.find_first(r"(.*/)?s?([0-9]{2})/s?\2_[0-9]{4}[a-z][^/]*/")
    return f"{video} has the name of one of its videos" if video else None


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames from onset to offset of each expression in the sheet that has a folder.

    The part "micro" is read unless `spec.part` says otherwise. The label is the sheet's category,
    or with label_column "self-report" the emotion that the subject reported. An offset of 0 means
    that it is unknown: the clip then ends at its apex, and is reported.

    Raises DataError if there is no tree of frames, no sheet or no naming rules, or a label is
    unknown.
    """
    part = spec.part or "micro"
    column = spec.label_column or CODED_LABEL_COLUMNS[0]
    if column not in CODED_LABEL_COLUMNS:
        raise DataError(
            f"label_column must be one of {', '.join(CODED_LABEL_COLUMNS)} for CAS(ME)^2, and is "
            f"'{column}'"
        )

    # Find the tree of frames and the coding sheet.
    tree, findings = find_tree(root, PATH_PATTERN, READER, "has no folder s15 with videos in it")
    sheet, sheet_finding = find_sheet(
        root, tree, SHEET_PATTERN, spec.sheet, "CAS(ME)^2code_final.xlsx"
    )
    codes, subjects, videos = _read_workbook(sheet, parse_page(spec.sheet))

    # Read the rows of the part that is asked for, each as a clip.
    clip_rows, notes, skipped = select_clip_rows(codes)
    rows = [
        (line, values)
        for line, values in clip_rows
        if part == "all" or _parse_kind(values) in (part, "")
    ]
    clips, row_faults, read = read_clips(
        sheet.name, rows, lambda values: _parse_clip(values, column, subjects, videos), {}
    )

    # Find the frames of each clip.
    images, other_files = walk(tree)
    frames_by_folder, strays = group_by_folder(
        images, PATH_PATTERN, _format_subject, "s15/VIDEO/...N.suffix"
    )
    coded, doubled = _index_by_code(frames_by_folder)
    frames, clip_faults = join_clips_and_frames(
        clips, coded, {}, f"{tree} and {sheet}", shared=True, sure=spec.numbers == "sheet"
    )
    labelled, left_out = label_rows(frames, spec, READER, str(sheet))

    # Collect the findings, in the order of the steps above.
    findings += [
        sheet_finding,
        *codes.findings,
        *notes,
        *row_faults,
        *_report_unknown_offsets(rows, subjects),
        *other_files,
        *strays,
        *doubled,
        *clip_faults,
        *left_out,
    ]

    # Account for the rows of the other part.
    read_lines = {line for line, _ in rows}
    other_rows = tuple(
        f"{sheet.name}, row {line}" for line, _ in clip_rows if line not in read_lines
    )
    if other_rows:
        message = f"rows of the part that was not read, left out: {len(other_rows)}"
        findings.append(Finding("note", "other part", part, message, rows=other_rows))
    read |= skipped | dict.fromkeys(other_rows, "")
    return Listing(
        tree, labelled, (sheet,), tuple(findings), READER.licence, part, annotation_rows=read
    )


# The workbook


def _read_workbook(
    sheet: Path, page_name: str | None
) -> tuple[SheetTable, dict[str, str], dict[str, str]]:
    """Return the page of codes, the subject by its number, and the video code by its name."""
    pages = read_pages(sheet)

    # The pages of naming rules are called ...rule1 and ...rule2, or are the second and third.
    rule_pages = [
        next((page for page in pages if page.title.lower().endswith(f"rule{n}")), None)
        for n in (1, 2)
    ]
    rules = [
        page.cells if page else pages[position].cells if len(pages) > position else []
        for position, page in enumerate(rule_pages, 1)
    ]

    # Read the subjects (s15 and 1) and the videos (0101 and disgust1).
    subjects = {
        str(parse_number(row[2])): _format_subject(row[1].lower().lstrip("s"))
        for row in rules[0]
        if _is_subject_rule(row)
    }
    videos = {
        row[1].lower(): row[0].zfill(4)
        for row in rules[1]
        if len(row) > 1 and parse_number(row[0]) is not None
    }

    # Stop if either page is empty.
    if not subjects or not videos:
        missing = "videos" if subjects else "subjects"
        raise DataError(
            f"{sheet} must have three pages, the last two the naming rules of subjects (s15 and 1) "
            f"and videos (0101 and disgust1), and no {missing} can be read; take the release's "
            "workbook"
        )
    return (
        _find_codes(sheet, [page for page in pages if page not in rule_pages], page_name),
        subjects,
        videos,
    )


def _find_codes(sheet: Path, candidates: list[SheetPage], page_name: str | None) -> SheetTable:
    """Return the page of codes: the one called `page_name`, or else the only visible one."""
    columns = {name: [column] for column, name in enumerate(COLUMN_ORDER)}
    tables = [SheetTable(sheet, page.cells, -1, columns, page) for page in candidates]
    coded = [
        table for table in tables if any(_parse_kind(values) for _, values in table.iterate_rows())
    ]
    if page_name is not None:
        coded = [
            table for table in coded if table.page and table.page.title.lower() == page_name.lower()
        ]
    if not coded:
        titles = list_some([page.title for page in candidates])
        raise DataError(
            f"{sheet} must have a page of codes, whose eighth column says micro- or "
            f"macro-expression, and the pages {titles or '(none)'} have "
            f"none{f' called {page_name!r}' if page_name else ''}; take the release's workbook"
        )
    chosen = choose_page(sheet, coded, page_name)
    require_stored_values(chosen, COLUMN_ORDER[:5])
    return replace(chosen, findings=(*chosen.findings, *report_hidden(chosen)))


def _is_subject_rule(row: list[str]) -> bool:
    """Return whether a row of the first naming rule has a folder (s15) and a number."""
    return (
        len(row) > 2
        and bool(re.fullmatch(r"s?[0-9]{1,3}", row[1], re.IGNORECASE))
        and parse_number(row[2]) is not None
    )


def _parse_clip(
    values: dict[str, str], column: str, subjects: dict[str, str], videos: dict[str, str]
) -> SheetClip:
    subject = subjects.get(values["subject"])
    if subject is None:
        raise ValueError(f"its subject '{values['subject']}' must be in the naming rules")
    if _parse_kind(values) not in EXPRESSION_KINDS:
        raise ValueError(f"it must be a micro- or macro-expression, and is '{values['kind']}'")
    offset = values["apex"] if parse_number(values["offset"]) == 0 else values["offset"]
    clip = parse_clip_row({**values, "offset": offset, "emotion": values[column]}, subject)
    code = videos.get(clip.name.rsplit("_", 1)[0].lower())
    return replace(clip, candidate_folders=(f"#{code}",) if code else ())


def _parse_kind(values: dict[str, str]) -> str:
    """Return "micro" or "macro", or an empty text if a row says neither."""
    kind = re.split(r"[-_ ]", values["kind"].lower())[0]
    return kind if kind in EXPRESSION_KINDS else ""


def _report_unknown_offsets(
    rows: list[tuple[int, dict[str, str]]], subjects: dict[str, str]
) -> list[Finding]:
    """Return a note about clips whose offset is unknown, if there are any."""
    open_ended = [values for _, values in rows if parse_number(values["offset"]) == 0]
    names = [f"{subjects.get(values['subject'], '?')}/{values['clip']}" for values in open_ended]
    message = f"the offset is 0, which means unknown; these clips end at their apex: {len(names)}"
    return [Finding("note", "no offset", list_some(names), message)] if names else []


# The tree


def _index_by_code(frames_by_folder: ClipFolders) -> tuple[ClipFolders, list[Finding]]:
    """Return the folders by video code (15_0101NAME is #0101), without codes used twice."""
    # Group the folders of each subject by video code.
    coded: dict[tuple[str, str], list[Frames]] = {}
    for (subject, folder), frames in frames_by_folder.items():
        video = _VIDEO_PATTERN.match(folder)
        coded.setdefault((subject, f"#{video['code']}" if video else folder), []).append(frames)

    # Leave out codes of several folders, and report them.
    doubled = [
        f"{subject}/{code}" for (subject, code), same_code in coded.items() if len(same_code) > 1
    ]
    message = f"folders of one subject with the same video code, left out: {len(doubled)}"
    lost_images = tuple(
        path
        for same_code in coded.values()
        if len(same_code) > 1
        for frames in same_code
        for path in frames.values()
    )
    findings = (
        [Finding("warning", "repeated video", list_some(doubled), message, pictures=lost_images)]
        if doubled
        else []
    )
    return {
        home: same_code[0] for home, same_code in coded.items() if len(same_code) == 1
    }, findings


def _format_subject(number: str) -> str:
    return f"s{int(number):02d}"
