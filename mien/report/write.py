"""The report is written: HTML, Markdown, LaTeX and CSV in one folder."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.text import Text

from mien import published
from mien.audit.memorisation.copies import find_copies
from mien.errors import UsageError
from mien.faces import Faces
from mien.outside import expand_home
from mien.pages import escape
from mien.pages.html import encode_picture, render_html
from mien.pages.sheets import (
    draw_class_sheet,
    draw_side_by_side,
    draw_synthetic_sheet,
    pick_positions,
)
from mien.pages.tables import EMPTY_CELL
from mien.report import preprint
from mien.report.comparison import (
    compare_studies,
    count_sheets,
    make_dataset_tables,
    make_recall_table,
    make_result_tables,
    make_table_note,
)
from mien.report.documents import write_latex, write_markdown
from mien.report.facts import list_facts
from mien.report.programs import CSV_COLUMNS, list_csv_rows
from mien.report.sentences import (
    LEAK_ADVICE,
    NOTICES,
    SYNTHETIC_TEST,
    copy_alarms,
    describe_benefit,
    describe_findings,
    describe_missing,
    describe_state,
    has_synthetic_test,
    list_failure_reasons,
)
from mien.report.words import format_cell_name
from mien.runs.folders import require_fillable
from mien.runs.progress import count_of, say
from mien.runs.store import Store
from mien.study.cells import ResultCell
from mien.study.results import StudyResults
from mien.study.settings import CONTROLS, SETTINGS
from mien.study.status import describe_trial

MOST_OPEN_CONFUSIONS = 6  # more confusion matrices than these are folded away on the page


def write_report(
    studies: str | Sequence[str],
    store: Store,
    out: Path | None = None,
    real_faces: bool | None = None,
) -> Path:
    """Write report.html, report.md, tables.tex, tables.csv and figures; return the HTML's path.

    Each of `studies` is an alias or a run. The page shows real faces if `real_faces` is true; None
    shows those of studies whose sources all have free licences. Where real faces are not shown,
    synthetic images that copy one are not shown either. `out` is report-NAME by default, with the
    names of all studies. Raises StoreError if a study was never run, and UsageError if one is named
    twice.
    """
    names = [studies] if isinstance(studies, str) else list(studies)
    loaded = [StudyResults(name, store) for name in names]
    titles = [study.title for study in loaded]
    if not loaded or len(set(titles)) < len(titles):
        raise UsageError(
            "a report needs one or more studies, each named once; given: "
            f"{', '.join(map(str, names))}"
        )
    folder = expand_home(out or Path(f"report-{'-'.join(titles)}"))
    require_fillable(folder)
    folder.mkdir(parents=True, exist_ok=True)

    # The pages for people
    content = collect_content(loaded, real_faces)
    page = render_html("report.html", content)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "report.md").write_text(write_markdown(content), encoding="utf-8")
    (folder / "tables.tex").write_text(write_latex(content), encoding="utf-8")
    for chart in content["charts"]:
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / f"{chart['name']}.svg").write_text(chart["svg"], encoding="utf-8")

    # The table for programs
    with (folder / "tables.csv").open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for study in loaded:
            writer.writerows(
                {name: escape.escape_cell(value) for name, value in row.items()}
                for row in list_csv_rows(study)
            )

    # What the reader must know before using or passing on the folder
    for text in dict.fromkeys(text for study in loaded for text in study.altered):
        say(f"left out: {text}")
    private = [study.licence for study in loaded if study.restricted and real_faces]
    for licence in dict.fromkeys(private):
        say(f"{folder} contains images under this licence: {licence}; do not publish it")
    withheld = dict.fromkeys(name for study in loaded for name in study.withheld)
    if real_faces is None and withheld:
        say(
            f"real faces are not shown in {folder / 'report.html'}: no free licence is known for "
            f"{', '.join(withheld)}"
        )
    return folder / "report.html"


def format_plain_value(text: str) -> Text:
    """Return a text for the terminal without markup."""
    return Text(escape.make_printable(text))


# The content of the pages


def collect_content(studies: list[StudyResults], real_faces: bool | None = None) -> dict[str, Any]:
    """Return the content of the pages: texts, tables, charts, and images as `make` describes."""
    like = [
        study for study in studies if study.like and any(cell.published for cell in study.cells)
    ]
    return {
        "title": ", ".join(study.title for study in studies),
        "side": [compare_studies(studies)] if len(studies) > 1 else [],
        "studies": [_collect_section(study, real_faces) for study in studies],
        "charts": preprint.make_figures(like) if like else [],
        "preprint": preprint.make_tables_3_to_14(like) if like else [],
        "others": [preprint.make_table_15(like)] if like else [],
        "counts": preprint.make_tables_1_and_2(like) if like else [],
        "source": published.SOURCE,
        "dataset": published.DATASET,
    }


def _collect_section(study: StudyResults, real_faces: bool | None = None) -> dict[str, Any]:
    """Return the part of the pages that is about one study."""
    # Whether real faces may be shown, and what is used more than once below
    real = not study.restricted if real_faces is None else real_faces
    title, notice = NOTICES[study.protocol]
    confusions = _collect_confusions(study)

    return {
        # The top of the page: what must be read before any number
        "title": study.title,
        "notice": {"title": title, "text": notice, "warn": study.protocol == "frame"},
        "synthetic_test": SYNTHETIC_TEST if has_synthetic_test(study) else "",
        "alarms": copy_alarms(study),
        "helps": describe_benefit(study),
        "alarm": LEAK_ADVICE,
        "state": describe_state(study),
        # Sentences, and the plot
        "findings": describe_findings(study),
        "without": describe_missing(study),
        "low": list_failure_reasons(study),
        "plot": _collect_plot(study),
        # Tables and images
        "levels": [
            {
                "level": level,
                "note": make_table_note(study, level),
                "sheets": make_result_tables(study, level),
            }
            for level in study.levels
        ],
        "recall": make_recall_table(study),
        "datasets": make_dataset_tables(study),
        "counts": count_sheets(study),
        "sheet": _make_contact_sheet(study, real),
        "unshown": _explain_hidden_faces(study, real, real_faces),
        "confusions": confusions,
        "folded": len(confusions) > MOST_OPEN_CONFUSIONS,
        # What was run, and under which licence
        "failed": [
            {"where": describe_trial(study, trial), "run": trial.run, "error": error}
            for trial, error in study.failed
        ],
        "facts": list_facts(study),
        "licence": study.licence,
        "restricted": study.restricted,
        "private": study.restricted and real,
    }


def _explain_hidden_faces(study: StudyResults, real: bool, real_faces: bool | None) -> str:
    """Return why no real faces are shown, or "" if they are."""
    if real:
        return ""
    if real_faces is not None:
        return "Real faces are not shown, as requested."
    names = ", ".join(study.withheld)
    return (
        f"Real faces are not shown, since no free licence is known for {names}; `mien report "
        "--real-faces` shows them."
    )


def _make_contact_sheet(study: StudyResults, real: bool) -> dict[str, str] | None:
    """Return a contact sheet as a data URL, with its texts, or None if there is nothing to show."""
    # The images: synthetic ones only, real and synthetic ones, or real ones only
    names = ", ".join(study.classes)
    if not real:
        synthetic = (
            select_without_copies(study.databases[0], study.faces) if study.databases else None
        )
        if synthetic is None:
            return None
        sheet = draw_synthetic_sheet(synthetic, per_class=8)
        alt = f"Rows of up to eight synthetic faces for {', '.join(synthetic.classes)}"
    elif study.databases:
        sheet = draw_side_by_side(study.faces, study.databases[0], per_class=8)
        alt = (
            f"Rows of faces for {names}: up to eight real ones on the left, as many synthetic on "
            "the right"
        )
    else:
        sheet = draw_class_sheet(study.faces, per_class=12)
        alt = f"Rows of real faces for {names}"

    # The caption: how the faces were chosen, and from which fold
    finished = [
        database.fold for database in study.plan.databases if study.store.is_done(database.database)
    ]
    fold = next(iter(finished), -1)
    text = "Faces are chosen by the order of their names, not by how they look."
    if fold >= 0:
        text += (
            f" The synthetic ones are of fold {fold}; a class that its training side lacks has "
            "none."
        )
    return {"image": _encode_image(sheet), "alt": alt, "width": str(sheet.width), "text": text}


def select_without_copies(faces: Faces, real: Faces) -> Faces | None:
    """Return eight synthetic faces per class without copies of real ones, or None if all are."""
    rows = np.concatenate([pick_positions(faces, name, 8) for name in faces.classes])
    chosen = np.isin(np.arange(len(faces)), rows)
    copied = set(find_copies(faces.select(chosen), real)["image"])
    invented = chosen & ~faces.index["key"].isin(copied).to_numpy()
    return faces.select(invented) if invented.any() else None


def _encode_image(image: Image.Image) -> str:
    """Return an image as a data URL, with one channel if it is grey."""
    grey = image.convert("L")
    smallest = grey if np.array_equal(np.asarray(grey.convert("RGB")), np.asarray(image)) else image
    return encode_picture(smallest)


def _collect_confusions(study: StudyResults) -> list[dict[str, Any]]:
    """Return the confusion matrix of each setting and classifier with a finished trial."""
    return [
        _collect_confusion(study, cell)
        for cell in study.cells
        if cell.level == "images" and cell.done
    ]


def _collect_confusion(study: StudyResults, cell: ResultCell) -> dict[str, Any]:
    """Return one confusion matrix with its title and note."""
    # Only classes that occur, as the truth or as an answer
    counts = cell.sum_confusions()
    true = counts.sum(axis=1)
    occurring = [index for index, n in enumerate(true + counts.sum(axis=0)) if n]
    rows = [
        {
            "name": study.classes[row],
            "total": int(true[row]),
            "cells": [
                {
                    "count": int(counts[row, column]),
                    "share": float(counts[row, column] / max(1, true[row])),
                    "right": row == column,
                }
                for column in occurring
            ],
        }
        for row in occurring
    ]

    trials = count_of(len(cell.trials), "trial")
    return {
        "title": f"{SETTINGS[cell.setting].label}, {format_cell_name(study, cell)}",
        "columns": [study.classes[index] for index in occurring],
        "rows": rows,
        "note": f"summed over {trials if cell.whole else f'{len(cell.done)} of {trials}'}",
    }


# The plot: a row per setting and classifier, a dot per trial


def _collect_plot(study: StudyResults) -> dict[str, Any]:
    """Return the accuracies that the plot shows, in per cent, and its text for screen readers."""
    rows = []
    for cell in (cell for cell in study.cells if cell.level == "images"):
        constant, mean = cell.score_constant_answer("accuracy"), cell.summarise("accuracy")
        controls = [
            control
            for control in study.find_controls(cell.setting, "images")
            if control.whole
            and study.serves(control, cell)
            and not CONTROLS[control.control].constant
        ]
        rows.append(
            {
                "setting": SETTINGS[cell.setting].label,
                "classifier": format_cell_name(study, cell),
                "dots": [round(100 * scores.accuracy, 2) for scores in cell.done],
                "mean": None if mean is None else round(100 * mean.mean, 2),
                "constant": None if constant is None else round(100 * constant, 2),
                "controls": [
                    round(100 * control.average_trials("accuracy"), 2) for control in controls
                ],
                "published": cell.published,
            }
        )

    words = [
        f"{row['setting']} {row['classifier']}: "
        + (f"mean {row['mean']} per cent" if row["mean"] is not None else EMPTY_CELL)
        for row in rows
    ]
    return {"rows": rows, "alt": "Mean accuracy. " + "; ".join(words) + "."}
