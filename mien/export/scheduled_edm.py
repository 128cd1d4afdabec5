"""Draws images from an exported edm denoiser with the scheduler of diffusers.

Usage: python sample_diffusers.py EMOTION [--count 8] [--seed 0] [--steps 16] [--out images.npy]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_edm_dpmsolver_multistep import EDMDPMSolverMultistepScheduler

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

scheduler: Any = EDMDPMSolverMultistepScheduler.from_pretrained(here, subfolder="scheduler")

denoise = torch.export.load(here / "denoiser.pt2").module()

labels = torch.full((given.count,), about["classes"][given.emotion])

seeds = (torch.Generator().manual_seed(given.seed + k) for k in range(given.count))

noise = torch.stack([torch.randn(about["size"], generator=seed) for seed in seeds])

x = torch.from_numpy(np.load(here / "mean.npy")) + about["sampler"]["start"] * noise

scheduler.set_timesteps(given.steps)

for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
    clean = denoise(x, sigma.expand(given.count), labels).clamp(-1, 1)
    # The scheduler asks for the raw network, and makes this of it: clean = skip * x + out * raw.
    sigma_data = scheduler.config["sigma_data"]
    skip, out = (
        sigma_data**2 / (sigma**2 + sigma_data**2),
        sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt(),
    )
    x = scheduler.step((clean - skip * x) / out, t, x, return_dict=False)[0]

np.save(given.out, ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy())
