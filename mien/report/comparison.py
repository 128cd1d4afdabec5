"""Tables of a study's settings, classes and datasets."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mien import published
from mien.pages.tables import EMPTY_CELL, LOW_MARK, ReportTable, TableCell, TableRow, make_row
from mien.report.words import (
    count_images,
    format_cell_name,
    format_classifier,
    format_score,
    format_spread,
    format_test_size,
    list_missed_controls,
)
from mien.runs.progress import quantify
from mien.study.cells import ResultCell
from mien.study.results import StudyResults
from mien.study.settings import SETTINGS, find_setting, is_of_all_people

EMPTY_ENTRY = TableCell(EMPTY_CELL, hole=True)

METRICS = {"accuracy": "accuracy, %", "uf1": "UF1", "uar": "UAR"}

# Tables of settings


def make_result_tables(
    study: StudyResults, level: str, of_shares: bool = False
) -> list[ReportTable]:
    """Return the tables by image or by clip: a single one, or one per measure with ablations.

    They are of settings that train on all training people or, with `of_shares`, on a share of them;
    a study without shares has none of the latter.
    """
    settings = [name for name in study.settings if is_of_all_people(name) != of_shares]
    shares = ", with shares of the people" * of_shares
    if of_shares and not settings:
        return []

    # Without ablations all measures fit into one table
    if len(study.ablations) == 1:
        head = ("train → test", *METRICS.values())
        return [
            ReportTable(
                f"By {level[:-1]}{shares}",
                head,
                tuple(_make_setting_rows(study, settings, level, list(METRICS))),
            )
        ]
    return [
        ReportTable(
            f"{name[0].upper()}{name[1:]}, by {level[:-1]}{shares}",
            ("train → test", *study.ablations),
            tuple(_make_setting_rows(study, settings, level, [metric])),
        )
        for metric, name in METRICS.items()
    ]


def _make_setting_rows(
    study: StudyResults, settings: list[str], level: str, metrics: list[str]
) -> Iterator[TableRow]:
    """Yield the rows of a table of settings: for each its classifiers, then its controls."""
    for setting in settings:
        cells = [cell for cell in study.cells if (cell.setting, cell.level) == (setting, level)]
        if not cells:
            continue

        # The title of the setting
        yield make_row(
            TableCell(
                find_setting(setting).label,
                next((format_test_size(cell) for cell in cells if cell.done), ""),
            ),
            kind="group",
        )

        # Its classifiers, with an entry for each ablation, and then its controls
        for classifier in study.classifiers:
            of_ablation = {cell.ablation: cell for cell in cells if cell.classifier == classifier}
            if not of_ablation:
                continue
            yield make_row(
                format_classifier(study, classifier),
                *(
                    _make_entry(study, of_ablation[ablation], metric)
                    if ablation in of_ablation
                    else EMPTY_ENTRY
                    for ablation in study.ablations
                    for metric in metrics
                ),
            )
        for name, cell in study.name_controls(setting, level):
            entries = [make_control_entry(cell, metric) for metric in metrics]
            yield make_row(name, *entries, *[""] * (len(study.ablations) - 1), kind="control")


def _make_entry(study: StudyResults, cell: ResultCell, metric: str) -> TableCell:
    """Return a cell's number with spread, trials, interval, mark, and published average if any."""
    summary, bounds = cell.summarise(metric), cell.estimate_interval(metric)
    if summary is None or bounds is None:
        return TableCell(
            EMPTY_CELL, f"{len(cell.done)} of {quantify(len(cell.trials), 'trial')}", hole=True
        )
    interval = (
        ""
        if math.isnan(bounds.low)
        else f" [{format_score(bounds.low, metric)}, {format_score(bounds.high, metric)}]"
    )
    comparable = metric == "accuracy" and cell.level == "images" and cell.published is not None
    return TableCell(
        format_score(summary.mean, metric),
        format_spread(summary, metric) + interval,
        list_missed_controls(study, cell, metric),
        f"{cell.published:.2f}" if comparable else "",
    )


def make_control_entry(cell: ResultCell, metric: str) -> TableCell:
    """Return a control's number with its spread."""
    summary = cell.summarise(metric)
    if summary is None:
        return TableCell(
            EMPTY_CELL, f"{len(cell.done)} of {quantify(len(cell.trials), 'trial')}", hole=True
        )
    return TableCell(format_score(summary.mean, metric), format_spread(summary, metric))


