"""Reports of studies: one self-contained HTML file, Markdown, LaTeX, figures, and a CSV table.

They are computed from the records and predictions of finished trials, so a report can be made at
any time. A report of several studies, such as the same grid by frame and by subject, also shows
them side by side and next to the preprint's numbers.
"""

import base64
import csv
import io
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from rich.table import Table
from rich.text import Text

from mien import beside, escape, figures, folders, published, results, tables
from mien.errors import UsageError
from mien.faces import Faces
from mien.outside import expanded
from mien.progress import console, duration, say
from mien.results import Cell, Comparison, Study
from mien.stats import Interval
from mien.store import Store
from mien.tables import HOLE, LOW, Entry, Line, Sheet, line
from mien.words import SETTINGS, label, low, many, named, printed, spread, tallies, tested, who

NONE = Entry(HOLE, hole=True)
METRICS = {"accuracy": "accuracy, %", "uf1": "UF1", "uar": "UAR"}
NOTICES = {
    "frame": (
        "As published: test frames seen in training",
        "Single frames are split at random, so each test frame has neighbours from the same clip "
        "of the same person in the training set, and one generator was trained on all frames, "
        "including those of the tests. Any method that remembers faces scores high here. These "
        "numbers say nothing about people who were not in the training set.",
    ),
    "clip": (
        "Test clips unseen, people seen",
        "No clip is on both sides of a split, and each fold has its own generator, which was "
        "trained only on the training side of that fold. The people in the tests also occur in "
        "training, in other clips.",
    ),
    "subject": (
        "Test people unseen",
        "Nobody is on both sides of a split, and each fold has its own generator, which was "
        "trained only on the training side of that fold. Every test on real faces was checked for "
        "this before it was made.",
    ),
    "dataset": (
        "Test datasets unseen",
        "No dataset is on both sides of a split: each fold is tested on people, cameras and "
        "coders that neither the classifier nor the generator has seen. Names cannot show whether "
        "somebody was photographed for two of the datasets. Intervals are over people, and say "
        "nothing about further datasets.",
    ),
}
SYNTHETIC_TEST = (
    "Tests on synthetic faces show whether the classifier and the generator agree, not how well "
    "the classifier reads people: the synthetic test images come from a generator that learnt "
    "from the training side."
)
ALARM = (
    "Accuracies above 95 % on held-out people are rare, and a leak is more likely. Look for the "
    "same person under two names; for near-duplicate images across people; for borders, stamps or "
    "compression in the images that reveal the label; for a folder that was ingested twice under "
    "two names; and for synthetic images from outside this study, whose generator saw the test "
    "people."
)
MINUS = "\u2212"
MANY = 6  # more confusion matrices than these are folded away on the page
WIDTH = 140  # columns of a table if the output is not a terminal


