"""Reports: what a study found, as one HTML file that opens anywhere, as Markdown, and as a table for programs.

All of it is worked out from the records and predictions of finished trials, so a report can be made at any time. A cell
of which a trial is missing is a hole that says so, never a mean of what is there.
"""

import base64
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from rich.console import Console
from rich.table import Table

from mien import figures, metrics, published
from mien.errors import SpecError, StoreError
from mien.faces import Faces
from mien.progress import duration, say
from mien.spec import read_toml
from mien.stats import Summary, summary
from mien.store import Run, Store

SETTINGS = {
    "real_to_real": "real → real",
    "synthetic_to_synthetic": "synthetic → synthetic",
    "real_to_synthetic": "real → synthetic",
    "synthetic_to_real": "synthetic → real",
    "both_to_real": "real + synthetic → real",
}
HOLE = "\u2013"  # what stands where a number would
METRICS = {"accuracy": "Accuracy", "uf1": "UF1", "uar": "UAR"}
CAPTIONS = {
    "accuracy": "Accuracy, in per cent",
    "uf1": "UF1: the mean over classes of F1, 0 to 1",
    "uar": "UAR: the mean over classes of recall, 0 to 1",
}
FREE_LICENCES = ("cc0", "cc-by", "cc by", "public domain")
NOTICES = {
    "frame": (
        "As published: test frames seen in training",
        "Single frames are split at random, so each test frame has neighbours from the same clip of the same person in "
        "the training set, and one generator was trained on all frames, those of the tests among them. Any method that "
        "remembers faces scores high here. These numbers say nothing about people that were not in the training set.",
    ),
    "clip": (
        "Test clips unseen, people seen",
        "No clip stands on both sides of a split, and each fold has a generator of its own that was trained on the "
        "training side of that fold alone. The people in the tests do occur in training, in other clips.",
    ),
    "subject": (
        "Test people unseen",
        "Nobody stands on both sides of a split, and each fold has a generator of its own that was trained on the "
        "training side of that fold alone. Every test on real faces was checked for this before it was made.",
    ),
}
SYNTHETIC_TEST = (
    "Tests on synthetic faces show whether classifier and generator agree, not how well people are read: the synthetic "
    "test images come from a generator that learnt from the training side."
)


@dataclass(frozen=True)
class Cell:
    """A setting and classifier: the pooled scores of each trial, nothing where a fold of it is missing."""

    setting: str
    classifier: str
    network: str
    level: str
    trials: tuple[metrics.Scores | None, ...]

    @property
    def done(self) -> list[metrics.Scores]:
        """The scores of the trials that are there."""
        return [scores for scores in self.trials if scores is not None]

    @property
    def whole(self) -> bool:
        """Whether all trials are there."""
        return len(self.done) == len(self.trials)

    def summary(self, metric: str) -> Summary | None:
        """Return mean and spread over all trials, nothing if one is missing."""
        return summary([scores.of(metric) for scores in self.done]) if self.whole else None

    def constant(self, metric: str) -> float | None:
        """Return what the constant answer "the commonest class" scores on the same tests, nothing if none is done."""
        if not self.done:
            return None
        true = self.done[0].confusion.sum(axis=1)
        counts = {name: int(n) for name, n in zip(self.done[0].classes, true, strict=True) if n}
        return metrics.majority(counts).of(metric)

    @property
    def published(self) -> float | None:
        """The average that the preprint prints for this setting and network, in per cent, where it has one."""
        return published.average(self.setting, self.network)

    def confusion(self) -> np.ndarray:
        """Return int [classes, classes], rows = true: the sum over folds and the trials that are there."""
        return np.sum([scores.confusion for scores in self.done], axis=0)


