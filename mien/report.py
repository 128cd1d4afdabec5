"""Reports: what studies found, as one HTML file that opens anywhere, as Markdown, LaTeX, and tables
for programs.

All of it is worked out from the records and predictions of finished trials, so a report can be made
at any time. Given more than one study, such as the same grid by frame and by subject, they stand
side by side and beside the preprint.
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
        "of the same person in "
        "the training set, and one generator was trained on all frames, those of the tests among "
        "them. Any method that "
        "remembers faces scores high here. These numbers say nothing about people that were not "
        "in the training set.",
    ),
    "clip": (
        "Test clips unseen, people seen",
        "No clip stands on both sides of a split, and each fold has a generator of its own that "
        "was trained on the "
        "training side of that fold alone. The people in the tests do occur in training, in other "
        "clips.",
    ),
    "subject": (
        "Test people unseen",
        "Nobody stands on both sides of a split, and each fold has a generator of its own that "
        "was trained on the "
        "training side of that fold alone. Every test on real faces was checked for this before "
        "it was made.",
    ),
    "dataset": (
        "Test datasets unseen",
        "No dataset stands on both sides of a split: each fold is tested on people, cameras and "
        "coders that neither "
        "classifier nor generator met. Whether somebody was photographed for two of the datasets, "
        "nobody can tell from "
        "their names. Intervals are over people, and say nothing of yet another dataset.",
    ),
}
SYNTHETIC_TEST = (
    "Tests on synthetic faces show whether classifier and generator agree, not how well people "
    "are read: the synthetic "
    "test images come from a generator that learnt from the training side."
)
ALARM = (
    "Accuracies above 95 % on people never seen are rare, and a leak is likelier. Look for the "
    "same person under two "
    "names; for near-duplicate images across people; for borders, stamps or compression in the "
    "pictures that give the "
    "label away; for a folder that was ingested twice under two names; for synthetic images from "
    "outside this study, "
    "whose generator saw the test people."
)
MINUS = "\u2212"
MANY = 6  # confusion matrices that are shown without being asked for
WIDTH = 140  # columns of a table where no terminal says how many there are


def make(
    studies: str | Sequence[str],
    store: Store,
    out: Path | None = None,
    real_faces: bool | None = None,
) -> Path:
    """Write report.html, report.md, tables.tex, tables.csv and figures of studies; return the path
    of the HTML file.

    The page shows some real faces if `real_faces`; by default those of studies all of whose sources
    have free licences. Where they are not shown, no synthetic image is that is a copy of one. Each
    of `studies` is a name or a run. `out` is report-NAME by default, with all their names. Raises
    StoreError if a study was never run, UsageError if one is named twice.
    """
    named = [studies] if isinstance(studies, str) else list(studies)
    found = [Study(one, store) for one in named]
    titles = [one.title for one in found]
    if not found or len(set(titles)) < len(titles):
        raise UsageError(
            "a report must be made of studies, each named once; given: "
            f"{', '.join(map(str, named))}"
        )
    folder = expanded(out or Path(f"report-{'-'.join(titles)}"))
    folders.fillable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = _content(found, real_faces)
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
    with (folder / "tables.csv").open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for one in found:
            writer.writerows(
                {name: escape.cell(value) for name, value in row.items()} for row in csv_rows(one)
            )
    for text in dict.fromkeys(text for one in found for text in one.altered):
        say(f"left out: {text}")
    for licence in dict.fromkeys(one.licence for one in found if one.restricted and real_faces):
        say(f"{folder} contains images of {licence}; do not publish")
    if real_faces is None and (
        shut := dict.fromkeys(name for one in found for name in one.withheld)
    ):
        say(
            f"real faces are not shown in {folder / 'report.html'}: no free licence is known of "
            f"{', '.join(shut)}"
        )
    return folder / "report.html"


def terminal(study: str, store: Store) -> Table:
    """Return the settings table of a study for the terminal: each cell with its controls under
    it.
    """
    found = Study(study, store)
    several = len(found.ablations) > 1
    cells = [cell for cell in found.cells if cell.level == "images"]
    printed = any(cell.published for cell in cells)
    title = f"{found.title}: {NOTICES[found.protocol][0].lower()}"
    table = Table(title=_plain(title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("train → test", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for name in ("accuracy", "UF1", "UAR", *["published"] * printed):
        table.add_column(name, justify="right", no_wrap=True)
    for setting in found.settings:
        for place, cell in enumerate(cell for cell in cells if cell.setting == setting):
            name = label(found, cell.classifier) + (f" {cell.ablation}" if several else "")
            old = [f"{cell.published:.2f}" if cell.published else ""] * printed
            mark = f" {LOW}" if low(found, cell, "accuracy") else ""
            table.add_row(
                SETTINGS[setting] if not place else "", _plain(name + mark), *_brief(cell), *old
            )
        for name, cell in found.floors(setting, "images"):
            table.add_row("", _plain(f"  {name}"), *_brief(cell), style="dim")
    failed = f", {len(found.failed)} failed" if found.failed else ""
    table.caption = (
        f"by image, means over {many(found.spec['trials'], 'trial')}; {len(found.done)} of "
        f"{many(len(found.runs), 'trial')} "
        f"done{failed}\n{LOW} not above its controls{_legend(found)}"
    )
    table.caption_justify = "left"
    return table


def _legend(study: Study) -> str:
    """Say in lines how the two answers that never look at a face differ, of those that the table
    shows.
    """
    names = {name for setting in study.settings for name, _ in study.floors(setting, "images")}
    texts = {
        "constant answer": "always the commonest class of the test images",
        "majority": "always the commonest class of the training images",
    }
    found = [
        f"\n{name}: {text}"
        for lead, text in texts.items()
        for name in sorted(names)
        if name.startswith(lead)
    ]
    return "".join(found)


def show(study: str, store: Store) -> None:
    """Print the settings table of a study, and what it says of adding synthetic faces."""
    out = console(width=None if sys.stdout.isatty() else WIDTH)
    out.print(terminal(study, store))
    found = Study(study, store)
    for text in [*(f"Leak alarm: {text}" for text in _alarms(found)), *_helps(found)]:
        out.print(_plain(text), soft_wrap=True)


def _plain(text: str) -> Text:
    """Return a text for the terminal in which nothing is markup."""
    return Text(escape.printable(text))


# What the pages show


def _content(studies: list[Study], real_faces: bool | None = None) -> dict[str, Any]:
    """Return all that the pages show, as text and tables, and pictures as far as `make` says."""
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
    """Return what is shown of one study."""
    real = not study.restricted if real_faces is None else real_faces
    title, notice = NOTICES[study.protocol]
    confusions = _confusions(study)
    return {
        "title": study.title,
        "notice": {"title": title, "text": notice, "warn": study.protocol == "frame"},
        "synthetic_test": SYNTHETIC_TEST if _tests_synthetic(study) else "",
        "alarms": _alarms(study),
        "helps": _helps(study),
        "alarm": ALARM,
        "state": _state(study),
        "findings": _findings(study),
        "without": _without(study),
        "low": _reasons(study),
        "plot": _plot(study),
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
        "failed": [{**trial, "where": results.described(study, trial)} for trial in study.failed],
        "facts": _facts(study),
        "licence": study.licence,
        "restricted": study.restricted,
        "private": study.restricted and real,
    }


def _tests_synthetic(study: Study) -> bool:
    return any(sides["test"] == "synthetic" for sides in study.plan["settings"].values())


def _state(study: Study) -> str:
    """Say how much of the study is there."""
    total, done, failed = len(study.runs), len(study.done), len(study.failed)
    parts = [f"{done} of {many(total, 'trial')} {'is' if total == 1 else 'are'} done"]
    if failed:
        parts.append(f"{failed} failed")
    if total - done - failed:
        parts.append(
            f"{(left := total - done - failed)} {'is' if left == 1 else 'are'} still to come"
        )
    return f"{', '.join(parts)}. What is there took {duration(study.seconds)}."


# Sentences


def _alarms(study: Study) -> list[str]:
    """Say which accuracies are too high to be believed."""
    return [
        f"{SETTINGS[cell.setting]}, {who(study, cell)}: {_accuracy(cell)} right by "
        f"{cell.level[:-1]} on people never "
        f"seen ({tested(cell)})."
        for cell in study.alarms()
    ]


def _findings(study: Study) -> list[str]:
    """Say what each classifier makes of real faces, without ablations; nothing of what has a
    hole.
    """
    sentences = []
    for classifier in study.classifiers:
        found = [study.cell(setting, classifier) for setting in study.settings]
        cells = [cell for cell in found if cell is not None and cell.whole]
        real = [cell for cell in cells if study.plan["settings"][cell.setting]["test"] == "real"]
        if real:
            parts = "; ".join(f"{SETTINGS[cell.setting]} {_share(cell)}" for cell in real)
            floor = printed(real[0].constant("accuracy"), "accuracy")
            sentences.append(
                f"{who(study, real[0])} on {tested(real[0])}: {parts}. There, always answering "
                "the commonest class "
                f"gets {floor} %."
            )
    return sentences


def _without(study: Study) -> str:
    """Say which controls the study does not have, so that nobody takes them for cleared."""
    if not study.without:
        return ""
    return f"Not run here, so nothing is said of them: {', '.join(study.without)}."


def _share(cell: Cell) -> str:
    return f"{_accuracy(cell)} right (UF1 {printed(cell.mean('uf1'), 'uf1')})"


def _accuracy(cell: Cell) -> str:
    found = cell.summary("accuracy")
    if found is None:
        return HOLE
    around = "" if found.n == 1 else f" ± {printed(found.sd, 'accuracy')}"
    return f"{printed(found.mean, 'accuracy')}{around} %"


def _helps(study: Study) -> list[str]:
    """Answer whether adding synthetic images helps, in a sentence for each classifier and
    ablation.
    """
    first = [
        one for one in study.compared("synthetic_to_real") if one.ablation == study.ablations[0]
    ]
    asked = [
        ("Does adding synthetic images to the real ones help", study.compared("both_to_real")),
        ("Does it help more than adding copies of the real ones", study.against_copies()),
        ("Are synthetic images alone better than real ones", first),
    ]
    return [
        f"{question} ({_compared_who(study, one)})? {_answer(one)}"
        for question, found in asked
        for one in found
    ]


def _compared_who(study: Study, one: Comparison) -> str:
    return label(study, one.classifier) + (f", {one.ablation}" if len(study.ablations) > 1 else "")


def _answer(one: Comparison) -> str:
    p = "" if math.isnan(one.p) else ", p < 0.001" if one.p < 0.001 else f", p = {one.p:.3f}"
    return (
        f"{one.answer.capitalize()}: accuracy by {one.level[:-1]} changes by {_points(one.gap)}{p} "
        f"({many(one.groups, one.grouped)}, {many(one.trials, 'trial')})."
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
    """Return a difference in points with its sign; what rounds to nothing has none."""
    text = f"{100 * share:+.1f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def _reasons(study: Study) -> list[str]:
    """Say of each marked cell which controls it does not stand above, and by how much it misses."""
    found = []
    for cell in (cell for cell in study.cells if cell.level == "images"):
        missed = [
            one for one in study.verdicts(cell) if one.cleared is False and one.gap is not None
        ]
        if missed:
            parts = [f"{one.control} ({_points(one.gap)})" for one in missed if one.gap is not None]
            found.append(
                f"{SETTINGS[cell.setting]}, {who(study, cell)}: not above {'; '.join(parts)}."
            )
    return found


# Tables of settings


def _sheets(study: Study, level: str) -> list[Sheet]:
    """Return the tables of a level: one for all measures if there is one ablation, else one for
    each measure.
    """
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
    """Yield the rows of a table of settings: for each setting its classifiers, then its
    controls.
    """
    for setting in study.settings:
        own = [cell for cell in study.cells if (cell.setting, cell.level) == (setting, level)]
        if not own:
            continue
        yield line(
            Entry(SETTINGS[setting], next((tested(cell) for cell in own if cell.done), "")),
            kind="group",
        )
        for classifier in study.classifiers:
            cells = [cell for cell in own if cell.classifier == classifier]
            yield line(
                label(study, classifier),
                *(_entry(study, cell, metric) for cell in cells for metric in metrics),
            )
        for name, cell in study.floors(setting, level):
            entries = [_plain_entry(cell, metric) for metric in metrics]
            yield line(name, *entries, *[""] * (len(study.ablations) - 1), kind="control")


def _entry(study: Study, cell: Cell, metric: str) -> Entry:
    """Return a cell's number with spread, trials, interval, mark, and the published average where
    there is one.
    """
    found, bounds = cell.summary(metric), cell.interval(metric)
    if found is None or bounds is None:
        return Entry(HOLE, f"{len(cell.done)} of {many(len(cell.trials), 'trial')}", hole=True)
    between = (
        ""
        if math.isnan(bounds.low)
        else f" [{printed(bounds.low, metric)}, {printed(bounds.high, metric)}]"
    )
    shown = metric == "accuracy" and cell.level == "images" and cell.published is not None
    return Entry(
        printed(found.mean, metric),
        spread(found, metric) + between,
        low(study, cell, metric),
        f"{cell.published:.2f}" if shown else "",
    )


def _plain_entry(cell: Cell, metric: str) -> Entry:
    """Return a control's number with its spread."""
    found = cell.summary(metric)
    if found is None:
        return Entry(HOLE, f"{len(cell.done)} of {many(len(cell.trials), 'trial')}", hole=True)
    return Entry(printed(found.mean, metric), spread(found, metric))


