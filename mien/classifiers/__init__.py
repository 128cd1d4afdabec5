"""Classifiers: networks, and baselines, which are no networks."""
