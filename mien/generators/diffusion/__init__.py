"""Diffusion: what its kinds share, from the network to the training loop."""