def _brief(cell: Cell) -> list[str]:
    """Return accuracy, UF1 and UAR for the terminal."""
    found = cell.summary("accuracy")
    if found is None:
        return [f"{HOLE} ({len(cell.done)}/{len(cell.trials)})", HOLE, HOLE]
    around = f" ± {printed(found.sd, 'accuracy')}" if found.n > 1 else ""
    numbers = [printed(cell.mean(metric), metric) for metric in METRICS]
    return [numbers[0] + around, *numbers[1:]]


def _note(study: Study, level: str) -> str:
    """Say what the tables of a level rest on."""
    each = {
        "images": "Each image counts by itself",
        "clips": "Each clip counts once, by its frames' mean probabilities",
    }
    folds = len(study.spec["tested_folds"])
    pooled = (
        f"; counts are pooled over {folds} folds before any ratio is formed" if folds > 1 else ""
    )
    cells = [cell for cell in study.cells if cell.level == level]
    groups = sorted({f"{cell.grouped}s" for cell in cells if cell.done})
    parts = [
        f"{each[level]}{pooled}. Numbers are mean ± sd (n - 1) over trials, with the number of "
        "trials, and in brackets "
        f"the 95 % interval over 2,000 draws of the tests' {' or '.join(groups) or 'subjects'}."
    ]
    unscored = {name for cell in cells for one in cell.done for name in one.left_out}
    if unscored:
        names = ", ".join(sorted(unscored))
        parts.append(
            f"UF1 and UAR leave out classes without a true sample in the test set: {names}."
        )
    started = [
        name
        for name, kinds in study.spec["classifiers"].items()
        if _first(kinds)["weights"] == "none"
    ]
    if started:
        names = ", ".join(name for name in study.classifiers if name in started)
        parts.append(f"Trained from random weights (weights = none): {names}.")
    if study.plan["controls"]:
        parts.append(
            "Controls under the cells learn nothing of expressions, or have nothing to learn."
        )
    if any(low(study, cell, metric) for cell in cells for metric in METRICS):
        parts.append(
            f"{LOW} marks what does not stand above each of its controls, by the 95 % interval of "
            "the difference."
        )
    if (
        level == "images"
        and not study.like
        and any(cell.network in published.MODELS for cell in cells)
    ):
        parts.append(
            f"Published numbers are of {len(published.EMOTIONS)} classes and do not stand here, "
            "beside "
            f"{len(study.classes)}{'' if len(study.classes) != len(published.EMOTIONS) else ' others'}."
        )
    if level == "images" and any(cell.published for cell in cells):
        parts.append(
            "Published is the average that the preprint prints for the same setting, network and "
            "ablation, on "
            f"{published.DATASET} under random frames: other data, another protocol."
        )
    return " ".join(parts)


