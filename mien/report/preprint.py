"""The preprint's tables and figures, with our results under each protocol."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mien import published
from mien.pages import charts
from mien.pages.tables import EMPTY_CELL, ReportTable, TableCell, TableRow, make_row
from mien.report.words import (
    count_images,
    format_classifier,
    format_precise_spread,
    format_score,
    format_test_size,
    get_faces_name,
    list_missed_controls,
    make_average_entry,
)
from mien.runs.progress import quantify
from mien.study.cells import PUBLISHED_ABLATIONS, ResultCell
from mien.study.results import StudyResults
from mien.study.settings import find_setting

PUBLISHED_TRIALS = 5  # of the preprint

# The settings of its Table 15
TABLE_15_SETTINGS = ("real_to_real", "real_to_synthetic", "synthetic_to_real")


def _find_cells(
    studies: Iterable[StudyResults], protocol: str, setting: str, ablation: str, model: str
) -> list[tuple[StudyResults, ResultCell]]:
    """Return the cells of the preprint's network `model` under a protocol."""
    names = [name for name, theirs in PUBLISHED_ABLATIONS.items() if theirs == ablation]
    return [
        (study, cell)
        for study in studies
        if study.protocol == protocol
        for cell in study.cells
        if (cell.level, cell.setting, cell.network, cell.ablation)
        == ("images", setting, model, names[0])
    ]


def _list_protocols(studies: Iterable[StudyResults]) -> list[str]:
    """Return the protocols of the studies, in the order of the tables."""
    run = {study.protocol for study in studies}
    return [name for name in ("frame", "clip", "subject", "dataset") if name in run]


def _find_run_cells(
    studies: Iterable[StudyResults], protocol: str, setting: str, ablation: str, model: str
) -> list[tuple[StudyResults, ResultCell]]:
    """Return those of `_find_cells` that have a finished trial."""
    cells = _find_cells(studies, protocol, setting, ablation, model)
    return [(study, cell) for study, cell in cells if cell.done]


def count_left_out(studies: list[StudyResults]) -> str:
    """Return how many of the preprint's results the studies have under each protocol, in words."""
    results = [(*key, model) for key in published.TABLE_NUMBERS for model in published.MODELS]
    counts = [
        f"{sum(bool(_find_run_cells(studies, protocol, *key)) for key in results)} by {protocol}"
        for protocol in _list_protocols(studies)
    ]
    return (
        f"Of the preprint's {len(results)} results these studies have {', '.join(counts)}; rows, "
        "tables and figures without a result are left out."
    )


def make_tables_3_to_14(studies: list[StudyResults]) -> list[ReportTable]:
    """Return Tables 3 to 14: trials and averages, as published and as run here per protocol.

    Networks and tables without a finished trial of ours are left out.
    """
    sheets = [
        _make_table(studies, setting, ablation) for setting, ablation in published.TABLE_NUMBERS
    ]
    return [sheet for sheet in sheets if sheet is not None]


def _make_table(studies: list[StudyResults], setting: str, ablation: str) -> ReportTable | None:
    """Return the table of one setting and ablation, or None if nothing of it was run."""
    width = max(PUBLISHED_TRIALS, *(study.spec["trials"] for study in studies))
    rows: list[TableRow] = []

    # For each network that was run the published row, then a row per protocol and study
    for model, name in published.MODELS.items():
        cells = [
            (protocol, study, cell)
            for protocol in _list_protocols(studies)
            for study, cell in _find_run_cells(studies, protocol, setting, ablation, model)
        ]
        if not cells:
            continue
        old = published.ACCURACY[setting, ablation][model]
        accuracies = _pad([f"{accuracy:.2f}" for accuracy in old.trials], width)
        rows += [
            make_row(name, kind="group"),
            make_row("published", *accuracies, f"{old.average:.2f}"),
            *(
                _make_trials_line(study, cell, f"{protocol} ({study.title})", width)
                for protocol, study, cell in cells
            ),
        ]
    if not rows:
        return None

    # The controls of all studies that have this setting
    with_setting = [study for study in studies if setting in study.settings]
    controls = [
        _make_trials_line(study, cell, f"{name}, {study.protocol} ({study.title})", width)
        for study in with_setting
        for name, cell in study.name_controls(setting, "images")
    ]
    rows += [make_row("Controls", kind="group"), *controls] if controls else []

    # The note says how large the tests are
    plain = (
        " Permuted labels and copycats are those of the plain networks."
        if ablation != "none"
        else ""
    )
    tests = "; ".join(
        f"{study.protocol} ({study.title}): {_describe_tests(study, setting)}"
        for study in with_setting
    )
    note = f"Tests of a trial, {tests}.{plain}" if tests else ""
    caption = (
        f"Table {published.TABLE_NUMBERS[setting, ablation]}. {find_setting(setting).label}, "
        f"{published.ABLATION_CAPTIONS[ablation]}"
    )
    head = ("", *(f"trial {number}" for number in range(1, width + 1)), "average")
    return ReportTable(caption, head, tuple(rows), note)