def make(
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
    loaded = [Study(name, store) for name in names]
    titles = [study.title for study in loaded]
    if not loaded or len(set(titles)) < len(titles):
        raise UsageError(
            "a report needs one or more studies, each named once; given: "
            f"{', '.join(map(str, names))}"
        )
    folder = expanded(out or Path(f"report-{'-'.join(titles)}"))
    folders.fillable(folder)
    folder.mkdir(parents=True, exist_ok=True)

    # The pages for people
    content = _content(loaded, real_faces)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(content)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "report.md").write_text(_markdown(content), encoding="utf-8")
    (folder / "tables.tex").write_text(_latex(content), encoding="utf-8")
    for chart in content["charts"]:
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / f"{chart['name']}.svg").write_text(chart["svg"], encoding="utf-8")

    # The table for programs
    with (folder / "tables.csv").open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for study in loaded:
            writer.writerows(
                {name: escape.cell(value) for name, value in row.items()} for row in csv_rows(study)
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


def terminal(study: str, store: Store) -> Table:
    """Return the settings table of a study for the terminal; controls are under the cells."""
    loaded = Study(study, store)
    several = len(loaded.ablations) > 1
    cells = [cell for cell in loaded.cells if cell.level == "images"]
    has_published = any(cell.published for cell in cells)

    # The columns; published numbers have one only where there are any
    title = f"{loaded.title}: {NOTICES[loaded.protocol][0].lower()}"
    table = Table(title=_plain(title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("train → test", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for name in ("accuracy", "UF1", "UAR", *["published"] * has_published):
        table.add_column(name, justify="right", no_wrap=True)

    # For each setting its cells, then its controls
    for setting in loaded.settings:
        for index, cell in enumerate(cell for cell in cells if cell.setting == setting):
            name = label(loaded, cell.classifier) + (f" {cell.ablation}" if several else "")
            average = [f"{cell.published:.2f}" if cell.published else ""] * has_published
            mark = f" {LOW}" if low(loaded, cell, "accuracy") else ""
            table.add_row(
                SETTINGS[setting] if index == 0 else "",
                _plain(name + mark),
                *_brief(cell),
                *average,
            )
        for name, cell in loaded.floors(setting, "images"):
            table.add_row("", _plain(f"  {name}"), *_brief(cell), style="dim")

    # The caption: how many trials the means rest on, and what the mark means
    failed = f", {len(loaded.failed)} failed" if loaded.failed else ""
    table.caption = (
        f"by image, means over {many(loaded.spec['trials'], 'trial')}; {len(loaded.done)} of "
        f"{many(len(loaded.runs), 'trial')} "
        f"done{failed}\n{LOW} not above its controls{_legend(loaded)}"
    )
    table.caption_justify = "left"
    return table


def _legend(study: Study) -> str:
    """Return lines that explain the controls of the table that never look at a face."""
    names = {name for setting in study.settings for name, _ in study.floors(setting, "images")}
    texts = {
        "constant answer": "always the commonest class of the test images",
        "majority": "always the commonest class of the training images",
    }
    lines = [
        f"\n{name}: {text}"
        for start, text in texts.items()
        for name in sorted(names)
        if name.startswith(start)
    ]
    return "".join(lines)


def show(study: str, store: Store) -> None:
    """Print the settings table of a study, its leak alarms, and whether synthetic faces help."""
    out = console(width=None if sys.stdout.isatty() else WIDTH)
    out.print(terminal(study, store))
    loaded = Study(study, store)
    for text in [
        *(f"Leak alarm: {text}" for text in _alarms(loaded)),
        *_helps(loaded),
    ]:
        out.print(_plain(text), soft_wrap=True)


def _plain(text: str) -> Text:
    """Return a text for the terminal without markup."""
    return Text(escape.printable(text))


# The content of the pages


def _content(studies: list[Study], real_faces: bool | None = None) -> dict[str, Any]:
    """Return the content of the pages: texts, tables, charts, and images as `make` describes."""
    like = [
        study for study in studies if study.like and any(cell.published for cell in study.cells)
    ]
    return {
        "title": ", ".join(study.title for study in studies),
        "side": [_side_by_side(studies)] if len(studies) > 1 else [],
        "studies": [_section(study, real_faces) for study in studies],
        "charts": beside.figures(like) if like else [],
        "preprint": beside.tables_3_to_14(like) if like else [],
        "others": [beside.table_15(like)] if like else [],
        "counts": beside.tables_1_and_2(like) if like else [],
        "source": published.SOURCE,
        "dataset": published.DATASET,
    }


def _section(study: Study, real_faces: bool | None = None) -> dict[str, Any]:
    """Return the part of the pages that is about one study."""
    # Whether real faces may be shown, and what is used more than once below
    real = not study.restricted if real_faces is None else real_faces
    title, notice = NOTICES[study.protocol]
    confusions = _confusions(study)

    return {
        # The top of the page: what must be read before any number
        "title": study.title,
        "notice": {"title": title, "text": notice, "warn": study.protocol == "frame"},
        "synthetic_test": SYNTHETIC_TEST if _tests_synthetic(study) else "",
        "alarms": _alarms(study),
        "helps": _helps(study),
        "alarm": ALARM,
        "state": _state(study),
        # Sentences, and the plot
        "findings": _findings(study),
        "without": _without(study),
        "low": _reasons(study),
        "plot": _plot(study),
        # Tables and images
        "levels": [
            {"level": level, "note": _note(study, level), "sheets": _sheets(study, level)}
            for level in study.levels
        ],
        "recall": _recall(study),
        "datasets": _by_dataset(study),
        "counts": _counts(study),
        "sheet": _sheet(study, real),
        "unshown": _unshown(study, real, real_faces),
        "confusions": confusions,
        "folded": len(confusions) > MANY,
        # What was run, and under which licence
        "failed": [{**trial, "where": results.described(study, trial)} for trial in study.failed],
        "facts": _facts(study),
        "licence": study.licence,
        "restricted": study.restricted,
        "private": study.restricted and real,
    }


def _tests_synthetic(study: Study) -> bool:
    return any(sources["test"] == "synthetic" for sources in study.plan["settings"].values())


def _state(study: Study) -> str:
    """Return how many trials are done, failed and to come, and the time of those that are done."""
    total, done, failed = len(study.runs), len(study.done), len(study.failed)
    to_come = total - done - failed
    texts = [f"{done} of {many(total, 'trial')} {'is' if total == 1 else 'are'} done"]
    if failed:
        texts.append(f"{failed} failed")
    if to_come:
        texts.append(f"{to_come} {'is' if to_come == 1 else 'are'} still to come")
    return f"{', '.join(texts)}. The finished runs took {duration(study.seconds)}."


# Sentences


def _alarms(study: Study) -> list[str]:
    """Return a sentence for each accuracy that is so high that a leak is likely."""
    return [
        f"{SETTINGS[cell.setting]}, {who(study, cell)}: {_accuracy(cell)} right by "
        f"{cell.level[:-1]} on held-out people ({tested(cell)})."
        for cell in study.alarms()
    ]


def _findings(study: Study) -> list[str]:
    """Return a sentence on each classifier's tests on real faces, in the first ablation.

    Cells with a hole are left out.
    """
    sentences = []
    for classifier in study.classifiers:
        cells = [study.cell(setting, classifier) for setting in study.settings]
        complete = [cell for cell in cells if cell is not None and cell.whole]
        real = [cell for cell in complete if study.plan["settings"][cell.setting]["test"] == "real"]
        if real:
            scores = "; ".join(f"{SETTINGS[cell.setting]} {_share(cell)}" for cell in real)
            floor = printed(real[0].constant("accuracy"), "accuracy")
            sentences.append(
                f"{who(study, real[0])} on {tested(real[0])}: {scores}. On the same tests, always "
                f"answering the commonest class gets {floor} %."
            )
    return sentences


def _without(study: Study) -> str:
    """Return a sentence on the controls that were not run, so that nobody takes them for passed."""
    if not study.without:
        return ""
    names = ", ".join(study.without)
    return f"These controls were not run, so no cell is compared with them: {names}."


def _share(cell: Cell) -> str:
    """Return accuracy and UF1 of a cell as part of a sentence."""
    return f"{_accuracy(cell)} right (UF1 {printed(cell.mean('uf1'), 'uf1')})"


def _accuracy(cell: Cell) -> str:
    """Return the mean accuracy of a cell with its spread over trials, in per cent."""
    summary = cell.summary("accuracy")
    if summary is None:
        return HOLE
    sd = "" if summary.n == 1 else f" ± {printed(summary.sd, 'accuracy')}"
    return f"{printed(summary.mean, 'accuracy')}{sd} %"


def _helps(study: Study) -> list[str]:
    """Return whether synthetic images help, a question and answer per classifier and ablation."""
    synthetic_only = [
        comparison
        for comparison in study.compared("synthetic_to_real")
        if comparison.ablation == study.ablations[0]
    ]
    questions = [
        ("Does adding synthetic images to the real ones help", study.compared("both_to_real")),
        ("Does it help more than adding copies of the real ones", study.against_copies()),
        ("Are synthetic images alone better than real ones", synthetic_only),
    ]
    return [
        f"{question} ({_compared_who(study, comparison)})? {_answer(comparison)}"
        for question, comparisons in questions
        for comparison in comparisons
    ]


def _compared_who(study: Study, comparison: Comparison) -> str:
    """Return the classifier of a comparison, and its ablation if the study has several."""
    ablation = f", {comparison.ablation}" if len(study.ablations) > 1 else ""
    return label(study, comparison.classifier) + ablation


def _answer(comparison: Comparison) -> str:
    """Return the answer of a comparison as a sentence, with its gap, interval, p and sizes."""
    p = comparison.p
    p_text = "" if math.isnan(p) else ", p < 0.001" if p < 0.001 else f", p = {p:.3f}"
    groups = many(comparison.groups, comparison.grouped)
    return (
        f"{comparison.answer.capitalize()}: accuracy by {comparison.level[:-1]} changes by "
        f"{_points(comparison.gap)}{p_text} ({groups}, {many(comparison.trials, 'trial')})."
    )


def _points(gap: Interval) -> str:
    """Return a difference in accuracy with its interval, in points."""
    bounds = (
        f", 95 % interval {_signed(gap.low)} to {_signed(gap.high)}"
        if not math.isnan(gap.low)
        else ""
    )
    return f"{_signed(gap.value)} points{bounds}"


def _signed(share: float) -> str:
    """Return a difference in points with its sign, or without one if it rounds to zero."""
    text = f"{100 * share:+.1f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def _reasons(study: Study) -> list[str]:
    """Return a sentence for each marked cell: the controls that it is not above, and the gaps."""
    sentences = []
    for cell in (cell for cell in study.cells if cell.level == "images"):
        controls = [
            f"{verdict.control} ({_points(verdict.gap)})"
            for verdict in study.verdicts(cell)
            if verdict.cleared is False and verdict.gap is not None
        ]
        if controls:
            sentences.append(
                f"{SETTINGS[cell.setting]}, {who(study, cell)}: not above {'; '.join(controls)}."
            )
    return sentences


# Tables of settings


def _sheets(study: Study, level: str) -> list[Sheet]:
    """Return the tables by image or by clip: a single one, or one per measure with ablations."""
    if len(study.ablations) == 1:
        head = ("train → test", *METRICS.values())
        return [Sheet(f"By {level[:-1]}", head, tuple(_lines(study, level, list(METRICS))))]
    return [
        Sheet(
            f"{name[0].upper()}{name[1:]}, by {level[:-1]}",
            ("train → test", *study.ablations),
            tuple(_lines(study, level, [metric])),
        )
        for metric, name in METRICS.items()
    ]


def _lines(study: Study, level: str, metrics: list[str]) -> Iterator[Line]:
    """Yield the rows of a table of settings: for each its classifiers, then its controls."""
    for setting in study.settings:
        cells = [cell for cell in study.cells if (cell.setting, cell.level) == (setting, level)]
        if not cells:
            continue
        yield line(
            Entry(SETTINGS[setting], next((tested(cell) for cell in cells if cell.done), "")),
            kind="group",
        )
        for classifier in study.classifiers:
            of_classifier = [cell for cell in cells if cell.classifier == classifier]
            yield line(
                label(study, classifier),
                *(_entry(study, cell, metric) for cell in of_classifier for metric in metrics),
            )
        for name, cell in study.floors(setting, level):
            entries = [_plain_entry(cell, metric) for metric in metrics]
            yield line(name, *entries, *[""] * (len(study.ablations) - 1), kind="control")


def _entry(study: Study, cell: Cell, metric: str) -> Entry:
    """Return a cell's number with spread, trials, interval, mark, and published average if any."""
    summary, bounds = cell.summary(metric), cell.interval(metric)
    if summary is None or bounds is None:
        return Entry(HOLE, f"{len(cell.done)} of {many(len(cell.trials), 'trial')}", hole=True)
    interval = (
        ""
        if math.isnan(bounds.low)
        else f" [{printed(bounds.low, metric)}, {printed(bounds.high, metric)}]"
    )
    comparable = metric == "accuracy" and cell.level == "images" and cell.published is not None
    return Entry(
        printed(summary.mean, metric),
        spread(summary, metric) + interval,
        low(study, cell, metric),
        f"{cell.published:.2f}" if comparable else "",
    )


def _plain_entry(cell: Cell, metric: str) -> Entry:
    """Return a control's number with its spread."""
    summary = cell.summary(metric)
    if summary is None:
        return Entry(HOLE, f"{len(cell.done)} of {many(len(cell.trials), 'trial')}", hole=True)
    return Entry(printed(summary.mean, metric), spread(summary, metric))


def _brief(cell: Cell) -> list[str]:
    """Return accuracy, UF1 and UAR for the terminal."""
    summary = cell.summary("accuracy")
    if summary is None:
        return [f"{HOLE} ({len(cell.done)}/{len(cell.trials)})", HOLE, HOLE]
    sd = f" ± {printed(summary.sd, 'accuracy')}" if summary.n > 1 else ""
    numbers = [printed(cell.mean(metric), metric) for metric in METRICS]
    return [numbers[0] + sd, *numbers[1:]]


def _note(study: Study, level: str) -> str:
    """Return the note above the tables by image or by clip: how to read their numbers."""
    # What is counted, and over what the spread and the interval are
    units = {
        "images": "Each image counts by itself",
        "clips": "Each clip counts once, by its frames' mean probabilities",
    }
    folds = len(study.spec["tested_folds"])
    pooled = (
        f"; counts are pooled over {folds} folds before any ratio is formed" if folds > 1 else ""
    )
    cells = [cell for cell in study.cells if cell.level == level]
    groups = sorted({f"{cell.grouped}s" for cell in cells if cell.done})
    sentences = [
        f"{units[level]}{pooled}. Numbers are mean ± sd (n - 1) over trials, with the number of "
        "trials, and in brackets "
        f"the 95 % interval over 2,000 draws of the tests' {' or '.join(groups) or 'subjects'}."
    ]

    # Exceptions: classes that are not scored, and classifiers without pretrained weights
    unscored = {name for cell in cells for scores in cell.done for name in scores.left_out}
    if unscored:
        names = ", ".join(sorted(unscored))
        sentences.append(
            f"UF1 and UAR leave out classes without a true sample in the test set: {names}."
        )
    random_start = [
        name
        for name, by_ablation in study.spec["classifiers"].items()
        if next(iter(by_ablation.values()))["weights"] == "none"
    ]
    if random_start:
        names = ", ".join(name for name in study.classifiers if name in random_start)
        sentences.append(f"Trained from random weights (weights = none): {names}.")

    # Controls, and the mark of cells that are not above them
    if study.plan["controls"]:
        sentences.append(
            "The controls under the cells cannot learn expressions: by their method, or from "
            "their data."
        )
    if any(low(study, cell, metric) for cell in cells for metric in METRICS):
        sentences.append(
            f"{LOW} marks a cell that is not above each of its controls, by the 95 % interval of "
            "the difference."
        )

    # Published numbers, or why there are none
    if (
        level == "images"
        and not study.like
        and any(cell.network in published.MODELS for cell in cells)
    ):
        theirs, ours = len(published.EMOTIONS), len(study.classes)
        sentences.append(
            f"Published numbers are for {theirs} classes and are not shown here, since this study "
            f"has {ours}{' others' if ours == theirs else ''}."
        )
    if level == "images" and any(cell.published for cell in cells):
        sentences.append(
            "Published is the preprint's average for the same setting, network and ablation, on "
            f"{published.DATASET} under random frames: other data, another protocol."
        )
    return " ".join(sentences)


def _recall(study: Study) -> Sheet | None:
    """Return the recall of each class, in per cent, over all finished trials, or None."""
    cells = [cell for cell in study.cells if cell.level == "images" and cell.done]
    if not cells:
        return None

    # For each setting the number of images per class, then a row per classifier
    rows = []
    for setting in study.settings:
        of_setting = [cell for cell in cells if cell.setting == setting]
        if of_setting:
            counts = of_setting[0].confusion().sum(axis=1) // len(of_setting[0].done)
            rows.append(
                line(
                    SETTINGS[setting],
                    *(many(int(n), "image") if n else HOLE for n in counts),
                    kind="total",
                )
            )
            rows += [
                line(who(study, cell), *(printed(share, "accuracy") for share in cell.recall()))
                for cell in of_setting
            ]

    note = (
        "Each setting's row gives the number of images of each class that a trial tests, the mean "
        "over trials."
    )
    return Sheet(
        "Recall of each class, in per cent, by image",
        ("train → test", *study.classes),
        tuple(rows),
        note,
    )


def _by_dataset(study: Study) -> list[Sheet]:
    """Return accuracy and UF1 on the real faces of each dataset, or [] if there is only one."""
    level = study.levels[-1]
    real = [name for name in study.settings if study.plan["settings"][name]["test"] == "real"]
    cells = [cell for cell in study.cells if cell.level == level and cell.setting in real]
    if len(study.datasets) < 2 or not cells:
        return []

    # A column per dataset, with the number of its images
    sizes = {
        name: len(study.faces.index[study.faces.index["dataset"] == name])
        for name in study.datasets
    }
    head = (
        "train → test",
        *(f"{name} ({many(number, 'image')})" for name, number in sizes.items()),
    )
    unseen = (
        "which was held out of training"
        if study.protocol == "dataset"
        else "other parts of which were trained on"
    )
    note = (
        f"Each column is tested on one dataset, {unseen}; means over trials, with sd (n - 1) "
        "and number."
    )

    # A table per measure
    sheets = []
    for metric, title in (("accuracy", "Accuracy in per cent"), ("uf1", "UF1")):
        rows: list[Line] = []
        for setting in real:
            of_setting = [cell for cell in cells if cell.setting == setting]
            rows += [line(SETTINGS[setting], kind="group")] if of_setting else []
            rows += [line(who(study, cell), *_within(study, cell, metric)) for cell in of_setting]
        sheets.append(Sheet(f"{title} of each dataset, by {level[:-1]}", head, tuple(rows), note))
    return sheets


def _within(study: Study, cell: Cell, metric: str) -> list[Entry]:
    return [
        _plain_entry(study.within(cell, name), metric) if cell.whole else NONE
        for name in study.datasets
    ]


def _side_by_side(studies: list[Study]) -> Sheet:
    """Return the accuracies of all studies as one table, next to the published ones.

    There is a row for each setting, classifier and ablation, and for each control.
    """
    ablated = any(len(study.ablations) > 1 for study in studies)
    comparable = any(cell.published is not None for study in studies for cell in study.cells)
    rows: list[Line] = []
    for setting in (name for name in SETTINGS if any(name in study.settings for study in studies)):
        rows.append(line(SETTINGS[setting], kind="group"))
        with_setting = [study if setting in study.settings else None for study in studies]
        keys = dict.fromkeys(
            (cell.classifier, cell.ablation)
            for study in with_setting
            if study
            for cell in study.cells
            if cell.setting == setting
        )

        # The cells of all studies, after the published number if there is any
        for classifier, ablation in keys:
            cells = [
                study and study.cell(setting, classifier, "images", ablation)
                for study in with_setting
            ]
            entries = [
                _entry(study, cell, "accuracy") if study and cell else NONE
                for study, cell in zip(with_setting, cells, strict=True)
            ]
            average = next(
                (cell.published for cell in cells if cell and cell.published is not None), None
            )
            average_entry = NONE if average is None else Entry(f"{average:.2f}")
            name = f"{classifier}, {ablation}" if ablated else classifier
            rows.append(
                line(
                    name,
                    *([average_entry] if comparable else []),
                    *(replace(entry, published="") for entry in entries),
                )
            )

        # The controls, by name, since a study may lack some
        controls = [
            dict(study.floors(setting, "images")) if study else {} for study in with_setting
        ]
        for name in dict.fromkeys(name for by_name in controls for name in by_name):
            entries = [
                _plain_entry(by_name[name], "accuracy") if name in by_name else NONE
                for by_name in controls
            ]
            rows.append(line(name, *([NONE] if comparable else []), *entries, kind="control"))

    # The head of each column says how many classes a study has where that differs
    heads = [f"{study.title}, by {study.protocol}" for study in studies]
    if len({study.classes for study in studies}) > 1 or (
        comparable and not all(study.like for study in studies)
    ):
        heads = [
            f"{name}, {many(len(study.classes), 'class')}"
            for name, study in zip(heads, studies, strict=True)
        ]
    head = ("train → test", *(["published"] if comparable else []), *heads)
    return Sheet("Accuracy in per cent, by image, of all studies", head, tuple(rows))


# What was run


def _facts(study: Study) -> list[tuple[str, str]]:
    """Return the facts of what was run, as pairs of a name and a text."""
    spec, about = study.spec, study.run.about

    # The study, its faces, classes, protocol, generator and database
    _, height, width = study.faces.size
    facts = [
        ("study", study.run.name),
        (
            "faces",
            f"{spec['faces']}{f' ({name})' if (name := named(study)) != spec['faces'] else ''}: "
            f"{many(len(study.faces), 'image')}, {height} x {width}, {_channels(study.faces)}, "
            f"licence {study.licence}",
        ),
        (
            "classes",
            ", ".join(study.classes)
            + (f" (class set {spec['class_set']})" if spec["class_set"] else ""),
        ),
        ("protocol", _protocol(study)),
        ("trials", f"{spec['trials']}, with seeds that follow from seed {spec['seed']}"),
    ]
    if study.plan["databases"]:
        facts += [("generator", _generator(study)), ("database", _database(study))]

    # Each classifier, and what each ablation changes in it
    for name in study.classifiers:
        kinds = spec["classifiers"][name]
        base = kinds[study.ablations[0]]
        facts.append((f"classifier {name}", _fields(_with_files(study, base))))
        for ablation in study.ablations[1:]:
            changed = {key: value for key, value in kinds[ablation].items() if value != base[key]}
            if changed or ablation not in study.inputs:
                facts.append((f"{name}, {ablation}", _fields(_with_files(study, changed))))
    facts += [
        (f"{name} shows", f"{' and '.join(view['input'])}, of the same images ({view['faces']})")
        for name, view in study.inputs.items()
    ]
    facts += [
        (f"{layers['classifier']}, {layers['ablation']}, frozen", layers["text"])
        for layers in study.plan["frozen"]
    ]

    # Controls, and the versions of the software
    if study.plan["controls"]:
        facts.append(("controls", ", ".join(study.plan["controls"])))
    recorded = about.get("versions")
    versions = (
        ", ".join(f"{name} {version}" for name, version in recorded.items())
        if isinstance(recorded, dict)
        else ""
    )
    facts.append(
        ("made with", f"{versions}{'; commit ' + about['commit'] if about.get('commit') else ''}")
    )
    return facts


def _channels(faces: Faces) -> str:
    """Return the names of the channels of faces."""
    return " and ".join(faces.channels) or ("grey" if faces.size[0] == 1 else "RGB")


def _with_files(study: Study, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with a weights file by its name and the first digits of its sha256."""
    weights = str(fields.get("weights", ""))
    if not weights.startswith("file:"):
        return fields
    digest, store = weights.removeprefix("file:"), study.store
    runs = [store.run(name) for name in store.names() if name.startswith("weights-")]
    file = next((run.summary.get("file") for run in runs if run.spec.get("sha256") == digest), None)
    return {
        **fields,
        "weights": f"{file or 'a file that is no longer in the store'} (sha256 {digest[:12]})",
    }


def _fields(fields: dict[str, Any]) -> str:
    """Return fields of a specification in one line; nested ones in brackets."""
    texts = []
    for key, value in fields.items():
        if isinstance(value, dict):
            texts.append(f"{key} ({_fields(value)})")
        elif value is not None and not (key in ("freeze", "validation") and not value):
            texts.append(
                f"{key.replace('_', ' ')} "
                f"{' to '.join(map(str, value)) if isinstance(value, list) else value}"
            )
    return ", ".join(texts)


def _protocol(study: Study) -> str:
    """Return how the faces were split."""
    spec = study.spec
    if spec["protocol"] == "frame":
        return (
            f"by frame: each trial tests one in {spec['folds']} of the images, with its own "
            "random split"
        )
    tested = spec["tested_folds"]
    text = f"by {spec['protocol']}, {spec['folds']} folds"
    if spec["protocol"] == "dataset" and spec["folds"] == len(study.datasets):
        text += f", each of which leaves one dataset out ({', '.join(study.datasets)})"
    if len(tested) < spec["folds"]:
        text += (
            f", of which only {', '.join(str(fold) for fold in tested)} "
            f"{'is' if len(tested) == 1 else 'are'} tested"
        )
    return f"{text}; the split follows from seed {spec['seed']}"


def _generator(study: Study) -> str:
    """Return the kind, number, settings and runs of the study's generators."""
    fields = study.spec["generator"]
    number = len(study.plan["databases"])
    keys = ("images_seen", "batch", "learning_rate", "ema", "mirror", "seed")
    text = ", ".join(f"{key.replace('_', ' ')} {fields[key]}" for key in keys if key in fields)
    scope = (
        "one, trained on all images"
        if study.spec["protocol"] == "frame"
        else f"one for each of {number} folds"
    )
    runs = ", ".join(database["generator"] for database in study.plan["databases"])
    return f"{fields['kind']}, {scope}: {text} ({runs})"


def _database(study: Study) -> str:
    """Return the size, settings and runs of the study's synthetic databases."""
    databases = study.plan["databases"]
    total = sum(sum(database["counts"].values()) for database in databases)
    settings = ", ".join(f"{key} {value}" for key, value in study.spec["generate"].items())
    return (
        f"{many(total, 'image')} in {many(len(databases), 'database')}, counts "
        f"{study.spec['counts']}{', ' + settings if settings else ''}; four in five train, one in "
        f"five tests ({', '.join(database['database'] for database in databases)})"
    )


def _counts(study: Study) -> Sheet:
    """Return images, clips and subjects of each class, real and generated."""
    real, synthetic = tallies(study)
    rows = [
        line(
            name,
            *(f"{n:,}" for n in (*real[name], *synthetic[name])),
            kind="total" if name == "total" else "",
        )
        for name in [*study.classes, "total"]
    ]

    head = (
        "class",
        "real images",
        "clips",
        "subjects",
        "synthetic images",
        "clips seen",
        "subjects seen",
    )
    note = (
        "Clips and subjects seen are those of the generators' training images: variety cannot "
        "exceed them."
    )
    return Sheet("Images of each class", head, tuple(rows), note)


def _unshown(study: Study, real: bool, real_faces: bool | None) -> str:
    """Return why no real faces are shown, or "" if they are."""
    if real:
        return ""
    if real_faces is not None:
        return "Real faces are not shown, as requested."
    names = ", ".join(study.withheld)
    return (
        f"Real faces are not shown, since no free licence is known for {names}; "
        "`mien report --real-faces` shows them."
    )


def _sheet(study: Study, real: bool) -> dict[str, str] | None:
    """Return a contact sheet as a data URL, with its texts, or None if there is nothing to show."""
    # The images: synthetic ones only, real and synthetic ones, or real ones only
    names = ", ".join(study.classes)
    if not real:
        synthetic = _invented(study.databases[0], study.faces) if study.databases else None
        if synthetic is None:
            return None
        sheet = figures.synthetic_sheet(synthetic, per_class=8)
        alt = f"Rows of up to eight synthetic faces for {', '.join(synthetic.classes)}"
    elif study.databases:
        sheet = figures.side_by_side(study.faces, study.databases[0], per_class=8)
        alt = (
            f"Rows of faces for {names}: up to eight real ones on the left, as many synthetic "
            "on the right"
        )
    else:
        sheet = figures.class_sheet(study.faces, per_class=12)
        alt = f"Rows of real faces for {names}"

    # The caption: how the faces were chosen, and from which fold
    finished = [
        database["fold"]
        for database in study.plan["databases"]
        if study.store.done(database["database"])
    ]
    fold = next(iter(finished), -1)
    text = "Faces are chosen by the order of their names, not by how they look."
    if fold >= 0:
        text += (
            f" The synthetic ones are of fold {fold}; a class that its training side lacks "
            "has none."
        )
    return {"image": _embedded(sheet), "alt": alt, "width": str(sheet.width), "text": text}


def _invented(faces: Faces, real: Faces) -> Faces | None:
    """Return eight synthetic faces per class without copies of real ones, or None if all are."""
    from mien.audit.copies import copies  # needs torch, unlike all other parts of a report

    rows = np.concatenate([figures.places(faces, name, 8) for name in faces.classes])
    chosen = np.isin(np.arange(len(faces)), rows)
    copied = set(copies(faces.select(chosen), real)["image"])
    invented = chosen & ~faces.index["key"].isin(copied).to_numpy()
    return faces.select(invented) if invented.any() else None


def _embedded(image: Image.Image) -> str:
    """Return an image as a data URL, with one channel if it is grey."""
    buffer = io.BytesIO()
    grey = image.convert("L")
    smallest = grey if np.array_equal(np.asarray(grey.convert("RGB")), np.asarray(image)) else image
    smallest.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _confusions(study: Study) -> list[dict[str, Any]]:
    """Return the confusion matrix of each setting and classifier with a finished trial."""
    return [_confusion(study, cell) for cell in study.cells if cell.level == "images" and cell.done]


def _confusion(study: Study, cell: Cell) -> dict[str, Any]:
    """Return one confusion matrix with its title and note."""
    # Only classes that occur, as the truth or as an answer
    counts = cell.confusion()
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

    trials = many(len(cell.trials), "trial")
    return {
        "title": f"{SETTINGS[cell.setting]}, {who(study, cell)}",
        "columns": [study.classes[index] for index in occurring],
        "rows": rows,
        "note": f"summed over {trials if cell.whole else f'{len(cell.done)} of {trials}'}",
    }


# The plot: a row per setting and classifier, a dot per trial


def _plot(study: Study) -> dict[str, Any]:
    """Return the accuracies that the plot shows, in per cent, and its text for screen readers."""
    rows = []
    for cell in (cell for cell in study.cells if cell.level == "images"):
        constant, mean = cell.constant("accuracy"), cell.summary("accuracy")
        controls = [
            control
            for control in study.controls_of(cell.setting, "images")
            if control.whole and control.classifier in ("nearest", cell.classifier)
        ]
        rows.append(
            {
                "setting": SETTINGS[cell.setting],
                "classifier": who(study, cell),
                "dots": [round(100 * scores.accuracy, 2) for scores in cell.done],
                "mean": None if mean is None else round(100 * mean.mean, 2),
                "constant": None if constant is None else round(100 * constant, 2),
                "controls": [round(100 * control.mean("accuracy"), 2) for control in controls],
                "published": cell.published,
            }
        )

    words = [
        f"{row['setting']} {row['classifier']}: "
        + (f"mean {row['mean']} per cent" if row["mean"] is not None else HOLE)
        for row in rows
    ]
    return {"rows": rows, "alt": "Mean accuracy. " + "; ".join(words) + "."}


# For programs

CSV_COLUMNS: tuple[str, ...] = (
    "study", "protocol", "source", "setting", "train", "test", "classifier", "ablation",
    "control", "trial", "fold", "level", "metric", "value", "sd", "low", "high", "n", "run",
)  # fmt: skip


def csv_rows(study: Study) -> Iterator[dict[str, Any]]:
    """Yield the rows of tables.csv; `source` says which of four kinds a row is.

    They are the records of trials, the scores pooled over folds, the means over trials with
    intervals, and the published numbers. Values are shares, 0 to 1. `fold` is "all" where folds are
    pooled; `trial` counts from 1, and is "mean" for means over trials, with `sd` (n - 1) and the
    95 % interval over subjects.
    """
    # The records of each trial and fold
    same = {"study": study.title, "protocol": study.protocol}
    for trial in study.trials:
        if trial["run"] in study.done:
            yield from _recorded(study, trial, same)

    for cell in [*study.cells, *study.controls]:
        sources = study.plan["settings"][cell.setting]
        fields = {
            **same,
            "setting": cell.setting,
            "train": sources["train"],
            "test": sources["test"],
            "fold": "all",
            "classifier": cell.classifier,
            "ablation": cell.ablation,
            "control": cell.control,
            "level": cell.level,
        }

        # The scores of each trial, pooled over folds
        for number, scores in enumerate(cell.trials, start=1):
            if scores is not None:
                for metric in METRICS:
                    value = {"metric": metric, "value": scores.of(metric), "n": scores.n}
                    yield {**fields, "source": "pooled", "trial": number, **value}

        # The means over trials, and the published average
        for metric in METRICS:
            summary, bounds = cell.summary(metric), cell.interval(metric)
            if summary is not None and bounds is not None:
                uncertainty = {
                    "sd": summary.sd,
                    "low": bounds.low,
                    "high": bounds.high,
                    "n": cell.n,
                }
                value = {"metric": metric, "value": summary.mean, **uncertainty}
                yield {**fields, "source": "mean", "trial": "mean", **value}
        if cell.published is not None and cell.level == "images":
            value = {"metric": "accuracy", "value": round(cell.published / 100, 6)}
            yield {**fields, "source": "published", "trial": "mean", **value}


def _recorded(
    study: Study, trial: dict[str, Any], same: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the records of one trial and fold."""
    fields = {
        name: trial[name] for name in ("classifier", "ablation", "control", "train", "fold", "run")
    }
    settings = {
        (sources["train"], sources["test"]): name
        for name, sources in study.plan["settings"].items()
    }
    for record in study.done[trial["run"]].json("records.json"):
        test, level, metric = record["metric"].split("/")
        setting = {
            "setting": settings.get((trial["train"], test), ""),
            "test": test,
            "trial": trial["trial"] + 1,
        }
        value = {"level": level, "metric": metric, "value": record["value"], "n": record["n"]}
        yield {**same, "source": "record", **fields, **setting, **value}


# Markdown and LaTeX


def _markdown(content: dict[str, Any]) -> str:
    """Return the report as Markdown: the same sentences and tables, without images."""
    lines = [f"# {_md(content['title'])}", ""]
    for sheet in content["side"]:
        lines += ["## Side by side", "", *tables.markdown(sheet)]
    if content["preprint"]:
        lines += ["## The preprint's tables", "", _published_note(content), ""]
        for sheet in [*content["preprint"], *content["others"], *content["counts"]]:
            lines += tables.markdown(sheet)
    for section in content["studies"]:
        lines += _markdown_of(section, alone=len(content["studies"]) == 1)
    return "\n".join(lines)


def _published_note(content: dict[str, Any]) -> str:
    return (
        f"Published: {content['source']}, on {content['dataset']} under random frames. All "
        "numbers in per cent."
    )


def _markdown_of(section: dict[str, Any], alone: bool) -> list[str]:
    """Return the lines of one study; headings are one level deeper if it is not alone."""
    lines = [] if alone else [f"## {_md(section['title'])}", ""]
    head = "##" if alone else "###"

    # What must be read before any number
    lines += [section["state"], ""]
    if section["alarms"]:
        lines += [f"> **Leak alarm.** {_md(' '.join(section['alarms']))} {section['alarm']}", ""]
    lines += [f"> **{section['notice']['title']}.** {section['notice']['text']}", ""]
    if section["synthetic_test"]:
        lines += [section["synthetic_test"], ""]
    if section["restricted"]:
        lines += [f"The faces are under this licence: {_md(section['licence'])}.", ""]

    # Sentences
    if section["findings"]:
        lines += [
            f"{head} What the numbers say",
            "",
            *(f"- {_md(text)}" for text in section["findings"]),
            "",
        ]
    if section["helps"]:
        lines += [
            f"{head} Does adding synthetic images help?",
            "",
            *(f"- {_md(text)}" for text in section["helps"]),
            "",
        ]
    if section["low"]:
        lines += [
            f"{head} Not above their controls",
            "",
            *(f"- {_md(text)}" for text in section["low"]),
            "",
        ]
    lines += [_md(section["without"]), ""] if section["without"] else []

    # Tables; the note of a level goes under the heading of its first one
    for level in section["levels"]:
        for index, sheet in enumerate(level["sheets"]):
            table = tables.markdown(sheet, f"{head}#")
            lines += [*table[:2], _md(level["note"]), "", *table[2:]] if index == 0 else table
    for sheet in (*section["datasets"], section["recall"], section["counts"]):
        lines += tables.markdown(sheet, f"{head}#") if sheet else []
    for confusion in section["confusions"]:
        lines += tables.markdown(_confusion_sheet(confusion), f"{head}#")
    if section["failed"]:
        rows = tuple(
            line(trial["where"], trial["run"], trial["error"]) for trial in section["failed"]
        )
        lines += tables.markdown(
            Sheet("Failed trials", ("trial", "run", "first error"), rows), f"{head}#"
        )

    return [
        *lines,
        f"{head} What was run",
        "",
        *(f"- {_md(name)}: {_md(text)}" for name, text in section["facts"]),
        "",
    ]


def _md(text: str) -> str:
    """Return a text in Markdown, safe with any names and licences in it."""
    return escape.markdown(text)


def _confusion_sheet(confusion: dict[str, Any]) -> Sheet:
    """Return a confusion matrix as a table."""
    rows = tuple(
        line(row["name"], *(str(cell["count"]) for cell in row["cells"]))
        for row in confusion["rows"]
    )
    note = f"Rows are true classes, columns are predicted ones; {confusion['note']}."
    return Sheet(f"Confusion: {confusion['title']}", ("", *confusion["columns"]), rows, note)


def _latex(content: dict[str, Any]) -> str:
    """Return all tables as LaTeX; a table's label does not depend on the other tables."""
    lines = ["% Tables of " + content["title"] + ". Needs \\usepackage{booktabs,graphicx}.", ""]
    label = tables.Labels()

    # The tables of each study, with its title in the caption
    for section in content["studies"]:
        title = section["title"]
        for level in section["levels"]:
            for sheet in level["sheets"]:
                titled = replace(sheet, caption=f"{title}. {sheet.caption}", note=level["note"])
                lines += tables.latex(titled, label(title, sheet.caption))
        others = [*section["datasets"], section["recall"], section["counts"]]
        for sheet in [*others, *map(_confusion_sheet, section["confusions"])]:
            if sheet:
                titled = replace(sheet, caption=f"{title}. {sheet.caption}")
                lines += tables.latex(titled, label(title, sheet.caption))

    # The tables of all studies together
    for sheet in [*content["side"], *content["preprint"], *content["others"], *content["counts"]]:
        lines += tables.latex(sheet, label("all", sheet.caption))
    return "\n".join(lines)