def _first(kinds: dict[str, Any]) -> dict[str, Any]:
    return next(iter(kinds.values()))


def _recall(study: Study) -> Sheet | None:
    """Return the recall of each class, in per cent, over all trials that are there."""
    cells = [cell for cell in study.cells if cell.level == "images" and cell.done]
    if not cells:
        return None
    rows = []
    for setting in study.settings:
        own = [cell for cell in cells if cell.setting == setting]
        if own:
            counts = own[0].confusion().sum(axis=1) // len(own[0].done)
            rows.append(
                line(
                    SETTINGS[setting],
                    *(many(int(n), "image") if n else HOLE for n in counts),
                    kind="total",
                )
            )
            rows += [
                line(who(study, cell), *(printed(one, "accuracy") for one in cell.recall()))
                for cell in own
            ]
    note = (
        "Under each setting's name is how many images of each class a trial tests: the mean "
        "over trials."
    )
    return Sheet(
        "Recall of each class, in per cent, by image",
        ("train → test", *study.classes),
        tuple(rows),
        note,
    )


def _by_dataset(study: Study) -> list[Sheet]:
    """Return accuracy and UF1 of tests on real faces for each dataset alone; nothing where there is
    but one.
    """
    level = study.levels[-1]
    real = [name for name in study.settings if study.plan["settings"][name]["test"] == "real"]
    cells = [cell for cell in study.cells if cell.level == level and cell.setting in real]
    if len(study.datasets) < 2 or not cells:
        return []
    parts = {
        name: len(study.faces.index[study.faces.index["dataset"] == name])
        for name in study.datasets
    }
    head = (
        "train → test",
        *(f"{name} ({many(number, 'image')})" for name, number in parts.items()),
    )
    unseen = (
        "which the training of its test never saw"
        if study.protocol == "dataset"
        else "which were trained on too"
    )
    note = (
        f"Each column is tested on one dataset, {unseen}; means over trials, with sd (n - 1) "
        "and number."
    )
    sheets = []
    for metric, title in (("accuracy", "Accuracy in per cent"), ("uf1", "UF1")):
        rows: list[Line] = []
        for setting in real:
            own = [cell for cell in cells if cell.setting == setting]
            rows += [line(SETTINGS[setting], kind="group")] if own else []
            rows += [line(who(study, cell), *_within(study, cell, metric)) for cell in own]
        sheets.append(Sheet(f"{title} of each dataset, by {level[:-1]}", head, tuple(rows), note))
    return sheets


