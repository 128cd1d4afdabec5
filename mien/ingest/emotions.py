"""Emotions: from the words of a dataset to mien's list."""

from collections.abc import Iterable

import pandas as pd

from mien.errors import DataError
from mien.faces import EMOTIONS
from mien.findings import Finding, list_some
from mien.ingest.reader import Reader, list_picture_names
from mien.ingest.specs import IngestSpec, normalise_label
from mien.runs.progress import quantify
from mien.runs.spec import suggest

# Other names of the emotions, in datasets and in use, in lower case.
ALIASES = {
    "afraid": "fear",
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "happyiness": "happiness",  # sic, in CAS(ME)^2
    "joy": "happiness",
    "neutrality": "neutral",
    "other": "others",
    "repressed": "repression",
    "sad": "sadness",
    "scared": "fear",
    "surprised": "surprise",
}

LEFT_OUT = ""  # in place of an emotion: the label is not a single one, and its images are left out


def label_rows(
    rows: pd.DataFrame, spec: IngestSpec, reader: Reader, where: str
) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the rows with the emotion of their `raw_label`, by the spec's map and the reader's
    table.

    Images whose label is not a single emotion are left out, unless the map gives them one. Raises
    DataError as `map_labels` does, or if no image remains.
    """
    emotions = map_labels(rows["raw_label"], spec.map, where, reader.labels)
    labelled = rows.assign(emotion=[emotions[raw] for raw in rows["raw_label"]])
    ambiguous = labelled["emotion"] == LEFT_OUT
    if ambiguous.all():
        raise DataError(
            f"{where}: at least one label must be an emotion, and none is: "
            f"{list_some(sorted(emotions), 20)}"
        )

    # One finding per label, so that --map can be given for each.
    findings = []
    for raw, images in labelled[ambiguous].groupby("raw_label"):
        message = (
            f"'{raw}' is not a single emotion; left out: {quantify(len(images), 'image')}; --map "
            f"'{raw}=EMOTION' would keep them"
        )
        clips = sorted(set(images["clip"]) - {""})
        findings.append(
            Finding(
                "warning",
                "no single emotion",
                list_some(clips) or ".",
                message,
                pictures=tuple(list_picture_names(images)),
                gone=(*images["key"], *clips),
            )
        )
    return labelled[~ambiguous].reset_index(drop=True), findings


def find_emotion(
    raw: str, names: dict[str, str], labels: dict[str, str] | None = None
) -> str | None:
    """Return the emotion that a source's label stands for, or None if it is not known.

    It is looked up in `names`, then in the reader's own table, then in ALIASES, ignoring
    case. Several emotions joined by "+" are not a single one: LEFT_OUT.
    """
    plain = normalise_label(raw)
    emotion_of = {**ALIASES, **(labels or {}), **names}
    if (
        plain not in emotion_of
        and "+" in plain
        and all(find_emotion(word, names, labels) for word in plain.split("+"))
    ):
        return LEFT_OUT
    emotion = emotion_of.get(plain, plain)
    return emotion if emotion in EMOTIONS or (emotion == LEFT_OUT != plain) else None


def map_labels(
    labels: Iterable[str], names: dict[str, str], where: str, table: dict[str, str] | None = None
) -> dict[str, str]:
    """Return the emotion of each label.

    Raises DataError if a label is unknown, or if `names` maps a label that does not occur.
    """
    labels = sorted(set(labels))
    folded = {label: find_emotion(label, names, table) for label in labels}

    # Unknown labels: name them all, with what the first few may be misspellings of.
    unknown = [label for label, emotion in folded.items() if emotion is None]
    if unknown:
        near = {
            label: suggest(normalise_label(label), [*EMOTIONS, *ALIASES]) for label in unknown[:5]
        }
        single = len(unknown) == 1
        hints = "".join(
            f"{hint if single else f' {label}:{hint}'}" for label, hint in near.items() if hint
        )
        raise DataError(
            f"{where}: the classes must be among {', '.join(EMOTIONS)}, and {list_some(unknown)} "
            f"{'is' if single else 'are'} not; found: {list_some(labels, 20)}.{hints} Say what "
            f"they stand for with --map {unknown[0]}=EMOTION, or move them out of the folder"
        )

    # A mapped name that does not occur is most likely misspelt.
    unused = sorted(set(names) - {normalise_label(label) for label in labels})
    if unused:
        raise DataError(
            f"{where}: --map must name labels of the dataset, and {list_some(unused)} does not "
            f"occur; found: {list_some(labels, 20)}"
        )
    return {label: emotion for label, emotion in folded.items() if emotion is not None}
