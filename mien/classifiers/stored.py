"""Trained classifiers of the store that name a plain picture."""

from dataclasses import dataclass

import numpy as np

from mien.classifiers.channels import are_pictures
from mien.pictures import Colour
from mien.runs.files import read_json
from mien.runs.store import Run, Store

CLASSIFIER_NOTICE = (
    "The answer is the expression that the picture shows, as a classifier sees it, not what the "
    "person feels. It is not for decisions about people at work, in schools, by the police or in "
    "medicine."
)

CLASSIFIER_FILE = "classifier.json"  # what a classifier is; its weights are in another file


@dataclass(frozen=True)
class StoredClassifier:
    """A trained classifier: its run, its classes, and the real faces that it learnt from.

    `size` is the height and width in pixels that it sees, and `colour` that of these faces.
    """

    run: str
    classes: tuple[str, ...]
    size: int
    colour: Colour
    faces: str


def list_classifiers(store: Store) -> list[StoredClassifier]:
    """Return the classifiers of a store that name the class of a plain picture, the latest first.

    Those of clips, of optical flow and of action units are left out.
    """
    classifiers = []
    for name in reversed(store.list_names()):
        path = store.root / "runs" / name
        about = read_json(path / CLASSIFIER_FILE) if (path / CLASSIFIER_FILE).exists() else None
        if not isinstance(about, dict) or about.get("units") or about.get("columns"):
            continue
        shown, spec = tuple(about.get("shown", ())), about.get("spec", {})
        if are_pictures(shown):
            faces = str(Run(name, path).spec.get("faces", ""))
            classes = tuple(map(str, about["classes"]))
            colour = _find_colour(faces, store)
            classifiers.append(StoredClassifier(name, classes, int(spec["size"]), colour, faces))
    return classifiers


def _find_colour(faces: str, store: Store) -> Colour:
    """Return the colour of the faces that a classifier learnt from; grey if they are not known.

    The classifier itself sees a grey picture as one in colour.
    """
    path = store.root / "runs" / faces / "images.npy"
    if not faces or not path.exists():
        return "grey"
    return "rgb" if np.load(path, mmap_mode="r", allow_pickle=False).shape[1] == 3 else "grey"
