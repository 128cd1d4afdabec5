"""Copies are found whatever was done to them, without anybody held out, and nobody else is taken
for one.
"""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from drawn import people
from PIL import Image

from mien.audit.memorisation import copies
from mien.audit.memorisation.copies import find_copies
from mien.faces import Faces, make_index

Images = np.ndarray
PHOTOGRAPHS = Path(__file__).parents[1] / ".." / "shared" / "data" / "expressions-in-the-wild"


@cache
def real() -> Faces:
    """Faces of ten people, drawn when a test first needs them."""
    return people(range(10), clips=1, frames=2, size=48)


@cache
def others() -> Faces:
    """Faces of twenty other people, drawn when a test first needs them."""
    return people(range(60, 80), clips=1, frames=2, size=48)


def synthetic(images: Images) -> Faces:
    keys = [f"made/{number}" for number in range(len(images))]
    return Faces(images, make_index(images, key=keys, emotion="fear", source="made"))


def resized(images: Images, side: int, kind: Image.Resampling) -> Images:
    pictures = [Image.fromarray(image[0]).resize((side, side), kind) for image in images]
    return np.stack([np.asarray(picture)[None] for picture in pictures])


def shifted(images: Images, down: int, right: int) -> Images:
    height, width = images.shape[2:]
    wide = np.pad(images, ((0, 0), (0, 0), (9, 9), (9, 9)), mode="edge")
    return wide[:, :, 9 - down : 9 - down + height, 9 - right : 9 - right + width]


def noisy(images: Images, deviation: float) -> Images:
    noise = np.random.default_rng(3).normal(0, deviation, images.shape)
    return (images + noise).clip(0, 255).round().astype(np.uint8)


def encoded(images: Images, quality: int) -> Images:
    found = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image[0]).save(buffer, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(buffer))[None])
    return np.stack(found)


def planted(
    change: Callable[[Images], Images], every: int = 6
) -> tuple[pd.DataFrame, dict[str, str]]:
    """What is found of others among whom each sixth is a changed real one, and the truth."""
    places = np.arange(0, len(real()), every)
    copied = change(real().images[places])
    rest = others().images[:50]
    if copied.shape[2:] != rest.shape[2:]:
        rest = resized(rest, copied.shape[2], Image.Resampling.LANCZOS)
    if copied.shape[1] != 1:
        rest = np.repeat(rest, copied.shape[1], axis=1)
    found = find_copies(synthetic(np.concatenate([copied, rest])), real())
    return found, {
        f"made/{number}": real().index["key"][place] for number, place in enumerate(places)
    }


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda images: images, "exact"),
        (lambda images: images[:, :, :, ::-1].copy(), "mirrored"),
        (lambda images: resized(images, 37, Image.Resampling.BICUBIC), "resized"),
        (lambda images: resized(images, 61, Image.Resampling.BOX), "resized"),
        (lambda images: resized(images, 96, Image.Resampling.NEAREST), "resized"),
        (lambda images: resized(images, 41, Image.Resampling.NEAREST), "resized"),
        (lambda images: shifted(images, -2, 3), "moved"),
        (lambda images: np.roll(images, (1, -4), (2, 3)), "moved"),
        (lambda images: shifted(images[:, :, :, ::-1], 3, 1), "mirrored, moved"),
        (
            lambda images: resized(images[:, :, :, ::-1], 40, Image.Resampling.LANCZOS),
            "resized, mirrored",
        ),
        (
            lambda images: resized(shifted(images, 4, -2), 72, Image.Resampling.BILINEAR),
            "resized, moved",
        ),
        (lambda images: np.repeat(images, 3, axis=1), "recoloured"),
        (lambda images: noisy(images, 4), "altered"),
        (lambda images: encoded(images, 75), "altered"),
        (lambda images: (images * 0.8 + 25).astype(np.uint8), "altered"),
        (lambda images: noisy(images[:, :, :, ::-1], 3), "mirrored"),
    ],
)
def test_every_copy_is_found_with_what_was_done_to_it_and_no_one_else(
    change: Callable[[Images], Images], kind: str
):
    found, truth = planted(change)
    clips = dict(zip(real().index["key"], real().index["clip"], strict=True))
    assert set(found["image"]) == set(truth)
    assert set(found["kind"]) == {kind}
    assert [clips[name] for name in found["original"]] == [
        clips[truth[name]] for name in found["image"]
    ]


