"""Draws images from an exported denoiser; needs only torch and numpy.

Usage: python sample.py EMOTION [--count 8] [--seed 0] [--steps 16] [--out images]

For a generator that is conditioned on action units: [--units 12:0.8,6:0.5]
"""

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

here = Path(__file__).parent

about = json.loads((here / "export.json").read_text(encoding="utf-8"))

known = argparse.ArgumentParser(description="Draw images from the denoiser beside this file.")

known.add_argument("emotion", choices=list(about["classes"]))

known.add_argument("--count", type=int, default=8)

known.add_argument("--seed", type=int, default=0, help="image k has the seed SEED + k")

known.add_argument("--steps", type=int, default=about["sampler"]["steps"])

known.add_argument(
    "--out",
    type=Path,
    default=Path("images"),
    help="writes OUT.npy, and OUT.ppm or OUT.pgm to look at",
)

known.add_argument("--units", help="action units with strengths, such as 12:0.8,6:0.5")

given = known.parse_args()

denoise = torch.export.load(here / "denoiser.pt2").module()

labels = torch.full((given.count,), about["classes"][given.emotion])

seeds = (torch.Generator().manual_seed(given.seed + k) for k in range(given.count))

noise = torch.stack([torch.randn(about["size"], generator=seed) for seed in seeds])

# the levels of Karras et al. 2022, Equation 5
high, low = (about["sigma"][end] ** (1 / 7) for end in ("high", "low"))

levels = [(high + k / max(given.steps - 1, 1) * (low - high)) ** 7 for k in range(given.steps)] + [
    0.0
]

if "levels" in about["sampler"]:  # of a student, which draws in few steps that it has learnt
    most = len(about["sampler"]["levels"])
    if not 1 <= given.steps <= most:
        known.error(f"--steps must be 1 to {most}; given: {given.steps}")
    levels = [*about["sampler"]["levels"][: given.steps], 0.0]

given_units: list[torch.Tensor] = []

if given.units and "units" not in about:
    known.error("--units needs a generator that is conditioned on action units")

if "units" in about:  # those that are ordered, or of a training image of the class for each image
    columns = about["units"]["columns"]
    usual = about["units"]["classes"].get(given.emotion, [])
    rows = torch.zeros(given.count, len(columns))
    for name, _, strength in (term.partition(":") for term in (given.units or "").split(",")):
        if given.units and name not in columns[1:]:
            known.error(f"--units must name units among {', '.join(columns[1:])}; given: {name}")
        if given.units:
            place = columns.index(name)
            rows[:, place] = float(strength or about["units"]["typical"][place - 1])
            rows[:, 0] = 1
    if usual and not given.units:
        shares = torch.tensor([choice["share"] for choice in usual])
        for k in range(given.count):
            chosen = torch.multinomial(
                shares, 1, generator=torch.Generator().manual_seed(given.seed + k)
            )
            rows[k] = torch.tensor(usual[int(chosen)]["row"])
    given_units = [rows]

x = torch.from_numpy(np.load(here / "mean.npy")) + about["sampler"]["start"] * noise

last, last_h = None, 1.0

for sigma, after in pairwise(levels):  # DPM-Solver++(2M): Lu et al. 2022, Algorithm 2
    now = denoise(x, torch.full((given.count,), sigma), labels, *given_units).clamp(-1, 1)
    h = math.log(sigma / after) if after > 0 else 0.0
    first_order = last is None or about["sampler"]["name"] == "euler"
    guess = now if first_order else now + (now - last) * h / (2 * last_h)
    x = after / sigma * x + (1 - after / sigma) * guess
    last, last_h = now, h

images = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()

np.save(given.out.with_suffix(".npy"), images)  # [count, channels, height, width]

n, channels, height, width = images.shape

rows = images.transpose(0, 2, 3, 1)

if channels not in (1, 3):  # neither grey nor RGB: side by side
    rows = images.transpose(0, 2, 1, 3).reshape(n, height, channels * width, 1)

kind, name = ("P6", ".ppm") if channels == 3 else ("P5", ".pgm")

head = f"{kind} {rows.shape[2]} {rows.shape[0] * rows.shape[1]} 255\n".encode()

given.out.with_suffix(name).write_bytes(head + rows.tobytes())
