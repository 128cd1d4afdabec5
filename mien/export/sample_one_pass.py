"""Draws images from an exported generator; needs only torch and numpy.

Usage: python sample.py EMOTION [--count 8] [--seed 0] [--out images]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

here = Path(__file__).parent

about = json.loads((here / "export.json").read_text(encoding="utf-8"))

known = argparse.ArgumentParser(description="Draw images from the generator beside this file.")

known.add_argument("emotion", choices=list(about["classes"]))

known.add_argument("--count", type=int, default=8)

known.add_argument("--seed", type=int, default=0, help="image k has the seed SEED + k")

known.add_argument(
    "--out",
    type=Path,
    default=Path("images"),
    help="writes OUT.npy, and OUT.ppm or OUT.pgm to look at",
)

given = known.parse_args()

generate = torch.export.load(here / "generator.pt2").module()

labels = torch.full((given.count,), about["classes"][given.emotion])

seeds = (torch.Generator().manual_seed(given.seed + k) for k in range(given.count))

noise = torch.stack([torch.randn(about["noise"], generator=seed) for seed in seeds])

x = generate(noise, labels)

images = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()

np.save(given.out.with_suffix(".npy"), images)  # [count, channels, height, width]

n, channels, height, width = images.shape

rows = images.transpose(0, 2, 3, 1)

if channels not in (1, 3):  # neither grey nor RGB: side by side
    rows = images.transpose(0, 2, 1, 3).reshape(n, height, channels * width, 1)

kind, name = ("P6", ".ppm") if channels == 3 else ("P5", ".pgm")

head = f"{kind} {rows.shape[2]} {rows.shape[0] * rows.shape[1]} 255\n".encode()

given.out.with_suffix(name).write_bytes(head + rows.tobytes())
