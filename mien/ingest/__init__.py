"""Ingest: a licensed folder becomes Faces, with a report of oddities."""
