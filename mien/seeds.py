"""Randomness as a function of names, never of the order of calls."""

import hashlib

import numpy as np


def derive_seed(*names: str | int) -> int:
    """Return a seed in [0, 2**63) that depends only on `names`.

    It is a part of their sha256, so it is equal on every machine.
    """
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_rng(*names: str | int) -> np.random.Generator:
    """Return NumPy's default generator, seeded by `names`."""
    return np.random.default_rng(derive_seed(*names))
