"""Searching a large set by inverted lists: what is near is found, and nothing else changes."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from worlds import crowd

from mien.audit import inverted_lists
from mien.audit.inverted_lists import InvertedLists, choose_nearest_lists
from mien.audit.memorisation import copies, matches, search
from mien.faces import Faces, make_index

LISTS = 12  # lists that are searched in these tests


def clouds(count: int, seed: int, centres: int = 60) -> NDArray[np.float32]:
    """Rows around a few centres."""
    rng = np.random.default_rng(seed)
    middle = np.random.default_rng(0).normal(size=(centres, 16))
    return (middle[rng.integers(centres, size=count)] + rng.normal(0, 0.2, (count, 16))).astype(
        np.float32
    )


def measure_all(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide, deep = queries.astype(np.float64), rows.astype(np.float64)
    return np.square(wide).sum(axis=1)[:, None] + np.square(deep).sum(axis=1) - 2 * wide @ deep.T


def test_every_row_is_in_one_list_and_a_large_group_has_lists_of_its_own() -> None:
    rows = clouds(3000, 1)
    groups = np.repeat(np.arange(1002), [2000, *[1] * 1000, 0])
    lists = InvertedLists.make(rows, groups)
    members = [row[:length] for row, length in zip(lists.members, lists.lengths, strict=True)]
    assert sorted(np.concatenate(members).tolist()) == list(range(3000))
    owner = lists.find_owner(groups)
    assert all((owner[number] == 0) == (part < 2000).all() for number, part in enumerate(members))
    assert all((part < 2000).all() or (part >= 2000).all() for part in members)


def test_the_nearest_rows_are_found_and_their_distances_are_those_of_all_pairs() -> None:
    rows, queries = clouds(4000, 1), clouds(200, 2)
    lists, exact = InvertedLists.make(rows), measure_all(queries, rows)
    mirrored = queries[:, ::-1].copy()
    best = np.minimum(exact, measure_all(mirrored, rows))
    found = []
    for first, positions, distances in lists.iterate_near(
        len(queries),
        lambda batch: [queries[batch], mirrored[batch]],
        lambda first, far: choose_nearest_lists(far, LISTS),
        LISTS,
    ):
        own = best[first : first + len(positions)]
        is_row = np.isfinite(distances)
        there = np.take_along_axis(own, positions, axis=1)
        assert distances[is_row] == pytest.approx(there[is_row], abs=1e-4)
        found.append(positions[np.arange(len(positions)), distances.argmin(axis=1)])
    nearest = np.concatenate(found)
    assert lists.members.size > 3 * LISTS * lists.members.shape[1]  # most lists are not searched
    assert (nearest == best.argmin(axis=1)).mean() >= 0.999


def test_rows_of_features_are_found_outside_the_clip_and_the_subject(monkeypatch) -> None:
    rows, queries = clouds(4000, 3), clouds(200, 4)
    # One subject has most of the rows, and hides the others
    subjects = np.r_[np.zeros(3000, dtype=int), 1 + np.arange(1000) // 100]
    owners = search.make_owners(np.arange(4000) // 20, subjects)
    asked = np.arange(0, 4000, 29)
    whole = [
        search.match_features(queries, rows, owners),
        search.match_features(rows[asked], rows, owners, asked),
    ]
    monkeypatch.setattr(search, "EXACT_FEATURE_ROWS", 1000)
    listed = [
        search.match_features(queries, rows, owners),
        search.match_features(rows[asked], rows, owners, asked),
    ]
    for one, other in zip(whole, listed, strict=True):
        for name in ("nearest", "next_clip"):
            assert (getattr(one, name) == getattr(other, name)).mean() >= 0.99, name
        for name in ("distance", "outside_clip", "outside_subject"):
            assert np.isclose(getattr(one, name), getattr(other, name)).mean() >= 0.99, name


def make_many(count: int) -> tuple[Faces, Faces]:
    """Return many drawn faces, 12 frames a clip, and copies of some: as they are and changed."""
    faces, rng = crowd(), np.random.default_rng(5)
    number = np.arange(count)
    images = faces.images[number // 12 % len(faces)].astype(np.float64)
    images = images * rng.uniform(0.7, 1, (count, 1, 1, 1)) + rng.normal(0, 12, images.shape)
    images = images.clip(0, 255).astype(np.uint8)
    rows = {
        "key": [f"r{place}" for place in number],
        "subject": [f"s{place // 60}" for place in number],
        "clip": [f"c{place // 12}" for place in number],
    }
    index = make_index(images, dataset="d", emotion=["happiness"] * count, licence="CC0", **rows)
    real = Faces(images, index)

    chosen = images[:: count // 40].astype(np.float64)
    changed = [
        chosen,
        chosen[..., ::-1],
        chosen * 0.8 + 20,
        chosen + rng.normal(0, 2, chosen.shape),
    ]
    copied = np.concatenate(changed).clip(0, 255).astype(np.uint8)
    keys = [f"m{place}" for place in range(len(copied))]
    emotions = ["happiness"] * len(copied)
    made = make_index(copied, key=keys, dataset="m", emotion=emotions, licence="CC0")
    return real, Faces(copied, made)


def test_copies_and_matches_among_many_images_are_those_of_all_pairs(monkeypatch) -> None:
    real, made = make_many(1500)
    whole = matches.find_matches(real, made, made), copies.find_copies(made, real)
    monkeypatch.setattr(matches, "EXACT_ROWS", 1000)
    monkeypatch.setattr(copies, "EXACT_ROWS", 1000)
    monkeypatch.setattr(inverted_lists, "LISTED_DISTANCES", 20_000)
    assert matches.MatchFinder(real).lists and not matches.MatchFinder(real, exact=True).lists
    listed = matches.find_matches(real, made, made), copies.find_copies(made, real)
    assert len(whole[1]) > 0.7 * len(made)  # of images so small, noisy ones are no copies
    pd.testing.assert_frame_equal(whole[1], listed[1])
    for name in ("nearest", "distance", "mirrored", "down", "right"):
        of_all, of_lists = (getattr(one.synthetic, name) for one in (whole[0], listed[0]))
        assert np.isclose(of_all, of_lists, atol=1e-5).mean() > 0.99, name
    for name in ("outside_clip", "outside_subject"):  # of clips equally far, any may be listed
        of_all, of_lists = (getattr(one.synthetic, name) for one in (whole[0], listed[0]))
        assert np.isclose(of_all, of_lists, rtol=0.1).mean() > 0.97, name
    outside = np.isclose(
        whole[0].nearest_outside_clip, listed[0].nearest_outside_clip, rtol=0.1, equal_nan=True
    )
    assert outside.mean() > 0.97
