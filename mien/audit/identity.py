"""An identity embedding, and which training subject the generated images show, beyond what chance resemblance explains."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mien.audit.people import ALARM, Level, People
from mien.audit.search import Coarse
from mien.seeds import rng
from mien.stats import around

SHRINKAGE = 0.1  # of the covariance within people towards a multiple of the identity matrix
SUBJECTS = 20  # named in the table


@dataclass(frozen=True)
class Embedding:
    """Directions that tell people apart whatever they express: Fisher's, on principal components of pixels."""

    coarse: Coarse
    model: LinearDiscriminantAnalysis

    def __call__(self, soft: Float32[np.ndarray, "n side wide"]) -> Float32[np.ndarray, "n d"]:
        """Return softened images as points that lie together where they show one person."""
        return np.asarray(self.model.transform(self.coarse(soft)), dtype=np.float32)


def embedding(
    soft: Float32[np.ndarray, "n side wide"], subjects: np.ndarray, known: np.ndarray, coarse: Coarse
) -> Embedding | None:
    """Return the embedding that training images give (Belhumeur et al. 1997, "Fisherfaces"), or nothing.

    It is learnt from the subjects that are `known` and have two images or more, three such at least, each image also
    mirrored.
    """
    names, codes, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    kept = known & (counts[codes] > 1)
    if len(set(codes[kept].tolist())) < 3:
        return None
    both = np.concatenate([coarse(soft[kept]), coarse(soft[kept][:, :, ::-1])])
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=SHRINKAGE)
    return Embedding(coarse, model.fit(both, np.tile(codes[kept], 2)))


def named(
    made: np.ndarray, alarmed: Float[np.ndarray, " k"], level: Level, test: np.ndarray, people: People, subjects: int
) -> pd.DataFrame:
    """Return the training subjects that generated images show, most shown first, 20 at most.

    `made` names the subject nearest to each generated image, `alarmed` holds its ratio of distances to that subject and to
    the next, `level` the ratio that held-out people seldom fall below, and `test` the subject nearest to each held-out
    image. Columns: subject; images, which fall below the level; share of all generated images, with its 95 % interval low,
    high; chance, the share expected were these other people (the alarm's 1 %, dealt out as held-out people resemble
    subjects, with one more person who resembles all equally); times, the one over the other, with times_low, times_high.
    """
    below = alarmed < level.value
    counts = pd.Series(made[below]).value_counts()
    order = sorted(counts.index, key=lambda name: (-counts[name], name))[:SUBJECTS]
    rows = []
    for name in order:
        share, chance = counts[name] / len(made), people.mean(test == name)
        expected = ALARM * (chance.value * people.count + 1 / subjects) / (people.count + 1)
        row = {"subject": name, "images": int(counts[name]), "share": share, "chance": expected, "times": share / expected}
        if level.drawn is None or chance.drawn is None:
            bounds = times = (float("nan"), float("nan"))
        else:
            ranked = np.sort(alarmed[made == name])
            shares = np.searchsorted(ranked, level.drawn, side="left") / len(made)
            shares = rng("named", name, len(made)).binomial(len(made), shares) / len(made)
            expectations = ALARM * (chance.drawn * people.count + 1 / subjects) / (people.count + 1)
            found = around(share, shares), around(share / expected, shares / expectations)
            bounds, times = ((part.low, part.high) for part in found)
        rows.append({**row, "low": bounds[0], "high": bounds[1], "times_low": times[0], "times_high": times[1]})
    columns = ["subject", "images", "share", "low", "high", "chance", "times", "times_low", "times_high"]
    return pd.DataFrame(rows, columns=columns)
