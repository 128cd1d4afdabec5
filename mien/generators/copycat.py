"""The copycat: a generator that learns nothing. It hands out its training images, moved by a pixel and with noise.

What a classifier reaches when trained on its images is what copies are worth; a generator that claims more than copying
must do better on people who were never seen.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from mien import figures, seeds
from mien.errors import DataError
from mien.faces import EMOTIONS, Faces, make_index
from mien.spec import Spec
from mien.store import Run, Store

PER_CLASS = 12  # images a class on the contact sheet


class CopycatSpec(Spec):
    """A database of copies: `counts` images of each emotion from the images of the run `faces`.

    Each copy is moved by up to `shift` pixels either way (the border is repeated), with Gaussian noise of deviation
    `noise`, where 1 is the step from black to white.
    """

    stage: ClassVar[str] = "copycat"
    faces: str
    counts: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    shift: int = Field(default=1, ge=0, le=16)
    noise: float = Field(default=0.05, ge=0)
    seed: int = 0


def run(spec: CopycatSpec, store: Store, *, alias: str | None = None) -> Run:
    """Make the run of `spec` in `store`: faces that know whom they were copied from, sheet.png and summary.json."""
    spec = spec.model_copy(update={"faces": store.resolve(spec.faces)})

    def build(out: Path, scratch: Path) -> None:
        made = copies(Faces.load(store.run(spec.faces).path), spec, spec.name)
        made.save(out)
        figures.class_sheet(made, per_class=PER_CLASS).save(out / "sheet.png")
        counts = made.counts().drop(columns=["clips", "subjects"]).to_dict("records")
        summary = {"holds": f"{len(made):,} copies of training images", "counts": counts}
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")

    return store.make(spec, build, alias)


def copies(faces: Faces, spec: CopycatSpec, name: str) -> Faces:
    """Return `spec.counts` copies of the images of `faces`, under keys that begin with `name`.

    Every image of a class is copied once before any is copied twice, in an order that the seed gives.

    Raises DataError for a class that `faces` does not have.
    """
    rows = [(emotion, k, place) for emotion, places in _sources(faces, spec).items() for k, place in enumerate(places)]
    images = [_copy(faces.images[place], spec, emotion, k) for emotion, k, place in rows]
    whole = np.stack(images)
    emotions = [emotion for emotion, _, _ in rows]
    index = make_index(
        whole,
        key=[f"{name}/{emotion}/{k:05d}" for emotion, k, _ in rows],
        dataset="synthetic",
        emotion=emotions,
        raw_label=emotions,
        source=name,
        seed=[seeds.seed("copycat", spec.seed, emotion, k) for emotion, k, _ in rows],
        licence=" and ".join(sorted(set(faces.index["licence"]))),
    )
    return Faces(whole, index, faces.index.loc[:, ["key", "subject", "clip"]].reset_index(drop=True))


def _sources(faces: Faces, spec: CopycatSpec) -> Mapping[str, list[int]]:
    """Return the place in `faces` of the image behind each copy, by emotion."""
    found = {}
    for emotion in (name for name in EMOTIONS if name in spec.counts):
        there = np.flatnonzero((faces.index["emotion"] == emotion).to_numpy())
        if not len(there):
            raise DataError(f"the copycat must have images to copy, and there is none of {emotion}; leave it out")
        order = there[seeds.rng("copycat", spec.seed, emotion).permutation(len(there))]
        found[emotion] = [int(order[k % len(order)]) for k in range(spec.counts[emotion])]
    unknown = sorted(set(spec.counts) - set(found))
    if unknown:
        raise DataError(f"the emotions are {', '.join(EMOTIONS)}; there is no {', '.join(unknown)}")
    return found


def _copy(image: UInt8[np.ndarray, "c h w"], spec: CopycatSpec, emotion: str, k: int) -> UInt8[np.ndarray, "c h w"]:
    rng = seeds.rng("copycat", spec.seed, emotion, k)
    down, right = rng.integers(0, 2 * spec.shift + 1, 2)
    _, height, width = image.shape
    wide = np.pad(image, ((0, 0), (spec.shift, spec.shift), (spec.shift, spec.shift)), mode="edge")
    moved = wide[:, down : down + height, right : right + width]
    return np.clip(moved + rng.normal(0, 255 * spec.noise, moved.shape), 0, 255).round().astype(np.uint8)
