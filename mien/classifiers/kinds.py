"""CLASSIFIERS: how a network or a baseline is fitted, applied and timed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from mien.classifiers.baselines import BASELINES, Baseline
from mien.classifiers.curves import EpochScores
from mien.classifiers.fit import fit_network
from mien.classifiers.predict import TrainedNetwork
from mien.classifiers.pretrained import find_imported_weights
from mien.classifiers.specs import (
    OWN_NETWORKS,
    AnyClassifier,
    ClassifierSpec,
    TrainingUse,
    get_classifier_name,
)
from mien.classifiers.speed import NetworkTiming
from mien.faces import Faces
from mien.runs.store import Store


@runtime_checkable
class FittedClassifier(Protocol):
    """A classifier after its training: `facts` and `curve` are for the run of a trial."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the summary of a trial says about the training."""
        ...

    @property
    def curve(self) -> Sequence[EpochScores]:
        """The scores of each epoch of the training; empty if it has no epochs."""
        ...

    def predict(self, faces: Faces) -> Float[np.ndarray, "n classes"]:
        """Return float32 probabilities, one row per image and one column per class."""
        ...


@dataclass(frozen=True)
class ClassifierKind:
    """What is done with a kind of classifier.

    - `fit(faces, classifier, classes, seed, scratch, device, store)` returns a FittedClassifier.
      `store` has the weights that the training starts from. A kind that is trained in epochs also
      takes `watch`, `units` and `use`, as fit_network does.
    - `timing(classifier)` returns how long its training takes, or is None for a kind whose training
      takes seconds.
    """

    fit: Callable[..., FittedClassifier]
    timing: Callable[[Any], NetworkTiming] | None = None


def _fit_network(
    faces: Faces,
    spec: ClassifierSpec,
    classes: Sequence[str],
    seed: int,
    scratch: Path | None,
    device: str,
    store: Store,
    watch: Callable[[TrainedNetwork, int], None] | None = None,
    units: Sequence[int] = (),
    use: TrainingUse | None = None,
) -> TrainedNetwork:
    file = find_imported_weights(spec, store)
    return fit_network(faces, spec, classes, seed, scratch, device, file, watch, units, use)


def _make_baseline_kind(baseline: type[Baseline]) -> ClassifierKind:
    def fit(
        faces: Faces, name: str, classes: Sequence[str], seed: int, *where: object
    ) -> FittedClassifier:
        return baseline(faces, classes, seed)

    return ClassifierKind(fit)


NETWORK = ClassifierKind(_fit_network, NetworkTiming)

CLASSIFIERS: Mapping[str, ClassifierKind] = {
    **dict.fromkeys(OWN_NETWORKS, NETWORK),
    **{name: _make_baseline_kind(baseline) for name, baseline in BASELINES.items()},
}
"""The classifiers that are defined here; every other name is that of a network of timm."""


def find_kind(classifier: AnyClassifier) -> ClassifierKind:
    """Return what is done with a classifier; a name that is not in CLASSIFIERS is timm's."""
    return CLASSIFIERS.get(get_classifier_name(classifier), NETWORK)


def fit_classifier(
    faces: Faces,
    classifier: AnyClassifier,
    classes: Sequence[str],
    seed: int,
    store: Store,
    *,
    scratch: Path | None = None,
    device: str = "auto",
    watch: Callable[[TrainedNetwork, int], None] | None = None,
    units: Sequence[int] = (),
    use: TrainingUse | None = None,
) -> FittedClassifier:
    """Return a classifier of `classes` trained on `faces`; equal arguments give equal answers.

    A training that writes checkpoints to `scratch` resumes from there with the same result. `watch`
    is for classifiers that are trained in epochs, and is called after each. `units` is for
    networks, which then say which of these action units a face shows. `use` says how a network is
    trained on the synthetic images among `faces`; by default they are mixed with the real ones.

    Raises DataError for too few images or classes, WeightsError if the pretrained weights are
    missing, and TrainingError if the training diverges.
    """
    fit = find_kind(classifier).fit
    options = {
        **({"watch": watch} if watch else {}),
        **({"units": units} if units else {}),
        **({"use": use} if use is not None and use.needs_network else {}),
    }
    return fit(faces, classifier, classes, seed, scratch, device, store, **options)


def find_timing(classifier: AnyClassifier) -> NetworkTiming | None:
    """Return how long the training of a classifier takes, or None if it takes seconds."""
    timing = find_kind(classifier).timing
    return None if timing is None else timing(classifier)