def _within(study: Study, cell: Cell, metric: str) -> list[Entry]:
    return [
        _plain_entry(study.within(cell, name), metric) if cell.whole else NONE
        for name in study.datasets
    ]


def _side_by_side(studies: list[Study]) -> Sheet:
    """Return the accuracy of each setting, classifier and ablation in every study, as published,
    and the floors.
    """
    ablated = any(len(study.ablations) > 1 for study in studies)
    like = any(cell.published is not None for study in studies for cell in study.cells)
    rows: list[Line] = []
    for setting in (name for name in SETTINGS if any(name in study.settings for study in studies)):
        rows.append(line(SETTINGS[setting], kind="group"))
        held = [study if setting in study.settings else None for study in studies]
        own = [cell for study in held if study for cell in study.cells if cell.setting == setting]
        for classifier, ablation in dict.fromkeys((cell.classifier, cell.ablation) for cell in own):
            cells = [
                study and study.cell(setting, classifier, "images", ablation) for study in held
            ]
            entries = [
                _entry(study, cell, "accuracy") if study and cell else NONE
                for study, cell in zip(held, cells, strict=True)
            ]
            old = next(
                (cell.published for cell in cells if cell and cell.published is not None), None
            )
            old_entry = [NONE if old is None else Entry(f"{old:.2f}")] if like else []
            name = f"{classifier}, {ablation}" if ablated else classifier
            rows.append(
                line(name, *old_entry, *(replace(entry, published="") for entry in entries))
            )
        floors = [dict(study.floors(setting, "images")) if study else {} for study in held]
        for name in dict.fromkeys(name for found in floors for name in found):
            entries = [
                _plain_entry(found[name], "accuracy") if name in found else NONE for found in floors
            ]
            rows.append(line(name, *([NONE] if like else []), *entries, kind="control"))
    heads = [f"{study.title}, by {study.protocol}" for study in studies]
    if len({study.classes for study in studies}) > 1 or (
        like and not all(study.like for study in studies)
    ):
        heads = [
            f"{name}, {many(len(study.classes), 'class')}"
            for name, study in zip(heads, studies, strict=True)
        ]
    head = ("train → test", *(["published"] if like else []), *heads)
    return Sheet("Accuracy in per cent, by image, of all studies", head, tuple(rows))


