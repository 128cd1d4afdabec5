"""Which images are in a batch, and the learning rate, at each training step."""

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from mien import seeds
from mien.faces import name_units

# Batches


def compute_chances(
    index: pd.DataFrame, balance: float, clip_first: bool
) -> Float64[np.ndarray, " n"]:
    """Return the probability of each row of a Faces index to be drawn next; they add up to 1.

    An image of a class of n images has the weight n**-balance: 0 keeps the shares of the classes, 1
    makes them equal. With `clip_first` all clips of a class are equally likely, however many frames
    they have; a photograph without a clip counts as a clip.
    """
    size = index.groupby("emotion")["emotion"].transform("size").to_numpy(dtype=np.float64)
    weight = size**-balance
    if clip_first:
        clip = name_units(index, "clip")
        frames = clip.groupby([index["emotion"], clip]).transform("size").to_numpy(dtype=np.float64)
        clips = clip.groupby(index["emotion"]).transform("nunique").to_numpy(dtype=np.float64)
        weight = weight * size / (clips * frames)
    return weight / weight.sum()


def draw_batch(
    chances: Float64[np.ndarray, " n"], size: int, seed: int, step: int
) -> Int64[np.ndarray, " size"]:
    """Return the row numbers of the images of batch number `step`, drawn with replacement.

    Sampling is systematic (one random offset, then even steps through the cumulative
    probabilities), so every batch has the classes in nearly their expected shares.
    """
    rng = seeds.make_rng("batch", seed, step)
    ends = np.cumsum(chances)
    points = (np.arange(size) + rng.random()) / size * ends[-1]
    return rng.permutation(
        np.minimum(np.searchsorted(ends, points, side="right"), len(ends) - 1)
    ).astype(np.int64)


def compute_learning_rate(step: int, steps: int, peak: float, warmup: float, decay: float) -> float:
    """Return the learning rate of step 0..steps-1: a linear rise, `peak`, and a linear
    fall.

    `warmup` and `decay` are the shares of all steps that rise and fall take.
    """
    rise = min(1.0, (step + 1) / (warmup * steps)) if warmup > 0 else 1.0
    fall = min(1.0, (steps - step) / (decay * steps)) if decay > 0 else 1.0
    return peak * min(rise, fall)