def make_table_note(study: StudyResults, level: str) -> str:
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
        "trials, and in brackets the 95 % interval over 2,000 draws of the tests' "
        f"{' or '.join(groups) or 'subjects'}."
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
        if isinstance(fields := next(iter(by_ablation.values())), dict)
        and fields["weights"] == "none"
    ]
    if random_start:
        names = ", ".join(name for name in study.classifiers if name in random_start)
        sentences.append(f"Trained from random weights (weights = none): {names}.")

    # Controls, and the mark of cells that are not above them
    if study.plan.controls:
        sentences.append(
            "The controls under the cells cannot learn expressions: by their method, or from "
            "their data."
        )
    if any(list_missed_controls(study, cell, metric) for cell in cells for metric in METRICS):
        sentences.append(
            f"{LOW_MARK} marks a cell that is not above each of its controls, by the 95 % interval "
            "of the difference."
        )

    # Published numbers, or why there are none
    if (
        level == "images"
        and not study.like
        and any(cell.network in published.MODELS for cell in cells)
    ):
        theirs, ours = len(published.PREPRINT_CLASSES), len(study.classes)
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


def make_recall_table(study: StudyResults) -> ReportTable | None:
    """Return the recall of each class, in per cent, over all finished trials, or None."""
    cells = [cell for cell in study.cells if cell.level == "images" and cell.done]
    if not cells:
        return None

    # For each setting the number of images per class, then a row per classifier
    rows = []
    for setting in filter(is_of_all_people, study.settings):
        of_setting = [cell for cell in cells if cell.setting == setting]
        if of_setting:
            counts = of_setting[0].sum_confusions().sum(axis=1) // len(of_setting[0].done)
            rows.append(
                make_row(
                    f"{find_setting(setting).label}, images",
                    *(f"{int(n):,}" if n else EMPTY_CELL for n in counts),
                    kind="total",
                )
            )
            rows += [
                make_row(
                    format_cell_name(study, cell),
                    *(_make_recall_entry(share) for share in cell.compute_recall()),
                )
                for cell in of_setting
            ]

    note = (
        "Each setting's row gives the number of images of each class that a trial tests, the mean "
        "over trials."
    )
    return ReportTable(
        "Recall of each class, in per cent, by image",
        ("train → test", *study.classes),
        tuple(rows),
        note,
    )


def _make_recall_entry(share: float) -> TableCell:
    """Return a recall in per cent, with the share that colours it."""
    if math.isnan(share):
        return EMPTY_ENTRY
    return TableCell(format_score(share, "accuracy"), share=float(share))


@dataclass(frozen=True)
class DatasetScores:
    """The scores of one setting, classifier and ablation, or of a control, on one dataset.

    `cell` is the whole cell, `part` the same restricted to the dataset, and `by` its printed name.
    """

    cell: ResultCell
    part: ResultCell
    dataset: str
    by: str


def list_dataset_scores(study: StudyResults) -> list[DatasetScores]:
    """Return the scores on the real faces of each dataset, or [] if there is only one dataset.

    They are by clip where clips are scored. The answers of all folds are pooled first, and scores
    are means over trials. For each setting there are its complete cells, and then the constant
    answer, which is that of each dataset.
    """
    level = study.levels[-1]
    if len(study.datasets) < 2:
        return []

    # The cells of each setting on each dataset, then the constant answer
    scores = []
    for setting in study.settings:
        cells = [
            cell
            for cell in study.cells
            if (cell.setting, cell.level) == (setting, level) and cell.whole
        ]
        if study.plan.settings[setting].test != "real" or not cells:
            continue
        for cell in cells:
            for name in study.datasets:
                restricted = study.restrict_to_dataset(cell, name)
                if restricted is not None:
                    scores.append(
                        DatasetScores(cell, restricted, name, format_cell_name(study, cell))
                    )
        constant = [
            (name, restricted.commonest)
            for name in study.datasets
            if (restricted := study.restrict_to_dataset(cells[0], name)) is not None
        ]
        scores += [
            DatasetScores(cells[0].commonest, restricted, name, "constant answer")
            for name, restricted in constant
        ]
    return scores


