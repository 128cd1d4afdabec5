"""Clips of people on whom a spot comes up, high or low by emotion, and studies of them."""

from typing import Any, ClassVar

import numpy as np

from mien.faces import Faces, make_index
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import PreprocessSpec
from mien.runs.spec import Spec, read_spec
from mien.runs.store import Run, Store
from mien.study.fields import StudyFile

TINY = {"size": 16, "epochs": 2, "batch": 16}
EMOTIONS = ("fear", "happiness")


def moving(name: str, subjects: int = 4, size: int = 24) -> Faces:
    """Clips of three frames: a picture of its own for each person, on which a spot comes up, high
    or low by emotion.
    """
    rows, images = [], []
    for person in range(subjects):
        draw = np.random.default_rng([person, *name.encode()])
        ground = draw.integers(60, 180, (size, size), dtype=np.uint8)
        for emotion in EMOTIONS:
            for frame, phase in enumerate(("onset", "rise", "apex")):
                image = ground.copy()
                top = 4 if emotion == "fear" else 14
                image[top : top + 6, 8:16] += np.uint8(35 * frame)
                images.append(image[None])
                rows.append((f"{name}/{person}/{emotion}/{frame}", person, emotion, frame, phase))
    index = make_index(
        np.stack(images),
        key=[row[0] for row in rows],
        dataset=name,
        subject=[f"{name}:{row[1]}" for row in rows],
        clip=[f"{name}:{row[1]}/{row[2]}" for row in rows],
        emotion=[row[2] for row in rows],
        frame=[row[3] for row in rows],
        phase=[row[4] for row in rows],
    )
    return Faces(np.stack(images), index)


class RootSpec(Spec):
    stage: ClassVar[str] = "root"
    what: str


def keep(faces: Faces, store: Store, alias: str) -> Run:
    return store.make(RootSpec(what=alias), lambda out, scratch: faces.save(out), alias)


def apexes(store: Store, name: str) -> Run:
    """The last two frames of each clip: the onset is gone."""
    keep(moving(name), store, name)
    spec = read_spec(
        PreprocessSpec, {"faces": name, "frames": "apex", "window": 1, "size": 16}, "test"
    )
    return run_preprocess(spec, store, alias=f"{name}-apex")


def table(**changes: Any) -> StudyFile:
    common = {
        "name": "views",
        "faces": "a-apex",
        "protocol": "subject",
        "folds": 2,
        "trials": 2,
        "settings": ["real_to_real"],
        "classifiers": ["tiny"],
        "classifier": TINY,
    }
    return StudyFile.model_validate({**common, **changes})
