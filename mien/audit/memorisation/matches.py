"""Matches: the result of the search, computed in blocks and kept as runs.

This takes the longest in audits of many images, so an engine makes blocks in parallel. A block
holds the same images whoever makes it, and so the same numbers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from mien.audit.inverted_lists import EXACT_ROWS
from mien.audit.memorisation.search import (
    Coarse,
    Match,
    list_coarsely,
    make_owners,
    match_pixels,
    soften,
)
from mien.audit.specs import MatchesSpec
from mien.faces import Faces, name_distinct_units
from mien.runs.progress import quantify
from mien.runs.store import Run, RunSummary, Store

MATCH_BLOCK_IMAGES = 8192  # images that are matched together

# a block of a large set has this share of as many images as there are training images: each block
# prepares all of these once
BLOCK_SHARE = 0.25


@dataclass(frozen=True)
class Matches:
    """The matches of generated and held-out images, and the distances between training clips.

    `nearest_outside_clip` is the distance of each training image to the nearest one outside its own
    clip; it is nan for training images that are nearest to no image.
    """

    synthetic: Match
    test: Match
    nearest_outside_clip: Float[np.ndarray, " n"]

    def select_test(self, is_kept: Bool[np.ndarray, " m"]) -> "Matches":
        """Return these matches with only the held-out images that `is_kept` marks."""
        selected = Match(*(getattr(self.test, field.name)[is_kept] for field in fields(Match)))
        return Matches(self.synthetic, selected, self.nearest_outside_clip)


class MatchFinder:
    """Training images, prepared for searching.

    More than EXACT_ROWS training images are searched by inverted lists, unless `exact` asks for a
    comparison with all. Raises DataError if they are all of one clip, or smaller than 8 pixels.
    """

    def __init__(self, train: Faces, exact: bool = False) -> None:
        self.owners = make_owners(
            name_distinct_units(train.index, "clip"), name_distinct_units(train.index, "subject")
        )
        self.soft = soften(train.images)
        self.coarse = Coarse.fit(self.soft)
        by_lists = not exact and len(train) > EXACT_ROWS
        self.lists = list_coarsely(self.soft, self.owners, self.coarse) if by_lists else None

    def match_block(self, faces: Faces, first: int, last: int) -> Match:
        """Return the matches of a block of faces."""
        queries = soften(faces.images[first:last])
        return match_pixels(queries, self.soft, self.owners, self.coarse, lists=self.lists)

    def match_outside_clip(self, positions: Int[np.ndarray, " k"]) -> Match:
        """Return the matches of some training images outside their own clips."""
        queries = self.soft[positions]
        return match_pixels(queries, self.soft, self.owners, self.coarse, positions, self.lists)


def find_matches(train: Faces, test: Faces, synthetic: Faces) -> Matches:
    """Return the matches of two sides, found in this process.

    Raises DataError as `MatchFinder` does.
    """
    finder = MatchFinder(train)
    sides = [
        [finder.match_block(faces, *block) for block in split_blocks(len(faces), len(train))]
        for faces in (synthetic, test)
    ]
    needed = [
        _list_nearest(sides[0] + sides[1], *block) for block in split_blocks(len(train), len(train))
    ]
    return _join_matches(
        sides[0],
        sides[1],
        needed,
        [finder.match_outside_clip(positions) for positions in needed],
        len(train),
    )


def split_blocks(count: int, train_count: int) -> list[tuple[int, int]]:
    """Return the blocks of so many images, each as its first position and that after its last.

    They are larger if there are many training images.
    """
    size = MATCH_BLOCK_IMAGES * max(1, round(BLOCK_SHARE * train_count / MATCH_BLOCK_IMAGES))
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def _list_nearest(matches: Sequence[Match], first: int, last: int) -> Int[np.ndarray, " k"]:
    """Return the training images from `first` to `last` that were found nearest to any image."""
    nearest = np.unique(np.concatenate([match.nearest for match in matches]))
    return nearest[(nearest >= first) & (nearest < last)]


def _join_matches(
    synthetic: Sequence[Match],
    test: Sequence[Match],
    positions_by_block: Sequence[Int[np.ndarray, " _"]],
    within: Sequence[Match],
    count: int,
) -> Matches:
    nearest_outside_clip = np.full(count, np.nan)
    for positions, match in zip(positions_by_block, within, strict=True):
        nearest_outside_clip[positions] = match.distance
    return Matches(
        _concatenate_matches(synthetic), _concatenate_matches(test), nearest_outside_clip
    )


def _concatenate_matches(parts: Sequence[Match]) -> Match:
    return Match(
        *(
            np.concatenate([getattr(match, field.name) for match in parts])
            for field in fields(Match)
        )
    )


# Runs


@dataclass(frozen=True)
class MatchPlan:
    """The blocks of the three sides of an audit; those of training images need all others."""

    synthetic: tuple[MatchesSpec, ...]
    test: tuple[MatchesSpec, ...]
    within: tuple[MatchesSpec, ...]


def plan_blocks(train: Run, test: Run, synthetic: Run) -> MatchPlan:
    """Return the blocks of an audit of these runs of faces."""

    train_count = len(Faces.load(train.path))

    def list_specs(run: Run, nearest_of: tuple[str, ...] = ()) -> tuple[MatchesSpec, ...]:
        shared_fields = {
            "faces": run.name,
            "train": train.name,
            "nearest_of": nearest_of,
            "by_lists": train_count > EXACT_ROWS,
        }
        count = len(Faces.load(run.path))
        return tuple(
            MatchesSpec.model_validate({**shared_fields, "first": a, "last": b})
            for a, b in split_blocks(count, train_count)
        )

    sides = list_specs(synthetic), list_specs(test)
    return MatchPlan(
        *sides, list_specs(train, tuple(block_spec.name for side in sides for block_spec in side))
    )


def load_or_make(train: Run, test: Run, synthetic: Run, store: Store) -> Matches:
    """Return the matches of two sides from the runs of their blocks, which are made if missing."""
    blocks = plan_blocks(train, test, synthetic)
    tables = [
        [_read_table(run(spec, store)) for spec in specs]
        for specs in (blocks.synthetic, blocks.test, blocks.within)
    ]
    of_synthetic, of_test, within = (
        [_make_match(table) for table in side_tables] for side_tables in tables
    )
    places_of = [table["place"].to_numpy() for table in tables[2]]
    return _join_matches(of_synthetic, of_test, places_of, within, len(Faces.load(train.path)))


def run(spec: MatchesSpec, store: Store) -> Run:
    """Return the run of a block: matches.parquet, with the position and match of each image."""
    faces, train = (store.run(name) for name in (spec.faces, spec.train))

    def build(out: Path, scratch: Path) -> RunSummary:
        finder = MatchFinder(Faces.load(train.path))
        if spec.nearest_of:
            nearest_blocks = [_make_match(_read_table(store.run(name))) for name in spec.nearest_of]
            nearest = _list_nearest(nearest_blocks, spec.first, spec.last)
            match = finder.match_outside_clip(nearest)
        else:
            nearest = np.arange(spec.first, spec.last)
            match = finder.match_block(Faces.load(faces.path), spec.first, spec.last)
        pd.DataFrame({"place": nearest, **asdict(match)}).to_parquet(
            out / "matches.parquet", index=False
        )
        return {"holds": f"{quantify(len(nearest), 'image')} matched to {len(finder.soft):,}"}

    return store.make(spec, build)


def _read_table(run: Run) -> pd.DataFrame:
    return pd.read_parquet(run.find_file("matches.parquet"))


def _make_match(table: pd.DataFrame) -> Match:
    return Match(*(table[field.name].to_numpy() for field in fields(Match)))
