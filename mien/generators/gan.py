"""GAN: a generator learns against a critic of its images.

The critic tells generated images from real ones. The loss compares pairs of a real and a generated
image, with penalties on the gradients of the critic at both (R3GAN: Huang et al. 2024,
arXiv:2501.05441). The classes come into play only after
some time, because a generator that has to obey them from the start collapses on few images
(Shahbazi et al. 2022, arXiv:2201.06578).
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mien.faces import EMOTIONS, Faces
from mien.generators.diffusion import transforms
from mien.generators.one_pass import collapse
from mien.generators.one_pass.fit import FinishedTraining, OnePassTraining
from mien.generators.one_pass.plain import Critic, GanNetwork
from mien.generators.specs import GanSpec
from mien.runs.workload import Workload, count_work
from mien.seeds import derive_seed

BETAS = (0.0, 0.99)  # of Adam: no momentum, as in R3GAN

# The work of a step, in forward passes of each network: a step of the critic has one of the
# generator, and two images each of the critic, with gradients of gradients; a step of the
# generator has three of each
GENERATOR_PASSES, CRITIC_PASSES = 4, 13


def compute_pair_losses(
    own: Float[Tensor, " n"], other: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Return f(own - other) with f(t) = log(1 + exp(-t)) for each pair (Huang et al. 2024, Eq. 2).

    The critic wants the number of the real image, `own`, above that of the generated one, `other`;
    the generator wants the opposite.
    """
    return F.softplus(other - own)


