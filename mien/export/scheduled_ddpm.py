"""Draws images from an exported ddpm denoiser with the scheduler of diffusers.

Usage: python sample_diffusers.py EMOTION [--count 8] [--seed 0] [--steps T] [--out images.npy]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

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

scheduler: Any = DDPMScheduler.from_pretrained(here, subfolder="scheduler")

denoise = torch.export.load(here / "denoiser.pt2").module()

mean = torch.from_numpy(np.load(here / "mean.npy"))

labels = torch.full((given.count,), about["classes"][given.emotion])

seeds = [torch.Generator().manual_seed(given.seed + k) for k in range(given.count)]

x = torch.stack([torch.randn(about["size"], generator=seed) for seed in seeds])

scheduler.set_timesteps(given.steps)

for t in scheduler.timesteps:  # the chain knows only differences from the mean face
    signal = scheduler.alphas_cumprod[t]
    sigma = ((1 - signal) / signal).sqrt()
    clean = denoise(mean + x / signal.sqrt(), sigma.expand(given.count), labels).clamp(-1, 1)
    x = scheduler.step(clean - mean, t, x, generator=seeds, return_dict=False)[0]

np.save(given.out, (((mean + x).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy())
