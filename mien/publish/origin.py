"""Origin: finds the generators and the real sets behind a database."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mien.audit.memorisation.copies import find_copies
from mien.errors import UsageError
from mien.faces import UNKNOWN_SOURCE, Faces
from mien.licences import Terms
from mien.publish.name_search import Names, collect_names
from mien.runs.progress import quantify
from mien.runs.store import Run, Store
from mien.study.sources import INDEX_FILE, find_ancestors, find_licence, read_terms

AUDIT = "audit.json"

ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

VERDICTS_BEST_FIRST = ("pass", "warn", "cannot tell", "fail")  # from good to bad


@dataclass(frozen=True)
class Source:
    """A real set behind a database, ingested by `run`; counts are of what the generators saw."""

    run: str
    dataset: str
    licence: str
    terms: Terms
    citation: str
    images: int
    clips: int
    subjects: int
    blocked: int
    # Who chose its name: `hand`, its `reader`, or its `folder`, whose name may not be for others
    named_by: str

    @property
    def seen_summary(self) -> str:
        """What the generators saw of it, in words."""
        return (
            f"{quantify(self.images, 'image')}, {quantify(self.clips, 'clip')}, "
            f"{quantify(self.subjects, 'subject')}"
        )


@dataclass(frozen=True)
class Origin:
    """A synthetic database with everything that it was made from.

    `makers` are the runs that generated its images, by name; `generators` are the generators that
    they used; `lineage` is every earlier run, parents first, and the database itself last.
    """

    run: Run
    faces: Faces
    makers: Mapping[str, Run]
    generators: Mapping[str, Run]
    lineage: tuple[Run, ...]
    sources: tuple[Source, ...]

    @cached_property
    def real(self) -> set[str]:
        """The sha256 of the pixels of every real image in the lineage."""
        return {
            pixels
            for table in self._indices
            for pixels in table.loc[table["source"] == "real", "sha256"]
        }

    def find_copies(self, store: Store) -> list[str]:
        """Return the keys of the images that copy a real image behind the database.

        Copies are found at any size, and if moved, mirrored or turned. Compared are all runs of
        faces in the lineage, each at its own size, and the sets that the audits used. Each image
        is compared as it is now and as it was generated: a smaller size or a filter hides a copy
        without undoing it.
        """
        # Runs that may hold real images
        audited = [
            name
            for audit, _ in find_audits(self.run, store)
            for name in (audit.spec["train"], audit.spec["test"])
        ]
        runs = {run.name: run for run in self.lineage}
        for name in audited:
            runs |= {run.name: run for run in find_ancestors(store.run(name), store)}

        # Each of them against the database in all its states
        versions = [self.faces, *self._load_earlier_versions()]
        copies: dict[str, None] = {}
        for run in runs.values():
            if INDEX_FILE in run.manifest["files"] and run.name != self.run.name:
                real = Faces.load(run.path)
                for synthetic in versions:
                    copies |= dict.fromkeys(find_copies_of_real(synthetic, real))
        return list(copies)

    def _load_earlier_versions(self) -> Iterator[Faces]:
        """Yield the images of the database as they were in earlier runs."""
        keys = self.faces.index["key"]
        for run in self.lineage[:-1]:
            if INDEX_FILE in run.manifest["files"]:
                earlier = Faces.load(run.path)
                mine = earlier.index["key"].isin(keys) & (earlier.index["source"] != "real")
                if mine.any():
                    yield earlier.select(mine.to_numpy(dtype=bool))

    @cached_property
    def names(self) -> Names:
        """Names that a release must not contain: subjects, clips and keys of all real images."""
        columns = ["dataset", "subject", "clip", "key"]
        tables = [
            table.loc[table["source"] == "real", columns].drop_duplicates()
            for table in self._indices
        ]
        rows = {
            tuple(map(str, row))
            for table in tables
            for row in table.itertuples(index=False, name=None)
        }
        return collect_names(rows)  # pyright: ignore[reportArgumentType]

    @property
    def source_names(self) -> dict[str, str]:
        """The name of each source in a release, by its run."""
        return {source.run: source.dataset for source in self.sources}

    def rename_sources(self, names: Mapping[str, str]) -> "Origin":
        """Return the same origin with its sources named as `names` says, by run.

        A source that is not given, and has its name from its folder, gets a number instead.
        """
        sources = []
        for number, source in enumerate(self.sources, start=1):
            default = f"source {number}" if source.named_by == "folder" else source.dataset
            name = names.get(source.run) or default
            same_name = source.terms.name == source.dataset
            terms = replace(source.terms, name=name) if same_name else source.terms
            sources.append(replace(source, dataset=name, terms=terms))
        return replace(self, sources=tuple(sources))

    @property
    def seen(self) -> pd.DataFrame:
        """Key, subject and clip of each image that a generator was trained on."""
        return (
            self.faces.seen
            if self.faces.seen is not None
            else pd.DataFrame({"key": [], "subject": [], "clip": []})
        )

    @cached_property
    def classes(self) -> pd.DataFrame:
        """One row per class: images generated; images, clips and subjects seen in training.

        `ratio` is the number of images generated for each image seen, nan if none was seen.
        """
        tables = [table.loc[table["source"] == "real"] for table in self._indices]
        real = pd.concat(tables).drop_duplicates("key") if tables else self.seen.assign(emotion="")
        seen_rows = real.loc[real["key"].isin(self.seen["key"])]
        rows = []
        for name in self.faces.classes:
            generated = int((self.faces.index["emotion"] == name).sum())
            class_rows = seen_rows.loc[seen_rows["emotion"] == name]
            clips, subjects = (
                class_rows.loc[class_rows[column] != "", column].nunique()
                for column in ("clip", "subject")
            )
            ratio = generated / len(class_rows) if len(class_rows) else float("nan")
            rows.append((name, generated, len(class_rows), clips, subjects, ratio))
        return pd.DataFrame(
            rows, columns=["class", "images", "seen_images", "seen_clips", "seen_subjects", "ratio"]
        )

    @cached_property
    def _indices(self) -> list[pd.DataFrame]:
        return [
            pd.read_parquet(run.find_file(INDEX_FILE))
            for run in self.lineage
            if INDEX_FILE in run.manifest["files"]
        ]


def find_copies_of_real(synthetic: Faces, source_faces: Faces) -> list[str]:
    """Return the keys of the images of `synthetic` that copy a real image of `source_faces`.

    Copies that were turned by right angles or mirrored are found too.
    """
    mask = (source_faces.index["source"] == "real").to_numpy(dtype=bool)
    if not mask.any():
        return []
    real = source_faces if mask.all() else source_faces.select(mask)

    # `find_copies` finds mirrored copies, so four turns cover all eight symmetries of the square
    keys: dict[str, None] = {}
    for quarters in range(4):
        turned = synthetic if not quarters else _turn(synthetic, quarters)
        keys |= dict.fromkeys(str(key) for key in find_copies(turned, real)["image"])
    return list(keys)


def _turn(faces: Faces, quarters: int) -> Faces:
    """Return images turned by a number of right angles, with the digests of the turned images."""
    images = np.ascontiguousarray(np.rot90(faces.images, quarters, (2, 3)))
    return replace(
        faces,
        images=images,
        index=faces.index.assign(
            sha256=[hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        ),
    )


def trace_origin(name: str, store: Store) -> Origin:
    """Return the origin of the database that `name` names.

    Raises UsageError if it holds real images, or none that a run of `mien generate` made, and
    StoreError if a run that it was made from is no longer in the store: a database that cannot be
    traced cannot be published.
    """
    # Only synthetic images
    run = store.run(name)
    faces = Faces.load(run.path)
    if not len(faces) or (faces.index["source"] == "real").any():
        raise UsageError(
            f"a synthetic database must be named, and {run.name} holds "
            f"{'real images' if len(faces) else 'no image'}; `mien ls generate` lists what was "
            "generated"
        )
    if (faces.index["source"] == UNKNOWN_SOURCE).any():
        raise UsageError(
            f"the images must come from `mien generate`, and {run.name} holds synthetic images of "
            "an unknown generator"
        )

    # The runs that generated them, and their generators
    makers = {
        maker: run if maker == run.name else store.run(maker)
        for maker in sorted(set(faces.index["source"]))
    }
    other_makers = [
        maker for maker, maker_run in makers.items() if "generator" not in maker_run.spec
    ]
    if other_makers:
        raise UsageError(
            f"the images must come from `mien generate`, and some of {run.name} come from "
            f"{other_makers[0]}"
        )
    generators = {
        maker_run.spec["generator"]: store.run(maker_run.spec["generator"])
        for maker_run in makers.values()
    }

    # Everything before, and the real sets in it
    lineage = find_ancestors(run, store)
    sources = tuple(
        read_source(parent, faces.seen) for parent in lineage if parent.stage == "ingest"
    )
    return Origin(run, faces, makers, generators, lineage, sources)


def read_source(run: Run, seen: pd.DataFrame | None) -> Source:
    """Return the terms of an ingested set, and how much of it the generators saw."""
    index = pd.read_parquet(run.find_file(INDEX_FILE))
    terms = read_terms(run, index)
    used_rows = index.loc[index["key"].isin(seen["key"])] if seen is not None else index
    subjects = {subject.partition(":")[2] for subject in used_rows["subject"]}
    clip_count, subject_count = (
        int(used_rows.loc[used_rows[column] != "", column].nunique())
        for column in ("clip", "subject")
    )
    return Source(
        run=run.name,
        dataset=run.spec["dataset"],
        licence=find_licence(index),
        terms=terms,
        citation=str(run.summary.get("citation", "")),
        images=len(used_rows),
        clips=clip_count,
        subjects=subject_count,
        blocked=len(subjects & set(terms.blocked)),
        named_by=_find_who_named(run, terms),
    )


def _find_who_named(run: Run, terms: Terms) -> str:
    """Return who chose the name of a source; a set that is known by name has it from its reader."""
    if terms.name != run.spec["dataset"]:
        return "reader"
    stored = run.summary.get("named")
    return stored if stored in ("hand", "reader") else "folder"


def find_audits(run: Run, store: Store) -> list[tuple[Run, dict[str, Any]]]:
    """Return the audits of exactly this database with their audit.json; the last one decides.

    That is the newest, by the times that the runs record: times of files change when a store is
    copied. Where times are equal, or one is not recorded, the worst verdict decides.
    """
    # Audits of this run with this content
    names = [name for name in store.list_names() if name.startswith("audit-")]
    runs = [Run(name, store.root / "runs" / name) for name in names]
    of_run = [store.run(audit.name) for audit in runs if audit.spec.get("synthetic") == run.name]
    with_json = [(audit, audit.read_json(AUDIT)) for audit in of_run]
    matching = [
        (audit, contents)
        for audit, contents in with_json
        if isinstance(contents, dict) and contents.get("content") == run.content
    ]

    newest = max((_find_date(audit) for audit, _ in matching), default="")

    def order(pair: tuple[Run, dict[str, Any]]) -> tuple[str, int, str]:
        audit, contents = pair
        verdict = contents.get("verdict")
        badness = (
            VERDICTS_BEST_FIRST.index(verdict)
            if verdict in VERDICTS_BEST_FIRST
            else len(VERDICTS_BEST_FIRST)
        )
        return _find_date(audit) or newest, badness, audit.name

    return sorted(matching, key=order)


def _find_date(run: Run) -> str:
    """Return the time at which a run was made, in a form that sorts by time; "" if not recorded."""
    date = run.about.get("made")
    return date if isinstance(date, str) and ISO_TIME.fullmatch(date) else ""


def explain_mismatch(origin: Origin, audit: Run, store: Store) -> str:
    """Return what is wrong with the training set of an audit, "" if it has all that was seen.

    The store decides this, whatever the audit says.
    """
    name = str(audit.spec.get("train"))
    try:
        train = pd.read_parquet(store.run(name).find_file(INDEX_FILE))
    except UsageError:
        return (
            f"its training set {name} is not in the store any more, so it is not known against "
            "whom it was audited"
        )
    if origin.faces.seen is None:
        return (
            "the database does not say what its generators saw, so it is not known against whom "
            "it must be audited"
        )

    # Every image that a generator saw is in the training set
    missing = int((~origin.seen["key"].isin(train["key"])).sum())
    if missing:
        total = f"{missing:,} of {quantify(len(origin.seen), 'image')} that the generators saw"
        return (
            f"its training set {name} lacks {total}: audit against the set that the generators "
            "were trained on"
        )
    return ""