class Study:
    """A study as its records show it."""

    def __init__(self, name: str, store: Store) -> None:
        self.store = store
        self.run = _find(name, store)
        self.spec: dict[str, Any] = self.run.spec
        self.plan: dict[str, Any] = self.run.json("plan.json")
        self.title = str(self.spec["title"])
        self.classes = tuple(self.spec["classes"])
        self.settings = list(self.plan["settings"])
        self.classifiers: list[str] = self.plan["classifiers"]
        self.trials: list[dict[str, Any]] = self.plan["trials"]
        self._predictions: dict[str, pd.DataFrame] = {}

    @cached_property
    def done(self) -> dict[str, Run]:
        """The trials that are there, by run name."""
        names = [trial["run"] for trial in self.trials]
        return {name: self.store.run(name) for name in names if self.store.done(name)}

    @cached_property
    def failed(self) -> list[dict[str, Any]]:
        """The trials that failed, each with its first error under `error`."""
        missing = [trial for trial in self.trials if trial["run"] not in self.done]
        noted = [{**trial, "error": _error(self.store.root / trial["note"])} for trial in missing]
        return [trial for trial in noted if trial["error"]]

    @cached_property
    def faces(self) -> Faces:
        """The real faces."""
        return Faces.load(self.store.run(self.spec["faces"]).path)

    @cached_property
    def databases(self) -> list[Faces]:
        """The synthetic databases that are there, in the order of folds."""
        names = [one["database"] for one in self.plan["databases"]]
        return [Faces.load(self.store.run(name).path) for name in names if self.store.done(name)]

    @property
    def levels(self) -> tuple[str, ...]:
        """What is scored: images, and clips where clips or subjects are kept together."""
        return metrics.LEVELS[:1] if self.spec["protocol"] == "frame" else metrics.LEVELS

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells at all levels; tests on synthetic faces, which form no clips, at the level of images only."""
        return [
            self._cell(setting, classifier, level)
            for level in self.levels
            for setting in self.settings
            if level == "images" or self.plan["settings"][setting]["test"] == "real"
            for classifier in self.classifiers
        ]

    def cell(self, setting: str, classifier: str, level: str = "images") -> Cell | None:
        """Return one cell, or nothing if there is no such cell."""
        key = (setting, classifier, level)
        return next((cell for cell in self.cells if (cell.setting, cell.classifier, cell.level) == key), None)

    def _cell(self, setting: str, classifier: str, level: str) -> Cell:
        sides = self.plan["settings"][setting]
        scores = []
        for number in range(self.spec["trials"]):
            wanted = (classifier, sides["train"], number)
            runs = [t["run"] for t in self.trials if (t["classifier"], t["train"], t["trial"]) == wanted]
            scores.append(self._pooled(runs, sides["test"], level) if all(run in self.done for run in runs) else None)
        return Cell(setting, classifier, self.network(classifier), level, tuple(scores))

    def network(self, classifier: str) -> str:
        """Return the network behind a classifier's name, as timm calls it, without the tag of its weights."""
        return str(self.spec["classifiers"][classifier]["name"]).partition(".")[0]

    def _pooled(self, runs: list[str], test: str, level: str) -> metrics.Scores | None:
        """Return the scores of all folds of one trial; predictions are put together before any ratio is formed."""
        tables = [self._predicted(run) for run in runs]
        whole = pd.concat([table.loc[table["test"] == test] for table in tables], ignore_index=True)
        return metrics.score_table(whole, self.classes, level)

    def _predicted(self, run: str) -> pd.DataFrame:
        if run not in self._predictions:
            self._predictions[run] = pd.read_parquet(self.done[run].file("predictions.parquet"))
        return self._predictions[run]

    @cached_property
    def licence(self) -> str:
        """The licences of the real faces."""
        return " and ".join(sorted(set(self.faces.index["licence"])))

    @property
    def restricted(self) -> bool:
        """Whether the licence of the real faces does not plainly allow pictures of them to be published."""
        return not all(name.lower().startswith(FREE_LICENCES) for name in set(self.faces.index["licence"]))

    @property
    def seconds(self) -> float:
        """How long all its runs took, those that other studies share too."""
        names = [one[part] for one in self.plan["databases"] for part in ("generator", "database")]
        runs = [Run(name, self.store.root / "runs" / name) for name in names if self.store.done(name)]
        return float(sum(_about(run).get("seconds", 0.0) for run in [*runs, *self.done.values()]))


