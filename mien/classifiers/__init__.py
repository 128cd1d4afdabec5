"""Classifiers: networks, and baselines that learn nothing about faces."""
