"""IMLE: a decoder learns to draw an image near every training image.

Implicit maximum likelihood estimation (Li & Malik 2018, arXiv:1809.09087) minimises, over all
training images, the distance to the nearest drawn one, so no kind of face is left out. By
construction it approaches every training image: it memorises if it is trained for long, and shows
whether an audit notices. It has rejection sampling (Vashist et al. 2024, arXiv:2409.17439).
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mien import seeds
from mien.faces import Faces
from mien.generators.diffusion.batches import draw_batch
from mien.generators.one_pass.decoder import Decoder, Generating, start_shuffled
from mien.generators.one_pass.fit import FinishedTraining, OnePassTraining
from mien.generators.one_pass.matching import make_features, match_images
from mien.generators.specs import ImleSpec
from mien.runs.workload import Workload, count_work

DRAWN_AT_ONCE = 64  # images of the pool that are drawn together


class ImleNetwork(Generating):
    """The network that draws: a decoder of unit noise; the mean face is added to its output."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, spec: ImleSpec, size: tuple[int, int, int]) -> None:
        super().__init__()
        self.noise_size = spec.net.latent
        self.decoder = Decoder(size, spec.net, moves=False)
        # Not zero: all draws would be equal, and all images would be matched with the same one
        start_shuffled(self.decoder.last, spec.net.patch)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(()))

    def forward(
        self, noise: Float[Tensor, "n noise"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return images about in [-1, 1] for unit noise and labels."""
        return self.mean + self.deviation * self.decoder(noise, labels)


class ImleTraining(OnePassTraining[ImleSpec]):
    """A running training: its decoder, and the matches of the current round.

    `rows` are the row numbers of the matched images, `latents` the noise that each is matched with,
    and `rejected` the share of draws that were too near to training images.
    """

    def __init__(self, faces: Faces, spec: ImleSpec, torch_device: torch.device) -> None:
        super().__init__(faces, spec, torch_device)
        self.add_network("decoder", ImleNetwork(spec, faces.size).decoder)
        self.rows = torch.zeros(spec.matched, dtype=torch.int64, device=torch_device)
        self.latents = torch.zeros(spec.matched, spec.net.latent, device=torch_device)
        self.rejected = 0.0

    @property
    def round_steps(self) -> int:
        """The number of steps between two matchings."""
        return max(1, self.spec.matched * self.spec.repeats // self.spec.batch)

    def make_step(self, number: int, pool: ThreadPoolExecutor) -> float | None:
        """Make step `number` and return its loss; None if loss or gradient is not finite."""
        # A new round begins with a matching
        spec, decoder = self.spec, self.networks["decoder"]
        turn, step = divmod(number, self.round_steps)
        if step == 0:
            self.match(turn, pool)

        # The matched images of this step, each in a new order every time that all are shown
        first, last = step * spec.batch, (step + 1) * spec.batch
        times = range(first // spec.matched, (last - 1) // spec.matched + 1)
        orders = [
            seeds.make_rng("imle order", spec.seed, turn, time).permutation(spec.matched)
            for time in times
        ]
        begin = first - times[0] * spec.matched
        places = np.concatenate(orders)[begin : begin + spec.batch]
        chosen = torch.from_numpy(places).to(self.torch_device)
        rows, latents = self.rows[chosen], self.latents[chosen]
        labels, wanted = self.labels[rows], make_features(self.scale_rows(rows), spec.blurred)

        def compute(part: slice) -> Tensor:
            drawn = make_features(decoder(latents[part], labels[part]), spec.blurred)
            return (drawn - wanted[part]).square().sum(dim=1)

        return self.descend("decoder", number, compute, pool)

    def match(self, turn: int, pool: ThreadPoolExecutor) -> None:
        """Draw the images of round `turn`, and match each with the nearest draw of its class."""
        # The images of the round, class by class
        spec, decoder = self.spec, self.networks["decoder"]
        drawn_rows = draw_batch(self.chances, spec.matched, spec.seed, turn)
        rows = torch.from_numpy(np.sort(drawn_rows)).to(self.torch_device)
        labels, rejected, count = self.labels[rows], 0.0, spec.pool * len(rows)
        rng = torch.Generator(self.torch_device)
        rng.manual_seed(seeds.derive_seed("imle pool", spec.seed, turn))
        latents = torch.empty(len(rows), spec.net.latent, device=self.torch_device)
        for label in labels.unique().tolist():
            own = torch.nonzero(labels == label)[:, 0]
            shape = (spec.pool * len(own), spec.net.latent)
            noise = torch.randn(shape, device=self.torch_device, generator=rng)

            # Draw many images of the class
            def draw(part: Tensor, label: int = int(label)) -> Tensor:
                with torch.no_grad():
                    images = decoder(part, torch.full((len(part),), label).to(part.device))
                    return make_features(images, spec.blurred)

            draws = torch.cat(list(pool.map(draw, noise.split(DRAWN_AT_ONCE))))

            # Match them
            known = torch.nonzero(self.labels == label)[:, 0]
            matches, share = match_images(
                make_features(self.scale_rows(rows[own]), spec.blurred),
                draws,
                make_features(self.scale_rows(known), spec.blurred),
                spec.epsilon,
            )
            latents[own], rejected = noise[matches], rejected + share * len(noise) / count
        self.rows, self.latents, self.rejected = rows, latents, rejected

    def collect_extra(self) -> dict[str, Tensor]:
        """Return the matches of the current round."""
        return {"rows": self.rows, "latents": self.latents}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Restore the matches of a round."""
        self.rows, self.latents = tensors["rows"], tensors["latents"]

    def collect_notes(self) -> dict[str, Any]:
        """Return the share of draws that were rejected in the current round."""
        return {"rejected": self.rejected}

    def restore_notes(self, notes: Mapping[str, Any]) -> None:
        """Restore the share of draws that were rejected."""
        self.rejected = notes["rejected"]

    def finish(self, say: Callable[[str], None]) -> FinishedTraining:
        """Return the decoder with the mean face."""
        network = ImleNetwork(self.spec, self.faces.size).to(self.torch_device)
        network.decoder.load_state_dict(self.networks["decoder"].state_dict())
        network.mean.copy_(self.mean)
        network.deviation.fill_(self.sigma_data)
        facts = {"rejected": self.rejected}
        say(describe(facts, self.spec))
        return FinishedTraining(network, facts)


make_training = ImleTraining


def make_network(spec: ImleSpec, size: tuple[int, int, int]) -> ImleNetwork:
    """Return a network that draws, with any weights, for images of `size` (c, h, w)."""
    return ImleNetwork(spec, size)


def describe(facts: Mapping[str, Any], spec: ImleSpec) -> str:
    """Return what a training found: how many draws were close to a training image."""
    return f"{facts['rejected']:.0%} of the last draws within epsilon of a training image"


def count_workload(spec: ImleSpec, size: tuple[int, int, int]) -> Workload:
    """Return the work per image of `size` (c, h, w): the decoder, and its share of a matching."""
    with torch.device("meta"):
        network = ImleNetwork(spec, size).eval()
        labels = torch.zeros(2, dtype=torch.int64)
        work = count_work(network, 2, torch.empty(2, spec.net.latent), labels)
    draws = 1 + spec.pool / spec.repeats
    return Workload(
        products=draws * work.products,
        numbers=draws * work.numbers,
        learnt_products=work.learnt_products,
        learnt_numbers=work.learnt_numbers,
        weights=work.weights,
    )