def make(study: str | Path, store: Store, out: Path | None = None) -> Path:
    """Write report.html, report.md and tables.csv of a study into the folder `out`; return the path of the HTML file.

    `study` is its name, its run, or its TOML file. `out` is report-NAME by default. Raises StoreError if the study was
    never run.
    """
    found = Study(str(study), store)
    folder = out or Path(f"report-{found.title}")
    folder.mkdir(parents=True, exist_ok=True)
    content = _content(found)
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
    with (folder / "tables.csv").open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_rows(found))
    if found.restricted:
        say(f"{folder} contains images of {found.licence}; do not publish")
    return folder / "report.html"


def terminal(study: str | Path, store: Store) -> Table:
    """Return the settings table of a study for the terminal: accuracy, UF1 and UAR of each setting and classifier."""
    found = Study(str(study), store)
    cells = [cell for cell in found.cells if cell.level == "images"]
    printed = [cell.published for cell in cells]
    title = f"{found.title}: {NOTICES[found.spec['protocol']][0].lower()}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("train → test", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for name in (*METRICS.values(), "constant", *["published"] * any(printed)):
        table.add_column(name, justify="right", no_wrap=True)
    for cell, old in zip(cells, printed, strict=True):
        means = [_text(cell, metric).partition(" ±")[0] for metric in ("uf1", "uar")]
        numbers = [_text(cell, "accuracy"), *means, _number(cell.constant("accuracy"), "accuracy")]
        if any(printed):
            numbers.append("" if old is None else f"{old:.2f}")
        table.add_row(SETTINGS[cell.setting], _label(found, cell.classifier), *numbers)
    failed = f", {len(found.failed)} failed" if found.failed else ""
    table.caption = (
        f"by image, means over {found.spec['trials']} trials; {len(found.done)} of {len(found.trials)} trainings "
        f"done{failed}"
    )
    table.caption_justify = "left"
    return table


def show(study: str | Path, store: Store) -> None:
    """Print the settings table of a study."""
    Console(highlight=False).print(terminal(study, store))


# What the pages show


def _content(study: Study) -> dict[str, Any]:
    """Return all that the pages show, as text and numbers."""
    title, notice = NOTICES[study.spec["protocol"]]
    return {
        "title": study.title,
        "notice": {"title": title, "text": notice, "warn": study.spec["protocol"] == "frame"},
        "synthetic_test": SYNTHETIC_TEST if _tests_synthetic(study) else "",
        "state": _state(study),
        "findings": _findings(study),
        "plot": _plot(study),
        "tables": _tables(study),
        "facts": _facts(study),
        "counts": _counts(study),
        "sheet": _sheet(study),
        "confusions": _confusions(study),
        "failed": [{**trial, "where": _where(study, trial)} for trial in study.failed],
        "licence": study.licence,
        "restricted": study.restricted,
        "source": published.SOURCE,
    }


def _tests_synthetic(study: Study) -> bool:
    return any(sides["test"] == "synthetic" for sides in study.plan["settings"].values())


def _state(study: Study) -> str:
    """Say how much of the study is there."""
    total, done, failed = len(study.trials), len(study.done), len(study.failed)
    parts = [f"{done} of {total} trainings are done"]
    if failed:
        parts.append(f"{failed} failed")
    if total - done - failed:
        parts.append(f"{total - done - failed} are still to come")
    return f"{', '.join(parts)}. What is there took {duration(study.seconds)}."


def _findings(study: Study) -> list[str]:
    """Say what the numbers say, some sentences for each classifier; nothing of what has a hole."""
    sentences = []
    for classifier in study.classifiers:
        name = _label(study, classifier)
        cells = [cell for setting in study.settings if (cell := study.cell(setting, classifier)) and cell.whole]
        real = [cell for cell in cells if study.plan["settings"][cell.setting]["test"] == "real"]
        if real:
            parts = [f"{SETTINGS[cell.setting]} {_share(cell)}" for cell in real]
            floor = f"always answering the commonest class gets {_number(real[0].constant('accuracy'), 'accuracy')} %"
            sentences.append(f"{name} on {real[0].done[0].n:,} real faces: {'; '.join(parts)}. There, {floor}.")
        low = [SETTINGS[cell.setting] for cell in cells if _shown(cell, "accuracy")["low"]]
        if low:
            sentences.append(f"{name} is no better than always answering the commonest class: {', '.join(low)}.")
        for other, words in (
            ("both_to_real", "Adding the synthetic faces to the real training faces"),
            ("synthetic_to_real", "Training on synthetic faces instead of real ones"),
        ):
            change = _change(study, classifier, other)
            if change:
                sentences.append(f"{words} changes the accuracy of {name} on real faces by {change}.")
    return sentences


