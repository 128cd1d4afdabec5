"""The synthetic images that are used: their number, and their classes."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mien.seeds import make_rng


def choose_rows(
    synthetic: Sequence[str], real: Sequence[str], ratio: float | None, balance: bool, seed: int
) -> Int[np.ndarray, " m"]:
    """Return the rows of the synthetic images that are used, in order.

    `synthetic` and `real` have the class of each image. With `ratio` there are so many per real
    image, or all if there are fewer. Their classes are in the proportions of the synthetic images
    or, with `balance`, the rarest classes of real and synthetic images together are filled first;
    without a ratio until each class has as many as the largest of the real ones. But for
    the rounding of the shares of classes, a larger ratio has the images of a smaller one too.
    """
    have, present = Counter(synthetic), Counter(real)
    classes = sorted(have)
    most = len(synthetic) if ratio is None else min(len(synthetic), round(ratio * len(real)))
    if balance:
        largest = max(present.values(), default=0)
        room = [have[name] for name in classes]
        if ratio is None:
            room = [min(have[name], max(0, largest - present[name])) for name in classes]
        wanted = _fill_evenly([present[name] for name in classes], room, min(most, sum(room)))
    else:
        wanted = _share_out([have[name] for name in classes], most)

    # The first so many of each class, in an order of its own
    labels, chosen = np.array(synthetic, dtype=str), []
    for name, count in zip(classes, wanted, strict=True):
        rows = np.flatnonzero(labels == name)
        order = make_rng("choose", name, seed).permutation(len(rows))
        chosen.append(rows[order[:count]])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


def _share_out(counts: Sequence[int], total: int) -> list[int]:
    """Return `total` shared out in proportion to `counts`, by largest remainders (Hare)."""
    exact = np.array(counts, dtype=float) * total / max(1, sum(counts))
    shares = np.floor(exact).astype(int)
    for index in np.argsort(shares - exact, kind="stable")[: total - int(shares.sum())]:
        shares[index] += 1
    return [int(share) for share in shares]


def _fill_evenly(present: Sequence[int], room: Sequence[int], total: int) -> list[int]:
    """Return how many are added to each so that the sums are as even as `room` allows."""
    added = [0] * len(present)
    for _ in range(total):
        open_numbers = [index for index in range(len(present)) if added[index] < room[index]]
        index = min(open_numbers, key=lambda number: (present[number] + added[number], number))
        added[index] += 1
    return added
