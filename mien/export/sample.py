"""Draws images from an exported denoiser; needs only torch and numpy.

Usage: python sample.py EMOTION [--count 8] [--seed 0] [--steps 16] [--out images]
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

x = torch.from_numpy(np.load(here / "mean.npy")) + about["sampler"]["start"] * noise

last, last_h = None, 1.0

for sigma, after in pairwise(levels):  # DPM-Solver++(2M): Lu et al. 2022, Algorithm 2
    now = denoise(x, torch.full((given.count,), sigma), labels).clamp(-1, 1)
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