def make_dataset_tables(study: StudyResults) -> list[ReportTable]:
    """Return accuracy, UF1 and UAR on the real faces of each dataset, or [] if there is only one.

    A column is one dataset, with the number of its tested clips or images and people.
    """
    scores = list_dataset_scores(study)
    if not scores:
        return []

    # A column per tested dataset, with what a trial tests of it
    sizes = {score.dataset: format_test_size(replace(score.part, clips=0)) for score in scores}
    head = ("train → test", *(f"{name} ({size})" for name, size in sizes.items()))
    unseen = (
        "which was held out of training"
        if study.protocol == "dataset"
        else "other parts of which were trained on"
    )
    note = (
        f"Each column is tested on one dataset, {unseen}. Answers are pooled over folds before any "
        "ratio is formed. Numbers are means over trials, with sd (n - 1) and number, and the 95 % "
        "interval over the people of the dataset. UF1 and UAR leave out classes that a dataset "
        "does not have. The constant answer is the commonest class of each dataset."
    )

    # A table per measure
    sheets = []
    for metric, title in (("accuracy", "Accuracy in per cent"), ("uf1", "UF1"), ("uar", "UAR")):
        rows: list[TableRow] = []
        for setting in dict.fromkeys(score.cell.setting for score in scores):
            of_setting = [score for score in scores if score.cell.setting == setting]
            rows.append(make_row(find_setting(setting).label, kind="group"))
            for by in dict.fromkeys(score.by for score in of_setting):
                restricted_cells = {
                    score.dataset: score.part for score in of_setting if score.by == by
                }
                kind = "control" if by == "constant answer" else ""
                entries = [
                    _make_dataset_entry(restricted_cells.get(name), metric) for name in sizes
                ]
                rows.append(make_row(by, *entries, kind=kind))
        level = study.levels[-1][:-1]
        sheets.append(ReportTable(f"{title} of each dataset, by {level}", head, tuple(rows), note))
    return sheets


def _make_dataset_entry(part: ResultCell | None, metric: str) -> TableCell:
    """Return the score of a cell on one dataset, with its spread and interval."""
    if part is None:
        return EMPTY_ENTRY
    entry, bounds = make_control_entry(part, metric), part.estimate_interval(metric)
    if bounds is None or math.isnan(bounds.low) or part.control == "constant":
        return entry
    interval = f" [{format_score(bounds.low, metric)}, {format_score(bounds.high, metric)}]"
    return replace(entry, small=entry.small + interval)


def compare_studies(studies: list[StudyResults]) -> ReportTable:
    """Return the accuracies of all studies as one table, next to the published ones.

    There is a row for each setting, classifier and ablation, and for each control.
    """
    ablated = any(len(study.ablations) > 1 for study in studies)
    comparable = any(cell.published is not None for study in studies for cell in study.cells)
    rows: list[TableRow] = []
    shown = dict.fromkeys(name for study in studies for name in study.settings)
    order = list(SETTINGS)
    for setting in sorted(shown, key=lambda name: order.index(name.partition(":")[0])):
        rows.append(make_row(find_setting(setting).label, kind="group"))
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
                study and study.find_cell(setting, classifier, "images", ablation)
                for study in with_setting
            ]
            entries = [
                _make_entry(study, cell, "accuracy") if study and cell else EMPTY_ENTRY
                for study, cell in zip(with_setting, cells, strict=True)
            ]
            average = next(
                (cell.published for cell in cells if cell and cell.published is not None), None
            )
            average_entry = EMPTY_ENTRY if average is None else TableCell(f"{average:.2f}")
            name = f"{classifier}, {ablation}" if ablated else classifier
            rows.append(
                make_row(
                    name,
                    *([average_entry] if comparable else []),
                    *(replace(entry, published="") for entry in entries),
                )
            )

        # The controls, by name, since a study may lack some
        controls = [
            dict(study.name_controls(setting, "images")) if study else {} for study in with_setting
        ]
        for name in dict.fromkeys(name for by_name in controls for name in by_name):
            entries = [
                make_control_entry(by_name[name], "accuracy") if name in by_name else EMPTY_ENTRY
                for by_name in controls
            ]
            rows.append(
                make_row(name, *([EMPTY_ENTRY] if comparable else []), *entries, kind="control")
            )

    # The head of each column says how many classes a study has where that differs
    heads = [f"{study.title}, by {study.protocol}" for study in studies]
    if len({study.classes for study in studies}) > 1 or (
        comparable and not all(study.like for study in studies)
    ):
        heads = [
            f"{name}, {quantify(len(study.classes), 'class')}"
            for name, study in zip(heads, studies, strict=True)
        ]
    head = ("train → test", *(["published"] if comparable else []), *heads)
    return ReportTable("Accuracy in per cent, by image, of all studies", head, tuple(rows))


def count_sheets(study: StudyResults) -> ReportTable:
    """Return images, clips and subjects of each class, real and generated."""
    real, synthetic = count_images(study)
    rows = [
        make_row(
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
    return ReportTable("Images of each class", head, tuple(rows), note)
