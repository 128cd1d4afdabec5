"""Feature spaces: the vectors by which two images are compared.

Each space has a name:

    pixels      grey values, at most 32 pixels per side
    random      random convolutions, then principal axes: uses no labels
    judge       a small classifier of expressions, trained on the real training images;
                it needs no download
    inception   timm's Inception v3 of ImageNet, 2048 numbers, for those who have its weights
    dinov2      timm's small DINOv2, 384 numbers, for those who have its weights

How images are resized is part of a space: other filters give other distances. A space learns (axes,
the judge) only from the real training images, never from the generator under test.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from mien.audit.specs import JUDGE_IMAGES_SEEN, FeaturesSpec, JudgeSpec, SpaceName
from mien.classifiers import pretrained
from mien.classifiers.fit import fit_network
from mien.classifiers.networks import Tiny
from mien.classifiers.predict import (
    TrainedNetwork,
    forward,
    load_network,
    save_network,
    start_network,
)
from mien.classifiers.specs import ClassifierSpec
from mien.errors import WeightsError
from mien.faces import Faces
from mien.generators import scaling
from mien.pictures import Colour, Filter
from mien.prepare.preprocess import reform
from mien.runs import devices
from mien.runs.progress import quantify, say, track
from mien.runs.store import Run, RunSummary, Store
from mien.seeds import derive_seed

MAX_PIXELS_WIDTH = 32  # pixels per side of the space `pixels`, where images are larger

RANDOM_AXES = 64  # principal axes of the space `random`

MAX_JUDGE_WIDTH = 48  # pixels per side, at most, that the judge and the random convolutions see

NETWORKS: Mapping[SpaceName, ClassifierSpec] = {
    "inception": ClassifierSpec(name="inception_v3", size=299),
    "dinov2": ClassifierSpec(name="vit_small_patch14_dinov2", size=112),  # 8 x 8 patches
}

JUDGE_EPOCHS = (3, 100)  # of the judge: the fewest and the most

# images that the judge learns from, at most, evenly spaced
MAX_JUDGE_IMAGES = JUDGE_IMAGES_SEEN // JUDGE_EPOCHS[0]

SPACE_BATCH_IMAGES = 128  # images that a space maps at once

Vectors = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class SpaceFeatures:
    """The features in one space of the training, held-out and generated images."""

    train: Float[np.ndarray, "n d"]
    test: Float[np.ndarray, "m d"]
    synthetic: Float[np.ndarray, "k d"]


@dataclass(frozen=True)
class Space:
    """A space of features.

    `extract_vectors` maps images of its colour and size (None: the size that they have) to float32
    [n, d].
    """

    name: str
    about: str
    extract_vectors: Callable[[UInt8[np.ndarray, "n c h w"]], Vectors]
    colour: Colour = "grey"
    size: int | None = None
    filter: Filter = "bilinear"

    def extract(self, images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        """Return the features of images, float32 [n, d]; they do not depend on the other images."""
        rows = []
        with track(f"looking at images ({self.name})", len(images)) as bar:
            for first in range(0, len(images), SPACE_BATCH_IMAGES):
                batch = np.asarray(images[first : first + SPACE_BATCH_IMAGES])
                rows.append(
                    self.extract_vectors(reform(batch, self.size, self.colour, self.filter))
                )
                bar.update(first + len(batch))
        return np.concatenate(rows) if rows else np.zeros((0, 1), dtype=np.float32)


# The judge


def load_judge(run: Run, store: Store, device: str = "auto") -> TrainedNetwork:
    """Return the classifier trained on the real faces of a run; it is trained once and stored."""
    spec = JudgeSpec(faces=run.name)

    def build(out: Path, scratch: Path) -> RunSummary:
        faces = Faces.load(run.path)
        say(f"training the judge on {quantify(len(faces), 'real image')}")
        save_network(train_judge(faces, spec.images_seen, spec.seed, scratch, device), out)
        classes = ", ".join(faces.classes)
        return {"holds": f"a judge of {classes}, trained on {quantify(len(faces), 'image')}"}

    return load_network(store.make(spec, build).path, device)


def train_judge(
    faces: Faces,
    images_seen: int = JUDGE_IMAGES_SEEN,
    seed: int = 0,
    scratch: Path | None = None,
    device: str = "auto",
) -> TrainedNetwork:
    """Return the small network trained on `faces`: about `images_seen` images, in 3 to 100 epochs.

    Each image is randomly rotated, moved, mirrored and relit each time, which improves accuracy on
    held-out people. Raises DataError for fewer than two images.
    """
    # Choose the epochs so that small and large sets train for about as long
    fewest, most = JUDGE_EPOCHS
    if len(faces) > MAX_JUDGE_IMAGES:
        faces = faces.select(np.linspace(0, len(faces) - 1, MAX_JUDGE_IMAGES).astype(np.int64))
    epochs = min(most, max(fewest, round(images_seen / max(1, len(faces)))))

    # Train with augmentation
    size = min(MAX_JUDGE_WIDTH, *faces.size[1:])
    spec = ClassifierSpec.model_validate(
        {"name": "tiny", "size": size, "epochs": epochs, "augment": {}}
    )
    return fit_network(faces, spec, faces.classes, seed, scratch, device)


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
    """Return a space; where it learns, it learns from the real faces of the run `train`.

    `weights` is a file for `inception` or `dinov2`, a path or its name in the store
    (`fit.import_weights`); without one they come from the hub. Raises WeightsError if they are not
    available.
    """
    if name == "pixels":
        return make_pixel_space(Faces.load(train.path).size, filter)
    if name == "random":
        return make_random_space(Faces.load(train.path).images, filter)
    if name == "judge":
        return make_judge_space(load_judge(train, store, device), filter)
    return make_pretrained_space(name, store, filter, weights, device)


def make_pixel_space(size: tuple[int, int, int], filter: Filter = "bilinear") -> Space:
    """Return the space of grey values in [0, 1]; images larger than 32 x 32 are resized to that."""
    resized_to = MAX_PIXELS_WIDTH if max(size[1:]) > MAX_PIXELS_WIDTH else None
    height, width = (resized_to, resized_to) if resized_to else size[1:]
    return Space(
        "pixels",
        f"grey values of {height} x {width} pixels, {filter}",
        _flatten,
        "grey",
        resized_to,
        filter,
    )


def _flatten(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def make_random_space(train: UInt8[np.ndarray, "n c h w"], filter: Filter = "bilinear") -> Space:
    """Return the space of random convolutions on principal axes, which uses no labels.

    It is made of the small classifier's layers with random weights, means over 4 x 4 places, and
    the 64 axes on which the real training images vary most.
    """
    # The layers of the small classifier, with fixed random weights
    with devices.isolate_randomness(torch.device("cpu")):
        torch.manual_seed(derive_seed("features", "random"))
        layers = Tiny(1).features.eval()

    @torch.inference_mode()
    def pool_responses(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        with devices.limit_cores(1):
            responses = layers(scaling.scale_for_model(images).expand(-1, 3, -1, -1))
            return torch.nn.functional.adaptive_avg_pool2d(responses, 4).flatten(1).numpy()

    # The principal axes of up to 4,096 real training images
    size = min(MAX_JUDGE_WIDTH, *train.shape[2:])
    raw = Space("random", "", pool_responses, "grey", size, filter)
    sample = np.linspace(0, len(train) - 1, min(len(train), 4096)).astype(np.int64)
    centre, axes = find_principal_axes(raw.extract(train[sample]), RANDOM_AXES)

    def extract_vectors(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        return (pool_responses(images) - centre) @ axes

    about = (
        f"random convolutions of {size} x {size} pixels, {filter}; {axes.shape[1]} principal axes"
    )
    return Space("random", about, extract_vectors, "grey", size, filter)


def find_principal_axes(
    rows: Vectors, count: int
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d k"]]:
    """Return the mean of `rows` and up to `count` axes of most variance, as columns of length 1."""
    centre = rows.mean(axis=0, dtype=np.float64)
    centred = rows - centre
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, : max(1, min(count, len(rows) - 1))]
    signs = np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1)
    return centre.astype(np.float32), (axes * signs).astype(np.float32)


def make_judge_space(classifier: TrainedNetwork, filter: Filter = "bilinear") -> Space:
    """Return the space of a classifier's activations before its head."""
    size = classifier.spec.size

    def extract_vectors(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        with devices.limit_cores(1):  # several cores could change the last digits
            return forward(classifier, images)

    about = (
        f"what a classifier ({classifier.spec.name}) trained on the real training images sees in "
        f"{size} x {size}"
    )
    return Space("judge", f"{about} pixels, {filter}", extract_vectors, "grey", size, filter)


def make_pretrained_space(
    name: SpaceName,
    store: Store,
    filter: Filter = "bilinear",
    weights: str = "",
    device: str = "auto",
) -> Space:
    """Return the space of a timm network before its head, with weights of ImageNet or DINOv2."""
    spec, network = NETWORKS[name], _load_network(name, weights or "imagenet", store)
    network.network.to(devices.find_device(device)).eval()

    def extract_vectors(images: UInt8[np.ndarray, "n c h w"]) -> Vectors:
        return forward(network, images)

    about = (
        f"{spec.name} of timm in {spec.size} x {spec.size} pixels, {filter}; weights "
        f"{network.origin}"
    )
    return Space(name, about, extract_vectors, "rgb", spec.size, filter)


def require_weights(name: SpaceName, file: Path, store: Store) -> None:
    """Raise WeightsError unless the file holds weights for the network of a space.

    Nothing is copied into the store.
    """
    _load_network(name, str(file), store)


def require_hub_weights(
    spaces: Iterable[SpaceName],
    remedy: str = (
        "For the audit, give `--weights SPACE=FILE` instead, or omit the space in --spaces"
    ),
) -> None:
    """Raise WeightsError unless the ImageNet weights of all these spaces are at hand.

    They are downloaded where they are missing and the hub answers. `remedy` is a sentence of the
    message, for commands that can do without them.
    """
    specs = [NETWORKS[name] for name in dict.fromkeys(spaces) if name in NETWORKS]
    try:
        pretrained.require_hub_weights(specs, fetch=True)
    except WeightsError as error:
        raise WeightsError(f"{error}. {remedy}") from None


def _load_network(name: SpaceName, weights: str, store: Store) -> TrainedNetwork:
    spec = NETWORKS[name].model_copy(update={"weights": weights})
    try:
        return start_network(spec, ["none"], 0, pretrained.find_imported_weights(spec, store))
    except WeightsError as error:
        raise WeightsError(
            f"the space {name}: {error}; or give `--weights {name}=FILE`, or omit {name}"
        ) from None


# Features of runs


def extract_features(
    runs: Sequence[Run],
    train: Run,
    name: SpaceName,
    store: Store,
    *,
    filter: Filter = "bilinear",
    weights: str = "",
    device: str = "auto",
) -> tuple[list[Vectors], str]:
    """Return the features of each run in a space learnt on the run `train`, and the space in words.

    Features of all spaces except pixels are stored, so that the next audit finds them. Raises
    WeightsError as `open_space` does.
    """
    # Open the space only if some features are not stored yet
    opened = cache(
        partial(open_space, name, train, store, filter=filter, weights=weights, device=device)
    )

    # Pixels are as fast to read as stored features
    if name == "pixels":
        return [opened().extract(Faces.load(run.path).images) for run in runs], opened().about

    # Load the stored features, and extract those that are missing
    specs = [
        FeaturesSpec(faces=run.name, space=name, train=train.name, filter=filter, weights=weights)
        for run in runs
    ]
    stored = [load_or_extract(spec, store, device, opened) for spec in specs]
    vectors = [np.load(run.find_file("features.npy"), allow_pickle=False) for run in stored]
    return vectors, str(stored[0].summary["about"])


def load_or_extract(
    spec: FeaturesSpec,
    store: Store,
    device: str = "auto",
    opened: Callable[[], Space] | None = None,
) -> Run:
    """Return the run of the features of a run of faces, which is made if the store lacks it.

    `opened` returns the space, if the caller has it open already.
    """
    # Open the space only if the features are not stored yet
    train = store.run(spec.train)
    open_own = partial(
        open_space,
        spec.space,
        train,
        store,
        filter=spec.filter,
        weights=spec.weights,
        device=device,
    )

    def build(out: Path, scratch: Path) -> RunSummary:
        space = (opened or open_own)()
        vectors = space.extract(Faces.load(store.run(spec.faces).path).images)
        np.save(out / "features.npy", vectors, allow_pickle=False)
        return {
            "holds": f"{len(vectors):,} x {vectors.shape[1]} features ({spec.space})",
            "about": space.about,
        }

    return store.make(spec, build)


def load_features(
    names: Sequence[SpaceName],
    train: Run,
    test: Run | None,
    synthetic: Run,
    store: Store,
    *,
    filter: Filter = "bilinear",
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
) -> tuple[dict[str, SpaceFeatures], dict[str, str]]:
    """Return the features of three runs in each space, and each space in words.

    Without `test` the held-out side has no rows.
    """
    features, about = {}, {}
    for name in names:
        weights_file = (weights or {}).get(name, "")
        runs = (train, test or train, synthetic)
        vectors, about[name] = extract_features(
            runs, train, name, store, filter=filter, weights=weights_file, device=device
        )
        features[name] = (
            SpaceFeatures(*vectors)
            if test
            else replace(SpaceFeatures(*vectors), test=vectors[1][:0])
        )
    return features, about
