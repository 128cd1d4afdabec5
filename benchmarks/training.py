"""How fast classifiers train, against the limit and against a plain loop: images a second, as
ratios.

    python benchmarks/training.py
    python benchmarks/training.py --device cuda --batch 64 --steps 30

Three sides, taken in turn in one process, on the same network, optimiser, batch and 48x48 grey
faces:

    mien    the step of `classifiers.fit`: uint8 images on the device, augmented as a batch
    bare    forward, backward and optimiser on one batch that lies ready: the limit
    plain   a loop as tutorials write it: PIL and torchvision transforms, a DataLoader with two
    workers
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mien.classifiers.fit import ClassifierTraining
from mien.classifiers.networks import load_timm
from mien.classifiers.predict import start_network
from mien.classifiers.specs import AugmentSpec, ClassifierSpec
from mien.faces import EMOTIONS, Faces, make_index
from mien.runs import devices

NAMES = EMOTIONS[:7]
IMAGES = 2048
WORKERS = 2


def faces(count: int = IMAGES) -> Faces:
    """Return grey noise of the shape of faces: speed does not depend on what they show."""
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 48, 48), dtype=np.uint8)
    keys = [str(number) for number in range(count)]
    return Faces(
        images, make_index(images, key=keys, emotion=[NAMES[number % 7] for number in range(count)])
    )


class Pictures(Dataset[tuple[Tensor, int]]):
    """The same images through PIL, one by one."""

    def __init__(
        self, shown: Faces, size: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        from torchvision import (
            transforms,
        )  # after timm, which sees to torchvision's missing operators

        self.images, self.labels = shown.images, shown.number_labels(NAMES)
        self.transform: Callable[[Image.Image], Tensor] = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.RandomAffine(
                    15, translate=(0.1, 0.1), interpolation=transforms.InterpolationMode.BILINEAR
                ),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(brightness=0.2),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        """Return one image as the network takes it, and its label."""
        return self.transform(Image.fromarray(self.images[place][0]).convert("RGB")), int(
            self.labels[place]
        )


def plain_steps(work: ClassifierTraining, shown: Faces) -> Callable[[], None]:
    """Return a function that takes one step of the plain loop."""
    one = work.classifier
    pictures = Pictures(shown, work.spec.size, one.mean, one.std)
    loader = DataLoader(
        pictures, work.phase.batch, shuffle=True, drop_last=True, num_workers=WORKERS
    )

    def endless() -> Iterator[list[Tensor]]:
        while True:
            yield from loader

    batches = endless()

    def step() -> None:
        x, labels = next(batches)
        work.update_weights(x.to(work.torch_device), labels.to(work.torch_device))

    return step


def measure(spec: ClassifierSpec, device: str, steps: int, rounds: int) -> dict[str, list[float]]:
    """Return the images a second of each side, a number a round."""
    where, shown = devices.find_device(device), faces()
    work = ClassifierTraining(start_network(spec, NAMES, 0, None), shown, 0, where)
    rows = torch.arange(work.phase.batch, device=where)
    ready, labels = work.make_inputs(rows, 0), work.labels[rows]
    count = iter(range(10**9))
    sides: dict[str, Callable[[], object]] = {
        "mien": lambda: work.make_step(next(count) % work.steps),
        "bare": lambda: work.update_weights(ready, labels),
        "plain": plain_steps(work, shown),
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):  # the first round prepares
        for name, side in sides.items():
            devices.wait_for_device(where)
            began = time.monotonic()
            for _ in range(steps):
                side()
            devices.wait_for_device(where)
            if turn:
                found[name].append(steps * work.phase.batch / (time.monotonic() - began))
    return found


def main() -> None:
    """Print a row a network."""
    parser = argparse.ArgumentParser(
        description="How fast classifiers train, against the limit and a plain loop."
    )
    parser.add_argument("--networks", nargs="+", default=["resnet50", "inception_v3", "vgg16"])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=2, help="steps of each side a round")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    load_timm()
    where = devices.find_device(given.device)
    print(
        f"torch {torch.__version__}, {where.type}, {torch.get_num_threads()} threads, batch "
        f"{given.batch}, {given.size} pixels, {given.rounds} rounds of {given.steps} steps a side; "
        "medians of the rounds' ratios"
    )
    print(
        (
            "| network | mien / bare | mien / plain | mien, images a second |\n| --- | --: | --: "
            "| --: |"
        ),
        flush=True,
    )
    for name in given.networks:
        fields = {
            "name": name,
            "size": given.size,
            "weights": "none",
            "batch": given.batch,
            "augment": AugmentSpec(),
        }
        found = measure(
            ClassifierSpec.model_validate(fields), given.device, given.steps, given.rounds
        )
        ratios = [
            statistics.median(
                ours / theirs for ours, theirs in zip(found["mien"], found[side], strict=True)
            )
            for side in ("bare", "plain")
        ]
        speed = statistics.median(found["mien"])
        print(f"| {name} | {ratios[0]:.2f} | {ratios[1]:.2f} | {speed:.1f} |", flush=True)


if __name__ == "__main__":
    main()
