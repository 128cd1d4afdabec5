"""Labels: whether synthetic faces show what their labels say.

It also counts the real clips and people behind each class.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from mien import metrics, stats
from mien.audit.labels.judges import Judges, predict_by_judge, predict_out_of_fold, train_judges
from mien.errors import DataError
from mien.faces import Faces
from mien.findings import Finding, list_some
from mien.runs.progress import quantify
from mien.seeds import derive_seed, make_rng
from mien.stats import BOOTSTRAP_RESAMPLES, Record

# synthetic images per real image of a class, above which a finding reports it
MAX_AMPLIFICATION = 5

LABEL_COLUMNS = {
    "key": "str",
    "emotion": "str",
    "predicted": "str",  # the likeliest class; empty where the label could not be judged
    "probability": "float64",  # of the label, averaged over judges
    "margin": "float64",  # probability of the label less that of the likeliest other class
    "agreed": "float64",  # the share of judges whose likeliest class is the label
    # most judges find another class as likely as they find it on real faces of that class
    "suspect": "bool",
    "rank": "int64",  # 1 has the lowest margin; 0 if the label could not be judged
}


@dataclass(frozen=True)
class Labels:
    """The results: records, findings, and `rows`, one per synthetic image (COLUMNS)."""

    records: tuple[Record, ...]
    findings: tuple[Finding, ...]
    rows: pd.DataFrame


def measure_labels(synthetic: Faces, train: Faces, test: Faces) -> Labels:
    """Return how far judges agree with synthetic labels, and how many real sources each class has.

    The judges learn from the people of `test` that neither `train` nor the generator has seen.
    `labels.agreement` is the share of images whose label is a judge's likeliest class, averaged
    over judges, for each class and as the mean over classes; the 95 % interval resamples images and
    judges. `labels.ceiling` is the same score on real people, each judged by the judge that did not
    learn from them, with the interval over people; synthetic faces are expected to come near it and
    not to exceed it. `.seen_people` marks the same two numbers by judges that learnt from `train`,
    the people whom the generator knows.

    `labels.suspects` is the share of images for which most judges find a class other than the
    label at least as likely as they find it, on average, on real faces of that class (the threshold
    of confident learning, Northcutt et al. 2021, section 3.1). For each class, `labels.clips` and
    `labels.subjects` are the effective numbers of real clips and subjects behind it, the
    exponential of the entropy of their shares of its training images, and `labels.amplification` is
    the number of synthetic images per real image.

    Raises DataError if judges cannot be trained on either side: that needs two classes, each of at
    least two people.
    """
    findings: list[Finding] = []
    records: list[Record] = []
    panels: list[tuple[Judges, Faces]] = []

    # Leave out people whom the generator has seen
    heldout = test.select(~find_seen(test, train, synthetic))
    if len(heldout) < len(test):
        message = (
            f"{len(test) - len(heldout)} of {len(test)} test images show people whom the generator "
            "has seen; they were left out"
        )
        findings.append(Finding("warning", "people seen", "", message))

    # Agreement with judges of held-out people, and with judges of training people
    for people, suffix in ((heldout, ""), (train, ".seen_people")):
        try:
            panel = train_judges(people)
        except DataError as error:
            owner = "held-out people" if not suffix else "training people"
            findings.append(Finding("warning", f"no judges from {owner}", "", str(error)))
            continue
        panels.append((panel, people))
        records += _measure_agreement(panel, people, synthetic, suffix)
        left_out = sorted(set(synthetic.classes) - set(panel.classes))
        if left_out:
            message = (
                f"too few real people show {list_some(left_out)}, so their labels were not judged"
            )
            findings.append(Finding("warning", f"classes not judged{suffix}", "", message))

    # Suspects, by the first panel that could be trained
    if not panels:
        raise DataError("; ".join(finding.what for finding in findings))
    panel, people = panels[0]
    rows = _make_rows(
        synthetic, panel, predict_by_judge(panel, synthetic), _average_probabilities(panel, people)
    )
    records += _measure_suspects(rows)

    # The real sources of each class
    records += _measure_sources(synthetic, train)
    findings += _report_amplified(records)
    return Labels(tuple(records), tuple(findings), rows)


def find_suspects(faces: Faces, people: Faces | None = None) -> pd.DataFrame:
    """Return COLUMNS for each image, by judges that learnt from the real faces `people`.

    Without `people` the set judges itself: each image is judged by the judge that saw
    nothing of its subject (or clip, if subjects are not known). Raises DataError if there are fewer
    than two classes with at least two people (clips, images) each.
    """
    if people is not None:
        panel = train_judges(people)
        return _make_rows(
            faces, panel, predict_by_judge(panel, faces), _average_probabilities(panel, people)
        )
    panel = train_judges(faces)
    return _make_rows(
        faces, panel, predict_out_of_fold(panel, faces)[None], _average_probabilities(panel, faces)
    )


# Agreement


def _measure_agreement(
    panel: Judges, people: Faces, synthetic: Faces, suffix: str
) -> Iterator[Record]:
    """Yield agreement and ceiling: the mean over classes first, then each class."""
    # Resample the judges once for all classes
    probabilities = predict_by_judge(panel, synthetic)
    emotions = synthetic.index["emotion"].to_numpy(dtype=str)
    generator = make_rng("agreement", suffix, len(synthetic))
    judge_count = len(panel.models)
    drawn_judges = generator.multinomial(
        judge_count, np.full(judge_count, 1 / judge_count), BOOTSTRAP_RESAMPLES
    )

    # Agreement of each class, with images resampled as well
    values, spreads, counts = {}, {}, {}
    for class_number, name in enumerate(panel.classes):
        has_label = emotions == name
        knows_class = panel.knows[:, class_number]
        if not has_label.any() or not knows_class.any():
            continue
        correct = (probabilities[knows_class][:, has_label].argmax(axis=2) == class_number).astype(
            np.float32
        )
        draws = stats.draw_resamples(int(has_label.sum()), "agreement", suffix, name).astype(
            np.float32
        )
        weights = drawn_judges[:, knows_class].astype(np.float32)
        with np.errstate(invalid="ignore"):
            spreads[name] = np.einsum(
                "dj,dj->d", weights, draws @ correct.T / has_label.sum()
            ) / weights.sum(axis=1)
        values[name], counts[name] = float(correct.mean()), int(has_label.sum())

    # The mean over classes, then each class
    if values:
        overall = stats.make_interval(
            float(np.mean([*values.values()])), np.mean([*spreads.values()], axis=0)
        )
        yield Record.of(
            f"labels.agreement{suffix}", overall, sum(counts.values()), "images, mean over classes"
        )
    for name, value in values.items():
        yield Record.of(
            f"labels.agreement{suffix}",
            stats.make_interval(value, spreads[name]),
            counts[name],
            "images",
            name,
        )

    yield from _measure_ceiling(panel, people, suffix, list(values))


def _measure_ceiling(
    panel: Judges, people: Faces, suffix: str, classes: Sequence[str]
) -> Iterator[Record]:
    """Yield the agreement on real people, each judged by the judge that did not learn from them."""
    # Count what each image was judged as, per person (clip, image)
    predicted = _find_likeliest(predict_out_of_fold(panel, people))
    judged = predicted >= 0
    true = _number_labels(people, panel)[judged]
    names, group = np.unique(np.array(panel.groups)[judged], return_inverse=True)
    counts = metrics.count_grouped_confusion(
        group, true, predicted[judged], len(names), len(panel.classes)
    )[None]

    # Score the classes, with intervals over people
    class_numbers = [number for number, name in enumerate(panel.classes) if name in classes]
    draw = f"{derive_seed('ceiling', *names):x}"
    for class_name, numbers in (
        ("", class_numbers),
        *((panel.classes[number], [number]) for number in class_numbers),
    ):
        measure = _make_recall(numbers)
        n = int(np.isin(true, numbers).sum())
        unit = f"images{'' if class_name else ', mean over classes'}, interval over {panel.unit}s"
        interval = stats.make_interval(
            stats.average_over_trials(counts, measure), stats.bootstrap(counts, measure, draw)
        )
        yield Record.of(f"labels.ceiling{suffix}", interval, n, unit, class_name)


def _make_recall(class_numbers: Sequence[int]) -> stats.ConfusionScore:
    """Return a function that scores confusion matrices: the mean recall of the classes at
    `class_numbers`.

    Classes without a sample are left out.
    """

    def score_recall(counts: Float[np.ndarray, "*some c c"]) -> Float[np.ndarray, "*some"]:
        correct, true = (
            np.einsum("...ii->...i", counts)[..., class_numbers],
            counts.sum(axis=-1)[..., class_numbers],
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            return (correct / np.maximum(true, 1)).sum(axis=-1) / (true > 0).sum(axis=-1)

    return score_recall


def _number_labels(faces: Faces, panel: Judges) -> Int[np.ndarray, " n"]:
    """Return the position of each label among the panel's classes, -1 if it is not there."""
    number = {name: position for position, name in enumerate(panel.classes)}
    return np.array([number.get(name, -1) for name in faces.index["emotion"]], dtype=np.int64)


