"""Prepare: faces become faces, with frames chosen, cut out, resized, split and joined."""