def _share(cell: Cell) -> str:
    return f"{_text(cell, 'accuracy')} % right (UF1 {_text(cell, 'uf1').partition(' ±')[0]})"


def _change(study: Study, classifier: str, setting: str) -> str:
    """Return the difference of a setting to real → real in points of accuracy, trial by trial; empty with a hole."""
    base, other = study.cell("real_to_real", classifier), study.cell(setting, classifier)
    if base is None or other is None or not (base.whole and other.whole):
        return ""
    pairs = zip(other.done, base.done, strict=True)
    found = summary([100 * (ours.accuracy - real.accuracy) for ours, real in pairs])
    if found.n == 1:
        return f"{found.mean:+.1f} points in one trial, which shows no spread"
    inside = "; that is within the spread" if abs(found.mean) <= found.sd else ""
    return f"{found.mean:+.1f} ± {found.sd:.1f} points (mean ± sd over {found.n} trials){inside}"


def _tables(study: Study) -> list[dict[str, Any]]:
    """Return, for each level, a table of settings and classifiers for each metric, and what holds for all of them."""
    found = []
    for level in study.levels:
        tables = [_table(study, metric, level) for metric in METRICS]
        cells = [cell for table in tables for row in table["rows"] for cell in row["cells"]]
        found.append(
            {
                "level": level,
                "note": _note(study, level),
                "tables": tables,
                "published": any(cell["published"] for cell in cells),
                "marked": any(cell["low"] for cell in cells),
            }
        )
    return found


def _table(study: Study, metric: str, level: str) -> dict[str, Any]:
    rows = []
    for setting in study.settings:
        cells = [cell for cell in study.cells if (cell.setting, cell.level) == (setting, level)]
        if cells:
            rows.append(
                {
                    "setting": SETTINGS[setting],
                    "constant": _number(next((c for cell in cells if (c := cell.constant(metric))), None), metric),
                    "n": next((f"{cell.done[0].n:,}" for cell in cells if cell.done), HOLE),
                    "cells": [_shown(cell, metric) for cell in cells],
                }
            )
    columns = [_label(study, name) for name in study.classifiers]
    return {"name": METRICS[metric], "level": level, "columns": columns, "rows": rows, "caption": CAPTIONS[metric]}


def _shown(cell: Cell, metric: str) -> dict[str, Any]:
    found, constant = cell.summary(metric), cell.constant(metric)
    printed = cell.published
    shown = metric == "accuracy" and cell.level == "images" and printed is not None
    return {
        "hole": found is None,
        "mean": HOLE if found is None else _number(found.mean, metric),
        "spread": f"{len(cell.done)} of {len(cell.trials)} trials" if found is None else _spread(found, metric),
        "low": found is not None and constant is not None and found.mean <= constant,
        "published": f"{printed:.2f}" if shown else "",
    }


def _note(study: Study, level: str) -> str:
    """Say what the tables of a level rest on."""
    each = {
        "images": "Each image counts by itself",
        "clips": "Each clip counts once, by its frames' mean probabilities",
    }
    folds = len(study.spec["tested_folds"])
    pooled = f"; counts are pooled over {folds} folds before any ratio is formed" if folds > 1 else ""
    parts = [f"{each[level]}{pooled}. Numbers are mean ± sd (n - 1) over trials, with the number of trials."]
    unscored = {name for cell in study.cells if cell.level == level for one in cell.done for name in one.left_out}
    if unscored:
        names = ", ".join(sorted(unscored))
        parts.append(f"UF1 and UAR leave out classes without a true sample in the test set: {names}.")
    started = [name for name in study.classifiers if study.spec["classifiers"][name]["weights"] == "none"]
    if started:
        parts.append(f"Trained from random weights (weights = none): {', '.join(started)}.")
    return " ".join(parts)


