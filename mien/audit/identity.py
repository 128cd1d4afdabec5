"""An identity embedding, and which training subjects the generated images show, beyond chance
resemblance.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mien.audit.people import Level, People
from mien.audit.search import STEPS, Coarse
from mien.seeds import rng
from mien.stats import DRAWS, around

SHRINKAGE = 0.1  # of the covariance within people towards a multiple of the identity matrix
SUBJECTS = 20  # named in the table


@dataclass(frozen=True)
class Embedding:
    """Directions that tell people apart whatever they express: Fisher's, on principal components of
    pixels.
    """

    coarse: Coarse
    model: LinearDiscriminantAnalysis

    def __call__(self, soft: Float32[np.ndarray, "n side wide"]) -> Float32[np.ndarray, "n d"]:
        """Return softened images as points that lie together where they show one person."""
        return np.asarray(self.model.transform(self.coarse(soft)), dtype=np.float32)


def embedding(
    soft: Float32[np.ndarray, "n side wide"],
    subjects: np.ndarray,
    known: np.ndarray,
    coarse: Coarse,
) -> Embedding | None:
    """Return the embedding that training images give (Belhumeur et al. 1997, "Fisherfaces"), or
    nothing.

    It is learnt from the subjects that are `known` and have two images or more, three such at
    least, each image also mirrored and moved.
    """
    _, codes, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    kept = known & (counts[codes] > 1)
    if len(set(codes[kept].tolist())) < 3:
        return None
    sides = soft[kept], soft[kept][:, :, ::-1]
    laid = [coarse(side, down, right) for side in sides for down in STEPS for right in STEPS]
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=SHRINKAGE)
    return Embedding(coarse, model.fit(np.concatenate(laid), np.tile(codes[kept], len(laid))))


def named(
    made: np.ndarray,
    ratios: Float[np.ndarray, " k"],
    far: float,
    test: np.ndarray,
    people: People,
    subjects: int,
) -> pd.DataFrame:
    """Return the training subjects that generated images show, most shown first, 20 at most.

    `made` names the subject nearest to each generated image, `ratios` holds its distance to that
    subject over that to the next, `far` a ratio far below what held-out people have, and `test` the
    subject nearest to each held-out image. `subjects` is the number of training subjects. Columns:
    subject; images that lie below; share, theirs of all generated images, with its 95 % interval
    low, high; nearest, the share of all images that are nearest to this subject, however near;
    chance, the share of held-out people's, with one more person who resembles all equally; times,
    the one over the other, with times_low and times_high.
    """
    counts = pd.Series(made[ratios < far]).value_counts()
    rows = []
    for name in sorted(counts.index, key=lambda name: (-counts[name], name))[:SUBJECTS]:
        share, nearest = counts[name] / len(made), float((made == name).mean())
        bounds = around(share, _again(share, len(made), name))
        chance = _chance(people.mean(test == name), people.count, subjects)
        again = _again(nearest, len(made), name)
        times = around(
            nearest / chance.value, None if chance.drawn is None else again / chance.drawn
        )
        row = (name, int(counts[name]), share, bounds.low, bounds.high)
        rows.append((*row, nearest, chance.value, times.value, times.low, times.high))
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


def _chance(share: Level, people: int, subjects: int) -> Level:
    """Return the share of people who resemble a subject, with one more who resembles all subjects
    equally.
    """
    drawn = None if share.drawn is None else (share.drawn * people + 1 / subjects) / (people + 1)
    return Level((share.value * people + 1 / subjects) / (people + 1), drawn)


def _again(share: float, n: int, name: str) -> Float[np.ndarray, " draws"]:
    """Return what a share of n images is when they are drawn anew."""
    return rng("named", name, n).binomial(n, share, DRAWS) / n
