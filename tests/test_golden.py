"""Golden values of generators: first losses, and an image of each sampler.

They were written down once, and change only with a change of the arithmetic. Processors round
differently: a loss may differ by 0.1 %, and a pixel by 2 of 255 grey levels.
"""

from pathlib import Path

import numpy as np
import pytest
from worlds import DIFFUSIONS, HAPPY, ONE_PASS, company, fitted, spec_of, toy, training_of

from mien.generators.kinds import fit_generator, sample_generator
from mien.generators.sampler_table import SAMPLERS
from mien.generators.specs import SamplerSpec

FIRST_LOSSES = {
    "ddpm": [0.9895, 1.0381, 0.9562],
    "edm": [0.9899, 1.0172, 0.9479],
    "rectified": [1.3433, 1.3927, 1.2801],
}
# Nine pixels of an image of 24 x 24, after 4 steps from seed 1, with random weights
PIXELS = {
    ("ddpm", "dpmpp2m"): [255, 0, 111, 0, 36, 0, 255, 0, 16],
    ("ddpm", "unipc"): [255, 0, 104, 0, 37, 0, 255, 0, 16],
    ("ddpm", "heun"): [255, 0, 37, 0, 117, 0, 255, 0, 24],
    ("ddpm", "euler"): [255, 0, 181, 0, 22, 0, 255, 0, 11],
    ("ddpm", "ancestral"): [0, 0, 255, 132, 2, 0, 255, 28, 255],
    ("edm", "dpmpp2m"): [246, 18, 96, 155, 255, 154, 188, 156, 158],
    ("edm", "unipc"): [246, 18, 95, 155, 255, 153, 188, 156, 158],
    ("edm", "heun"): [255, 0, 179, 48, 255, 114, 255, 0, 200],
    ("edm", "euler"): [198, 74, 103, 186, 255, 160, 159, 182, 162],
    ("edm", "ancestral"): [133, 64, 112, 198, 224, 146, 179, 216, 173],
    ("rectified", "dpmpp2m"): [255, 0, 164, 0, 171, 0, 203, 0, 85],
    ("rectified", "unipc"): [255, 0, 165, 0, 173, 0, 203, 0, 85],
    ("rectified", "heun"): [255, 0, 7, 0, 4, 1, 166, 0, 127],
    ("rectified", "euler"): [255, 0, 164, 0, 136, 0, 217, 0, 87],
    ("rectified", "ancestral"): [0, 0, 190, 204, 57, 60, 153, 67, 255],
}


@pytest.mark.parametrize("kind", list(DIFFUSIONS))
def test_the_first_losses_of_a_training_are_those_written_down(kind: str, tmp_path: Path):
    losses = fitted(toy(), spec_of(kind), tmp_path).losses["loss"]
    assert losses[:3].tolist() == pytest.approx(FIRST_LOSSES[kind], rel=1e-3)


@pytest.mark.parametrize("kind", list(DIFFUSIONS))
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_image_of_a_sampler_is_the_one_written_down(kind: str, sampler: str):
    how = SamplerSpec(sampler=sampler, steps=4)
    image = sample_generator(company(kind), np.array([HAPPY]), np.array([1]), sampler=how)[0, 0]
    pixels = image[4::8, 4::8].flatten()
    assert pixels.tolist() == pytest.approx(PIXELS[kind, sampler], abs=2)


# The first losses of generators in one pass, and nine pixels of an image of 24 x 24 from seed 1
ONE_PASS_VALUES = {
    "vae": ([1.0331, 1.0376, 1.0293], [142, 146, 143, 143, 143, 132, 141, 144, 128]),
    "gan": ([1.0972, 1.0042, 1.1949], [126, 101, 114, 138, 149, 129, 126, 124, 111]),
    "imle": ([2.2878, 2.2568, 1.4534], [178, 210, 162, 143, 198, 187, 191, 159, 141]),
}


@pytest.mark.parametrize("kind", ONE_PASS)
def test_losses_and_an_image_of_a_generator_in_one_pass_are_those_written_down(
    kind: str, tmp_path: Path
):
    generator = fit_generator(toy(size=24), training_of(kind), tmp_path, device="cpu")
    losses, pixels = ONE_PASS_VALUES[kind]
    assert generator.losses["loss"][:3].tolist() == pytest.approx(losses, rel=1e-3)
    image = sample_generator(generator, np.array([HAPPY]), np.array([1]))[0, 0]
    assert image[4::8, 4::8].flatten().tolist() == pytest.approx(pixels, abs=2)