def _pad(texts: list[str], width: int, filler: str = EMPTY_CELL) -> list[str]:
    """Return the texts, followed by as many fillers as make `width` entries."""
    return [*texts, *[filler] * (width - len(texts))]


def _describe_tests(study: StudyResults, setting: str) -> str:
    """Return the size of the tests of a setting."""
    cells = [
        cell
        for cell in study.cells
        if (cell.setting, cell.level) == (setting, "images") and cell.done
    ]
    return format_test_size(cells[0]) if cells else "none yet"


def _make_trials_line(study: StudyResults, cell: ResultCell, name: str, width: int) -> TableRow:
    """Return the trials of a cell and their mean, in per cent."""
    texts = [
        EMPTY_CELL if scores is None else f"{100 * scores.accuracy:.2f}" for scores in cell.trials
    ]
    accuracy = cell.summarise("accuracy")
    if accuracy is None:
        mean = TableCell(
            EMPTY_CELL, f"{len(cell.done)} of {quantify(len(cell.trials), 'trial')}", hole=True
        )
    else:
        mark = "" if cell.control else list_missed_controls(study, cell, "accuracy")
        mean = TableCell(f"{100 * accuracy.mean:.2f}", format_precise_spread(accuracy), mark)
    once = len(cell.trials) < study.spec["trials"]  # one run for all trials
    return make_row(
        name,
        *_pad(texts, width, "" if once else EMPTY_CELL),
        mean,
        kind="control" if cell.control else "",
    )


def make_figures(studies: list[StudyResults]) -> list[dict[str, Any]]:
    """Return the bar charts of Figures 12 to 23 that have a bar of ours, with their numbers."""
    entries = []
    for (setting, ablation), number in published.FIGURE_NUMBERS.items():
        # Only networks that were run
        models = [
            model
            for model in published.MODELS
            if any(
                _find_run_cells(studies, protocol, setting, ablation, model)
                for protocol in _list_protocols(studies)
            )
        ]
        if not models:
            continue

        # The published bars, then a series per protocol and study
        old = published.ACCURACY[setting, ablation]
        series: dict[str, list[charts.Bar | None]] = {
            "published": [charts.Bar(old[model].average, math.nan, {}) for model in models]
        }
        for protocol in _list_protocols(studies):
            for index, name in enumerate(_name_series(studies, protocol)):
                by_model = [
                    _find_cells(studies, protocol, setting, ablation, model) for model in models
                ]
                series[name] = [
                    _make_bar(*cells[index]) if len(cells) > index else None for cells in by_model
                ]

        # The chart and its numbers
        label = find_setting(setting).label
        caption = f"Figure {number}. {label}, {published.ABLATION_CAPTIONS[ablation]}"
        names = [published.MODELS[model] for model in models]
        svg = charts.draw_bars(caption, names, series)
        numbers = _tabulate_bars(caption, names, series)
        entries.append(charts.make_figure(f"figure-{number}", caption, svg, numbers))
    return entries


def _tabulate_bars(
    caption: str, names: Sequence[str], series: Mapping[str, Sequence[charts.Bar | None]]
) -> ReportTable:
    """Return the bars of a chart as a table: a row per network and series."""
    rows: list[TableRow] = []
    for position, name in enumerate(names):
        rows.append(make_row(name, kind="group"))
        for label, bars in series.items():
            bar = bars[position]
            if bar is not None:
                spread = "" if math.isnan(bar.sd) else f"± {bar.sd:.2f}"
                controls = "; ".join(f"{name} {value:.2f}" for name, value in bar.controls.items())
                mean = TableCell(f"{bar.height:.2f}", spread)
                rows.append(make_row(label, mean, controls or EMPTY_CELL))
    head = ("network", "accuracy, %", "controls, %")
    return ReportTable(f"{caption}: numbers", head, tuple(rows))


