"""Where a synthetic database comes from: its generators, the real sets behind them, and whom these
show.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mien.errors import UsageError
from mien.faces import UNKNOWN, Faces
from mien.licences import Terms
from mien.progress import many
from mien.publish.names import Names, names
from mien.sources import INDEX, ancestors, licence_of
from mien.sources import terms as allowed
from mien.store import Run, Store

AUDIT = "audit.json"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
VERDICTS = ("pass", "warn", "cannot tell", "fail")  # from good to bad


@dataclass(frozen=True)
class Source:
    """A real set that a database rests on: `run` ingested it; the counts are of what the generators
    saw of it.
    """

    run: str
    dataset: str
    licence: str
    terms: Terms
    citation: str
    images: int
    clips: int
    subjects: int
    blocked: int
    # by `hand`, by its `reader`, or as its `folder`, a name that nobody gave for others to read
    named: str

    @property
    def told(self) -> str:
        """What was seen of it, in words."""
        return (
            f"{many(self.images, 'image')}, {many(self.clips, 'clip')}, "
            f"{many(self.subjects, 'subject')}"
        )


@dataclass(frozen=True)
class Origin:
    """A synthetic database with all that it was made from.

    `makers` are the generations of its images by name, `generators` what drew them, `lineage` every
    run that came before, parents first, itself last.
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

    def copied(self, store: Store) -> list[str]:
        """Return the keys of the images that are copies of a real image behind the database, of any
        size or moved.

        Every run of faces in the lineage is compared at its own size, and the sides that its audits
        measured against. Each image is compared as it is, and as it was drawn: a small size or a
        filter hides a copy, and takes nothing of it back.
        """
        audited = [
            spec
            for one, _ in audits(self.run, store)
            for spec in (one.spec["train"], one.spec["test"])
        ]
        known = {run.name: run for run in self.lineage}
        for name in audited:
            known |= {run.name: run for run in ancestors(store.run(name), store)}
        made = [self.faces, *self._drawn()]
        found: dict[str, None] = {}
        for run in known.values():
            if INDEX in run.manifest["files"] and run.name != self.run.name:
                real = Faces.load(run.path)
                for one in made:
                    found |= dict.fromkeys(copies_of_real(one, real))
        return list(found)

    def _drawn(self) -> Iterator[Faces]:
        """Yield the images of the database in the runs that it was made from, before they were
        changed.
        """
        keys = self.faces.index["key"]
        for run in self.lineage[:-1]:
            if INDEX in run.manifest["files"]:
                earlier = Faces.load(run.path)
                mine = earlier.index["key"].isin(keys) & (earlier.index["source"] != "real")
                if mine.any():
                    yield earlier.select(mine.to_numpy(dtype=bool))

    @cached_property
    def names(self) -> Names:
        """What must not stand in a release: subjects, clips and keys of all real images in the
        lineage.
        """
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
        return names(rows)  # pyright: ignore[reportArgumentType]

    @property
    def called(self) -> dict[str, str]:
        """How each source is called, by its run."""
        return {one.run: one.dataset for one in self.sources}

    def renamed(self, given: Mapping[str, str]) -> "Origin":
        """Return the same with sources called as `given` says by run; one whose name is its
        folder's gets a number.
        """
        sources = []
        for number, one in enumerate(self.sources, start=1):
            name = given.get(one.run) or (
                f"source {number}" if one.named == "folder" else one.dataset
            )
            terms = replace(one.terms, name=name) if one.terms.name == one.dataset else one.terms
            sources.append(replace(one, dataset=name, terms=terms))
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
        """A row a class: images made, images, clips and subjects seen, and how many were made for
        each seen.
        """
        tables = [table.loc[table["source"] == "real"] for table in self._indices]
        real = pd.concat(tables).drop_duplicates("key") if tables else self.seen.assign(emotion="")
        shown = real.loc[real["key"].isin(self.seen["key"])]
        rows = []
        for name in self.faces.classes:
            part, made = (
                shown.loc[shown["emotion"] == name],
                int((self.faces.index["emotion"] == name).sum()),
            )
            counts = [
                len(part),
                *(part.loc[part[column] != "", column].nunique() for column in ("clip", "subject")),
            ]
            rows.append((name, made, *counts, made / len(part) if len(part) else float("nan")))
        return pd.DataFrame(
            rows, columns=["class", "images", "seen_images", "seen_clips", "seen_subjects", "ratio"]
        )

    @cached_property
    def _indices(self) -> list[pd.DataFrame]:
        return [
            pd.read_parquet(run.file(INDEX))
            for run in self.lineage
            if INDEX in run.manifest["files"]
        ]


def copies_of_real(made: Faces, other: Faces) -> list[str]:
    """Return the keys of the images of `made` that are copies of a real image of `other`, also if
    turned or flipped.
    """
    from mien.audit.copies import copies  # here, since audits load torch

    mask = (other.index["source"] == "real").to_numpy(dtype=bool)
    if not mask.any():
        return []
    real = other if mask.all() else other.select(mask)
    found: dict[str, None] = {}
    for quarters in range(
        4
    ):  # copies are found mirrored: so all eight ways in which a picture lies on a square
        turned = made if not quarters else _turned(made, quarters)
        found |= dict.fromkeys(str(key) for key in copies(turned, real)["image"])
    return list(found)


