"""The real people and images that each share of the people trains on."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.faces import Faces
from mien.prepare import splits
from mien.seeds import derive_seed


@dataclass(frozen=True)
class TrainingSide:
    """The real training faces of a study, as means over its tested folds.

    `people` and `images` are their numbers, and `by_class` the numbers of images of each class.
    """

    people: float
    images: float
    by_class: dict[str, float]


def count_training_side(faces: Faces, spec: dict[str, Any], people: float | None) -> TrainingSide:
    """Return how many real people and images are trained on, given the fields of a StudySpec.

    `people` is the share of the training people; None is all of them. Where frames are split at
    random, it is the split of the first trial.
    """
    by_frame = spec["protocol"] == "frame"
    seed = derive_seed("study", spec["seed"], "trial", 0) if by_frame else spec["seed"]
    classes, subjects = (faces.index[name].to_numpy(dtype=str) for name in ("emotion", "subject"))
    sizes = []
    for fold in spec["tested_folds"]:
        train = splits.split(faces, spec["protocol"], spec["folds"], fold, seed).train
        is_kept = splits.keep_people(faces, train, people, seed)
        sizes.append((len(set(subjects[is_kept])), int(is_kept.sum()), Counter(classes[is_kept])))

    return TrainingSide(
        float(np.mean([number for number, _, _ in sizes])),
        float(np.mean([number for _, number, _ in sizes])),
        {
            name: float(np.mean([counts[name] for _, _, counts in sizes]))
            for name in spec["classes"]
        },
    )