# What was run


def _facts(study: Study) -> list[tuple[str, str]]:
    """Return what was run, as pairs of a name and a text."""
    spec, about = study.spec, study.run.about
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
    for name in study.classifiers:
        kinds = spec["classifiers"][name]
        base = kinds[study.ablations[0]]
        facts.append((f"classifier {name}", _fields(_with_files(study, base))))
        for ablation in study.ablations[1:]:
            changed = {key: value for key, value in kinds[ablation].items() if value != base[key]}
            if changed or ablation not in study.inputs:
                facts.append((f"{name}, {ablation}", _fields(_with_files(study, changed))))
    facts += [
        (f"{name} shows", f"{' and '.join(shown['input'])}, of the same images ({shown['faces']})")
        for name, shown in study.inputs.items()
    ]
    facts += [
        (f"{one['classifier']}, {one['ablation']}, frozen", one["text"])
        for one in study.plan["frozen"]
    ]
    if study.plan["controls"]:
        facts.append(("controls", ", ".join(study.plan["controls"])))
    known = about.get("versions")
    versions = (
        ", ".join(f"{name} {version}" for name, version in known.items())
        if isinstance(known, dict)
        else ""
    )
    facts.append(
        ("made with", f"{versions}{'; commit ' + about['commit'] if about.get('commit') else ''}")
    )
    return facts


def _channels(faces: Faces) -> str:
    """Return what the channels of faces show, in words."""
    return " and ".join(faces.channels) or ("grey" if faces.size[0] == 1 else "RGB")


