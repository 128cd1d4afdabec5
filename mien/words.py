"""Words and numbers as reports print them: names of settings and classifiers, accuracies, spreads,
marks.
"""

import math

import pandas as pd

from mien import published
from mien.progress import many
from mien.results import Cell, Study
from mien.stats import Summary
from mien.tables import HOLE, Entry

SETTINGS = {
    "real_to_real": "real → real",
    "synthetic_to_synthetic": "synthetic → synthetic",
    "real_to_synthetic": "real → synthetic",
    "synthetic_to_real": "synthetic → real",
    "both_to_real": "real + synthetic → real",
}


def label(study: Study, classifier: str) -> str:
    """Return a classifier's name for people, with its network where the name does not say it."""
    network = study.network(classifier)
    return (
        classifier if network in ("", classifier.partition(".")[0]) else f"{classifier} ({network})"
    )


def who(study: Study, cell: Cell) -> str:
    """Return a cell's classifier, with the ablation where a study has more than one."""
    return label(study, cell.classifier) + (
        f", {cell.ablation}" if len(study.ablations) > 1 else ""
    )


def tested(cell: Cell) -> str:
    """Return what a cell is tested on: images or clips, clips, and subjects."""
    parts = [many(cell.n, cell.level[:-1])]
    if cell.level == "images" and cell.clips:
        parts.append(many(cell.clips, "clip"))
    if cell.subjects:
        parts.append(many(cell.subjects, "subject"))
    return ", ".join(parts)


def printed(value: float | None, metric: str) -> str:
    """Return a number as its measure is printed: accuracies in per cent, others as they are; a hole
    for none.
    """
    if value is None or math.isnan(value):
        return HOLE
    return f"{100 * value:.1f}" if metric == "accuracy" else f"{value:.3f}"


def spread(found: Summary, metric: str) -> str:
    """Return what stands beside a mean: ± sd (number of trials)."""
    return f"({found.n})" if found.n == 1 else f"± {printed(found.sd, metric)} ({found.n})"


def low(study: Study, cell: Cell, metric: str) -> str:
    """Return which controls a cell does not stand above, nothing if it clears all that were run."""
    missed = [one.control for one in study.verdicts(cell, metric) if one.cleared is False]
    return f"not above {', '.join(missed)}" if missed else ""


def average(cell: Cell, mark: str) -> Entry:
    """Return the mean accuracy of a cell in per cent, with its spread; `mark` says what it does not
    stand above.
    """
    found = cell.summary("accuracy")
    return (
        Entry(HOLE, hole=True)
        if found is None
        else Entry(f"{100 * found.mean:.2f}", precise(found), mark)
    )


def precise(found: Summary) -> str:
    """Return what stands beside a mean accuracy of two decimals, as the preprint prints them: ± sd
    (trials).
    """
    return f"± {100 * found.sd:.2f} ({found.n})" if found.n > 1 else f"({found.n})"


def named(study: Study) -> str:
    """Return the name of a study's faces: its alias where it has one."""
    aliases = [
        alias for alias, target in study.store.aliases().items() if target == study.spec["faces"]
    ]
    return aliases[0] if aliases else str(study.spec["faces"])


def tallies(
    study: Study,
) -> tuple[dict[str, tuple[int, int, int]], dict[str, tuple[int, int, int]]]:
    """Return for each class images, clips and subjects of the real faces; and of the synthetic
    ones, as seen.
    """
    real = study.faces.index
    made = pd.concat([one.index for one in study.databases]) if study.databases else real.iloc[:0]
    keys = [key for one in study.databases if one.seen is not None for key in one.seen["key"]]
    seen = real.loc[real["key"].isin(keys)]
    found: tuple[dict[str, tuple[int, int, int]], ...] = ({}, {})
    for name in [*published.EMOTIONS, *study.classes, "total"]:
        parts = [
            table if name == "total" else table.loc[table["emotion"] == name]
            for table in (real, made, seen)
        ]
        whole, images, shown = parts
        found[0][name] = (len(whole), _distinct(whole, "clip"), _distinct(whole, "subject"))
        found[1][name] = (len(images), _distinct(shown, "clip"), _distinct(shown, "subject"))
    return found[0], found[1]


def _distinct(table: pd.DataFrame, column: str) -> int:
    return len(set(table[column]) - {""})
