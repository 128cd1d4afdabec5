"""Association of the class with brightness, light, pose and person.

The measure is the share of the entropy of the class that a number explains: mutual information over
the entropy (Theil's uncertainty coefficient), with the number in five bins of equal size. From
small samples it comes out too large; its mean under permuted labels is taken off, and the 95th
percentile under permuted labels is its floor.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from mien.seeds import make_rng

BINS = 5  # bins of a number, of as many images each

LABEL_PERMUTATIONS = 100  # permutations of the labels

CHANCE_PERCENT = 95  # percentile of the permutations that is the floor


def divide_into_bins(values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return the bin of each value, from 0; equal values are in one bin."""
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    return np.searchsorted(edges, values, side="left").astype(np.int64)


def associate(
    bins: Mapping[str, Int[np.ndarray, " n"]], labels: Int[np.ndarray, " n"], draw: str
) -> dict[str, tuple[float, float]]:
    """Return the association of each number with the labels, and its floor.

    Both are shares of the entropy of the labels less what chance gives, so 0 is no association; 1
    would say that the bins tell the label. Without a second label they are nan. `draw` names the
    random permutations.
    """
    classes = np.unique(labels)
    shares = (labels[:, None] == classes).mean(axis=0)
    entropy = float(-(shares * np.log(shares)).sum())
    if len(classes) < 2:
        return dict.fromkeys(bins, (float("nan"), float("nan")))

    # The labels as they are, and permuted
    generator = make_rng("variety", "association", draw, len(labels))
    orders = [np.arange(len(labels))]
    orders += [generator.permutation(len(labels)) for _ in range(LABEL_PERMUTATIONS)]
    dealt = labels[np.stack(orders)]
    is_class = np.stack([dealt == name for name in classes]).astype(np.float32)

    # What each number tells of them
    found = {}
    for name, bin_of in bins.items():
        in_bin = (bin_of[:, None] == np.unique(bin_of)).astype(np.float32)
        told = _measure_information(is_class @ in_bin / len(labels)) / entropy
        chance = told[1:].mean()
        floor = np.percentile(told[1:], CHANCE_PERCENT) - chance
        found[name] = (float(told[0] - chance), float(floor))
    return found


def _measure_information(
    joint: Float[np.ndarray, "classes draws bins"],
) -> Float[np.ndarray, " draws"]:
    """Return the mutual information, in nats, of each joint distribution of classes and bins."""
    joint = joint.astype(np.float64)
    product = joint.sum(axis=0, keepdims=True) * joint.sum(axis=2, keepdims=True)
    ratio = np.divide(joint, product, out=np.ones_like(joint), where=joint > 0)
    return (joint * np.log(ratio)).sum(axis=(0, 2))
