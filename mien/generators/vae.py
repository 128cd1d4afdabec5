"""VAE: an autoencoder, and Gaussian mixtures of its latent numbers.

The encoder describes an image by a normal distribution of latent numbers, and the decoder restores
the image from a draw (Kingma & Welling 2014, arXiv:1312.6114). After the training, a mixture of
Gaussians is fitted to the latent numbers of each class (see mien.generators.one_pass.mixture).
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mien.faces import EMOTIONS, Faces, name_units
from mien.generators.diffusion import transforms
from mien.generators.one_pass.decoder import Decoder, Generating, ImageEncoder
from mien.generators.one_pass.fit import FinishedTraining, OnePassTraining
from mien.generators.one_pass.mixture import LatentMixture, fit_mixtures
from mien.generators.specs import VaeSpec
from mien.runs.progress import quantify
from mien.runs.workload import Workload, count_work

GROUP = 4  # latent numbers that share free bits

ACTIVE_VARIANCE = 0.01  # a latent number is in use if its means vary by more over the images

ENCODED_AT_ONCE = 64  # images that are encoded together after the training


class Autoencoder(nn.Module):
    """An encoder and a decoder."""

    def __init__(self, size: tuple[int, int, int], spec: VaeSpec) -> None:
        super().__init__()
        self.encoder = ImageEncoder(size, spec.net, moves=True)
        self.decoder = Decoder(size, spec.net, moves=True)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        augmentations: Float[Tensor, "n moves"],
        noise: Float[Tensor, "n latent"],
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n latent"], Float[Tensor, "n latent"]]:
        """Return restored images, and means and log variances of their latent numbers.

        The latent numbers are mean + deviation * noise (Kingma & Welling 2014, Section 2.4).
        """
        means, log_variances = self.encoder(x, labels, augmentations)
        latents = means + (log_variances / 2).exp() * noise
        return self.decoder(latents, labels, augmentations), means, log_variances


class VaeNetwork(Generating):
    """The network that draws: mixtures of latent numbers, then the decoder."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, spec: VaeSpec, size: tuple[int, int, int]) -> None:
        super().__init__()
        self.noise_size, self.temperature = spec.net.latent + 1, spec.temperature
        self.mixture = LatentMixture(spec.net.latent, spec.components)
        self.decoder = Decoder(size, spec.net, moves=True)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(()))

    def forward(
        self, noise: Float[Tensor, "n noise"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return images about in [-1, 1] for unit noise and labels."""
        latents = self.mixture(noise, labels, self.temperature)
        return self.mean + self.deviation * self.decoder(latents, labels)


def compute_divergence(
    means: Float[Tensor, "n latent"], log_variances: Float[Tensor, "n latent"], free_bits: float
) -> Float[Tensor, " n"]:
    """Return the divergence of each image's latent distribution from the standard normal one.

    It is in nats (Kingma & Welling 2014, appendix B). Each group of GROUP numbers counts as at
    least `free_bits`, so that the network keeps them in use (Kingma et al. 2016, arXiv:1606.04934,
    Eq. 15, here for each image instead of the mean over a batch).
    """
    each = (means.square() + log_variances.exp() - 1 - log_variances) / 2
    groups = [group.sum(dim=1) for group in each.split(GROUP, dim=1)]
    return torch.stack(groups, dim=1).clamp(min=free_bits).sum(dim=1)


def compute_edge_difference(
    one: Float[Tensor, "n c h w"], two: Float[Tensor, "n c h w"]
) -> Float[Tensor, " n"]:
    """Return the mean absolute difference of the gradients of two images, across and down.

    It keeps edges sharp (Mathieu et al. 2016, arXiv:1511.05440, Eq. 6, with exponent 1).
    """
    error = one - two
    across, down = error.diff(dim=3).abs(), error.diff(dim=2).abs()
    return across.mean(dim=(1, 2, 3)) + down.mean(dim=(1, 2, 3))


def compute_losses(
    network: nn.Module,
    x: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    augmentations: Float[Tensor, "n moves"],
    noise: Float[Tensor, "n latent"],
    spec: VaeSpec,
) -> Float[Tensor, " n"]:
    """Return the loss of each image, which has unit variance.

    It is the squared error and `spec.edges` times the difference of gradients, both as means over
    pixels, and beta times the divergence for each pixel (Higgins et al. 2017).
    """
    restored, means, log_variances = network(x, labels, augmentations, noise)
    error = F.mse_loss(restored, x, reduction="none").mean(dim=(1, 2, 3))
    divergence = compute_divergence(means, log_variances, spec.free_bits)
    pixels = x[0].numel()
    edges = compute_edge_difference(restored, x)
    return error + spec.edges * edges + spec.beta * divergence / pixels


class VaeTraining(OnePassTraining[VaeSpec]):
    """A running training of encoder and decoder."""

    def __init__(self, faces: Faces, spec: VaeSpec, torch_device: torch.device) -> None:
        super().__init__(faces, spec, torch_device)
        self.add_network("autoencoder", Autoencoder(faces.size, spec))

    def make_step(self, number: int, pool: ThreadPoolExecutor) -> float | None:
        """Make step `number` and return its loss; None if loss or gradient is not finite."""
        # A batch: images, their augmentations, and noise for the latent numbers
        spec, network = self.spec, self.networks["autoencoder"]
        rows, rng = self.draw_rows(number)
        augmentations = transforms.draw(spec.batch, spec.mirror, spec.moves, rng)
        x, labels = transforms.apply(self.scale_rows(rows), augmentations), self.labels[rows]
        noise = torch.randn(spec.batch, spec.net.latent, device=self.torch_device, generator=rng)

        def compute(part: slice) -> Tensor:
            return compute_losses(
                network, x[part], labels[part], augmentations[part], noise[part], spec
            )

        return self.descend("autoencoder", number, compute, pool)

    def finish(self, say: Callable[[str], None]) -> FinishedTraining:
        """Fit the mixtures to the latent numbers of all images, which are not augmented."""
        # The latent distributions of all training images
        autoencoder = self.networks["autoencoder"]
        assert isinstance(autoencoder, Autoencoder)
        encoded: list[tuple[Tensor, Tensor]] = []
        with torch.inference_mode():
            for part in torch.arange(len(self.images)).split(ENCODED_AT_ONCE):
                rows = part.to(self.torch_device)
                encoded.append(autoencoder.encoder(self.scale_rows(rows), self.labels[rows]))
        means, log_variances = (
            torch.cat(parts).double().cpu().numpy() for parts in zip(*encoded, strict=True)
        )

        # Their mixtures
        labels, clips = self.labels.cpu().numpy(), name_units(self.faces.index, "clip").tolist()
        mixtures = fit_mixtures(means, np.exp(log_variances), labels, clips, self.spec)
        active = int((means.var(axis=0) > ACTIVE_VARIANCE).sum())
        components = {
            EMOTIONS[label]: len(mixture.weights) for label, mixture in sorted(mixtures.items())
        }
        say(f"{active} of {self.spec.net.latent} latent numbers are in use")

        # The network that draws
        network = VaeNetwork(self.spec, self.faces.size).to(self.torch_device)
        network.decoder.load_state_dict(autoencoder.decoder.state_dict())
        network.mean.copy_(self.mean)
        network.deviation.fill_(self.sigma_data)
        for label, mixture in mixtures.items():
            network.mixture.fill(label, mixture)
        return FinishedTraining(network, {"active": active, "components": components})


make_training = VaeTraining


def make_network(spec: VaeSpec, size: tuple[int, int, int]) -> VaeNetwork:
    """Return a network that draws, with any weights, for images of `size` (c, h, w)."""
    return VaeNetwork(spec, size)


def describe(facts: Mapping[str, Any], spec: VaeSpec) -> str:
    """Return what a training found: how many latent numbers carry information."""
    components = sum(facts["components"].values())
    return (
        f"{facts['active']} of {spec.net.latent} latent numbers in use, "
        f"{quantify(components, 'component')} of {len(facts['components'])} mixtures"
    )


def count_workload(spec: VaeSpec, size: tuple[int, int, int]) -> Workload:
    """Return the work per image of `size` (c, h, w) in encoder and decoder."""
    with torch.device("meta"):
        network = Autoencoder(size, spec).eval()
        labels, augmentations = (
            torch.zeros(2, dtype=torch.int64),
            torch.empty(2, len(transforms.MOVES)),
        )
        noise = torch.empty(2, spec.net.latent)
        return count_work(network, 2, torch.empty(2, *size), labels, augmentations, noise)
