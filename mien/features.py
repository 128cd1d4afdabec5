"""Feature spaces: what a picture is before two of them are compared, each under a name that says
how it came about.

    pixels      grey values, at most 32 pixels a side
    random      random convolutions, then principal axes: knows no labels
    judge       a small classifier of expressions, trained on the real training people: the default, needs no network
    inception   timm's Inception v3 of ImageNet, 2048 numbers, for those who have its weights
    dinov2      timm's small DINOv2, 384 numbers, for those who have its weights

How images are resized is part of a space: other filters give other distances. What a space learns
(axes, the judge) it learns from the real training images alone, and none knows the generator under
test.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field

from mien import classifiers, training
from mien.classifiers import Classifier, ClassifierSpec
from mien.errors import WeightsError
from mien.faces import Faces
from mien.preprocess import Colour, Filter, reform
from mien.progress import many, say, track
from mien.seeds import seed as seed_of
from mien.spec import Spec
from mien.store import Run, Store

SpaceName = Literal["pixels", "random", "judge", "inception", "dinov2"]
SPACES: tuple[SpaceName, ...] = get_args(SpaceName)
OFFLINE: tuple[SpaceName, ...] = ("pixels", "random", "judge")

SIDE = 32  # pixels, of the space `pixels` where images are larger
AXES = 64  # of the space `random`
SEEN = 48  # pixels a side that the judge and random convolutions see, less where images have less
NETWORKS: Mapping[SpaceName, ClassifierSpec] = {
    "inception": ClassifierSpec(name="inception_v3", size=299),
    "dinov2": ClassifierSpec(name="vit_small_patch14_dinov2", size=112),  # 8 x 8 patches
}
JUDGED = 24_000  # images that the judge sees in training, whatever their number
EPOCHS = (3, 100)  # the fewest and the most that it takes
TAUGHT = JUDGED // EPOCHS[0]  # images that it learns from at most: of more, so many, evenly spaced
BATCH = 128  # images that a space looks at together

Vectors = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class Sides:
    """The features of the three sides in one space."""

    train: Float[np.ndarray, "n d"]
    test: Float[np.ndarray, "m d"]
    made: Float[np.ndarray, "k d"]


@dataclass(frozen=True)
class Space:
    """A space of features; `look` gives float32 [n, d] of images that have its colour and size
    (None: as they are).
    """

    name: SpaceName
    about: str
    look: Callable[[UInt8[np.ndarray, "n c h w"]], Vectors]
    colour: Colour = "grey"
    size: int | None = None
    filter: Filter = "bilinear"

    def extract(self, images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        """Return float32 [n, d]; a block of images at a time, and each one alone as in company."""
        rows = []
        with track(f"looking at images ({self.name})", len(images)) as bar:
            for first in range(0, len(images), BATCH):
                part = np.asarray(images[first : first + BATCH])
                rows.append(self.look(reform(part, self.size, self.colour, self.filter)))
                bar.update(first + len(part))
        return np.concatenate(rows) if rows else np.zeros((0, 1), dtype=np.float32)


class JudgeSpec(Spec):
    """The project's classifier of expressions, trained on a run of real faces."""

    stage: ClassVar[str] = "judge"
    faces: str
    images_seen: int = Field(default=JUDGED, ge=1)
    seed: int = 0


class FeaturesSpec(Spec):
    """The features of a run of faces in a space that was learnt on another run, `train`."""

    stage: ClassVar[str] = "features"
    faces: str
    space: SpaceName
    train: str
    filter: Filter = "bilinear"
    weights: str = ""


# The judge


def judge(run: Run, store: Store, device: str = "auto") -> Classifier:
    """Return the classifier that judges by the real faces of a run: trained once, and kept in the
    store.
    """
    spec = JudgeSpec(faces=run.name)

    def build(out: Path, scratch: Path) -> None:
        faces = Faces.load(run.path)
        say(f"training the judge on {many(len(faces), 'real image')}")
        classifiers.save(train_judge(faces, spec.images_seen, spec.seed, scratch, device), out)
        classes = ", ".join(faces.classes)
        summary = {"holds": f"a judge of {classes}, trained on {many(len(faces), 'image')}"}
        (out / "summary.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")

    return classifiers.load(store.make(spec, build).path, device)


