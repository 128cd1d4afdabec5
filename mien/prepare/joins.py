"""Join meets the store: sets become one, and each person keeps one name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mien.errors import DataError
from mien.faces import Faces, concatenate
from mien.prepare.classes import FOLDED_CLASSES, merge_classes
from mien.prepare.preprocess import summarise_faces, write_with_sheet
from mien.prepare.specs import ClassRule, JoinSpec, PreprocessSpec
from mien.runs.progress import say
from mien.runs.spec import list_parents
from mien.runs.store import Run, RunSummary, Store
from mien.spellings import SubjectNames, format_groups, identify_people, rename_clip

MEGC_CLASS_SETS = {"casme2": "megc2019-3"}
"""The class set (of faces.CLASS_SETS) that MEGC 2019 uses for the dataset of a reader."""

MEGC_DEFAULT_CLASS_SET = "megc2019-wide"  # for the datasets of all other readers

MEGC_CLASSES = ("negative", "positive", "surprise")

DatasetOrigin = tuple[str, str]
"""Where a dataset comes from: its reader and the fingerprint of its files."""


def join(
    sets: Sequence[Faces], classes: ClassRule = "common", readers: dict[str, str] | None = None
) -> Faces:
    """Return the images of all `sets` whose emotions `classes` keeps.

    `readers` has the reader of each dataset, because MEGC 2019 folds the emotions of each dataset
    in its own way. Sets that already show negative, positive and surprise keep these.

    Raises DataError if sizes or channels differ, an image is in two sets, no emotion is common,
    real images and generated ones without the training images of their generator are mixed, or no
    image is left.
    """
    if classes == "megc2019":
        sets = [_merge_as_megc(faces, readers or {}) for faces in sets]

    # An image must be in one set only.
    shared = [
        key
        for key, count in Counter(key for faces in sets for key in set(faces.index["key"])).items()
        if count > 1
    ]
    if shared:
        raise DataError(
            f"sets to be joined must not share images, and {len(shared):,} "
            f"{'is' if len(shared) == 1 else 'are'} in two, such as {min(shared)}; name sets that "
            "do not overlap"
        )

    # Generated pictures need a record of what their generator has seen, next to real ones.
    synthetic = [bool((faces.index["source"] != "real").any()) for faces in sets]
    if (
        any(synthetic)
        and any(
            is_synthetic and faces.seen is None
            for is_synthetic, faces in zip(synthetic, sets, strict=True)
        )
        and not all(synthetic)
    ):
        number = synthetic.index(True)
        raise DataError(
            "joining real and synthetic pictures needs a record of what the generator has seen, "
            f"and set {number + 1} of {len(sets)}, such as a release, holds generated pictures "
            "without it; join sets of real pictures"
        )

    # Keep the common classes, if these are asked for.
    joined = concatenate(sets)
    if classes != "common":
        return joined
    common = set.intersection(*(set(faces.classes) for faces in sets))
    if not common:
        classes_text = "; ".join(", ".join(faces.classes) for faces in sets)
        raise DataError(
            f"the sets must have some class in common, and have none: {classes_text}; use classes "
            "= 'union'"
        )
    return joined.select(joined.index["emotion"].isin(sorted(common)).to_numpy(dtype=bool))


def run_join(spec: JoinSpec, store: Store, *, alias: str | None = None) -> Run:
    """Return the run of `spec` in `store`: faces, sheet.png and summary.json.

    Images that are left out are reported on stderr. Raises DataError if two different datasets have
    one name, or one dataset has two, because two people would then have one name, or one person
    two; and if clips end at different moments, or optical flow has different scales, because equal
    channels would then mean different things.
    """
    runs = [store.run(name) for name in spec.faces]
    spec = spec.model_copy(update={"faces": tuple(run.name for run in runs)})
    if len(set(spec.faces)) < len(runs):
        raise DataError(f"sets to be joined must be different runs; given: {', '.join(spec.faces)}")

    # Join the sets, each person under one name.
    sets = [Faces.load(run.path) for run in runs]
    origins = [_find_origins(run, faces, store) for run, faces in zip(runs, sets, strict=True)]
    _require_unique_names(origins)
    _require_same_view(runs, store)
    readers = {name: origin[0] for run_origins in origins for name, origin in run_origins.items()}
    joined = join(sets, spec.classes, readers)
    joined, subject_names = _unify_names(joined, spec)
    _print_summary(sets, joined, subject_names)

    def build(out: Path, scratch: Path) -> RunSummary:
        table = joined.index.groupby("dataset")["emotion"].value_counts().unstack(fill_value=0)
        write_with_sheet(joined, out)
        return {
            **summarise_faces(joined),
            "datasets": table.to_dict("index"),
            "left_out": sum(map(len, sets)) - len(joined),
        }

    return store.make(spec, build, alias)


def _merge_as_megc(whole_set: Faces, readers: dict[str, str]) -> Faces:
    """Return a set in the classes of MEGC 2019, which differ by dataset."""
    folded = []
    for name in sorted(set(whole_set.index["dataset"])):
        faces = whole_set.select((whole_set.index["dataset"] == name).to_numpy(dtype=bool))
        # SMIC and 4DME already have these classes; the other classes of 4DME are left out.
        if set(faces.classes) & FOLDED_CLASSES:
            faces = faces.select(faces.index["emotion"].isin(MEGC_CLASSES).to_numpy(dtype=bool))
        folded.append(
            merge_classes(faces, MEGC_CLASS_SETS.get(readers.get(name, ""), MEGC_DEFAULT_CLASS_SET))
        )
    return concatenate(folded)


def _find_origins(run: Run, faces: Faces, store: Store) -> dict[str, DatasetOrigin]:
    """Return the origin of each dataset in a run.

    A dataset that was not ingested has no reader, and comes from the run at its beginning.
    """
    ingested: dict[str, DatasetOrigin] = {}
    first_run, pending = run.name, [run.name]
    while pending:
        first_run = pending.pop()
        spec = store.run(first_run).spec
        pending += [name for name in list_parents({**spec, "stage": ""}) if store.is_done(name)]
        if "fingerprint" in spec:
            ingested[str(spec["dataset"])] = (str(spec["reader"]), str(spec["fingerprint"]))
    return {
        name: ingested.get(name, ("", first_run)) for name in sorted(set(faces.index["dataset"]))
    }


def _require_same_view(runs: Sequence[Run], store: Store) -> None:
    """Raise DataError if moments or optical flow do not mean the same in all runs.

    The names of channels do not tell: t7 is the offset in one set and the apex in another, and a
    grey level is another movement at another scale.
    """
    views = {run.name: _describe_views(run, store) for run in runs}
    if len(set(views.values())) > 1:
        texts = "; ".join(f"{name}: {text or 'as read'}" for name, text in views.items())
        raise DataError(
            "sets to be joined must show moments and movement in the same way, and show them in "
            f"different ways: {texts}. Preprocess them with the same --until and the same options "
            "of the flow"
        )


def _describe_views(run: Run, store: Store) -> str:
    """Return how the images of a run show moments and optical flow, from the runs behind it."""
    texts: dict[str, None] = {}
    waiting = [run.name]
    while waiting:
        spec = store.run(waiting.pop()).spec
        clips, flow = spec.get("clips"), spec.get("flow")
        if spec.get("stage") == PreprocessSpec.stage and (clips or flow):
            until = f"clips until {spec['until']}" if spec.get("until") else ""
            scale = ", ".join(f"{name} {value}" for name, value in (flow or {}).items())
            parts = [text for text in (until, scale and f"flow with {scale}") if text]
            texts |= dict.fromkeys(parts and [", ".join(parts)])
            continue
        waiting += [name for name in list_parents({**spec, "stage": ""}) if store.is_done(name)]
    return " and ".join(sorted(texts))


def _require_unique_names(origins: Sequence[dict[str, DatasetOrigin]]) -> None:
    """Raise DataError if a name stands for two datasets, or a dataset has two names."""
    origin_of: dict[str, DatasetOrigin] = {}
    name_of: dict[DatasetOrigin, str] = {}
    for name, origin in (pair for run_origins in origins for pair in run_origins.items()):
        if origin_of.setdefault(name, origin) != origin:
            raise DataError(
                "each dataset must have a name of its own, and two different ones are called "
                f"'{name}': the subject {name}:1 would be a different person in each; ingest one "
                "again with another --name"
            )
        if name_of.setdefault(origin, name) != name:
            raise DataError(
                "each person must have one name, and the same files were ingested as "
                f"'{name_of[origin]}' and as '{name}': each person would have two names; join only "
                "one of them"
            )


def _unify_names(joined: Faces, spec: JoinSpec) -> tuple[Faces, SubjectNames]:
    """Return the faces with one name for each person, and how the names were changed.

    Names are one person's if their spellings in a dataset or the spec say so.
    """
    index, seen_images = joined.index, joined.seen
    counts = Counter(index["subject"])
    if seen_images is not None:
        counts.update(dict.fromkeys(seen_images["subject"], 0))
    subject_names = identify_people(counts, spec.same_subject, spec.subjects_as_written)
    if all(old == new for old, new in subject_names.names.items()):
        return joined, subject_names
    seen_images = None if seen_images is None else _rename_subjects(seen_images, subject_names)
    return replace(
        joined, index=_rename_subjects(index, subject_names), seen=seen_images
    ), subject_names


def _rename_subjects(table: pd.DataFrame, subject_names: SubjectNames) -> pd.DataFrame:
    subjects = [subject_names.names.get(name, "") for name in table["subject"]]
    triples = zip(table["clip"], table["subject"], subjects, strict=True)
    clips = [rename_clip(clip, old, new) for clip, old, new in triples]
    return table.assign(
        subject=pd.Series(subjects, dtype="str"), clip=pd.Series(clips, dtype="str")
    )


def _print_summary(sets: Sequence[Faces], joined: Faces, subject_names: SubjectNames) -> None:
    """Print the images left out, names of one person or of similar look, and shared pictures."""
    # Count the images that were left out, by class.
    keys = set(joined.index["key"])
    left_out = Counter(
        emotion
        for faces in sets
        for key, emotion in zip(faces.index["key"], faces.index["emotion"], strict=True)
        if key not in keys
    )
    if left_out:
        are = "image is" if left_out.total() == 1 else "images are"
        counts = ", ".join(f"{name} {count:,}" for name, count in sorted(left_out.items()))
        say(f"{left_out.total():,} {are} left out, of classes that are not kept: {counts}")

    # Report subjects with several names, and pictures in several datasets.
    if subject_names.folded:
        say(
            "names treated as one person's; --subjects-as-written keeps them apart: "
            f"{format_groups(subject_names.folded)}"
        )
    if subject_names.alike:
        say(
            "similar names, kept apart; --same-subject NAME=OTHER joins two of one person: "
            f"{format_groups(subject_names.alike)}"
        )
    pairs = joined.index.drop_duplicates(["sha256", "dataset"])
    twins = int(pairs["sha256"].duplicated().sum())
    if twins:
        are = "picture is" if twins == 1 else "pictures are"
        say(
            f"{twins:,} {are} equal, pixel by pixel, in several datasets, which may show the same "
            "people"
        )
