"""Choices: the runs that a form of the studio offers, by what they hold."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from mien.runs.contents import describe_content
from mien.runs.store import Run, Store
from mien.study.sources import INDEX_FILE


@dataclass(frozen=True)
class Choice:
    """A run that can be chosen: its name, its alias (or its own name), and what it holds."""

    run: str
    label: str
    holds: str

    @property
    def text(self) -> str:
        """What a list shows of it."""
        return f"{self.label}: {self.holds}"


def list_choices(store: Store, is_wanted: Callable[[Run], bool]) -> list[Choice]:
    """Return the runs for which `is_wanted` holds, those with an alias first, then the latest."""
    aliases: dict[str, str] = {}
    for alias, name in store.read_aliases().items():
        aliases.setdefault(name, alias)
    runs = [Run(name, store.root / "runs" / name) for name in reversed(store.list_names())]
    wanted = sorted(
        (run for run in runs if is_wanted(run)), key=lambda run: run.name not in aliases
    )
    return [
        Choice(run.name, aliases.get(run.name, run.name), describe_content(run)) for run in wanted
    ]


def holds_faces(run: Run) -> bool:
    """Whether a run holds images with their table."""
    return (run.path / INDEX_FILE).exists()


def holds_real(run: Run) -> bool:
    """Whether a run holds real faces only."""
    return holds_faces(run) and _read_sources(run.path) == {"real"}


def holds_synthetic(run: Run) -> bool:
    """Whether a run holds generated faces only."""
    return holds_faces(run) and "real" not in _read_sources(run.path)


def is_generator(run: Run) -> bool:
    """Whether a run is a trained generator."""
    return (run.path / "generator.json").exists()


@lru_cache(maxsize=4096)
def _read_sources(folder: Path) -> frozenset[str]:
    """Return where the images of a run come from: `real`, or the runs that generated them.

    A run never changes, so that its table is read once.
    """
    return frozenset(pd.read_parquet(folder / INDEX_FILE, columns=["source"])["source"])


def name_shortly(run: str, store: Store) -> str:
    """Return the first alias of a run, or its own name."""
    return next((alias for alias, name in store.read_aliases().items() if name == run), run)