def _with_files(study: Study, fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields in which a file of weights stands by its name, with the first digits of its
    sha256.
    """
    weights = str(fields.get("weights", ""))
    if not weights.startswith("file:"):
        return fields
    digest, store = weights.removeprefix("file:"), study.store
    kept = [store.run(name) for name in store.names() if name.startswith("weights-")]
    file = next((run.summary.get("file") for run in kept if run.spec.get("sha256") == digest), None)
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
    spec = study.spec
    if spec["protocol"] == "frame":
        return f"by frame: each trial tests one in {spec['folds']} of the images, drawn anew"
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
    fields = study.spec["generator"]
    number = len(study.plan["databases"])
    keys = ("images_seen", "batch", "learning_rate", "ema", "mirror", "seed")
    text = ", ".join(f"{key.replace('_', ' ')} {fields[key]}" for key in keys if key in fields)
    each = (
        "one, trained on all images"
        if study.spec["protocol"] == "frame"
        else f"one for each of {number} folds"
    )
    return (
        f"{fields['kind']}, {each}: {text} "
        f"({', '.join(one['generator'] for one in study.plan['databases'])})"
    )


def _database(study: Study) -> str:
    total = sum(sum(one["counts"].values()) for one in study.plan["databases"])
    drawn = ", ".join(f"{key} {value}" for key, value in study.spec["generate"].items())
    number = len(study.plan["databases"])
    return (
        f"{many(total, 'image')} in {many(number, 'database')}, counts {study.spec['counts']}"
        f"{', ' + drawn if drawn else ''}; four in five train, one in five tests "
        f"({', '.join(one['database'] for one in study.plan['databases'])})"
    )


def _counts(study: Study) -> Sheet:
    """Return images, clips and subjects of each class, real and generated."""
    real, made = tallies(study)
    rows = [
        line(
            name,
            *(f"{n:,}" for n in (*real[name], *made[name])),
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


def _unshown(study: Study, real: bool, asked: bool | None) -> str:
    """Say why no real faces are shown, if none are."""
    if real:
        return ""
    if asked is not None:
        return "Real faces are left out, as was asked."
    return (
        f"Real faces are left out, since no free licence is known of {', '.join(study.withheld)}; "
        "`mien report --real-faces` shows them."
    )


def _sheet(study: Study, real: bool) -> dict[str, str] | None:
    """Return a contact sheet as a data address, with the text that stands for it; nothing if there
    is none to show.
    """
    names = ", ".join(study.classes)
    if not real:
        shown = _invented(study.databases[0], study.faces) if study.databases else None
        if shown is None:
            return None
        sheet = figures.synthetic_sheet(shown, per_class=8)
        alt = f"Rows of up to eight synthetic faces for {', '.join(shown.classes)}"
    elif study.databases:
        sheet = figures.side_by_side(study.faces, study.databases[0], per_class=8)
        alt = (
            f"Rows of faces for {names}: up to eight real ones on the left, as many synthetic "
            "on the right"
        )
    else:
        sheet = figures.class_sheet(study.faces, per_class=12)
        alt = f"Rows of real faces for {names}"
    fold = next(
        (one["fold"] for one in study.plan["databases"] if study.store.done(one["database"])), -1
    )
    text = "Faces are drawn by name, not picked by eye."
    if fold >= 0:
        text += (
            f" The synthetic ones are of fold {fold}; a class that its training side lacks "
            "has none."
        )
    return {"image": _embedded(sheet), "alt": alt, "width": str(sheet.width), "text": text}


def _invented(faces: Faces, real: Faces) -> Faces | None:
    """Return some synthetic faces, eight of a class, without those that are copies of real ones;
    None if all are.
    """
    from mien.audit.copies import copies  # which needs torch, as no other part of a report does

    some = np.concatenate([figures.places(faces, name, 8) for name in faces.classes])
    chosen = np.isin(np.arange(len(faces)), some)
    kept = (
        chosen
        & ~faces.index["key"].isin(set(copies(faces.select(chosen), real)["image"])).to_numpy()
    )
    return faces.select(kept) if kept.any() else None


def _embedded(image: Image.Image) -> str:
    """Return a picture as text that a page can hold."""
    buffer = io.BytesIO()
    plain = image.convert("L")
    whole = plain if np.array_equal(np.asarray(plain.convert("RGB")), np.asarray(image)) else image
    whole.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _confusions(study: Study) -> list[dict[str, Any]]:
    """Return the confusion matrix of each setting and classifier of which any trial is there."""
    return [_confusion(study, cell) for cell in study.cells if cell.level == "images" and cell.done]


def _confusion(study: Study, cell: Cell) -> dict[str, Any]:
    counts = cell.confusion()
    true = counts.sum(axis=1)
    kept = [place for place, n in enumerate(true + counts.sum(axis=0)) if n]
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
                for column in kept
            ],
        }
        for row in kept
    ]
    how = (
        f"{len(cell.done)} of {many(len(cell.trials), 'trial')}"
        if not cell.whole
        else many(len(cell.trials), "trial")
    )
    return {
        "title": f"{SETTINGS[cell.setting]}, {who(study, cell)}",
        "columns": [study.classes[place] for place in kept],
        "rows": rows,
        "note": f"summed over {'1 trial' if how == '1 trials' else how}",
    }


# The plot: a row a setting and classifier, a dot a trial


def _plot(study: Study) -> dict[str, Any]:
    """Return the places of what the plot shows, in its own units: x from 0 to 100 is per cent."""
    rows = []
    for cell in (cell for cell in study.cells if cell.level == "images"):
        constant, mean = cell.constant("accuracy"), cell.summary("accuracy")
        floors = [one for one in study.controls_of(cell.setting, "images") if one.whole]
        floors = [one for one in floors if one.classifier in ("nearest", cell.classifier)]
        rows.append(
            {
                "setting": SETTINGS[cell.setting],
                "classifier": who(study, cell),
                "dots": [round(100 * scores.accuracy, 2) for scores in cell.done],
                "mean": None if mean is None else round(100 * mean.mean, 2),
                "constant": None if constant is None else round(100 * constant, 2),
                "controls": [round(100 * one.mean("accuracy"), 2) for one in floors],
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
    "study", "protocol", "source", "setting", "train", "test", "classifier", "ablation", "control", "trial", "fold",
    "level", "metric", "value", "sd", "low", "high", "n", "run",
)  # fmt: skip


def csv_rows(study: Study) -> Iterator[dict[str, Any]]:
    """Yield the rows of tables.csv: records of trials, scores pooled over folds, means with
    intervals, published ones.

    Values are shares, 0 to 1. `source` says which of them a row is. `fold` is "all" where folds are
    pooled; `trial` counts from 1, and is "mean" for means over trials, with `sd` (n - 1) and the 95
    % interval over subjects.
    """
    same = {"study": study.title, "protocol": study.protocol}
    for trial in study.trials:
        if trial["run"] in study.done:
            yield from _recorded(study, trial, same)
    for cell in [*study.cells, *study.controls]:
        sides = study.plan["settings"][cell.setting]
        one = {
            **same,
            "setting": cell.setting,
            "train": sides["train"],
            "test": sides["test"],
            "fold": "all",
        }
        one |= {
            "classifier": cell.classifier,
            "ablation": cell.ablation,
            "control": cell.control,
            "level": cell.level,
        }
        for number, scores in enumerate(cell.trials, start=1):
            if scores is not None:
                for metric in METRICS:
                    value = {"metric": metric, "value": scores.of(metric), "n": scores.n}
                    yield {**one, "source": "pooled", "trial": number, **value}
        for metric in METRICS:
            found, bounds = cell.summary(metric), cell.interval(metric)
            if found is not None and bounds is not None:
                spread = {"sd": found.sd, "low": bounds.low, "high": bounds.high, "n": cell.n}
                yield {
                    **one,
                    "source": "mean",
                    "trial": "mean",
                    "metric": metric,
                    "value": found.mean,
                    **spread,
                }
        if cell.published is not None and cell.level == "images":
            value = {"metric": "accuracy", "value": round(cell.published / 100, 6)}
            yield {**one, "source": "published", "trial": "mean", **value}


def _recorded(
    study: Study, trial: dict[str, Any], same: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the records of one trial and fold."""
    named = {
        name: trial[name] for name in ("classifier", "ablation", "control", "train", "fold", "run")
    }
    settings = {
        (sides["train"], sides["test"]): name for name, sides in study.plan["settings"].items()
    }
    for record in study.done[trial["run"]].json("records.json"):
        test, level, metric = record["metric"].split("/")
        place = {
            "setting": settings.get((trial["train"], test), ""),
            "test": test,
            "trial": trial["trial"] + 1,
        }
        value = {"level": level, "metric": metric, "value": record["value"], "n": record["n"]}
        yield {**same, "source": "record", **named, **place, **value}


# Markdown and LaTeX


def _markdown(content: dict[str, Any]) -> str:
    """Return the report as Markdown: the same sentences and tables, without pictures."""
    lines = [f"# {_md(content['title'])}", ""]
    for sheet in content["side"]:
        lines += ["## Side by side", "", *tables.markdown(sheet)]
    if content["preprint"]:
        lines += ["## The preprint's tables", "", _published_note(content), ""]
        for sheet in [*content["preprint"], *content["others"], *content["counts"]]:
            lines += tables.markdown(sheet)
    for part in content["studies"]:
        lines += _markdown_of(part, alone=len(content["studies"]) == 1)
    return "\n".join(lines)


def _published_note(content: dict[str, Any]) -> str:
    return (
        f"Published: {content['source']}, on {content['dataset']} under random frames. All "
        "numbers in per cent."
    )


def _markdown_of(part: dict[str, Any], alone: bool) -> list[str]:
    """Return the lines of one study."""
    lines = [] if alone else [f"## {_md(part['title'])}", ""]
    head = "##" if alone else "###"  # under the study's own where there are several
    lines += [part["state"], ""]
    if part["alarms"]:
        lines += [f"> **Leak alarm.** {_md(' '.join(part['alarms']))} {part['alarm']}", ""]
    lines += [f"> **{part['notice']['title']}.** {part['notice']['text']}", ""]
    if part["synthetic_test"]:
        lines += [part["synthetic_test"], ""]
    if part["restricted"]:
        lines += [f"The faces are under this licence: {_md(part['licence'])}.", ""]
    if part["findings"]:
        lines += [
            f"{head} What the numbers say",
            "",
            *(f"- {_md(text)}" for text in part["findings"]),
            "",
        ]
    if part["helps"]:
        lines += [
            f"{head} Does adding synthetic images help?",
            "",
            *(f"- {_md(text)}" for text in part["helps"]),
            "",
        ]
    if part["low"]:
        lines += [
            f"{head} Not above their controls",
            "",
            *(f"- {_md(text)}" for text in part["low"]),
            "",
        ]
    lines += [_md(part["without"]), ""] if part["without"] else []
    for level in part["levels"]:
        for place, sheet in enumerate(level["sheets"]):
            shown = tables.markdown(sheet, f"{head}#")
            lines += [*shown[:2], _md(level["note"]), "", *shown[2:]] if place == 0 else shown
    for sheet in (*part["datasets"], part["recall"], part["counts"]):
        lines += tables.markdown(sheet, f"{head}#") if sheet else []
    for one in part["confusions"]:
        lines += tables.markdown(_confusion_sheet(one), f"{head}#")
    if part["failed"]:
        rows = tuple(line(trial["where"], trial["run"], trial["error"]) for trial in part["failed"])
        lines += tables.markdown(
            Sheet("Failed trials", ("trial", "run", "first error"), rows), f"{head}#"
        )
    return [
        *lines,
        f"{head} What was run",
        "",
        *(f"- {_md(name)}: {_md(text)}" for name, text in part["facts"]),
        "",
    ]


def _md(text: str) -> str:
    """Return a text in Markdown, whoever wrote the names and licences in it."""
    return escape.markdown(text)


def _confusion_sheet(one: dict[str, Any]) -> Sheet:
    rows = tuple(
        line(row["name"], *(str(cell["count"]) for cell in row["cells"])) for row in one["rows"]
    )
    note = f"Rows are true, columns predicted; {one['note']}."
    return Sheet(f"Confusion: {one['title']}", ("", *one["columns"]), rows, note)


def _latex(content: dict[str, Any]) -> str:
    """Return all tables as LaTeX, each with a label that it keeps whatever stands beside it."""
    lines = ["% Tables of " + content["title"] + ". Needs \\usepackage{booktabs,graphicx}.", ""]
    label = tables.Labels()
    for part in content["studies"]:
        for level in part["levels"]:
            for sheet in level["sheets"]:
                named = replace(
                    sheet, caption=f"{part['title']}. {sheet.caption}", note=level["note"]
                )
                lines += tables.latex(named, label(part["title"], sheet.caption))
        for sheet in [
            *part["datasets"],
            part["recall"],
            part["counts"],
            *map(_confusion_sheet, part["confusions"]),
        ]:
            if sheet:
                named = replace(sheet, caption=f"{part['title']}. {sheet.caption}")
                lines += tables.latex(named, label(part["title"], sheet.caption))
    for sheet in [*content["side"], *content["preprint"], *content["others"], *content["counts"]]:
        lines += tables.latex(sheet, label("all", sheet.caption))
    return "\n".join(lines)
