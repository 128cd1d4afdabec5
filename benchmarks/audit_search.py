"""How the search for nearest images and copies grows, and what its inverted lists miss.

    python benchmarks/audit_search.py --images 5000 10000 20000 40000 --asked 512 --planted 600

Faces are those of benchmarks/audit.py. For each number of training images, both searches are run
one after the other for the same generated images: all pairs, and inverted lists. Times are
processor seconds of one thread for a thousand images. Recall is the share of images whose nearest
training image, or its distance outside the clip or subject, is the one that the comparison of all
pairs finds, or a nearer one. Copies are planted: equal, shifted, noisy, relit, mirrored, and all of
these together.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from audit import SIDE, draw
from jaxtyping import UInt8
from threadpoolctl import threadpool_limits

from mien.audit.memorisation import copies, search
from mien.faces import Faces, make_index, name_distinct_units

CHANGES = ("exact", "shifted", "noisy", "relit", "mirrored", "all")


def main() -> None:
    """Print a table of times, and one of what is found."""
    parser = argparse.ArgumentParser(description="How the search of an audit grows.")
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 10000, 20000])
    parser.add_argument("--asked", type=int, default=512)
    parser.add_argument("--planted", type=int, default=600)
    parser.add_argument("--photos", action="store_true", help="each image is a subject of its own")
    parser.add_argument("--lists-only", action="store_true")
    given = parser.parse_args()
    print("| training | lists, s | nearest: all | lists | copies: all | lists | recall: nearest | "
          "clip | subject | copies found: all | lists | by change |")  # fmt: skip
    with threadpool_limits(1):
        for count in given.images:
            print(measure(count, given.asked, given.planted, given.photos, not given.lists_only))


def measure(count: int, asked: int, planted: int, photos: bool, both: bool) -> str:
    """Return the row of a number of training images."""
    # Training images, images of other people, and copies
    train, made = draw("train", range(26), count), draw("made", range(40, 66), asked)
    clips, subjects = (name_distinct_units(train.index, unit) for unit in ("clip", "subject"))
    each = np.arange(count)
    owners = search.make_owners(each, each) if photos else search.make_owners(clips, subjects)
    chosen = np.random.default_rng(0).choice(count, planted, replace=False)
    copied = make_faces(
        np.stack([change(train.images[place, 0], number) for number, place in enumerate(chosen)])
    )

    # The nearest images
    known = search.soften(train.images)
    coarse = search.Coarse.fit(known)
    queries = search.soften(made.images)
    lists, building = timed(lambda: search.list_coarsely(known, owners, coarse))
    by_lists, lists_s = timed(
        lambda: search.match_pixels(queries, known, owners, coarse, lists=lists)
    )
    seconds, recalls = [building, lists_s * 1000 / asked], [np.nan] * 3
    if both:
        of_all, all_s = timed(lambda: search.match_pixels(queries, known, owners, coarse))
        seconds.insert(1, all_s * 1000 / asked)
        recalls = [
            float((getattr(by_lists, name) <= getattr(of_all, name) + 1e-6).mean())
            for name in ("distance", "outside_clip", "outside_subject")
        ]
    else:
        seconds.insert(1, np.nan)

    # Copies: time on images that are none, and planted ones
    shares, found_s = [], []
    for limit in (10**9, 0):
        if limit and not both:
            found_s.append(np.nan)
            shares.append([np.nan] * len(CHANGES))
            continue
        copies.EXACT_ROWS = limit
        found_s.append(timed(lambda: copies.find_copies(made, train))[1] * 1000 / asked)
        found = set(copies.find_copies(copied, train)["image"])
        is_found = np.array([key in found for key in copied.index["key"]])
        shares.append([is_found[kind :: len(CHANGES)].mean() for kind in range(len(CHANGES))])

    by_change = ", ".join(
        f"{name} {100 * whole:.1f}/{100 * part:.1f}"
        for name, whole, part in zip(CHANGES, *shares, strict=True)
    )
    numbers = [f"{count:,}", *(f"{one:.2f}" for one in (*seconds, *found_s))]
    numbers += [f"{one:.4f}" for one in (*recalls, *map(np.mean, shares))]
    return f"| {' | '.join(numbers)} | {by_change} |"


def timed(work: Callable[[], object]) -> tuple:
    """Return the result of work and its processor seconds."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def change(image: UInt8[np.ndarray, "h w"], number: int) -> UInt8[np.ndarray, "1 h w"]:
    """Return a copy of an image, changed in the way that belongs to its number."""
    rng, kind = np.random.default_rng(number), CHANGES[number % len(CHANGES)]
    grey = image.astype(np.float64)
    if kind in ("shifted", "all"):
        down, right = rng.integers(-2, 3, 2)
        wide = np.pad(grey, 2, mode="reflect")
        grey = wide[2 - down : 2 - down + SIDE, 2 - right : 2 - right + SIDE]
    if kind in ("relit", "all"):
        grey = grey * rng.uniform(0.8, 1) + rng.uniform(0, 20)
    if kind in ("mirrored", "all"):
        grey = grey[:, ::-1]
    if kind in ("noisy", "all"):
        grey = grey + rng.normal(0, 3, grey.shape)
    return grey.round().clip(0, 255).astype(np.uint8)[None]


def make_faces(images: UInt8[np.ndarray, "n c h w"]) -> Faces:
    """Return images as generated faces."""
    keys = [f"copy/{place}" for place in range(len(images))]
    emotions = ["others"] * len(images)
    return Faces(
        images, make_index(images, key=keys, dataset="copy", emotion=emotions, licence="CC0")
    )


if __name__ == "__main__":
    main()