def test_other_people_are_no_copies_nor_are_other_expressions_of_the_same_people():
    assert find_copies(synthetic(others().images), real()).empty
    last = (real().index["emotion"] == "surprise").to_numpy()
    assert find_copies(synthetic(real().images[last]), real().select(~last)).empty


@pytest.mark.parametrize("size", [14, 20, 28, 48])
def test_noise_and_plain_pictures_are_no_copies_at_any_size(size: int):
    rng = np.random.default_rng(0)
    kinds = [
        rng.integers(0, 256, (20, 1, 48, 48)).astype(np.uint8),
        rng.normal(128, 30, (20, 1, 48, 48)).clip(0, 255).astype(np.uint8),
        np.full((2, 1, 48, 48), 127, np.uint8),
        rng.permuted(real().images.reshape(len(real()), -1), axis=1).reshape(real().images.shape),
    ]
    made = resized(np.concatenate(kinds), size, Image.Resampling.BOX)
    assert find_copies(synthetic(made), real()).empty


def test_one_copy_among_many_is_found_of_a_single_real_picture():
    one = real().select(np.array([7]))
    images = np.concatenate(
        [others().images, resized(one.images, 48, Image.Resampling.BOX)[:, :, :, ::-1]]
    )
    assert find_copies(synthetic(images), one)["image"].tolist() == [f"made/{len(others())}"]


def test_the_order_of_rows_and_the_size_of_blocks_play_no_part(monkeypatch: pytest.MonkeyPatch):
    made = synthetic(
        np.concatenate([noisy(real().images[::5, :, :, ::-1], 2), others().images[:20]])
    )
    found = find_copies(made, real())
    assert len(found) == 12
    mixed = [
        faces.select(np.random.default_rng(4).permutation(len(faces))) for faces in (made, real())
    ]
    monkeypatch.setattr(copies, "COPY_BLOCK_IMAGES", 17)
    pd.testing.assert_frame_equal(find_copies(*mixed), found, atol=1e-4)


def test_channels_are_compared_by_what_they_show():
    """A derived channel beside the grey one does not hide a copy."""
    laplacian = np.stack([cv2.Laplacian(image[0], cv2.CV_8U)[None] for image in real().images])
    both = synthetic(np.concatenate([real().images, laplacian], axis=1)[:5])
    both = Faces(both.images, both.index, channels=("gray", "laplacian"))
    assert (
        set(find_copies(both, real())["kind"]) == {"recoloured"}
        and len(find_copies(both, real())) == 5
    )


def test_below_twelve_pixels_only_equal_pixels_are_told():
    small = resized(real().images, 8, Image.Resampling.BOX)
    tiny = Faces(small, make_index(small, key=list(real().index["key"]), emotion="fear"))
    assert set(find_copies(synthetic(small[:4]), tiny)["kind"]) == {"exact"}
    assert find_copies(synthetic(noisy(small[:4], 2)), tiny).empty


def test_an_empty_side_has_no_copies():
    nobody = real().select(np.zeros(0, dtype=np.int64))
    assert find_copies(nobody, real()).empty and find_copies(real(), nobody).empty


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_photographs_of_other_people_are_no_copies():
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("the photographs of ../shared are not here")
    files = sorted(PHOTOGRAPHS.glob("*/*.jpg"))
    images = np.stack(
        [np.asarray(Image.open(file).convert("L").resize((48, 48)))[None] for file in files]
    )
    who = [file.stem.partition("_")[0] for file in files]
    some = set(np.random.default_rng(1).permutation(sorted(set(who)))[:500])
    real = np.array([name in some for name in who])
    index = make_index(images, key=[file.name for file in files], subject=who, emotion="fear")
    assert find_copies(Faces(images, index).select(~real), Faces(images, index).select(real)).empty
