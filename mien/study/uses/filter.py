"""The choice of synthetic faces: by agreement of judges, entropy and spread.

An image must show what its label says, so judges that learnt from real people must agree with the
label. Images of which the judges are surest are all alike, and those of which they are least sure
show no class, so a band of entropy between them passes. Of what passes, the images that lie far
apart are chosen (Gonzalez 1985), a share of each class; where too few pass, the next best.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int

from mien.audit.labels.judges import Judges, predict_with_components
from mien.errors import DataError
from mien.faces import Faces
from mien.runs.progress import quantify, track
from mien.seeds import make_rng
from mien.study.uses.specs import DROP_REASONS, KEPT, KEPT_BELOW, FilterSpec


@dataclass(frozen=True)
class Judgements:
    """What judges say of n images.

    `probability` is that of the image's label, from 0 to 1, and `entropy` that of the prediction,
    in nats; the prediction is the mean over the judges. Both are nan for an image whose class no
    judge knows. `points` are float32 [n, d], the place of each image in the space of the judges:
    squared distances are the mean over the judges of those between standardised components.
    """

    probability: Float[np.ndarray, " n"]
    entropy: Float[np.ndarray, " n"]
    points: Float32[np.ndarray, "n d"]

    @property
    def judged(self) -> Bool[np.ndarray, " n"]:
        """Which images show a class that judges know."""
        return ~np.isnan(self.probability)


def judge_labels(panel: Judges, faces: Faces) -> Judgements:
    """Return what the judges of a panel say of `faces`, each probability by those who know it."""
    # The mean over the judges that know a class; then the probabilities of an image sum to 1
    by_judge, components = predict_with_components(panel, faces)
    mean = by_judge.sum(axis=0) / panel.knows.sum(axis=0)
    mean /= mean.sum(axis=1, keepdims=True)

    # The probability of the label, and the entropy
    number = {name: position for position, name in enumerate(panel.classes)}
    labels = np.array([number.get(name, -1) for name in faces.index["emotion"]], dtype=np.int64)
    judged = labels >= 0
    entropy = -(mean * np.log(np.maximum(mean, np.finfo(mean.dtype).tiny))).sum(axis=1)

    judges, images, width = components.shape
    points = components.swapaxes(0, 1).reshape(images, judges * width) / np.float32(judges**0.5)
    return Judgements(
        np.where(judged, mean[np.arange(images), labels], np.nan),
        np.where(judged, entropy, np.nan),
        np.ascontiguousarray(points),
    )


def choose_images(faces: Faces, judgements: Judgements, spec: FilterSpec) -> np.ndarray:
    """Return for each image KEPT, KEPT_BELOW, or why it is not kept: a name in DROP_REASONS.

    Equally many images of each class are kept, `spec.share` of the mean number per class; of a
    class with fewer images than the mean, `spec.share` of its own, and one at least. All images of
    a class that no judge knows pass. Raises DataError if none may be kept.
    """
    # How many of each class
    emotions = faces.index["emotion"].to_numpy(dtype=str)
    rows_of = {name: np.flatnonzero(emotions == name) for name in faces.classes}
    most = int(round(spec.share * len(faces) / len(rows_of), 6))
    if not most:
        raise DataError(
            f"share must leave one image of each class or more, and {spec.share:g} of "
            f"{quantify(len(faces), 'image')} of {len(rows_of)} classes is less; give a larger "
            "share, or generate more images"
        )
    count_of = {
        name: min(most, max(1, round(spec.share * len(rows)))) for name, rows in rows_of.items()
    }

    outcomes = np.full(len(faces), KEPT, dtype=object)
    with track("choosing faces", sum(count_of.values())) as bar:
        done = 0
        for name, rows in rows_of.items():
            count = count_of[name]
            probability = judgements.probability[rows]
            outcomes[rows] = _test_images(
                probability, judgements.entropy[rows], spec.agreement, spec.band
            )
            passed = rows[outcomes[rows] == KEPT]
            rng = make_rng("filter", spec.seed, name)
            if len(passed) < count:
                # Too few pass: the most probable labels among the others
                others = np.flatnonzero(outcomes[rows] != KEPT)
                best = others[np.argsort(-probability[others], kind="stable")]
                outcomes[rows[best[: count - len(passed)]]] = KEPT_BELOW
            elif spec.spread:
                first = int(rng.integers(len(passed)))
                chosen = choose_spread(judgements.points[passed], count, first)
                outcomes[np.delete(passed, chosen)] = "not_chosen"
            else:
                outcomes[rng.permutation(passed)[count:]] = "not_chosen"
            done += count
            bar.update(done)
    return outcomes


def _test_images(
    probability: Float[np.ndarray, " n"],
    entropy: Float[np.ndarray, " n"],
    agreement: float,
    band: tuple[float, float],
) -> np.ndarray:
    """Return for each image of a class KEPT, no_agreement or outside_band."""
    outcomes = np.full(len(probability), KEPT, dtype=object)
    outcomes[probability < agreement] = "no_agreement"  # never true of nan
    agreed = np.flatnonzero(~(probability < agreement))
    if len(agreed) and not np.isnan(entropy[agreed]).any():
        # The two bounds are images themselves, so that some image is always between them
        low = np.quantile(entropy[agreed], band[0], method="lower")
        high = np.quantile(entropy[agreed], band[1], method="higher")
        outcomes[agreed[(entropy[agreed] < low) | (entropy[agreed] > high)]] = "outside_band"
    return outcomes


def choose_spread(
    points: Float32[np.ndarray, "n d"], count: int, first: int
) -> Int[np.ndarray, " count"]:
    """Return `count` positions that lie far apart, in the order in which they are chosen.

    Each is the one farthest from all that are chosen before, beginning with `first`: greedy
    k-centre (Gonzalez 1985, Section 2), whose largest distance of a point to the nearest chosen one
    is at most twice the smallest possible. Of equally far points the first is chosen. It takes
    `count` passes over the points.
    """
    chosen = np.empty(count, dtype=np.int64)
    nearest = np.full(len(points), np.inf, dtype=np.float32)  # squared, to the chosen points
    difference = np.empty_like(points)
    row = first
    for number in range(count):
        chosen[number] = row
        np.subtract(points, points[row], out=difference)
        np.minimum(nearest, np.einsum("nd,nd->n", difference, difference), out=nearest)
        nearest[row] = -1  # below all distances, so that no point is chosen twice
        row = int(nearest.argmax())
    return chosen


def count_outcomes(
    faces: Faces, outcomes: np.ndarray, judged: Bool[np.ndarray, " n"]
) -> pd.DataFrame:
    """Return for each class how many images were given, dropped for each reason, and kept.

    `judged` is false for a class that no judge knows.
    """
    emotions = faces.index["emotion"].to_numpy(dtype=str)
    rows = []
    for name in faces.classes:
        of_class = emotions == name
        counts = {
            outcome: int((outcomes[of_class] == outcome).sum())
            for outcome in (*DROP_REASONS, KEPT, KEPT_BELOW)
        }
        rows.append(
            {
                "class": name,
                "judged": bool(judged[of_class].all()),
                "given": int(of_class.sum()),
                **counts,
            }
        )
    return pd.DataFrame(rows)
