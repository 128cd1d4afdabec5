"""Class sets: emotions that are merged into fewer classes."""

from dataclasses import replace

import pandas as pd

from mien.errors import DataError
from mien.faces import CLASS_SETS, Faces

# Classes that several emotions were folded into.
FOLDED_CLASSES = {
    new for classes in CLASS_SETS.values() for old, new in classes.items() if new not in classes
}


def merge_classes(faces: Faces, class_set: str) -> Faces:
    """Return the images whose emotion is in `class_set`, under its names.

    `raw_label` is kept. With an empty name, or if the images are already in these classes, all are
    returned unchanged.

    Raises DataError if no image is left, or if the images were folded into other classes before,
    since emotions that were put together cannot be separated again.
    """
    if not class_set:
        return faces
    classes = CLASS_SETS[class_set]
    if set(faces.classes) & FOLDED_CLASSES and set(faces.classes) <= set(classes.values()):
        return faces

    # Emotions that were put together cannot be separated again.
    folded = [
        emotion for emotion in faces.classes if emotion in FOLDED_CLASSES and emotion not in classes
    ]
    if folded:
        raise DataError(
            f"the class set {class_set} must be made from single emotions, and these images were "
            f"folded into {', '.join(folded)} before; name the run that they were folded from"
        )

    # Keep the emotions of the set, under their new names.
    selected = faces.select(faces.index["emotion"].isin(list(classes)).to_numpy(dtype=bool))
    if not len(selected):
        raise DataError(
            f"the class set {class_set} must leave some images, and leaves none of {len(faces)}: "
            f"it has {', '.join(classes)}, and the images show {', '.join(faces.classes)}"
        )
    emotions = pd.Series([classes[emotion] for emotion in selected.index["emotion"]], dtype="str")
    return replace(selected, index=selected.index.assign(emotion=emotions))
