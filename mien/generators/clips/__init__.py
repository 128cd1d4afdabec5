"""Clips: what generators of movement share, from training pairs to frames."""
