"""The preprint's Tables 1 to 15 and Figures 12 to 23, with our results under each protocol."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence

from mien import charts, published, results
from mien.progress import many
from mien.results import Cell, Study
from mien.tables import HOLE, Entry, Line, Sheet, line
from mien.words import SETTINGS, average, label, low, named, precise, printed, tallies, tested

TRIALS = 5  # of the preprint

# The settings of its Table 15
COMPETING = (
    "real_to_real",
    "real_to_synthetic",
    "synthetic_to_real",
)


def _ours(
    studies: Iterable[Study], protocol: str, setting: str, ablation: str, model: str
) -> list[tuple[Study, Cell]]:
    """Return the cells of the preprint's network `model` under a protocol."""
    names = [name for name, theirs in results.PUBLISHED.items() if theirs == ablation]
    return [
        (study, cell)
        for study in studies
        if study.protocol == protocol
        for cell in study.cells
        if (cell.level, cell.setting, cell.network, cell.ablation)
        == ("images", setting, model, names[0])
    ]


def _protocols(studies: Iterable[Study]) -> list[str]:
    """Return the protocols that the tables show: frame and subject, and others if they were run."""
    run = {study.protocol for study in studies}
    return [
        name
        for name in ("frame", "clip", "subject", "dataset")
        if name in ("frame", "subject") or name in run
    ]


def tables_3_to_14(studies: list[Study]) -> list[Sheet]:
    """Return Tables 3 to 14: trials and averages, as published and as run here per protocol."""
    return [_numbered(studies, setting, ablation) for setting, ablation in published.NUMBERS]


def _numbered(studies: list[Study], setting: str, ablation: str) -> Sheet:
    """Return the table of one setting and ablation."""
    width = max(TRIALS, *(study.spec["trials"] for study in studies))
    rows: list[Line] = []

    # For each network the published row, then a row per protocol and study
    for model, name in published.MODELS.items():
        old = published.ACCURACY[setting, ablation][model]
        rows.append(line(name, kind="group"))
        rows.append(
            line(
                "published",
                *_padded([f"{accuracy:.2f}" for accuracy in old.trials], width),
                f"{old.average:.2f}",
            )
        )
        for protocol in _protocols(studies):
            cells = _ours(studies, protocol, setting, ablation, model)
            rows += [
                _trials(study, cell, f"{protocol} ({study.title})", width) for study, cell in cells
            ]
            rows += (
                [line(protocol, *_padded([], width), Entry("not run", hole=True))]
                if not cells
                else []
            )

    # The controls of all studies that have this setting
    with_setting = [study for study in studies if setting in study.settings]
    controls = [
        _trials(study, cell, f"{name}, {study.protocol} ({study.title})", width)
        for study in with_setting
        for name, cell in study.floors(setting, "images")
    ]
    rows += [line("Controls", kind="group"), *controls] if controls else []

    # The note says how large the tests are
    plain = (
        " Permuted labels and copycats are those of the plain networks."
        if ablation != "none"
        else ""
    )
    tests = "; ".join(
        f"{study.protocol} ({study.title}): {_held(study, setting)}" for study in with_setting
    )
    note = f"Tests of a trial, {tests}.{plain}" if tests else ""
    caption = (
        f"Table {published.NUMBERS[setting, ablation]}. {SETTINGS[setting]}, "
        f"{published.ABLATIONS[ablation]}"
    )
    head = ("", *(f"trial {number}" for number in range(1, width + 1)), "average")
    return Sheet(caption, head, tuple(rows), note)


def _padded(texts: list[str], width: int, filler: str = HOLE) -> list[str]:
    """Return the texts, followed by as many fillers as make `width` entries."""
    return [*texts, *[filler] * (width - len(texts))]


def _held(study: Study, setting: str) -> str:
    """Return the size of the tests of a setting."""
    cells = [
        cell
        for cell in study.cells
        if (cell.setting, cell.level) == (setting, "images") and cell.done
    ]
    return tested(cells[0]) if cells else "none yet"


def _trials(study: Study, cell: Cell, name: str, width: int) -> Line:
    """Return the trials of a cell and their mean, in per cent."""
    texts = [HOLE if scores is None else f"{100 * scores.accuracy:.2f}" for scores in cell.trials]
    accuracy = cell.summary("accuracy")
    if accuracy is None:
        mean = Entry(HOLE, f"{len(cell.done)} of {many(len(cell.trials), 'trial')}", hole=True)
    else:
        mark = "" if cell.control else low(study, cell, "accuracy")
        mean = Entry(f"{100 * accuracy.mean:.2f}", precise(accuracy), mark)
    once = len(cell.trials) < study.spec["trials"]  # one run for all trials
    return line(
        name,
        *_padded(texts, width, "" if once else HOLE),
        mean,
        kind="control" if cell.control else "",
    )


