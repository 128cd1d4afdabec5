"""Generators: from faces to a trained model of them, and from that to new faces."""
