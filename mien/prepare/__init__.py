"""Prepare: faces become faces: frames chosen, cropped, split, joined."""