def _name_series(studies: list[StudyResults], protocol: str) -> list[str]:
    """Return the names of a protocol's bars; they name the study only if there are several."""
    names = [study.title for study in studies if study.protocol == protocol]
    return [protocol] if len(names) < 2 else [f"{protocol} ({name})" for name in names]


def _make_bar(study: StudyResults, cell: ResultCell) -> charts.Bar | None:
    """Return a cell as a bar with its finished controls, except those of other networks."""
    accuracy = cell.summarise("accuracy")
    if accuracy is None:
        return None
    controls = {
        name.replace(f"({cell.classifier})", "(same network)"): 100
        * control.average_trials("accuracy")
        for name, control in study.name_controls(cell.setting, "images")
        if control.whole and (control.control == "constant" or study.serves(control, cell))
    }
    return charts.Bar(100 * accuracy.mean, 100 * accuracy.sd, controls)


def make_table_15(studies: list[StudyResults]) -> ReportTable:
    """Return Table 15, with a row for each of our networks, settings and protocols."""
    rows = [make_row("as published", kind="group")]
    rows += [
        make_row(work.model, work.dataset, f"{work.accuracy:.2f}", EMPTY_CELL)
        for work in published.TABLE_15
    ]

    # A group per study, with the size of its tests
    for study in studies:
        cells = [
            cell
            for cell in study.cells
            if cell.level == "images" and cell.ablation == study.ablations[0]
        ]
        tests = {sources.test: name for name, sources in study.plan.settings.items()}
        sizes = "; ".join(
            f"{test} tests: {_describe_tests(study, name)}" for test, name in tests.items()
        )
        rows.append(
            make_row(
                TableCell(
                    f"mien, {study.title}: by {study.protocol}, {get_faces_name(study)}", sizes
                ),
                kind="group",
            )
        )

        # A row per setting and classifier
        for cell in (cell for cell in cells if cell.setting in TABLE_15_SETTINGS and cell.done):
            uf1 = format_score(cell.average_trials("uf1"), "uf1") if cell.whole else EMPTY_CELL
            mark = list_missed_controls(study, cell, "accuracy")
            rows.append(
                make_row(
                    format_classifier(study, cell.classifier),
                    find_setting(cell.setting).label,
                    make_average_entry(cell, mark),
                    uf1,
                )
            )

    head = ("method", "data, or train → test", "accuracy, %", "UF1")
    note = "The preprint does not name the protocols of its competitors."
    return ReportTable(
        "Table 15. Published competitors, and ours with their protocol", head, tuple(rows), note
    )


def make_tables_1_and_2(studies: list[StudyResults]) -> list[ReportTable]:
    """Return Tables 1 and 2: images per class in the preprint and here, with clips and subjects."""
    sheets = []
    faces_in_table_1: set[str] = set()
    for study in studies:
        real, synthetic = count_images(study)
        names = [*dict.fromkeys([*published.PREPRINT_CLASSES, *study.classes]), "total"]

        # Table 1, once for studies of the same faces
        real_rows = [
            make_row(
                name,
                *_find_published_counts(published.TABLE_1, name, "TABLE_1"),
                *(f"{n:,}" for n in real[name]),
                kind="total" if name == "total" else "",
            )
            for name in names
        ]
        head = ("class", "published images", "published clips", "images", "clips", "subjects")
        if study.spec["faces"] not in faces_in_table_1:
            caption = f"Table 1. {published.DATASET} as published, and {get_faces_name(study)}"
            sheets.append(ReportTable(caption, head, tuple(real_rows)))
        faces_in_table_1.add(study.spec["faces"])

        # Table 2
        if study.plan.databases:
            synthetic_rows = [
                make_row(
                    name,
                    _find_published_counts(published.TABLE_2, name, "TABLE_2")[0],
                    *(f"{n:,}" for n in synthetic[name]),
                    kind="total" if name == "total" else "",
                )
                for name in names
            ]
            head = ("class", "published images", "images", "clips seen", "subjects seen")
            caption = f"Table 2. Generated images as published, and of {study.title}"
            sheets.append(ReportTable(caption, head, tuple(synthetic_rows)))
    return sheets


def _find_published_counts(table: dict[str, int], name: str, key: str) -> list[str]:
    """Return the preprint's images of a class, and its clips by the sheet of CASME II."""
    if name == "total":
        return [f"{published.TOTALS[key]:,}", f"{sum(published.CLIPS_PER_CLASS.values()):,}"]
    return [
        f"{table[name]:,}" if name in table else EMPTY_CELL,
        str(published.CLIPS_PER_CLASS.get(name, EMPTY_CELL)),
    ]
