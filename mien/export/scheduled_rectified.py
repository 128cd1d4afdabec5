"""Draws images from an exported rectified flow with diffusers.

Usage: python sample_diffusers.py EMOTION [--count 8] [--seed 0] [--steps 50] [--out images.npy]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)

here = Path(__file__).parent

about = json.loads((here / "export.json").read_text(encoding="utf-8"))

known = argparse.ArgumentParser(
    description="Draw images with the scheduler and the denoiser beside this file."
)

known.add_argument("emotion", choices=list(about["classes"]))

known.add_argument("--count", type=int, default=8)

known.add_argument("--seed", type=int, default=0, help="image k has the seed SEED + k")

known.add_argument("--steps", type=int, default=about["scheduler"]["steps"])

known.add_argument("--out", type=Path, default=Path("images.npy"))

given = known.parse_args()

scheduler: Any = FlowMatchEulerDiscreteScheduler.from_pretrained(here, subfolder="scheduler")

denoise = torch.export.load(here / "denoiser.pt2").module()

labels = torch.full((given.count,), about["classes"][given.emotion])

seeds = (torch.Generator().manual_seed(given.seed + k) for k in range(given.count))

noise = torch.stack([torch.randn(about["size"], generator=seed) for seed in seeds])

mean = torch.from_numpy(np.load(here / "mean.npy"))

# the levels of Karras et al. 2022, Equation 5, as t = sigma / (1 + sigma)
high, low = (about["sigma"][end] ** (1 / 7) for end in ("high", "low"))

sigmas = [(high + k / max(given.steps - 1, 1) * (low - high)) ** 7 for k in range(given.steps)]

scheduler.set_timesteps(sigmas=[sigma / (1 + sigma) for sigma in sigmas])

x = about["sampler"]["start"] * noise / (1 + sigmas[0])

for step, sigma in zip(scheduler.timesteps, sigmas, strict=True):
    # x_t = (1 - t) x_0 + t noise, where x_0 is the difference from the mean face
    t = sigma / (1 + sigma)
    levels = torch.full((given.count,), sigma)
    clean = denoise(mean + x / (1 - t), levels, labels).clamp(-1, 1) - mean
    x = scheduler.step((x - clean) / t, step, x, return_dict=False)[0]

np.save(given.out, (((mean + x).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy())
