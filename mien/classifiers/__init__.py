"""Classifiers: the preprint's networks, any other of timm, and baselines that learn nothing."""
