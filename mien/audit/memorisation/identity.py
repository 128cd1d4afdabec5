"""Identity: training subjects whom generated images resemble beyond chance."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mien.audit.memorisation.people import Estimate, ImagePeople
from mien.audit.memorisation.search import COARSE_SHIFTS, Coarse
from mien.seeds import make_rng
from mien.stats import BOOTSTRAP_RESAMPLES, make_interval

# of the within-person covariance, towards a multiple of the identity matrix
IDENTITY_SHRINKAGE = 0.1

MAX_SUBJECT_ROWS = 20  # rows of the table, at most


@dataclass(frozen=True)
class Embedding:
    """Directions that separate people whatever they express: Fisher's, on principal components."""

    coarse: Coarse
    model: LinearDiscriminantAnalysis

    def __call__(self, soft: Float32[np.ndarray, "n side wide"]) -> Float32[np.ndarray, "n d"]:
        """Return softened images as points that are near each other if they show one person."""
        return np.asarray(self.model.transform(self.coarse(soft)), dtype=np.float32)


def learn_embedding(
    soft: Float32[np.ndarray, "n side wide"],
    subjects: np.ndarray,
    is_known: np.ndarray,
    coarse: Coarse,
) -> Embedding | None:
    """Return the embedding learnt from training images ("Fisherfaces"), or None.

    As in Belhumeur et al. 1997. It is learnt from `is_known` subjects with at least two images,
    each image also mirrored and shifted; it needs three such subjects.
    """
    _, codes, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    usable = is_known & (counts[codes] > 1)
    if len(set(codes[usable].tolist())) < 3:
        return None
    views = soft[usable], soft[usable][:, :, ::-1]
    components = [
        coarse(view, down, right)
        for view in views
        for down in COARSE_SHIFTS
        for right in COARSE_SHIFTS
    ]
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=IDENTITY_SHRINKAGE)
    return Embedding(
        coarse, model.fit(np.concatenate(components), np.tile(codes[usable], len(components)))
    )


def find_shown_subjects(
    synthetic: np.ndarray,
    ratios: Float[np.ndarray, " k"],
    extreme_ratio: float,
    test: np.ndarray,
    people: ImagePeople,
    subjects: int,
) -> pd.DataFrame:
    """Return the training subjects that generated images show, the most shown first, 20 at most.

    `synthetic` names the subject nearest to each generated image, `ratios` holds its distance to
    that subject over that to the next, `extreme_ratio` is a ratio far below what held-out people
    have, and `test` names the subject nearest to each held-out image. `subjects` is the number of
    training subjects. Columns: subject; images below `extreme_ratio`; share, theirs of all
    generated images, with its 95 % interval low, high; nearest, the share of all images that are
    nearest to this subject, however near; chance, the share of held-out people's images, with one
    more person who resembles all subjects equally; times, nearest over chance, with times_low and
    times_high.
    """
    counts = pd.Series(synthetic[ratios < extreme_ratio]).value_counts()
    rows = []
    for name in sorted(counts.index, key=lambda name: (-counts[name], name))[:MAX_SUBJECT_ROWS]:
        # How many images show the subject, and how many more than chance allows
        share, nearest = counts[name] / len(synthetic), float((synthetic == name).mean())
        bounds = make_interval(share, _resample_share(share, len(synthetic), name))
        chance = _smooth_share(people.estimate_mean(test == name), people.count, subjects)
        resampled = _resample_share(nearest, len(synthetic), name)
        times = make_interval(
            nearest / chance.value,
            None if chance.resamples is None else resampled / chance.resamples,
        )
        row = (name, int(counts[name]), share, bounds.low, bounds.high)
        rows.append((*row, nearest, chance.value, times.value, times.low, times.high))

    # The table
    columns = [
        "subject",
        "images",
        "share",
        "low",
        "high",
        "nearest",
        "chance",
        "times",
        "times_low",
        "times_high",
    ]
    return pd.DataFrame(rows, columns=columns)


def _smooth_share(share: Estimate, people: int, subjects: int) -> Estimate:
    """Return the share of people who resemble a subject, with a fictitious person added.

    This person resembles all subjects equally, so that the share is never 0.
    """
    resamples = (
        None
        if share.resamples is None
        else (share.resamples * people + 1 / subjects) / (people + 1)
    )
    return Estimate((share.value * people + 1 / subjects) / (people + 1), resamples)


def _resample_share(share: float, n: int, name: str) -> Float[np.ndarray, " draws"]:
    """Return a share of n images in resamples of the images."""
    return make_rng("named", name, n).binomial(n, share, BOOTSTRAP_RESAMPLES) / n