def compute_penalties(
    critic: Callable[[Tensor], Tensor], x: Float[Tensor, "n c h w"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return the numbers of images, and the squared norms of their gradients at the images.

    The mean of the latter is R1 for real images (Mescheder et al. 2018, arXiv:1801.04406, Eq. 9)
    and R2 for generated ones (Huang et al. 2024, Section 3.2), without the factor gamma / 2.
    """
    x = x.detach().requires_grad_()
    numbers = critic(x)
    (gradients,) = torch.autograd.grad(numbers.sum(), x, create_graph=True)
    return numbers, gradients.square().sum(dim=(1, 2, 3))


def find_share(done: float, first: float, last: float) -> float:
    """Return how much the classes count when the share `done` of a training is over.

    It is 0 until `first`, rises linearly, and is 1 from `last` on (Shahbazi et al. 2022, Eq. 4).
    """
    if done < first:
        return 0.0
    return 1.0 if done >= last else (done - first) / (last - first)


class GanTraining(OnePassTraining[GanSpec]):
    """A running training of a generator and its critic; `rows` are those of the collapse table."""

    # The loss of a critic rises whenever the generator learns, so only a far higher one is a fault
    exploded_ratio = 50.0

    def __init__(self, faces: Faces, spec: GanSpec, torch_device: torch.device) -> None:
        super().__init__(faces, spec, torch_device)
        self.add_network("generator", GanNetwork(spec, faces.size), BETAS)
        self.add_network("critic", Critic(faces.size, spec.net), BETAS, averaged=False)
        self.generator.mean.copy_(self.mean)
        self.generator.deviation.fill_(self.sigma_data)
        self.averages["generator"].tensors |= {
            name: tensor.clone() for name, tensor in self.generator.named_buffers()
        }
        self.rows: list[list[Any]] = []

    @property
    def generator(self) -> GanNetwork:
        """The network that draws."""
        network = self.networks["generator"]
        assert isinstance(network, GanNetwork)
        return network

    def make_step(self, number: int, pool: ThreadPoolExecutor) -> float | None:
        """Make an update of the critic, then one of the generator.

        Return the loss of the critic; None if a loss or a gradient is not finite.
        """
        # A batch: real images, noise for as many generated ones, and augmentations of both
        spec, done = self.spec, number / self.spec.updates
        share = find_share(done, spec.classes_from, spec.classes_until)
        rows, rng = self.draw_rows(number)
        labels, count = self.labels[rows], spec.batch
        noise, more_noise = (
            torch.randn(count, spec.net.latent, device=self.torch_device, generator=rng)
            for _ in range(2)
        )
        moves, more_moves, last_moves = (
            transforms.draw(count, spec.mirror, spec.moves * done, rng) for _ in range(3)
        )
        real = transforms.apply(self.scale_rows(rows), moves)
        gamma = spec.gamma + done * (spec.gamma_last - spec.gamma)
        critic, generator = self.networks["critic"], self.generator

        def compute_for_critic(part: slice) -> Tensor:
            own = labels[part]
            with torch.no_grad():
                drawn = transforms.apply(generator.draw(noise[part], own, share), more_moves[part])

            # Real and generated images in one pass
            numbers, squares = compute_penalties(
                lambda x: critic(x, torch.cat([own, own]), share), torch.cat([real[part], drawn])
            )
            losses = compute_pair_losses(*numbers.chunk(2))
            return losses + gamma / 2 * sum(squares.chunk(2))

        def compute_for_generator(part: slice) -> Tensor:
            own = labels[part]
            drawn = generator.draw(more_noise[part], own, share)
            with torch.no_grad():
                numbers = critic(real[part], own, share)
            seen = critic(transforms.apply(drawn, last_moves[part]), own, share)
            return compute_pair_losses(seen, numbers)

        # Both networks learn, and now and then the generator is checked
        loss = self.descend("critic", number, compute_for_critic, pool)
        if loss is None:
            return None
        other = self.descend("generator", number, compute_for_generator, pool)
        every = max(1, spec.updates // collapse.CHECKS)
        if (number + 1) % every == 0 and share > 0:
            self.check(number + 1)
        return None if other is None else loss

    def check(self, step: int) -> None:
        """Measure precision and variety of each class after a step, and add them to `rows`."""
        # The generator with the average of its weights
        network = GanNetwork(self.spec, self.faces.size).to(self.torch_device)
        network.load_state_dict(self.averages["generator"].tensors)
        rng = torch.Generator(self.torch_device)
        rng.manual_seed(derive_seed("collapse", self.spec.seed))

        # As many images of each class as are compared
        for label in self.labels.unique().tolist():
            rows = torch.nonzero(self.labels == label)[:, 0]
            rows = rows[:: max(1, len(rows) // collapse.CHECKED_IMAGES)][: collapse.CHECKED_IMAGES]
            shape = (collapse.CHECKED_IMAGES, network.noise_size)
            noise = torch.randn(shape, device=self.torch_device, generator=rng)
            if len(rows) < collapse.FEWEST_IMAGES:
                continue
            with torch.no_grad():
                drawn = network.draw(noise, torch.full((len(noise),), label).to(noise.device), 1.0)
            real, emotion = self.scale_rows(rows), EMOTIONS[label]
            precision = collapse.measure_precision(drawn, real)
            variety = collapse.measure_variety(drawn, real)
            if variety == variety:  # a number, since the real images differ
                self.rows.append([step, step * self.spec.batch, emotion, precision, variety])

    def collect_notes(self) -> dict[str, Any]:
        """Return the rows of the collapse table."""
        return {"rows": self.rows}

    def restore_notes(self, notes: Mapping[str, Any]) -> None:
        """Restore the rows of the collapse table."""
        self.rows = [list(row) for row in notes["rows"]]

    def finish(self, say: Callable[[str], None]) -> FinishedTraining:
        """Return the generator, and the classes that collapsed."""
        if not self.rows or self.rows[-1][0] < self.spec.updates:
            self.check(self.spec.updates)
        facts: dict[str, Any] = {"collapsed": [], "unlike": []}
        if self.rows:
            facts = collapse.find_collapsed(self.rows)
            say(collapse.describe_collapse(facts))
        table = pd.DataFrame(self.rows, columns=collapse.COLLAPSE_COLUMNS)
        return FinishedTraining(self.generator, facts, {"collapse": table})


make_training = GanTraining


def make_network(spec: GanSpec, size: tuple[int, int, int]) -> GanNetwork:
    """Return a network that draws, with any weights, for images of `size` (c, h, w)."""
    return GanNetwork(spec, size)


def describe(facts: Mapping[str, Any], spec: GanSpec) -> str:
    """Return what a training found: the classes that collapsed."""
    return collapse.describe_collapse(facts)


def count_workload(spec: GanSpec, size: tuple[int, int, int]) -> Workload:
    """Return the work per image of `size` (c, h, w): that of both networks in a step.

    A third of it counts as the forward pass, as for networks that are trained without a critic.
    """
    with torch.device("meta"):
        labels = torch.zeros(2, dtype=torch.int64)
        noise = torch.empty(2, spec.net.latent)
        generator = count_work(GanNetwork(spec, size).eval(), 2, noise, labels)
        critic = _count_critic(spec, size, labels)
    products, numbers = (
        (GENERATOR_PASSES * own + CRITIC_PASSES * other) / 3
        for own, other in (
            (generator.products, critic.products),
            (generator.numbers, critic.numbers),
        )
    )
    return replace(
        generator,
        products=products,
        numbers=numbers,
        learnt_products=products,
        learnt_numbers=numbers,
        weights=generator.weights + critic.weights,
    )


def _count_critic(spec: GanSpec, size: tuple[int, int, int], labels: Int[Tensor, "2"]) -> Workload:
    """Return the work per image of the critic, on the device meta."""
    return count_work(_Judging(Critic(size, spec.net).eval()), 2, torch.empty(2, *size), labels)


class _Judging(torch.nn.Module):
    """A critic for which the classes count in full."""

    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return a number for each image."""
        return self.critic(x, labels, 1.0)
