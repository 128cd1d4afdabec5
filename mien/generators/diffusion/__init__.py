"""Diffusion: what ddpm and edm share, from the network to the training loop."""