def figures(studies: list[Study]) -> list[dict[str, str]]:
    """Return the bar charts of Figures 12 to 23, with their texts for screen readers."""
    entries = []
    for (setting, ablation), number in published.FIGURES.items():
        # The published bars, then a series per protocol and study
        old = published.ACCURACY[setting, ablation]
        series: dict[str, list[charts.Bar | None]] = {
            "published": [
                charts.Bar(old[model].average, math.nan, {}) for model in published.MODELS
            ]
        }
        for protocol in _protocols(studies):
            for index, name in enumerate(_titles(studies, protocol)):
                by_model = [
                    _ours(studies, protocol, setting, ablation, model) for model in published.MODELS
                ]
                series[name] = [
                    _bar(*cells[index]) if len(cells) > index else None for cells in by_model
                ]

        # The chart as a file, as part of the page, and as text
        caption = f"Figure {number}. {SETTINGS[setting]}, {published.ABLATIONS[ablation]}"
        svg = charts.bars(caption, list(published.MODELS.values()), series)
        data = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
        alt = (
            f"{caption}, accuracy in per cent of {', '.join(published.MODELS.values())}: "
            f"{_words(series)}."
        )
        entries.append(
            {"name": f"figure-{number}", "caption": caption, "svg": svg, "image": data, "alt": alt}
        )
    return entries


def _titles(studies: list[Study], protocol: str) -> list[str]:
    """Return the names of a protocol's bars; they name the study only if there are several."""
    names = [study.title for study in studies if study.protocol == protocol]
    return [protocol] if len(names) < 2 else [f"{protocol} ({name})" for name in names]


def _words(series: Mapping[str, Sequence[charts.Bar | None]]) -> str:
    """Return the numbers of a chart as text."""
    return "; ".join(
        f"{name} " + ", ".join("not run" if bar is None else f"{bar.height:.1f}" for bar in values)
        for name, values in series.items()
    )


def _bar(study: Study, cell: Cell) -> charts.Bar | None:
    """Return a cell as a bar with its finished controls, except those of other networks."""
    accuracy = cell.summary("accuracy")
    if accuracy is None:
        return None
    controls = {
        name.replace(f"({cell.classifier})", "(same network)"): 100 * control.mean("accuracy")
        for name, control in study.floors(cell.setting, "images")
        if control.whole
        and (
            control.control == "constant"
            or control.classifier in ("majority", "nearest", cell.classifier)
        )
    }
    return charts.Bar(100 * accuracy.mean, 100 * accuracy.sd, controls)


def table_15(studies: list[Study]) -> Sheet:
    """Return Table 15, with a row for each of our networks, settings and protocols."""
    rows = [line("as published", kind="group")]
    rows += [
        line(work.model, work.dataset, f"{work.accuracy:.2f}", HOLE) for work in published.TABLE_15
    ]

    # A group per study, with the size of its tests
    for study in studies:
        cells = [
            cell
            for cell in study.cells
            if cell.level == "images" and cell.ablation == study.ablations[0]
        ]
        tests = {sources["test"]: name for name, sources in study.plan["settings"].items()}
        sizes = "; ".join(f"{test} tests: {_held(study, name)}" for test, name in tests.items())
        rows.append(
            line(
                Entry(f"mien, {study.title}: by {study.protocol}, {named(study)}", sizes),
                kind="group",
            )
        )

        # A row per setting and classifier
        for cell in (cell for cell in cells if cell.setting in COMPETING):
            uf1 = printed(cell.mean("uf1"), "uf1") if cell.whole else HOLE
            mark = low(study, cell, "accuracy")
            rows.append(
                line(
                    label(study, cell.classifier), SETTINGS[cell.setting], average(cell, mark), uf1
                )
            )

    head = ("method", "data, or train → test", "accuracy, %", "UF1")
    note = "The preprint does not name the protocols of its competitors."
    return Sheet(
        "Table 15. Published competitors, and ours with their protocol", head, tuple(rows), note
    )


def tables_1_and_2(studies: list[Study]) -> list[Sheet]:
    """Return Tables 1 and 2: images per class in the preprint and here, with clips and subjects."""
    sheets = []
    faces_in_table_1: set[str] = set()
    for study in studies:
        real, synthetic = tallies(study)
        names = [*dict.fromkeys([*published.EMOTIONS, *study.classes]), "total"]

        # Table 1, once for studies of the same faces
        real_rows = [
            line(
                name, *_old(published.TABLE_1, name, "TABLE_1"), *(f"{n:,}" for n in real[name]),
                kind="total" if name == "total" else "",
            )
            for name in names
        ]  # fmt: skip
        head = ("class", "published images", "published clips", "images", "clips", "subjects")
        if study.spec["faces"] not in faces_in_table_1:
            caption = f"Table 1. {published.DATASET} as published, and {named(study)}"
            sheets.append(Sheet(caption, head, tuple(real_rows)))
        faces_in_table_1.add(study.spec["faces"])

        # Table 2
        if study.plan["databases"]:
            synthetic_rows = [
                line(
                    name,
                    _old(published.TABLE_2, name, "TABLE_2")[0],
                    *(f"{n:,}" for n in synthetic[name]),
                    kind="total" if name == "total" else "",
                )
                for name in names
            ]
            head = ("class", "published images", "images", "clips seen", "subjects seen")
            caption = f"Table 2. Generated images as published, and of {study.title}"
            sheets.append(Sheet(caption, head, tuple(synthetic_rows)))
    return sheets


def _old(table: dict[str, int], name: str, key: str) -> list[str]:
    """Return the preprint's images of a class, and its clips by the sheet of CASME II."""
    if name == "total":
        return [f"{published.TOTALS[key]:,}", f"{sum(published.CLIPS.values()):,}"]
    return [f"{table[name]:,}" if name in table else HOLE, str(published.CLIPS.get(name, HOLE))]
