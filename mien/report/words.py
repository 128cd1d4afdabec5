"""The wording of reports: names of settings and classifiers, scores, marks."""

import math

import pandas as pd

from mien import published
from mien.pages.tables import EMPTY_CELL, TableCell
from mien.runs.progress import quantify
from mien.stats import Summary
from mien.study.cells import ResultCell
from mien.study.results import StudyResults


def format_classifier(study: StudyResults, classifier: str) -> str:
    """Return the printed name of a classifier, with its network if that has another name."""
    network = study.find_network(classifier)
    return (
        classifier if network in ("", classifier.partition(".")[0]) else f"{classifier} ({network})"
    )


def format_cell_name(study: StudyResults, cell: ResultCell) -> str:
    """Return a cell's classifier, with its ablation if the study has more than one."""
    return format_classifier(study, cell.classifier) + (
        f", {cell.ablation}" if len(study.ablations) > 1 else ""
    )


def format_test_size(cell: ResultCell) -> str:
    """Return the size of a cell's tests: images or clips, clips, and subjects."""
    sizes = [quantify(cell.n, cell.level[:-1])]
    if cell.level == "images" and cell.clips:
        sizes.append(quantify(cell.clips, "clip"))
    if cell.subjects:
        sizes.append(quantify(cell.subjects, "subject"))
    return ", ".join(sizes)


def format_score(value: float | None, metric: str) -> str:
    """Return a number for print: accuracy in per cent, others as they are, None as a hole."""
    if value is None or math.isnan(value):
        return EMPTY_CELL
    return f"{100 * value:.1f}" if metric == "accuracy" else f"{value:.3f}"


def format_spread(summary: Summary, metric: str) -> str:
    """Return the text after a mean: ± sd (number of trials)."""
    return (
        f"({summary.n})"
        if summary.n == 1
        else f"± {format_score(summary.sd, metric)} ({summary.n})"
    )


def list_missed_controls(study: StudyResults, cell: ResultCell, metric: str) -> str:
    """Return the controls that a cell is not above, as text, or "" if it is above all of them."""
    missed = [
        verdict.control for verdict in study.give_verdicts(cell, metric) if verdict.cleared is False
    ]
    return f"not above {', '.join(missed)}" if missed else ""


def make_average_entry(cell: ResultCell, mark: str) -> TableCell:
    """Return the mean accuracy of a cell in per cent, with its spread and `mark` (see
    `list_missed_controls`).
    """
    accuracy = cell.summarise("accuracy")
    if accuracy is None:
        return TableCell(EMPTY_CELL, hole=True)
    return TableCell(f"{100 * accuracy.mean:.2f}", format_precise_spread(accuracy), mark)


def format_precise_spread(summary: Summary) -> str:
    """Return the text after an accuracy with two decimals, as in the preprint: ± sd (trials)."""
    return f"± {100 * summary.sd:.2f} ({summary.n})" if summary.n > 1 else f"({summary.n})"


def get_faces_name(study: StudyResults) -> str:
    """Return the name of a study's faces: the alias if they have one, else the run."""
    aliases = [
        alias
        for alias, target in study.store.read_aliases().items()
        if target == study.spec["faces"]
    ]
    return aliases[0] if aliases else str(study.spec["faces"])


def count_images(
    study: StudyResults,
) -> tuple[dict[str, tuple[int, int, int]], dict[str, tuple[int, int, int]]]:
    """Return images, clips and subjects per class, of the real and of the synthetic faces.

    Clips and subjects of synthetic faces are those that their generators saw.
    """
    # The images of the databases, and the real images that their generators were trained on
    real = study.faces.index
    databases = study.databases
    synthetic = pd.concat([faces.index for faces in databases]) if databases else real.iloc[:0]
    keys = [key for faces in databases if faces.seen is not None for key in faces.seen["key"]]
    seen = real.loc[real["key"].isin(keys)]

    real_tallies: dict[str, tuple[int, int, int]] = {}
    synthetic_tallies: dict[str, tuple[int, int, int]] = {}
    for name in [*published.PREPRINT_CLASSES, *study.classes, "total"]:
        of_real, of_synthetic, of_seen = (
            table if name == "total" else table.loc[table["emotion"] == name]
            for table in (real, synthetic, seen)
        )
        real_tallies[name] = (
            len(of_real),
            _count_distinct(of_real, "clip"),
            _count_distinct(of_real, "subject"),
        )
        synthetic_tallies[name] = (
            len(of_synthetic),
            _count_distinct(of_seen, "clip"),
            _count_distinct(of_seen, "subject"),
        )
    return real_tallies, synthetic_tallies


def _count_distinct(table: pd.DataFrame, column: str) -> int:
    return len(set(table[column]) - {""})