def train_judge(
    faces: Faces,
    images_seen: int = JUDGED,
    seed: int = 0,
    scratch: Path | None = None,
    device: str = "auto",
) -> Classifier:
    """Return the small network trained on `faces`, on about `images_seen` images, in 3 to 100
    epochs.

    Each image is turned, moved, mirrored and lit anew: people never seen are then judged better.
    Raises DataError on fewer than two images.
    """
    few, many = EPOCHS
    if len(faces) > TAUGHT:
        faces = faces.select(np.linspace(0, len(faces) - 1, TAUGHT).astype(np.int64))
    epochs = min(many, max(few, round(images_seen / max(1, len(faces)))))
    size = min(SEEN, *faces.size[1:])
    spec = ClassifierSpec.model_validate(
        {"name": "tiny", "size": size, "epochs": epochs, "augment": {}}
    )
    return classifiers.fit(faces, spec, faces.classes, seed, scratch, device)


# Spaces


def open_space(
    name: SpaceName,
    train: Run,
    store: Store,
    *,
    filter: Filter = "bilinear",
    weights: str = "",
    device: str = "auto",
) -> Space:
    """Return a space, learnt on the real faces of the run `train` where it learns.

    `weights` is a file for `inception` or `dinov2`, a path or its name in the store
    (`classifiers.adopt`); without one they come from the hub. Raises WeightsError if they are not
    at hand.
    """
    if name == "pixels":
        return pixels(Faces.load(train.path).size, filter)
    if name == "random":
        return convolved(Faces.load(train.path).images, filter)
    if name == "judge":
        return judged(judge(train, store, device), filter)
    return pretrained(name, store, filter, weights, device)


def pixels(size: tuple[int, int, int], filter: Filter = "bilinear") -> Space:
    """Return the space of grey values in [0, 1] for images of `size`; larger ones are brought to 32
    x 32.
    """
    side = SIDE if max(size[1:]) > SIDE else None
    height, width = (side, side) if side else size[1:]
    return Space(
        "pixels", f"grey values of {height} x {width} pixels, {filter}", _flat, "grey", side, filter
    )