def _label(study: Study, classifier: str) -> str:
    """Return a classifier's name for people, with its network where the name does not say it."""
    network = study.spec["classifiers"][classifier]["name"]
    return classifier if network == classifier else f"{classifier} ({network})"


def _number(value: float | None, metric: str) -> str:
    if value is None:
        return HOLE
    return f"{100 * value:.1f}" if metric == "accuracy" else f"{value:.3f}"


def _spread(found: Summary, metric: str) -> str:
    return f"({found.n})" if found.n == 1 else f"± {_number(found.sd, metric)} ({found.n})"


def _text(cell: Cell, metric: str) -> str:
    """Return a cell in one line, without the number of trials where all are there."""
    found = cell.summary(metric)
    if found is None:
        return f"{HOLE} ({len(cell.done)}/{len(cell.trials)})"
    return _number(found.mean, metric) + (f" ± {_number(found.sd, metric)}" if found.n > 1 else "")


def _facts(study: Study) -> list[tuple[str, str]]:
    """Return what was run, as pairs of a name and a text."""
    spec, about = study.spec, _about(study.run)
    aliases = [alias for alias, target in study.store.aliases().items() if target == spec["faces"]]
    channels, height, width = study.faces.size
    facts = [
        ("study", study.run.name),
        (
            "faces",
            f"{spec['faces']}{f' ({aliases[0]})' if aliases else ''}: {len(study.faces):,} images, "
            f"{height} x {width}, {'grey' if channels == 1 else 'RGB'}, licence {study.licence}",
        ),
        ("protocol", _protocol(study)),
        ("trials", f"{spec['trials']}, with seeds that follow from seed {spec['seed']}"),
    ]
    if study.plan["databases"]:
        facts += [("generator", _generator(study)), ("database", _database(study))]
    for name in study.classifiers:
        one = spec["classifiers"][name]
        settings = ", ".join(f"{key} {value}" for key, value in one.items() if key not in ("name", "weights"))
        facts.append((f"classifier {name}", f"{one['name']}, weights {one['weights']}, {settings}"))
    versions = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
    facts.append(("made with", f"{versions}{'; commit ' + about['commit'] if about.get('commit') else ''}"))
    return facts


def _protocol(study: Study) -> str:
    spec = study.spec
    if spec["protocol"] == "frame":
        return f"by frame: each trial tests one in {spec['folds']} of the images, drawn anew"
    tested = spec["tested_folds"]
    text = f"by {spec['protocol']}, {spec['folds']} folds"
    if len(tested) < spec["folds"]:
        text += (
            f", of which only {', '.join(str(fold) for fold in tested)} {'is' if len(tested) == 1 else 'are'} tested"
        )
    return f"{text}; the split follows from seed {spec['seed']}"


def _generator(study: Study) -> str:
    fields = study.spec["generator"]
    number = len(study.plan["databases"])
    keys = ("images_seen", "batch", "learning_rate", "ema", "mirror", "seed")
    text = ", ".join(f"{key.replace('_', ' ')} {fields[key]}" for key in keys if key in fields)
    each = "one, trained on all images" if study.spec["protocol"] == "frame" else f"one for each of {number} folds"
    return f"{fields['kind']}, {each}: {text} ({', '.join(one['generator'] for one in study.plan['databases'])})"


def _database(study: Study) -> str:
    total = sum(sum(one["counts"].values()) for one in study.plan["databases"])
    drawn = ", ".join(f"{key} {value}" for key, value in study.spec["generate"].items())
    number = len(study.plan["databases"])
    return (
        f"{total:,} images in {number} {'database' if number == 1 else 'databases'}, counts {study.spec['counts']}"
        f"{', ' + drawn if drawn else ''}; four in five train, one in five tests "
        f"({', '.join(one['database'] for one in study.plan['databases'])})"
    )


