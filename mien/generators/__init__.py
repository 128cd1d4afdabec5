"""Generators: trained models of faces, and the new faces that they draw."""