def _flat(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def convolved(train: UInt8[np.ndarray, "n c h w"], filter: Filter = "bilinear") -> Space:
    """Return the space of random convolutions on the principal axes of the real training images: it
    knows no labels.

    The small classifier's layers with random weights, means over 4 x 4 places, then the 64 axes of
    most variance.
    """
    with training.own_randomness(torch.device("cpu")):
        torch.manual_seed(seed_of("features", "random"))
        layers = classifiers.Tiny(1).features.eval()

    @torch.inference_mode()
    def maps(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        with training.cores(1):
            seen = layers(training.to_model(images).expand(-1, 3, -1, -1))
            return torch.nn.functional.adaptive_avg_pool2d(seen, 4).flatten(1).numpy()

    size = min(SEEN, *train.shape[2:])
    raw = Space("random", "", maps, "grey", size, filter)
    chosen = np.linspace(0, len(train) - 1, min(len(train), 4096)).astype(np.int64)
    centre, axes = principal(raw.extract(train[chosen]), AXES)

    def look(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        return (maps(images) - centre) @ axes

    about = (
        f"random convolutions of {size} x {size} pixels, {filter}; {axes.shape[1]} principal axes"
    )
    return Space("random", about, look, "grey", size, filter)


def principal(
    rows: Vectors, count: int
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d k"]]:
    """Return the mean of `rows` and their axes of most variance, `count` at most, as columns of
    length 1.
    """
    centre = rows.mean(axis=0, dtype=np.float64)
    centred = rows - centre
    _, vectors = np.linalg.eigh(centred.T @ centred)
    kept = vectors[:, ::-1][:, : max(1, min(count, len(rows) - 1))]
    signs = np.where(kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])] < 0, -1, 1)
    return centre.astype(np.float32), (kept * signs).astype(np.float32)


def judged(classifier: Classifier, filter: Filter = "bilinear") -> Space:
    """Return the space of what a classifier sees before its head."""
    size = classifier.spec.size

    def look(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        with training.cores(1):  # on more, the same image can be seen a little otherwise
            return classifiers.see(classifier, images)

    about = (
        f"what a classifier ({classifier.spec.name}) trained on the real training images sees "
        f"in {size} x {size}"
    )
    return Space("judge", f"{about} pixels, {filter}", look, "grey", size, filter)


def pretrained(
    name: SpaceName,
    store: Store,
    filter: Filter = "bilinear",
    weights: str = "",
    device: str = "auto",
) -> Space:
    """Return the space of a network of timm with the weights of ImageNet or DINOv2, before its
    head.
    """
    spec, network = NETWORKS[name], _network(name, weights or "imagenet", store)
    network.network.to(training.device(device)).eval()

    def look(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        return classifiers.see(network, images)

    about = (
        f"{spec.name} of timm in {spec.size} x {spec.size} pixels, {filter}; weights "
        f"{network.origin}"
    )
    return Space(name, about, look, "rgb", spec.size, filter)


def require_weights(name: SpaceName, file: Path, store: Store) -> None:
    """Raise WeightsError unless a file holds weights of the network of a space; nothing is
    copied.
    """
    _network(name, str(file), store)


def _network(name: SpaceName, weights: str, store: Store) -> Classifier:
    spec = NETWORKS[name].model_copy(update={"weights": weights})
    try:
        return classifiers.start(spec, ["none"], 0, classifiers.adopted(spec, store))
    except WeightsError as error:
        raise WeightsError(
            f"the space {name}: {error}; or give `--weights {name}=FILE`, or leave {name} out"
        ) from None


# Features of runs


def measured(
    runs: Sequence[Run],
    train: Run,
    name: SpaceName,
    store: Store,
    *,
    filter: Filter = "bilinear",
    weights: str = "",
    device: str = "auto",
) -> tuple[list[Vectors], str]:
    """Return the features of each of some runs in a space learnt on the run `train`, and what the
    space is.

    All but pixels are kept in the store, so that the next audit finds them. Raises WeightsError as
    `open_space` does.
    """
    opened = cache(
        partial(open_space, name, train, store, filter=filter, weights=weights, device=device)
    )
    if name == "pixels":
        return [opened().extract(Faces.load(run.path).images) for run in runs], opened().about
    wanted = [
        FeaturesSpec(faces=run.name, space=name, train=train.name, filter=filter, weights=weights)
        for run in runs
    ]
    kept = [keep(spec, store, device, opened) for spec in wanted]
    vectors = [np.load(run.file("features.npy"), allow_pickle=False) for run in kept]
    return vectors, str(kept[0].summary["about"])


def keep(
    spec: FeaturesSpec,
    store: Store,
    device: str = "auto",
    opened: Callable[[], Space] | None = None,
) -> Run:
    """Return the run of the features of a run of faces; `opened` gives the space, where that is
    open already.
    """
    where = store.run(spec.train)
    own = partial(
        open_space,
        spec.space,
        where,
        store,
        filter=spec.filter,
        weights=spec.weights,
        device=device,
    )

    def build(out: Path, scratch: Path) -> None:
        space = (opened or own)()
        found = space.extract(Faces.load(store.run(spec.faces).path).images)
        np.save(out / "features.npy", found, allow_pickle=False)
        summary = {
            "holds": f"{len(found):,} x {found.shape[1]} features ({spec.space})",
            "about": space.about,
        }
        (out / "summary.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")

    return store.make(spec, build)


def sides(
    names: Sequence[SpaceName],
    train: Run,
    test: Run | None,
    made: Run,
    store: Store,
    *,
    filter: Filter = "bilinear",
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
) -> tuple[dict[str, Sides], dict[str, str]]:
    """Return the features of three runs in each space, and what each space is; without `test`, no
    rows of it.
    """
    found, about = {}, {}
    for name in names:
        own = (weights or {}).get(name, "")
        runs = (train, test or train, made)
        vectors, about[name] = measured(
            runs, train, name, store, filter=filter, weights=own, device=device
        )
        found[name] = Sides(*vectors) if test else replace(Sides(*vectors), test=vectors[1][:0])
    return found, about
