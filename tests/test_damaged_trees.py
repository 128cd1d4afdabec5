"""Damaged trees: a reader says clearly what is wrong, or reports what it skipped; never a crash,
never a wrong label.

An image is known by its pixels, so whatever happens to names and sheets, what is read of it must be
what is true of it.
"""

import contextlib
import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from trees import WRITERS, Tree
from trees.damage import DAMAGES, HARMLESS, images

from mien.errors import MienError
from mien.ingest.decoding import read_listing
from mien.ingest.readers import READERS
from mien.ingest.run import compute_fingerprint, find_fitting_readers, scan_folder
from mien.ingest.specs import IngestSpec
from mien.pictures import decode
from mien.runs.spec import read_spec

SIZE = 16


def pixels(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    return {
        name: write(tmp_path_factory.mktemp(name) / "release") for name, write in WRITERS.items()
    }


def spec_for(name: str, tree: Tree) -> IngestSpec:
    return read_spec(
        IngestSpec,
        {"reader": name, "dataset": "set", "fingerprint": "", "size": SIZE, **tree.options},
        "test",
    )


@pytest.fixture(scope="module")
def known(trees: dict[str, Tree]) -> dict[str, dict[str, str]]:
    return {name: places(name, tree) for name, tree in trees.items()}


def places(name: str, tree: Tree) -> dict[str, str]:
    """Where each image of the sound tree lies, by its pixels."""
    listing = scan_folder(spec_for(name, tree), tree.root)
    faces, _ = read_listing(listing, spec_for(name, tree), workers=1, skip_unreadable=False)
    top = listing.root.relative_to(tree.root.resolve())
    paths = [(top / path).as_posix() for path in listing.list_names()]
    assert set(paths) == set(tree.images)
    found = {pixels(image): path for image, path in zip(faces.images, paths, strict=True)}
    pairs = zip(faces.images, paths, strict=True)
    assert all(tree.images[found[pixels(image)]] == tree.images[path] for image, path in pairs)
    return found


def there(root: Path) -> set[str]:
    """The pixels of all images that can still be read below a folder."""
    found = set()
    for path in images(root):
        with contextlib.suppress(MienError):
            found.add(pixels(decode(path, SIZE)))
    return found


def outcome(
    name: str, tree: Tree, known: dict[str, str], copy: Path, damage: str, seed: int
) -> str:
    """Damage a copy of the tree and read it; say what happened in a few words."""
    shutil.rmtree(copy, ignore_errors=True)
    root = shutil.copytree(tree.root, copy / "release")
    DAMAGES[damage](root, np.random.default_rng(seed))
    taken = set(find_fitting_readers(root)) - {name}
    assert not [other for other in taken if not READERS[other].READER.generic], taken
    try:
        draft = spec_for(name, tree)
        listing = scan_folder(draft, root)
        spec = draft.model_copy(update={"fingerprint": compute_fingerprint(listing, workers=1)})
        faces, unread = read_listing(listing, spec, workers=1, skip_unreadable=True)
    except MienError as error:
        assert error.exit_code == 2 and str(error).isprintable(), str(error)
        assert str(copy) in str(error) or "such as '" in str(error), str(
            error
        )  # it names the place, or an example
        return "message"
    for image, row in zip(faces.images, faces.index.itertuples(), strict=True):
        if pixels(image) in known:
            true = tree.images[known[pixels(image)]]
            assert row.emotion == true.emotion, f"{row.key} is {true.emotion}"
            assert str(row.subject).removeprefix("set:") == true.subject
            assert str(row.clip).removeprefix("set:") == true.clip
    lost = set(known) - {pixels(image) for image in faces.images}
    if not lost:
        return "all read"
    sound = {
        (found.kind, found.where, found.what) for found in scan_folder(draft, tree.root).findings
    }
    found = {(each.kind, each.where, each.what) for each in (*listing.findings, *unread)}
    files = [
        one
        for one in lost
        if os.path.lexists(root / known[one]) and not (root / known[one]).is_dir()
    ]
    if not found - sound and not listing.annotations and not files and not lost & there(root):
        return "some gone, and nothing could tell"
    assert found - sound, f"{len(lost)} images are lost, and nothing is said"
    return "some read, and reported"


PAIRS = [(name, damage) for name in READERS for damage in DAMAGES]
# slow: all of them
THIRD = [pair for place, pair in enumerate(PAIRS) if (place + place // len(DAMAGES)) % 3 == 0]


@pytest.mark.parametrize("name, damage", THIRD)
def test_a_damaged_tree_is_read_right_or_told_about(
    name: str, damage: str, trees: dict[str, Tree], known: dict[str, dict[str, str]], tmp_path: Path
):
    told = outcome(name, trees[name], known[name], tmp_path / "copy", damage, seed=0)
    if damage in HARMLESS:
        assert told == "all read"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(READERS))
def test_twenty_trees_of_each_damage(
    name: str, trees: dict[str, Tree], known: dict[str, dict[str, str]], tmp_path: Path
):
    told = Counter(
        outcome(name, trees[name], known[name], tmp_path / "copy", damage, seed)
        for damage in DAMAGES
        for seed in range(1, 21)
    )
    assert told.total() == 20 * len(DAMAGES) and {
        "message",
        "all read",
        "some read, and reported",
    } <= set(told)
