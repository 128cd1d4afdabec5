"""Beside the preprint: its Tables 1 to 15 and Figures 12 to 23, with ours in them, each under its
protocol.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence

from mien import charts, published, results
from mien.progress import many
from mien.results import Cell, Study
from mien.tables import HOLE, Entry, Line, Sheet, line
from mien.words import SETTINGS, average, label, low, named, precise, printed, tallies, tested

TRIALS = 5  # of the preprint
COMPETING = (
    "real_to_real",
    "real_to_synthetic",
    "synthetic_to_real",
)  # the settings that its Table 15 takes up


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
    """Return the protocols that the preprint's tables show: frame and subject always, others where
    they were run.
    """
    given = {study.protocol for study in studies}
    return [
        name
        for name in ("frame", "clip", "subject", "dataset")
        if name in ("frame", "subject") or name in given
    ]


def tables_3_to_14(studies: list[Study]) -> list[Sheet]:
    """Return Tables 3 to 14: five trials and their average, as published and as run here under each
    protocol.
    """
    return [_numbered(studies, setting, ablation) for setting, ablation in published.NUMBERS]


def _numbered(studies: list[Study], setting: str, ablation: str) -> Sheet:
    """Return the table of one setting and ablation."""
    width = max(TRIALS, *(study.spec["trials"] for study in studies))
    rows: list[Line] = []
    for model, name in published.MODELS.items():
        old = published.ACCURACY[setting, ablation][model]
        rows.append(line(name, kind="group"))
        rows.append(
            line(
                "published",
                *_padded([f"{one:.2f}" for one in old.trials], width),
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
    beside = [study for study in studies if setting in study.settings]
    floors = [
        _trials(study, cell, f"{name}, {study.protocol} ({study.title})", width)
        for study in beside
        for name, cell in study.floors(setting, "images")
    ]
    rows += [line("Controls", kind="group"), *floors] if floors else []
    plain = (
        " Permuted labels and copycats are those of the plain networks."
        if ablation != "none"
        else ""
    )
    tests = "; ".join(
        f"{study.protocol} ({study.title}): {_held(study, setting)}" for study in beside
    )
    note = f"Tests of a trial, {tests}.{plain}" if tests else ""
    caption = (
        f"Table {published.NUMBERS[setting, ablation]}. {SETTINGS[setting]}, "
        f"{published.ABLATIONS[ablation]}"
    )
    head = ("", *(f"trial {place + 1}" for place in range(width)), "average")
    return Sheet(caption, head, tuple(rows), note)


def _padded(texts: list[str], width: int, rest: str = HOLE) -> list[str]:
    return [*texts, *[rest] * (width - len(texts))]


def _held(study: Study, setting: str) -> str:
    """Return what the tests of a setting hold."""
    cells = [
        cell
        for cell in study.cells
        if (cell.setting, cell.level) == (setting, "images") and cell.done
    ]
    return tested(cells[0]) if cells else "none yet"


def _trials(study: Study, cell: Cell, name: str, width: int) -> Line:
    """Return the trials of a cell and their mean, in per cent."""
    texts = [HOLE if one is None else f"{100 * one.accuracy:.2f}" for one in cell.trials]
    found = cell.summary("accuracy")
    if found is None:
        whole = Entry(HOLE, f"{len(cell.done)} of {many(len(cell.trials), 'trial')}", hole=True)
    else:
        whole = Entry(
            f"{100 * found.mean:.2f}",
            precise(found),
            "" if cell.control else low(study, cell, "accuracy"),
        )
    once = len(cell.trials) < study.spec["trials"]  # one run for all trials
    return line(
        name,
        *_padded(texts, width, "" if once else HOLE),
        whole,
        kind="control" if cell.control else "",
    )


def figures(studies: list[Study]) -> list[dict[str, str]]:
    """Return the bar charts of Figures 12 to 23, with the words that stand for them."""
    found = []
    for (setting, ablation), number in published.FIGURES.items():
        old = published.ACCURACY[setting, ablation]
        series: dict[str, list[charts.Bar | None]] = {
            "published": [
                charts.Bar(old[model].average, math.nan, {}) for model in published.MODELS
            ]
        }
        for protocol in _protocols(studies):
            for place, name in enumerate(_titles(studies, protocol)):
                cells = [
                    _ours(studies, protocol, setting, ablation, model) for model in published.MODELS
                ]
                series[name] = [_bar(*one[place]) if len(one) > place else None for one in cells]
        caption = f"Figure {number}. {SETTINGS[setting]}, {published.ABLATIONS[ablation]}"
        svg = charts.bars(caption, list(published.MODELS.values()), series)
        data = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
        alt = (
            f"{caption}, accuracy in per cent of {', '.join(published.MODELS.values())}: "
            f"{_words(series)}."
        )
        found.append(
            {"name": f"figure-{number}", "caption": caption, "svg": svg, "image": data, "alt": alt}
        )
    return found


def _titles(studies: list[Study], protocol: str) -> list[str]:
    """Return a name for the bars of each study under a protocol, which need the study's only if
    there are several.
    """
    names = [study.title for study in studies if study.protocol == protocol]
    return [protocol] if len(names) < 2 else [f"{protocol} ({name})" for name in names]


def _words(series: Mapping[str, Sequence[charts.Bar | None]]) -> str:
    """Return what a chart shows."""
    return "; ".join(
        f"{name} " + ", ".join("not run" if bar is None else f"{bar.height:.1f}" for bar in values)
        for name, values in series.items()
    )


def _bar(study: Study, cell: Cell) -> charts.Bar | None:
    """Return a cell as a bar, with those of its controls that are there and are of no other
    network.
    """
    found = cell.summary("accuracy")
    if found is None:
        return None
    floors = {
        name.replace(f"({cell.classifier})", "(same network)"): 100 * one.mean("accuracy")
        for name, one in study.floors(cell.setting, "images")
        if one.whole
        and (
            one.control == "constant" or one.classifier in ("majority", "nearest", cell.classifier)
        )
    }
    return charts.Bar(100 * found.mean, 100 * found.sd, floors)


def table_15(studies: list[Study]) -> Sheet:
    """Return Table 15, with a row for each of our networks, settings and protocols."""
    rows = [line("as published", kind="group")]
    rows += [
        line(one.model, one.dataset, f"{one.accuracy:.2f}", HOLE) for one in published.TABLE_15
    ]
    for study in studies:
        own = [
            cell
            for cell in study.cells
            if cell.level == "images" and cell.ablation == study.ablations[0]
        ]
        tests = {sides["test"]: name for name, sides in study.plan["settings"].items()}
        held = "; ".join(f"{test} tests: {_held(study, name)}" for test, name in tests.items())
        rows.append(
            line(
                Entry(f"mien, {study.title}: by {study.protocol}, {named(study)}", held),
                kind="group",
            )
        )
        for cell in (cell for cell in own if cell.setting in COMPETING):
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
    """Return Tables 1 and 2: the preprint's images a class beside ours, with clips and subjects."""
    found = []
    shown: set[str] = set()
    for study in studies:
        real, made = tallies(study)
        names = [*dict.fromkeys([*published.EMOTIONS, *study.classes]), "total"]
        one = [
            line(
                name, *_old(published.TABLE_1, name, "TABLE_1"), *(f"{n:,}" for n in real[name]),
                kind="total" if name == "total" else "",
            )
            for name in names
        ]  # fmt: skip
        head = ("class", "published images", "published clips", "images", "clips", "subjects")
        if study.spec["faces"] not in shown:
            found.append(
                Sheet(
                    f"Table 1. {published.DATASET} as published, and {named(study)}",
                    head,
                    tuple(one),
                )
            )
        shown.add(study.spec["faces"])
        if study.plan["databases"]:
            two = [
                line(
                    name, _old(published.TABLE_2, name, "TABLE_2")[0], *(f"{n:,}" for n in made[name]),
                    kind="total" if name == "total" else "",
                )
                for name in names
            ]  # fmt: skip
            head = ("class", "published images", "images", "clips seen", "subjects seen")
            found.append(
                Sheet(
                    f"Table 2. Generated images as published, and of {study.title}",
                    head,
                    tuple(two),
                )
            )
    return found


def _old(table: dict[str, int], name: str, key: str) -> list[str]:
    """Return the preprint's images of a class, and its clips, which are those of CASME II's own
    sheet.
    """
    if name == "total":
        return [f"{published.TOTALS[key]:,}", f"{sum(published.CLIPS.values()):,}"]
    return [f"{table[name]:,}" if name in table else HOLE, str(published.CLIPS.get(name, HOLE))]
