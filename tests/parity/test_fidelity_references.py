"""Distances, precision, recall, density and coverage beside torch-fidelity and prdc, on shared
features.

Where the two disagree, at images that lie just at a reach, ours is named.
"""

from functools import cache
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import torch

from mien.audit import distances
from mien.classifiers import operators

pytestmark = pytest.mark.parity


@cache
def reference(name: str) -> ModuleType:
    """One of the reference libraries, which only the process that runs these tests loads: it takes
    seconds.
    """
    operators.prepare()  # declares what torchvision lacks here, before torch_fidelity imports it
    return import_module(name)


def cloud(n: int, d: int, seed: int, away: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ np.random.default_rng(9).normal(size=(d, d)) + away).astype(
        np.float32
    )


A, B = cloud(300, 24, 1), cloud(300, 24, 2, 0.8)


def test_the_frechet_distance_is_that_of_torch_fidelity():
    theirs = [
        reference("torch_fidelity.metric_fid").fid_features_to_statistics(
            torch.from_numpy(x.astype(np.float64))
        )
        for x in (A, B)
    ]
    expected = reference("torch_fidelity.metric_fid").fid_statistics_to_metric(
        *theirs, verbose=False
    )["frechet_inception_distance"]
    assert distances.compute_frechet_distance(A, B) == pytest.approx(expected, rel=1e-6)


def test_the_kernel_distance_is_that_of_torch_fidelity():
    """With one subset that is everything."""
    how = {
        "kid_subsets": 1,
        "kid_subset_size": len(A),
        "kid_kernel": "poly",
        "kid_kernel_poly_degree": 3,
    }
    how |= {
        "kid_kernel_poly_gamma": None,
        "kid_kernel_poly_coef0": 1,
        "rng_seed": 0,
        "verbose": False,
    }
    theirs = reference("torch_fidelity.metric_kid").kid_features_to_metric(
        torch.from_numpy(A).double(), torch.from_numpy(B).double(), **how
    )
    value, resampled = distances.compute_kernel_distance(
        A, B, np.ones((2, len(A))), np.ones((2, len(B)))
    )
    assert value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert resampled == pytest.approx([value] * 2)


def of_torch_fidelity(real: np.ndarray, made: np.ndarray, k: int) -> tuple[float, float]:
    how = {"prc_neighborhood": k, "prc_batch_size": 1000, "save_cpu_ram": False, "verbose": False}
    theirs = reference("torch_fidelity.metric_prc").prc_features_to_metric(
        torch.from_numpy(made).double(), torch.from_numpy(real).double(), **how
    )
    return theirs["precision"], theirs["recall"]


@pytest.mark.parametrize("k", [3, 5, 10])
def test_precision_recall_density_and_coverage_are_those_of_both(k: int):
    found = distances.find_neighbours(A, B, k)
    theirs = reference("prdc").compute_prdc(A.astype(np.float64), B.astype(np.float64), k)
    ours = {
        "precision": found.near_real.mean(), "recall": found.near_synthetic.mean(),
        "density": found.density.mean(), "coverage": found.covered.mean(),
    }  # fmt: skip
    assert ours == pytest.approx(theirs)
    assert 0 < ours["precision"] < 1
    assert of_torch_fidelity(A, B, k) == pytest.approx((ours["precision"], ours["recall"]))


def test_what_lies_just_at_a_reach_counts_as_torch_fidelity_counts_it_and_prdc_does_not():
    """On a line, 0 1 2 3 ..., copies of an image k steps further lie exactly at its reach."""
    real = np.arange(0, 40, 2, dtype=np.float32)[:, None]
    made = np.array([[-4.0], [-4.0], [-4.0], [-4.0], [20.0], [20.0]], dtype=np.float32)
    found = distances.find_neighbours(real, made, 2)
    ours = (found.near_real.mean(), found.near_synthetic.mean())
    assert ours == pytest.approx(of_torch_fidelity(real, made, 2))
    theirs = reference("prdc").compute_prdc(real.astype(np.float64), made.astype(np.float64), 2)
    assert ours[0] == 1.0 and theirs["precision"] == pytest.approx(
        2 / 6
    )  # -4 lies 4 from 0, whose reach is 4