def _counts(study: Study) -> list[dict[str, Any]]:
    """Return a row a class: real images, clips, subjects; synthetic images, and what their generators saw of it."""
    real = study.faces.index
    made = pd.concat([one.index for one in study.databases]) if study.databases else real.iloc[:0]
    keys = [key for one in study.databases if one.seen is not None for key in one.seen["key"]]
    seen = real.loc[real["key"].isin(keys)]
    rows = []
    for name in [*study.classes, "total"]:
        parts = [table if name == "total" else table.loc[table["emotion"] == name] for table in (real, made, seen)]
        rows.append(
            {
                "class": name,
                "images": len(parts[0]),
                "clips": _distinct(parts[0], "clip"),
                "subjects": _distinct(parts[0], "subject"),
                "synthetic": len(parts[1]),
                "seen_clips": _distinct(parts[2], "clip"),
                "seen_subjects": _distinct(parts[2], "subject"),
            }
        )
    return rows


def _distinct(table: pd.DataFrame, column: str) -> int:
    return len(set(table[column]) - {""})


def _sheet(study: Study) -> dict[str, str]:
    """Return a contact sheet as a data address, with the text that stands for it."""
    if study.databases:
        sheet = figures.side_by_side(study.faces, study.databases[0], per_class=8)
        names = ", ".join(study.classes)
        alt = f"Rows of faces for {names}: up to eight real ones on the left, as many synthetic on the right"
    else:
        sheet = figures.class_sheet(study.faces, per_class=12)
        alt = f"Rows of real faces for {', '.join(study.classes)}"
    fold = next((one["fold"] for one in study.plan["databases"] if study.store.done(one["database"])), -1)
    text = "Faces are drawn by name, not picked by eye."
    if fold >= 0:
        text += f" The synthetic ones are of fold {fold}; a class that its training side lacks has none."
    return {"image": _embedded(sheet), "alt": alt, "width": str(sheet.width), "text": text}


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
    many = f"{len(cell.done)} of {len(cell.trials)} trials" if not cell.whole else f"{len(cell.trials)} trials"
    return {
        "title": f"{SETTINGS[cell.setting]}, {_label(study, cell.classifier)}",
        "columns": [study.classes[place] for place in kept],
        "rows": rows,
        "note": f"summed over {'1 trial' if many == '1 trials' else many}",
    }


def _where(study: Study, trial: dict[str, Any]) -> str:
    fold = "" if study.spec["protocol"] == "frame" else f", fold {trial['fold']}"
    return f"{trial['classifier']} trained on {trial['train']}, trial {trial['trial'] + 1}{fold}"


# The plot: a row a setting and classifier, a dot a trial


