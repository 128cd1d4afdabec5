"""Filter meets the store: synthetic faces are kept that judges agree with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mien.audit.labels.judges import train_judges
from mien.errors import DataError
from mien.faces import Faces, concatenate
from mien.findings import list_some
from mien.generators import copycat
from mien.generators.specs import CopycatSpec
from mien.prepare.preprocess import summarise_faces, write_with_sheet
from mien.prepare.views import load_like
from mien.runs.progress import quantify, say
from mien.runs.store import Run, RunSummary, Store
from mien.seeds import make_rng
from mien.study.uses.filter import KEPT, KEPT_BELOW, choose_images, count_outcomes, judge_labels
from mien.study.uses.specs import FilterSpec


def filter_database(spec: FilterSpec, store: Store, *, alias: str | None = None) -> Run:
    """Return the run of a filtered database: faces, a share of each class.

    The images keep their keys, seeds and order. judgements.parquet says of each image of the
    database what the judges think (key, emotion, probability, entropy in nats) and whether it was
    kept (outcome); dropped.csv counts these per class. What the judges have seen counts as seen
    by the generator, so that no test on their people goes unnoticed.

    Raises DataError for a database with real faces, for judges that learn from synthetic faces or
    from faces of another form, if judges cannot be trained, and if no image of a class passes.
    """
    database_run, training_run = store.run(spec.database), store.run(spec.training)
    spec = spec.model_copy(update={"database": database_run.name, "training": training_run.name})

    def build(out: Path, scratch: Path) -> RunSummary:
        # The judges learn from the training people alone
        training = Faces.load(training_run.path)
        database = load_like(database_run, training_run, store)
        _require_fitting(database, training, database_run.name)
        panel = train_judges(add_views(training, spec))
        _report_classes(database, panel.classes)
        judgements = judge_labels(panel, database)

        # Choose, and write the reason of each choice
        outcomes = choose_images(database, judgements, spec)
        table = database.index[["key", "emotion"]].assign(
            probability=judgements.probability, entropy=judgements.entropy, outcome=outcomes
        )
        table.to_parquet(out / "judgements.parquet", index=False)
        dropped = count_outcomes(database, outcomes, judgements.judged)
        dropped.to_csv(out / "dropped.csv", index=False, lineterminator="\n")

        # The kept images
        is_kept = (outcomes == KEPT) | (outcomes == KEPT_BELOW)
        chosen = add_seen(database.select(is_kept), training)
        write_with_sheet(chosen, out)
        holds = (
            f"{quantify(len(chosen), 'synthetic image')}, chosen from {len(database):,} by a filter"
        )
        return {"holds": holds, **summarise_faces(chosen), "filtered": dropped.to_dict("records")}

    return store.make(spec, build, alias)


def add_views(training: Faces, spec: FilterSpec) -> Faces:
    """Return the faces that judges learn from: real ones, and shifted and noisy views of each.

    Each view belongs to the clip and the person of its image, so that no judge learns from a view
    of somebody whom it does not know.
    """
    if not spec.views:
        return training
    jitter, copies = CopycatSpec(faces=spec.training), [training]
    for view in range(spec.views):
        images = np.empty_like(training.images)
        for row in range(len(training)):
            rng = make_rng("view", spec.seed, view, row)
            image = copycat.make_image(training.images, np.array([row]), jitter, rng)
            images[row] = np.clip(image, 0, 255).round()
        keys = training.index["key"] + f"#view{view + 1}"
        copies.append(replace(training, images=images, index=training.index.assign(key=keys)))
    return concatenate(copies)


def list_filter_lines(run: Run) -> list[str]:
    """Return what a filter kept and dropped as lines of text, one per class."""
    return [
        f"{row['class']}: {row['kept'] + row['kept_below']:,} of {row['given']:,} kept"
        + (f", {row['kept_below']:,} of them although they do not pass; " * bool(row["kept_below"]))
        + ("" if row["kept_below"] else "; ")
        + (
            f"{row['no_agreement']:,} without agreement, {row['outside_band']:,} outside the band, "
            if row["judged"]
            else "no judge knows this class, "
        )
        + f"{row['not_chosen']:,} not needed"
        for row in run.summary["filtered"]
    ]


def add_seen(faces: Faces, training: Faces) -> Faces:
    """Return synthetic faces that also count as made from the images of `training`.

    Which images are kept depends on them. If it is not known what the generator saw, that remains
    unknown.
    """
    if faces.seen is None:
        return faces
    new = ~training.index["key"].isin(faces.seen["key"])
    if not new.any():
        return faces
    say(
        f"the judges learn from {quantify(int(new.sum()), 'image')} that the generator never saw; "
        "the database now counts as made from these, too"
    )
    columns = list(faces.seen.columns)
    rows = training.index.loc[new].reindex(columns=columns, fill_value="")
    return replace(faces, seen=pd.concat([faces.seen, rows], ignore_index=True))


def _require_fitting(database: Faces, training: Faces, name: str) -> None:
    """Raise DataError unless the judges can judge: synthetic and real pictures of one form."""
    real = int((database.index["source"] == "real").sum())
    if real or not len(database):
        raise DataError(
            f"a filter needs a database of synthetic faces, and {name} holds "
            f"{f'{real:,} real ones' if real else 'no image'}; `mien ls generate` lists databases"
        )
    training.require_real("the faces that judges learn from")
    if (database.size, database.shown) != (training.size, training.shown):
        forms = [
            f"{faces.size[1]} by {faces.size[2]} pixels ({list_some(list(faces.shown))})"
            for faces in (database, training)
        ]
        raise DataError(
            "the database and the faces that judges learn from must have one size and the same "
            f"channels; given: {forms[0]} and {forms[1]}. Name the set that the generator was "
            "trained on"
        )


def _report_classes(database: Faces, known: tuple[str, ...]) -> None:
    """Say which classes no judge knows; raises DataError if the judges know none of them."""
    unknown = [name for name in database.classes if name not in known]
    if len(unknown) == len(database.classes):
        raise DataError(
            f"the judges must know a class of the database; they know {list_some(list(known))}, "
            f"and it has {list_some(unknown)}. Name the set that the generator was trained on"
        )
    if unknown:
        say(
            f"no judge knows {list_some(unknown)}, which fewer than two people (or clips) show "
            "among the faces that judges learn from; images of it are not judged, and as many are "
            "kept as of other classes"
        )
