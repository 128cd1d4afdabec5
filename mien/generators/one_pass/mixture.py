"""The density of latent numbers: a Gaussian mixture for each class.

It is fitted after the training. Such an ex-post density gives better images than the standard
normal distribution that a variational autoencoder is trained towards (Ghosh et al. 2020,
arXiv:1903.12436). A component must not stand for a single face: it describes several clips, and its
covariance is drawn to that of all classes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor, nn

from mien import seeds
from mien.faces import EMOTIONS
from mien.generators.specs import VaeSpec

LEAST_VARIANCE = 1e-4  # of each latent number in a component, for a matrix that has a root


@dataclass(frozen=True)
class ClassMixture:
    """The mixture of a class: weights [k], means [k, latent], covariances [k, latent, latent]."""

    weights: Float64[np.ndarray, " k"]
    means: Float64[np.ndarray, "k latent"]
    covariances: Float64[np.ndarray, "k latent latent"]


class LatentMixture(nn.Module):
    """Gaussian mixtures of `latent` numbers, one for each emotion, with up to `components` parts.

    Weights are stored as cumulative sums, and covariances as their lower roots. Before it is filled
    it is the standard normal distribution.
    """

    ends: Tensor
    means: Tensor
    roots: Tensor

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        shape = (len(EMOTIONS), components)
        self.register_buffer("ends", torch.ones(shape))
        self.register_buffer("means", torch.zeros(*shape, latent))
        self.register_buffer("roots", torch.eye(latent).expand(*shape, latent, latent).clone())

    def fill(self, label: int, mixture: ClassMixture) -> None:
        """Take over the mixture of a class; `label` is its position in EMOTIONS."""
        count = len(mixture.weights)
        ends = np.cumsum(mixture.weights)
        self.ends[label, :count] = torch.from_numpy(ends / ends[-1]).float()
        self.means[label, :count] = torch.from_numpy(mixture.means).float()
        roots = np.linalg.cholesky(mixture.covariances)
        self.roots[label, :count] = torch.from_numpy(roots).float()

    def forward(
        self, noise: Float[Tensor, "n size"], labels: Int[Tensor, " n"], temperature: float
    ) -> Float[Tensor, "n latent"]:
        """Return latent numbers for unit noise of one number more.

        The first number of the noise chooses the component, by its quantile; the others become the
        deviation from the mean of the component, times `temperature`.
        """
        shares, steps = torch.special.ndtr(noise[:, :1]), noise[:, 1:]
        chosen = (shares >= self.ends[labels]).sum(dim=1).clamp(max=self.ends.shape[1] - 1)
        deviations = (self.roots[labels, chosen] @ steps[:, :, None])[:, :, 0]
        return self.means[labels, chosen] + temperature * deviations


def fit_mixtures(
    means: Float64[np.ndarray, "n latent"],
    variances: Float64[np.ndarray, "n latent"],
    labels: Int64[np.ndarray, " n"],
    clips: Sequence[str],
    spec: VaeSpec,
) -> dict[int, ClassMixture]:
    """Return a mixture for each label, of the latent distributions of n images.

    `means` and `variances` are those of each image. Each class has as many components as its clips
    allow (`spec.components` at most, of `spec.least_clips` each; one in any case). The covariance
    of a component of n images is (n S + m P) / (n + m): S is its own, P that of all classes around
    their means, and m is `spec.prior`. The variances of the images are added.
    """
    # The covariance of all classes around their means
    names = np.asarray(clips, dtype=object)
    centred = means.copy()
    for label in np.unique(labels):
        centred[labels == label] -= means[labels == label].mean(axis=0)
    pooled = centred.T @ centred / len(means)

    # Each class
    found = {}
    for label in np.unique(labels).tolist():
        rows = labels == label
        own, own_clips = means[rows], names[rows]
        shares = _share_out(own, own_clips, spec, int(label))
        counts = shares.sum(axis=0)
        centres = shares.T @ own / counts[:, None]
        covariances = []
        for share, centre in zip(shares.T, centres, strict=True):
            steps = own - centre
            own_covariance = (share[:, None] * steps).T @ steps
            shrunk = (own_covariance + spec.prior * pooled) / (share.sum() + spec.prior)
            noise = share @ variances[rows] / share.sum()
            covariances.append(shrunk + np.diag(noise + LEAST_VARIANCE))
        found[int(label)] = ClassMixture(counts / counts.sum(), centres, np.stack(covariances))
    return found


def _share_out(
    means: Float64[np.ndarray, "n latent"], clips: np.ndarray, spec: VaeSpec, label: int
) -> Float64[np.ndarray, "n k"]:
    """Return the share of each image in each component of its class.

    The number of components falls until each of them is the most likely one for images of
    `spec.least_clips` clips.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    most = min(spec.components, len(set(clips.tolist())) // spec.least_clips)
    for count in range(most, 1, -1):
        # Diagonal covariances: a full one would need many more images than latent numbers
        mixture = GaussianMixture(
            count,
            covariance_type="diag",
            reg_covar=LEAST_VARIANCE,
            n_init=2,
            random_state=seeds.derive_seed("mixture", spec.seed, label, count) % 2**32,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(means)
        shares = np.asarray(mixture.predict_proba(means), dtype=np.float64)
        likeliest = shares.argmax(axis=1)
        if all(
            len(set(clips[likeliest == number].tolist())) >= spec.least_clips
            for number in range(count)
        ):
            return shares
    return np.ones((len(means), 1))
