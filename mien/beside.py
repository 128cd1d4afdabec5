"""Beside the preprint: its Tables 1 to 15 and Figures 12 to 23, with ours in them, each under its protocol."""

import base64
from collections.abc import Iterable

from mien import charts, published, results
from mien.results import Cell, Study
from mien.tables import HOLE, Entry, Line, Sheet, line
from mien.words import SETTINGS, average, label, low, named, printed, tallies, tested


def _ours(studies: Iterable[Study], protocol: str, setting: str, ablation: str, model: str) -> list[tuple[Study, Cell]]:
    """Return the cells of the preprint's network `model` under a protocol."""
    names = [name for name, theirs in results.PUBLISHED.items() if theirs == ablation]
    return [
        (study, cell)
        for study in studies
        if study.protocol == protocol
        for cell in study.cells
        if (cell.level, cell.setting, cell.network, cell.ablation) == ("images", setting, model, names[0])
    ]


def _protocols(studies: Iterable[Study]) -> list[str]:
    """Return the protocols that the preprint's tables show: frame and subject always, clip where it was run."""
    given = {study.protocol for study in studies}
    return [name for name in ("frame", "clip", "subject") if name != "clip" or name in given]


def tables_3_to_14(studies: list[Study]) -> list[Sheet]:
    """Return Tables 3 to 14: five trials and their average, as published and as run here under each protocol."""
    found = []
    for (setting, ablation), number in published.NUMBERS.items():
        rows: list[Line] = []
        for model, name in published.MODELS.items():
            old = published.ACCURACY[setting, ablation][model]
            rows.append(line(name, kind="group"))
            rows.append(line("published", *(f"{one:.2f}" for one in old.trials), f"{old.average:.2f}"))
            for protocol in _protocols(studies):
                cells = _ours(studies, protocol, setting, ablation, model)
                rows += [_trials(study, cell, f"{protocol} ({study.title})") for study, cell in cells]
                rows += [line(protocol, *[""] * 5, "not run")] if not cells else []
        controls = [
            _trials(study, cell, f"{study.named(cell)}, {study.protocol} ({study.title})")
            for study in studies
            for cell in (study.controls_of(setting, "images") if setting in study.settings else [])
        ]
        rows += [line("Controls", kind="group"), *controls] if controls else []
        caption = f"Table {number}. {SETTINGS[setting]}, {published.ABLATIONS[ablation]}"
        head = ("", *(f"trial {place}" for place in range(1, 6)), "average")
        found.append(Sheet(caption, head, tuple(rows)))
    return found


def _trials(study: Study, cell: Cell, name: str) -> Line:
    """Return the first five trials of a cell and the mean of all, in per cent."""
    texts = [HOLE if one is None else f"{100 * one.accuracy:.2f}" for one in cell.trials[:5]]
    found = cell.summary("accuracy")
    if found is None:
        whole = Entry(HOLE, f"{len(cell.done)} of {len(cell.trials)} trials", hole=True)
    else:
        around = f"± {100 * found.sd:.2f} ({found.n})" if found.n > 1 else f"({found.n})"
        whole = Entry(f"{100 * found.mean:.2f}", around, "" if cell.control else low(study, cell, "accuracy"))
    return line(name, *texts, *[""] * (5 - len(texts)), whole, kind="control" if cell.control else "")


def figures(studies: list[Study]) -> list[dict[str, str]]:
    """Return the bar charts of Figures 12 to 23, with the words that stand for them."""
    found = []
    for (setting, ablation), number in published.FIGURES.items():
        series: dict[str, list[charts.Bar]] = {
            "published": [(published.ACCURACY[setting, ablation][m].average, float("nan")) for m in published.MODELS]
        }
        for protocol in _protocols(studies):
            series[protocol] = [_bar(_ours(studies, protocol, setting, ablation, model)) for model in published.MODELS]
        floors = {
            f"{study.named(cell)}, {study.protocol}": 100 * cell.mean("accuracy")
            for study in studies
            for cell in (study.controls_of(setting, "images") if setting in study.settings else [])
            if cell.whole and cell.network not in published.MODELS
        }
        caption = f"Figure {number}. {SETTINGS[setting]}, {published.ABLATIONS[ablation]}"
        words = "; ".join(
            f"{name} " + ", ".join(HOLE if bar is None else f"{bar[0]:.1f}" for bar in values)
            for name, values in series.items()
        )
        svg = charts.bars(caption, list(published.MODELS.values()), series, floors)
        data = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
        alt = f"{caption}, accuracy in per cent of {', '.join(published.MODELS.values())}: {words}."
        found.append({"name": f"figure-{number}", "caption": caption, "svg": svg, "image": data, "alt": alt})
    return found


def _bar(cells: list[tuple[Study, Cell]]) -> charts.Bar:
    found = cells[0][1].summary("accuracy") if cells else None
    return None if found is None else (100 * found.mean, 100 * found.sd)


def table_15(studies: list[Study]) -> Sheet:
    """Return Table 15, with a row for each of our networks and protocols."""
    rows = [
        line("as published", kind="group"),
        *(line(one.model, one.dataset, "not named", f"{one.accuracy:.2f}", "") for one in published.TABLE_15),
    ]
    for study in studies:
        own = [cell for cell in study.cells if cell.level == "images" and cell.ablation == study.ablations[0]]
        rows.append(line(f"mien, {study.title}", kind="group"))
        for cell in (cell for cell in own if cell.setting in published.SETTINGS and cell.whole):
            mark = low(study, cell, "accuracy")
            name = f"{label(study, cell.classifier)}, {SETTINGS[cell.setting]}"
            about = f"{study.protocol}, {tested(cell)}"
            rows.append(line(name, named(study), about, average(cell, mark), printed(cell.mean("uf1"), "uf1")))
    head = ("method", "data", "protocol", "accuracy, %", "UF1")
    return Sheet("Table 15. Published competitors, and ours with their protocol", head, tuple(rows))


def tables_1_and_2(studies: list[Study]) -> list[Sheet]:
    """Return Tables 1 and 2: the preprint's images a class beside ours, with clips and subjects."""
    found = []
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
        found.append(Sheet(f"Table 1. {published.DATASET} as published, and {named(study)}", head, tuple(one)))
        if study.plan["databases"]:
            two = [
                line(
                    name, _old(published.TABLE_2, name, "TABLE_2")[0], *(f"{n:,}" for n in made[name]),
                    kind="total" if name == "total" else "",
                )
                for name in names
            ]  # fmt: skip
            head = ("class", "published images", "images", "clips seen", "subjects seen")
            found.append(Sheet(f"Table 2. Generated images as published, and of {study.title}", head, tuple(two)))
    return found


def _old(table: dict[str, int], name: str, key: str) -> list[str]:
    """Return the preprint's images of a class, and its clips, which are those of CASME II's own sheet."""
    if name == "total":
        return [f"{published.TOTALS[key]:,}", f"{sum(published.CLIPS.values()):,}"]
    return [f"{table[name]:,}" if name in table else HOLE, str(published.CLIPS.get(name, HOLE))]
