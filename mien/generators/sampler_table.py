"""SAMPLERS: what each sampler costs and adds; the methods are in samplers.py."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SamplerFacts:
    """What is known of a sampler; its code is the function of its name in `diffusion.samplers`.

    `text` says what it is. `steps` is its default number of steps, and `calls` the number of calls
    of the network per step. `adds_noise` says whether each step adds fresh noise.
    """

    text: str
    steps: int
    calls: int = 1
    adds_noise: bool = False


SAMPLERS: Mapping[str, SamplerFacts] = {
    "dpmpp2m": SamplerFacts("DPM-Solver++(2M), order 2", 16),
    "unipc": SamplerFacts("UniPC-2, order 3", 16),
    "heun": SamplerFacts("Heun's method, order 2", 18, calls=2),
    "euler": SamplerFacts("Euler's method, order 1", 50),
    "ancestral": SamplerFacts("the random chain of a DDPM", 100, adds_noise=True),
}
"""A new sampler is an entry here, and the function of the same name."""


def list_noisy_samplers() -> list[str]:
    """Return the samplers whose steps add fresh noise."""
    return [name for name, facts in SAMPLERS.items() if facts.adds_noise]
