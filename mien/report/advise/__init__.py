"""Advice: whether to add synthetic faces to a training set, and how."""