def _turned(made: Faces, quarters: int) -> Faces:
    """Return images turned by so many right angles; their digests are those of the pictures as they
    now lie.
    """
    images = np.ascontiguousarray(np.rot90(made.images, quarters, (2, 3)))
    return replace(
        made,
        images=images,
        index=made.index.assign(
            sha256=[hashlib.sha256(one.tobytes()).hexdigest() for one in images]
        ),
    )


def trace(name: str, store: Store) -> Origin:
    """Return where the database that `name` stands for comes from.

    Raises UsageError if it holds real images, or none that a run of `mien generate` drew, and
    StoreError if a run that it was made from is not in the store any more: what cannot be traced
    cannot be vouched for.
    """
    run = store.run(name)
    faces = Faces.load(run.path)
    if not len(faces) or (faces.index["source"] == "real").any():
        raise UsageError(
            f"a synthetic database must be named, and {run.name} holds "
            f"{'real images' if len(faces) else 'no image'}; "
            "`mien ls generate` lists what was generated"
        )
    if (faces.index["source"] == UNKNOWN).any():
        raise UsageError(
            f"the images must come from `mien generate`, and {run.name} holds synthetic images of "
            "an unknown generator"
        )
    makers = {
        one: run if one == run.name else store.run(one)
        for one in sorted(set(faces.index["source"]))
    }
    strange = [one for one, made in makers.items() if "generator" not in made.spec]
    if strange:
        raise UsageError(
            f"the images must come from `mien generate`, and some of {run.name} come from "
            f"{strange[0]}"
        )
    generators = {
        made.spec["generator"]: store.run(made.spec["generator"]) for made in makers.values()
    }
    lineage = ancestors(run, store)
    sources = tuple(source(one, faces.seen) for one in lineage if one.stage == "ingest")
    return Origin(run, faces, makers, generators, lineage, sources)


def source(run: Run, seen: pd.DataFrame | None) -> Source:
    """Return what an ingested set allows, and how much of it was seen."""
    index, spec = pd.read_parquet(run.file(INDEX)), run.spec
    licence, terms = licence_of(index), allowed(run, index)
    mine = index.loc[index["key"].isin(seen["key"])] if seen is not None else index
    local = {subject.partition(":")[2] for subject in mine["subject"]}
    clips, subjects = (
        int(mine.loc[mine[column] != "", column].nunique()) for column in ("clip", "subject")
    )
    return Source(
        run.name,
        spec["dataset"],
        licence,
        terms,
        str(run.summary.get("citation", "")),
        len(mine),
        clips,
        subjects,
        len(local & set(terms.blocked)),
        _named(run, terms),
    )


def _named(run: Run, terms: Terms) -> str:
    """Return whence a source has its name; one that is known to all tells nobody anything."""
    if terms.name != run.spec["dataset"]:
        return "reader"
    known = run.summary.get("named")
    return known if known in ("hand", "reader") else "folder"


def audits(run: Run, store: Store) -> list[tuple[Run, dict[str, Any]]]:
    """Return the audits of exactly this database that the store holds, the one that decides last,
    with its audit.json.

    The newest decides, by the times that the runs record: those of files change when a store is
    copied. Where times cannot be told apart, or one is not recorded, the worst verdict does.
    """
    names = [name for name in store.names() if name.startswith("audit-")]
    found = [Run(name, store.root / "runs" / name) for name in names]
    mine = [store.run(one.name) for one in found if one.spec.get("synthetic") == run.name]
    told = [(one, one.json(AUDIT)) for one in mine]
    kept = [
        (one, said)
        for one, said in told
        if isinstance(said, dict) and said.get("content") == run.content
    ]
    newest = max((_made(one) for one, _ in kept), default="")

    def order(pair: tuple[Run, dict[str, Any]]) -> tuple[str, int, str]:
        one, said = pair
        verdict = said.get("verdict")
        badness = VERDICTS.index(verdict) if verdict in VERDICTS else len(VERDICTS)
        return _made(one) or newest, badness, one.name

    return sorted(kept, key=order)


def _made(run: Run) -> str:
    """Return when a run was made, as it records it, in a form whose order is that of time; nothing
    if it does not.
    """
    made = run.about.get("made")
    return made if isinstance(made, str) and TIME.fullmatch(made) else ""


def unaudited(origin: Origin, audit: Run, store: Store) -> str:
    """Say what is wrong with the training set of an audit, nothing if it holds all that the
    generators saw.

    This is found in the store, whatever the audit says.
    """
    name = str(audit.spec.get("train"))
    try:
        train = pd.read_parquet(store.run(name).file(INDEX))
    except UsageError:
        return (
            f"its training set {name} is not in the store any more, so nobody can say whom it "
            "was audited against"
        )
    if origin.faces.seen is None:
        return (
            "the database does not say what its generators saw, so nobody can say whom it must "
            "be audited against"
        )
    lacking = int((~origin.seen["key"].isin(train["key"])).sum())
    if lacking:
        total = f"{lacking:,} of {many(len(origin.seen), 'image')} that the generators saw"
        return (
            f"its training set {name} lacks {total}: audit against the set that the generators "
            "were trained on"
        )
    return ""
