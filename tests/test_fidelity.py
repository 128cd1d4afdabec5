"""Fidelity: distances with known answers, and held against SciPy and brute force."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from worlds import CLASSES, blobs, tiny

from mien.audit import distances
from mien.classifiers.predict import extract_features, start_network
from mien.errors import DataError


def cloud(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)).astype(
        np.float32
    )


def precision_recall(real: np.ndarray, made: np.ndarray, k: int = 3) -> tuple[float, float]:
    near = distances.find_neighbours(real, made, k)
    return float(near.near_real.mean()), float(near.near_synthetic.mean())


def test_sets_that_are_moved_apart_are_as_far_as_they_were_moved():
    a = cloud(400, 6, 0)
    assert distances.compute_frechet_distance(a, a) == pytest.approx(0, abs=1e-4)
    assert distances.compute_frechet_distance(a, a + np.float32(2)) == pytest.approx(
        6 * 4, rel=1e-4
    )
    one = np.random.default_rng(0).normal(size=(100_000, 1)).astype(np.float32)
    assert distances.compute_frechet_distance(one, 3 * one) == pytest.approx(
        (3 - 1) ** 2, rel=0.02
    )  # the deviations' gap, squared


@pytest.mark.parity
@pytest.mark.parametrize(("n", "m"), [(300, 200), (12, 9)])
def test_the_frechet_distance_is_the_textbooks(n: int, m: int):
    """Also with fewer images than dimensions, where the covariances have no full rank."""
    a, b = (x.astype(np.float64) for x in (cloud(n, 16, 1), cloud(m, 16, 2)))
    one, two = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(axis=0) - b.mean(axis=0)
    root = np.real(np.asarray(sqrtm(one @ two + 1e-12 * np.eye(16))))
    assert distances.compute_frechet_distance(a, b) == pytest.approx(
        gap @ gap + np.trace(one + two - 2 * root), rel=1e-4
    )


def test_precision_sees_what_is_odd_and_recall_what_is_missing():
    rng = np.random.default_rng(0)
    left, right = rng.normal(-5, 1, (150, 4)), rng.normal(5, 1, (150, 4))
    real = np.concatenate([left, right])
    precision, recall = precision_recall(real, rng.normal(-5, 1, (150, 4)))
    assert precision > 0.9 and recall == pytest.approx(0.5, abs=0.1)
    odd = np.concatenate(
        [rng.normal(-5, 1, (75, 4)), rng.normal(5, 1, (75, 4)), rng.normal(0, 0.2, (50, 4))]
    )
    precision, recall = precision_recall(real, odd)
    assert precision == pytest.approx(0.75, abs=0.1) and recall > 0.85


@pytest.mark.parity
def test_precision_and_recall_are_those_of_all_distances(monkeypatch):
    monkeypatch.setattr(distances, "DISTANCE_ROWS", 7)
    real, made, k = cloud(60, 3, 3), cloud(45, 3, 4), 3

    def covered(ground: np.ndarray, asked: np.ndarray) -> float:
        radii = np.sort(cdist(ground, ground), axis=1)[:, k]
        return float((cdist(asked, ground) <= radii[None]).any(axis=1).mean())

    assert precision_recall(real, made, k) == pytest.approx(
        (covered(real, made), covered(made, real))
    )


def test_a_weighted_kernel_distance_is_that_of_the_repeated_images_without_pairs_of_one_image():
    """By brute force over pairs of images, each as often as it was drawn."""
    a, b = cloud(7, 3, 5), cloud(6, 3, 6)
    rng = np.random.default_rng(0)
    weights = [rng.multinomial(n, np.full(n, 1 / n), 3).astype(float) for n in (7, 6)]

    def mean_of_pairs(x: np.ndarray, y: np.ndarray, apart: bool, u: np.ndarray, v: np.ndarray):
        pairs = [
            (u[i] * v[j], (float(x[i].astype(float) @ y[j]) / 3 + 1) ** 3)
            for i in range(len(x))
            for j in range(len(y))
            if not (apart and i == j)
        ]
        return sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs)

    def expected(u: np.ndarray, v: np.ndarray) -> float:
        within = mean_of_pairs(a, a, True, u, u) + mean_of_pairs(b, b, True, v, v)
        return within - 2 * mean_of_pairs(a, b, False, u, v)

    value, resampled = distances.compute_kernel_distance(a, b, *weights)
    assert value == pytest.approx(expected(np.ones(7), np.ones(6)), rel=1e-6)
    assert resampled == pytest.approx(
        [expected(u, v) for u, v in zip(*weights, strict=True)], rel=1e-6
    )


def test_what_cannot_be_measured_is_refused():
    a = cloud(3, 2, 0)
    with pytest.raises(DataError, match="two images"):
        distances.compute_frechet_distance(a[:1], a)
    with pytest.raises(DataError, match="more than 3"):
        precision_recall(a, cloud(9, 2, 1))
    with pytest.raises(DataError, match="two images"):
        distances.compute_kernel_distance(a[:1], a, np.ones((1, 1)), np.ones((1, 3)))


@pytest.mark.parametrize("name", ["tiny", "resnet18", "vit_tiny_patch16_224"])
def test_features_are_a_row_an_image_in_any_batch(name: str):
    size = 224 if name.startswith("vit") else 32
    fitted = start_network(tiny(name=name, size=size, weights="none"), CLASSES, 0, None)
    faces = blobs().select(np.arange(5))
    seen = extract_features(fitted, faces)
    assert seen.shape == (5, {"tiny": 64, "resnet18": 512, "vit_tiny_patch16_224": 192}[name])
    assert np.allclose(extract_features(fitted, faces, batch=2), seen, atol=1e-4)
