"""Leakage: what two sets share that should share nothing."""