def _find_likeliest(probabilities: Float[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
    """Return the likeliest class of each row, -1 for rows that nobody judged."""
    judged = ~np.isnan(probabilities).any(axis=1)
    return np.where(judged, np.nan_to_num(probabilities).argmax(axis=1), -1)


def find_seen(test: Faces, train: Faces, synthetic: Faces) -> Bool[np.ndarray, " n"]:
    """Return which test images, or which people on them, training or the generator has seen."""
    seen_tables = [train.index, *([synthetic.seen] if synthetic.seen is not None else [])]
    subjects = {name for table in seen_tables for name in table["subject"]} - {""}
    keys = {key for table in seen_tables for key in table["key"]}
    return (test.index["subject"].isin(subjects) | test.index["key"].isin(keys)).to_numpy()


# Suspects


def _average_probabilities(panel: Judges, people: Faces) -> Float[np.ndarray, " c"]:
    """Return the mean probability of each class on real faces of that class."""
    probabilities, numbers = predict_out_of_fold(panel, people), _number_labels(people, panel)
    return np.array(
        [
            np.nanmean(probabilities[numbers == class_number, class_number])
            for class_number in range(len(panel.classes))
        ]
    )


def _make_rows(
    faces: Faces,
    panel: Judges,
    probabilities: Float[np.ndarray, "judges n c"],
    typical: Float[np.ndarray, " c"],
) -> pd.DataFrame:
    """Return the table of COLUMNS from each judge's probabilities; `typical` is from
    `_average_probabilities`.
    """
    # The label's probability, and its margin over the likeliest other class
    numbers, rows, averages = (
        _number_labels(faces, panel),
        np.arange(len(faces)),
        probabilities.mean(axis=0),
    )
    judged = (numbers >= 0) & ~np.isnan(averages).any(axis=1)
    of_label = np.where(judged, averages[rows, numbers], np.nan)
    of_others = np.nan_to_num(averages)
    of_others[rows, numbers] = -1

    # Another class that a judge finds as likely as on real faces of that class
    claimed = np.where(probabilities >= typical, np.nan_to_num(probabilities), 0)
    claims_other = (claimed.max(axis=2) > 0) & (claimed.argmax(axis=2) != numbers)
    agreed = np.nan_to_num(probabilities).argmax(axis=2) == numbers

    # The table, with ranks by margin
    names = np.array([*panel.classes, ""], dtype=object)
    table = pd.DataFrame(
        {
            "key": faces.index["key"],
            "emotion": faces.index["emotion"],
            "predicted": names[np.where(judged, _find_likeliest(averages), len(panel.classes))],
            "probability": of_label,
            "margin": of_label - of_others.max(axis=1),
            "agreed": np.where(judged, agreed.mean(axis=0), np.nan),
            "suspect": judged & (claims_other.mean(axis=0) > 0.5),
            "rank": 0,
        }
    )
    order = table[judged].sort_values(["margin", "key"]).index
    table.loc[order, "rank"] = np.arange(1, len(order) + 1)
    return table.astype(LABEL_COLUMNS)


def _measure_suspects(rows: pd.DataFrame) -> Iterator[Record]:
    judged = rows[rows["rank"] > 0]
    if len(judged):
        yield Record(
            "labels.suspects", float(judged["suspect"].mean()), len(judged), "share of images"
        )
    for emotion, group in judged.groupby("emotion", sort=True):
        share = float(group["suspect"].mean())
        yield Record("labels.suspects", share, len(group), "share of images", part=str(emotion))


# Sources


def compute_effective_number(counts: Sequence[int]) -> float:
    """Return the effective number of parts: the exponential of the entropy of their shares.

    It is Hill's number of order 1 (Hill 1973): equal parts count fully, rare ones little.
    """
    shares = np.asarray(counts, dtype=np.float64)
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def _measure_sources(synthetic: Faces, train: Faces) -> Iterator[Record]:
    for emotion in synthetic.classes:
        real = train.index[train.index["emotion"] == emotion]
        # The effective number of real sources of the class
        for column, units in (("clip", "clips"), ("subject", "subjects")):
            counts = real[column][real[column] != ""].value_counts()
            if len(counts):
                unit = f"effective {units} of {len(counts)}"
                yield Record(
                    f"labels.{units}",
                    compute_effective_number(counts.tolist()),
                    len(real),
                    unit,
                    part=emotion,
                )

        # How many synthetic images there are for each real one
        if len(real):
            images = int((synthetic.index["emotion"] == emotion).sum())
            yield Record(
                "labels.amplification",
                images / len(real),
                images,
                f"of {len(real)} real images",
                part=emotion,
            )


def _report_amplified(records: Sequence[Record]) -> Iterator[Finding]:
    for record in records:
        if record.metric == "labels.amplification" and record.value > MAX_AMPLIFICATION:
            sources_text = [
                f"{source_record.value:.1f} {source_record.unit}"
                for source_record in records
                if source_record.part == record.part
                and source_record.metric in ("labels.clips", "labels.subjects")
            ]
            sources = f" ({' and '.join(sources_text)})" if sources_text else ""
            real = record.unit.removeprefix("of ")
            message = (
                f"{quantify(record.n, f'{record.part} image')} "
                f"{'comes' if record.n == 1 else 'come'} from {real}{sources}: {record.value:.1f} "
                "for each"
            )
            yield Finding("warning", "amplified", record.part, message)
