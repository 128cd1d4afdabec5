"""Publish: a database becomes a release with card, provenance and checks."""
