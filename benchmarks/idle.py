"""A job that does nothing, in a module of its own: workers import what they do."""

from mien.runs.store import Store


def nothing(store: Store) -> str:
    """Do nothing."""
    return "done"