def _plot(study: Study) -> dict[str, Any]:
    """Return the places of what the plot shows, in its own units: x from 0 to 100 is per cent."""
    rows = []
    for cell in (cell for cell in study.cells if cell.level == "images"):
        constant = cell.constant("accuracy")
        rows.append(
            {
                "setting": SETTINGS[cell.setting],
                "classifier": _label(study, cell.classifier),
                "dots": [round(100 * scores.accuracy, 2) for scores in cell.done],
                "mean": None if (found := cell.summary("accuracy")) is None else round(100 * found.mean, 2),
                "constant": None if constant is None else round(100 * constant, 2),
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
    "study", "protocol", "source", "setting", "train", "test", "classifier", "trial", "fold", "level", "metric",
    "value", "n", "run",
)  # fmt: skip


def csv_rows(study: Study) -> Iterator[dict[str, Any]]:
    """Yield the rows of tables.csv: each record of each trial, the scores pooled over folds, and the published ones.

    Values are shares, 0 to 1. `fold` is "all" where folds are pooled; `trial` counts from 1 and is "mean" in published
    rows.
    """
    same = {"study": study.title, "protocol": study.spec["protocol"]}
    for setting, sides in study.plan["settings"].items():
        one = {**same, "setting": setting, "train": sides["train"], "test": sides["test"]}
        for trial in study.trials:
            if trial["train"] == sides["train"] and trial["run"] in study.done:
                for record in study.done[trial["run"]].json("records.json"):
                    test, level, metric = record["metric"].split("/")
                    if test == sides["test"]:
                        place = {"classifier": trial["classifier"], "trial": trial["trial"] + 1, "fold": trial["fold"]}
                        value = {"value": record["value"], "n": record["n"], "run": trial["run"]}
                        yield {**one, "source": "record", **place, "level": level, "metric": metric, **value}
        for cell in (cell for cell in study.cells if cell.setting == setting):
            for number, scores in enumerate(cell.trials, start=1):
                if scores is not None:
                    place = {"classifier": cell.classifier, "trial": number, "fold": "all", "level": cell.level}
                    for metric in METRICS:
                        value = {"metric": metric, "value": scores.of(metric), "n": scores.n, "run": ""}
                        yield {**one, "source": "pooled", **place, **value}
        for name in study.classifiers:
            printed = published.average(setting, study.network(name))
            if printed is not None:
                place = {"classifier": name, "trial": "mean", "fold": "all", "level": "images", "metric": "accuracy"}
                yield {**one, "source": "published", **place, "value": round(printed / 100, 6), "n": "", "run": ""}


# Markdown


def _markdown(content: dict[str, Any]) -> str:
    """Return the report as Markdown: the same sentences and tables, without pictures."""
    lines = [f"# {content['title']}", "", content["state"], ""]
    lines += [f"> **{content['notice']['title']}.** {content['notice']['text']}", ""]
    if content["synthetic_test"]:
        lines += [content["synthetic_test"], ""]
    if content["restricted"]:
        lines += [f"The faces are under this licence: {content['licence']}.", ""]
    lines += ["## What the numbers say", "", *(f"- {text}" for text in content["findings"]), ""]
    for level in content["tables"]:
        lines += [f"## By {level['level'].removesuffix('s')}", "", level["note"], ""]
        if level["marked"]:
            lines += ["▽ marks what is no better than the constant answer.", ""]
        if level["published"]:
            lines += [f"Published: the preprint's average on {published.DATASET} under random frames.", ""]
        for table in level["tables"]:
            lines += [f"### {table['caption']}", ""]
            head = ["train → test", *table["columns"], "constant answer", f"test {table['level']}"]
            body = [[r["setting"], *(_plain(c) for c in r["cells"]), r["constant"], r["n"]] for r in table["rows"]]
            lines += _grid(head, body)
    lines += ["## Images a class", ""]
    head = ["class", "real images", "clips", "subjects", "synthetic images", "clips seen", "subjects seen"]
    lines += _grid(head, [[str(value) for value in row.values()] for row in content["counts"]])
    lines += ["## Confusion", ""]
    for one in content["confusions"]:
        lines += [f"### {one['title']}", "", f"Rows are true, columns predicted; {one['note']}.", ""]
        body = [[row["name"], *(str(cell["count"]) for cell in row["cells"])] for row in one["rows"]]
        lines += _grid(["", *one["columns"]], body)
    if content["failed"]:
        lines += ["## Failed trials", ""]
        lines += _grid(["trial", "run", "first error"], [[t["where"], t["run"], t["error"]] for t in content["failed"]])
    lines += ["## What was run", "", *(f"- {name}: {text}" for name, text in content["facts"]), ""]
    return "\n".join(lines)


def _plain(cell: dict[str, Any]) -> str:
    spread = f"({cell['spread']})" if cell["hole"] else cell["spread"]
    printed = f", published {cell['published']}" if cell["published"] else ""
    return f"{cell['mean']} {spread}{' ▽' if cell['low'] else ''}{printed}"


def _grid(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return [*(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines), ""]


# Finding things


def _find(name: str, store: Store) -> Run:
    """Return the run of a study that `name` (an alias, a run, or a TOML file with a name) stands for."""
    if name.endswith(".toml"):
        title = read_toml(Path(name)).get("name")
        if not isinstance(title, str):
            raise SpecError(f"{name} must be a study with a name, and has none")
        name = title
        if name not in store.aliases():
            raise StoreError(f"the study {name} has not been run in {store.root}; run it with `mien study run`")
    run = store.run(name)
    if run.stage != "study":
        raise StoreError(f"a report is made of a study, and {name} is {run.name}")
    return run


def _error(path: Path) -> str:
    """Return the first error that was noted of an unfinished trial, or nothing."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError, KeyError):
        return ""


def _about(run: Run) -> dict[str, Any]:
    path = run.path / "about.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
