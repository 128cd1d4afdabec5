"""Seeds of clips: one number says whose face a clip shows, and how it moves.

The upper half of the 63 bits belongs to a person, so that several clips show one neutral face. The
whole number belongs to the clip. A clip can be drawn again from its number, label and generator.
"""

import numpy as np
from jaxtyping import Float, Int64

from mien import seeds
from mien.faces import EMOTIONS
from mien.generators.specs import PER_PERSON, GenerateSpec, SamplerSpec

CLIP_BITS = 32  # the lower bits of a seed


def plan_clips(
    run_name: str, how: GenerateSpec
) -> tuple[list[tuple[str, str]], Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return (key, emotion), label and seed of each clip of a database, in the order of EMOTIONS.

    Clip k of an emotion has the same seed in every database with the same `seed` and the same
    `per_person`, whatever its counts. Its person is the one with the number k // `per_person`.
    """
    rows = [(emotion, k) for emotion in EMOTIONS for k in range(how.counts.get(emotion, 0))]
    labels = np.array([EMOTIONS.index(emotion) for emotion, _ in rows], dtype=np.int64)
    each = how.per_person or PER_PERSON
    numbers = np.array(
        [combine_seed(how.seed, k // each, emotion, k) for emotion, k in rows], dtype=np.int64
    )
    return [(f"{run_name}/{emotion}/{k:05d}", emotion) for emotion, k in rows], labels, numbers


def combine_seed(seed: int, person: int, emotion: str, number: int) -> int:
    """Return the seed of clip `number` of an emotion, by a person, in databases with `seed`."""
    own = seeds.derive_seed("image", seed, emotion, number) & ((1 << CLIP_BITS) - 1)
    return (seeds.derive_seed("person", seed, person) >> CLIP_BITS << CLIP_BITS) | own


def find_person_seeds(numbers: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return the seed of the neutral face of each clip."""
    people = [seeds.derive_seed("neutral", int(number) >> CLIP_BITS) for number in numbers]
    return np.array(people, dtype=np.int64)


def draw_intensities(numbers: Int64[np.ndarray, " n"], how: SamplerSpec) -> Float[np.ndarray, " n"]:
    """Return by how much the movement of each clip is multiplied, within the limits of `how`.

    It is 1 where `how` has no limits, and otherwise uniform between them, by the seed of the clip.
    """
    limits = how.intensity if isinstance(how, GenerateSpec) else None
    low, high = limits or (1.0, 1.0)
    shares = [seeds.make_rng("intensity", int(number)).random() for number in numbers]
    return (low + (high - low) * np.array(shares)).astype(np.float32)
