"""The training loop of networks, its checkpoints, and which epoch is kept."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from mien import metrics
from mien.classifiers.augment import augment, draw_parameters
from mien.classifiers.channels import find_flow_pairs, require_input
from mien.classifiers.curves import CurveRecorder
from mien.classifiers.late_units import give_units
from mien.classifiers.networks import freeze_layers
from mien.classifiers.phases import plan_phases
from mien.classifiers.predict import (
    TrainedNetwork,
    normalise_batch,
    predict_classes,
    resize_batch,
    set_precision,
    start_network,
)
from mien.classifiers.specs import ClassifierSpec, TrainingUse, require_classes_to_weight
from mien.classifiers.strong import (
    find_heavier,
    make_mix,
    require_labels,
    require_pictures,
    vary_pictures,
)
from mien.classifiers.tags import add_tag, remove_tag, tell_origin
from mien.errors import DataError, TrainingError
from mien.faces import Faces
from mien.prepare.action_units import encode_units, name_columns, require_units
from mien.prepare.inputs import find_resting_values
from mien.runs import checkpoints, devices, stopping
from mien.runs.progress import track
from mien.seeds import make_rng

CHECKPOINT_EVERY_S = 60.0  # a killed training loses no more than this

# steps between two reads of the loss, each of which makes a graphics card wait
CHECK_EVERY_STEPS = 10

# Numbers written per number of an image: resized and normalised only, and also augmented; and
# further ones for strong augmentation
WRITES_PER_NUMBER, WRITES_PER_AUGMENTED_NUMBER, FURTHER_STRONG_WRITES = 4, 16, 80


def fit_network(
    faces: Faces,
    spec: ClassifierSpec,
    classes: Sequence[str],
    seed: int,
    scratch: Path | None = None,
    device: str = "auto",
    file: Path | None = None,
    watch: Callable[[TrainedNetwork, int], None] | None = None,
    units: Sequence[int] = (),
    use: TrainingUse | None = None,
) -> TrainedNetwork:
    """Return a network of `classes` trained on `faces`; equal arguments give equal weights.

    With `units` it has an output for each of these action units instead. Each learns by binary
    cross-entropy, in which the images with the unit weigh as much in total as those without it.
    Checkpoints are written to `scratch`, and a training that was stopped resumes from there with
    the same result. `file` is the weights file that a spec with `file:` refers to. `watch` is
    called after each epoch with the network and the number of the epoch, from 1; it changes
    nothing in the training. The last of a number of `updates` ends an epoch, even a partial one.
    After a resumption it is called again from the checkpoint on. `use` says when and how it is
    trained on the synthetic images among `faces`; None is that they are mixed with the real ones.
    The epochs of a pretraining come first, and none of them is kept.

    Raises DataError for fewer than two images or classes and for images that the network does not
    take, such as single frames for a network of clips, SpecError for class_weights where action
    units are the target, WeightsError if the pretrained weights are missing, and TrainingError if
    the training diverges.
    """
    # The input must fit; then hold out the images that choose the epoch
    require_input(spec.name, spec, faces.shown)
    require_classes_to_weight(spec, units, spec.name)
    require_pictures(spec.name, spec, faces.shown)
    require_labels(spec, units, spec.name)
    train_faces, held_out = hold_out(faces, spec.validation, seed)
    if len(train_faces) < 2:
        raise DataError(
            f"a classifier needs two images or more to learn from; it was given {len(train_faces)}"
        )
    if len(classes) < 2 and not units:
        raise DataError(
            "a classifier needs two classes or more to distinguish; it was given only "
            f"{' '.join(classes)}"
        )

    torch_device = devices.find_device(device)
    with (
        devices.isolate_randomness(torch_device),
        set_precision(spec, torch_device),
        stopping.defer_signals(scratch is not None),
    ):
        # Resume from the last checkpoint, if there is one
        columns = _name_coding(spec, train_faces)
        first = start_network(spec, classes, seed, file, train_faces.shown, units, columns)
        training = ClassifierTraining(first, train_faces, seed, torch_device, use)
        best, curve = _BestEpoch(held_out), CurveRecorder()
        done = _load_checkpoint(scratch, training, best, curve)
        saved, checked = time.monotonic(), done
        scores: list[Tensor] = []

        with track(f"training {spec.name}", training.steps) as bar:
            for step in range(done, training.steps):
                scores.append(training.make_step(step))

                # Read the losses seldom, and always before a checkpoint and after an epoch
                last = step + 1 == training.steps
                epoch = training.find_ended_epoch(step)
                ended = epoch is not None
                late = stopping.stop_requested() or time.monotonic() - saved >= CHECKPOINT_EVERY_S
                due = scratch is not None and not last and late
                if ended or due or step + 1 - checked >= CHECK_EVERY_STEPS:
                    losses, accuracies = torch.stack(scores).T.tolist()
                    _require_finite(losses, checked, training)
                    curve.add_steps(losses, accuracies)
                    scores, checked = [], step + 1
                    bar.update(step + 1, f"loss {losses[-1]:.3f}")

                # Score the held-out images at the end of each epoch, after a pretraining
                if epoch is not None:
                    curve.end_epoch(epoch, best.compare(training.classifier, epoch))
                    if training.phase is not training.phases[-1]:
                        best.forget()
                    if watch is not None:
                        watch(training.classifier, epoch)

                # Save, then stop here if a signal asked for it
                if due and scratch is not None:
                    _save_checkpoint(scratch, training, best, curve, step + 1)
                    saved = time.monotonic()
                    stopping.raise_if_asked()

    # The best epoch's weights, which must give finite answers
    network = training.classifier.network
    best.restore(network)
    remove_tag(network)
    network.eval()
    _require_finite_answers(training, train_faces)
    return replace(training.classifier, epoch=best.epoch, curve=tuple(curve.done))


class ClassifierTraining:
    """A training in progress: everything that a step needs is on the device."""

    def __init__(
        self,
        classifier: TrainedNetwork,
        faces: Faces,
        seed: int,
        torch_device: torch.device,
        use: TrainingUse | None = None,
    ) -> None:
        spec = classifier.spec
        self.classifier, self.spec, self.seed, self.torch_device = (
            classifier,
            spec,
            seed,
            torch_device,
        )
        self.network = classifier.network
        self.frozen_modules = freeze_layers(self.network.eval(), spec.freeze)
        self.tag = use.tag if use is not None else ""
        if self.tag:
            add_tag(self.network, self.tag, spec.name)
        self.network = self.network.to(torch_device)
        self.images = torch.from_numpy(np.array(faces.images)).to(torch_device)
        self.resting_values = find_resting_values(faces.shown)
        self.flows = find_flow_pairs(faces.shown)
        self.labels = torch.from_numpy(_find_targets(classifier, faces)).to(torch_device)
        weighted_classes = len(classifier.classes) if spec.class_weights else 0
        self.measure_loss = make_loss(self.labels, weighted_classes)
        self.mix = make_mix(spec.strong, len(classifier.classes))
        coding = encode_units(list(faces.index["action_units"]), classifier.columns)
        self.coding = torch.from_numpy(coding).to(torch_device) if classifier.columns else None

        # The images left over after whole batches get their turn in another epoch's order
        is_synthetic = np.array(faces.index["source"] != "real", dtype=bool)
        self.is_synthetic = torch.from_numpy(is_synthetic).to(torch_device)
        self.phases = plan_phases(is_synthetic, spec, use, seed)
        self.phase = self.phases[0]
        self.steps = sum(phase.steps for phase in self.phases)
        self.optimiser = _make_optimiser(self.network, spec)

    def find_ended_epoch(self, step: int) -> int | None:
        """Return the number of the epoch that a step (from 0) ends, or None if it ends none.

        Epochs count from 1 over all phases. The last step of a phase ends an epoch.
        """
        before = 0
        for phase in self.phases:
            done = step + 1 - phase.first
            if 0 < done <= phase.steps:
                ends = done == phase.steps or done % phase.steps_per_epoch == 0
                return before + math.ceil(done / phase.steps_per_epoch) if ends else None
            before += phase.epochs
        return None

    def make_step(self, step: int) -> Float[Tensor, "2"]:
        """Take step number `step` (from 0), and return what `update_weights` returns."""
        checkpoints.begin_step(self.seed, step)
        self.phase = next(phase for phase in reversed(self.phases) if step >= phase.first)
        rows = torch.from_numpy(self.phase.choose_rows(step)).to(self.torch_device)
        x = self.make_inputs(rows, step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.phase.compute_learning_rate(step, self.spec.learning_rate)
        if self.tag:
            tell_origin(self.network, self.is_synthetic[rows])
        give_units(self.network, None if self.coding is None else self.coding[rows])
        labels = self.labels[rows]
        if self.mix is not None:
            x, labels = self.mix(x, labels)
        return self.update_weights(x, labels)

    def make_inputs(self, rows: Int[Tensor, " n"], step: int) -> Float[Tensor, "n k size size"]:
        """Return the images at `rows` as the network takes them in this step."""
        images, size, changes = self.images[rows], self.spec.size, self.spec.augment
        if self.spec.strong is not None:
            images = vary_pictures(images, self.spec.strong)
        if changes is None:
            x = resize_batch(images, size)
        else:
            movements = draw_parameters(changes, len(images), self.seed, step)
            x = augment(images, movements, size, self.resting_values, self.flows)
        return normalise_batch(x, self.classifier.mean, self.classifier.std)

    def update_weights(
        self, x: Float[Tensor, "n k size size"], labels: Shaped[Tensor, "*labels"]
    ) -> Float[Tensor, "2"]:
        """Take one optimiser step on a prepared batch, and return its loss and accuracy.

        `labels` are class numbers, mixed labels (a probability for each class; the answer must be
        the more probable class), or 0 and 1 for each action unit. Loss and accuracy are of the
        batch before the step, and stay on the device.
        """
        if not self.network.training:
            self.network.train()
            for module in self.frozen_modules:
                module.eval()
        answers = self.network(x)
        loss = self.measure_loss(answers, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        if self.classifier.units:
            right = ((answers.detach() > 0) == labels).to(loss.dtype)
        else:
            right = (answers.detach().argmax(dim=1) == find_heavier(labels)).to(loss.dtype)
        return torch.stack([loss.detach(), right.mean()])


def _find_targets(classifier: TrainedNetwork, faces: Faces) -> Shaped[np.ndarray, "*labels"]:
    """Return the number of each image's class, or 1 for each action unit that it shows, else 0."""
    if not classifier.units:
        return faces.number_labels(classifier.classes)
    return encode_units(list(faces.index["action_units"]), [str(n) for n in classifier.units])


def _name_coding(spec: ClassifierSpec, faces: Faces) -> tuple[str, ...]:
    """Return the names of the numbers that describe action units, if the network sees these."""
    if not spec.units:
        return ()
    require_units(faces, f"{spec.name} with units = true")
    return name_columns(list(faces.index["action_units"]))


def make_loss(
    labels: Shaped[Tensor, "*labels"], weighted_classes: int = 0
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of a batch, of its answers and labels, for a training on `labels`.

    Of classes it is the mean cross-entropy of the images. If `weighted_classes`, their number, is
    given, that of an image of class c is multiplied by n / (k n_c), for n training images in k
    classes, n_c of them in c: each class then weighs as much in total, and the mean weight is 1. Of
    action units it is the binary cross-entropy in which images with a unit weigh as much in total
    as those without it.
    """
    if labels.ndim == 1 and not weighted_classes:
        return functional.cross_entropy
    if labels.ndim == 1:
        weights = _weight_classes(labels, weighted_classes)
        return partial(_compute_weighted_cross_entropy, weights=weights)
    with_unit = labels.sum(dim=0)
    weights = (len(labels) - with_unit) / with_unit.clamp(min=1)
    return partial(functional.binary_cross_entropy_with_logits, pos_weight=weights)


def _weight_classes(labels: Int[Tensor, " n"], classes: int) -> Float[Tensor, " k"]:
    """Return the weight of each class; that of a class without images is never used."""
    counts = labels.bincount(minlength=classes)
    return len(labels) / ((counts > 0).sum() * counts.clamp(min=1)).float()


def _compute_weighted_cross_entropy(
    answers: Float[Tensor, "n k"], labels: Shaped[Tensor, "*labels"], weights: Float[Tensor, " k"]
) -> Float[Tensor, ""]:
    """Return the mean over images of their weighted cross-entropy.

    A mixed label, a probability for each class, takes the weight of each class by its share.

    torch's own weighted mean divides by the weights in the batch, so that the weight of an image
    would depend on the others in its batch.
    """
    total = functional.cross_entropy(answers, labels, weight=weights, reduction="sum")
    return total / len(labels)


def _require_finite(losses: Sequence[float], first: int, training: ClassifierTraining) -> None:
    """Raise TrainingError if a loss since step `first` is not finite."""
    bad = next((index for index, value in enumerate(losses) if not math.isfinite(value)), None)
    if bad is not None:
        raise TrainingError(
            f"the loss of {training.spec.name} must stay finite; it became {losses[bad]} in step "
            f"{first + bad + 1} of {training.steps}; lower its learning_rate, which is "
            f"{training.spec.learning_rate:g}"
        )


def _require_finite_answers(training: ClassifierTraining, faces: Faces) -> None:
    """Raise TrainingError unless the network's answers to some training images are finite."""
    sample = faces.select(np.arange(min(len(faces), 8)))
    if not np.isfinite(predict_classes(training.classifier, sample)).all():
        raise TrainingError(
            f"the answers of {training.spec.name} must be finite after training, and are not; "
            f"lower its learning_rate, which is {training.spec.learning_rate:g}"
        )


def _make_optimiser(network: nn.Module, spec: ClassifierSpec) -> torch.optim.Optimizer:
    learnable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if spec.optimiser == "adamw":
        return torch.optim.AdamW(learnable, lr=spec.learning_rate, weight_decay=spec.weight_decay)
    return torch.optim.SGD(
        learnable,
        lr=spec.learning_rate,
        weight_decay=spec.weight_decay,
        momentum=0.9,
        nesterov=True,
    )


# Choosing an epoch


def hold_out(faces: Faces, share: float, seed: int) -> tuple[Faces, Faces | None]:
    """Return the images to learn from, and the held-out ones that choose the epoch, or None.

    About `share` of the subjects, or else of the clips or images, are held out.
    """
    if not share:
        return faces, None
    units = faces.name_units("subject")
    names = sorted(set(units))
    if len(names) < 2:
        raise DataError(
            "validation needs at least two subjects, clips or images; the training side has "
            f"{len(names)}. Set validation = 0, or give more faces"
        )
    count = min(len(names) - 1, max(1, round(share * len(names))))
    order = make_rng("validation", seed).permutation(len(names))
    held_names = {names[index] for index in order[:count]}
    is_held_out: Bool[np.ndarray, " n"] = np.array(
        [name in held_names for name in units], dtype=bool
    )
    return faces.select(~is_held_out), faces.select(is_held_out)


class _BestEpoch:
    """The epoch whose weights a training ends with.

    It is the one with the highest UAR on `held_out` (of action units: the highest mean F1), the
    earliest of equals, or the last if `held_out` is None.
    """

    def __init__(self, held_out: Faces | None) -> None:
        self.held_out, self.epoch, self.score = held_out, 0, -1.0
        self.weights: dict[str, Tensor] = {}

    def compare(self, classifier: TrainedNetwork, epoch: int) -> float | None:
        """Score the network after an epoch, and copy its weights if it is the best so far.

        Return the accuracy on the held-out images, or None if there are none.
        """
        if self.held_out is None:
            self.epoch = epoch
            return None
        if classifier.units:
            return self._compare_units(classifier, self.held_out, epoch)
        predicted = predict_classes(classifier, self.held_out).argmax(axis=1)
        true = self.held_out.number_labels(classifier.classes)
        counts = metrics.count_confusion(true, predicted.astype(np.int64), len(classifier.classes))
        scores = metrics.score(counts, classifier.classes)
        self._keep_best(classifier, scores.uar, epoch)
        return scores.accuracy

    def _compare_units(self, classifier: TrainedNetwork, faces: Faces, epoch: int) -> float:
        """Do the same by the mean F1 of the action units that the held-out images show."""
        predicted = predict_classes(classifier, faces) >= 0.5
        true = _find_targets(classifier, faces) > 0
        shown = true.any(axis=0)
        f1 = (
            2
            * (predicted & true).sum(axis=0)
            / np.maximum(predicted.sum(axis=0) + true.sum(axis=0), 1)
        )
        self._keep_best(classifier, float(f1[shown].mean()) if shown.any() else 0.0, epoch)
        return float(np.mean(predicted == true))

    def _keep_best(self, classifier: TrainedNetwork, score: float, epoch: int) -> None:
        """Copy the weights if the score is the highest so far."""
        if score > self.score:
            self.score, self.epoch = score, epoch
            self.weights = {
                name: tensor.detach().clone()
                for name, tensor in classifier.network.state_dict().items()
            }

    def forget(self) -> None:
        """Forget the epochs so far, so that a later one is kept."""
        self.epoch, self.score, self.weights = 0, -1.0, {}

    def restore(self, network: nn.Module) -> None:
        """Give the network the weights of the best epoch."""
        if self.weights:
            network.load_state_dict(self.weights)


# Checkpoints


def _save_checkpoint(
    scratch: Path, training: ClassifierTraining, best: _BestEpoch, curve: CurveRecorder, step: int
) -> None:
    """Write a checkpoint after `step` steps; tensors are named GROUP.NAME."""
    groups = {
        "network": training.network.state_dict(),
        "optimiser": checkpoints.pack_optimiser(training.optimiser),
        "best": best.weights,
    }
    checkpoints.save_checkpoint(
        scratch,
        checkpoints.pack_groups(groups, "."),
        {"step": step, "epoch": best.epoch, "score": best.score, "curve": curve.state},
    )


def _load_checkpoint(
    scratch: Path | None, training: ClassifierTraining, best: _BestEpoch, curve: CurveRecorder
) -> int:
    """Restore the last checkpoint, if there is one; return the number of steps that are done.

    A checkpoint without a learning curve, which earlier versions wrote, is not resumed.
    """
    checkpoint = checkpoints.load_checkpoint(scratch) if scratch is not None else None
    if checkpoint is None or "curve" not in checkpoint[1]:
        return 0
    tensors, state = checkpoint
    groups = checkpoints.unpack_groups(tensors, ".", ("network", "optimiser", "best"))
    training.network.load_state_dict(groups["network"])
    checkpoints.unpack_optimiser(training.optimiser, groups["optimiser"])
    best.weights, best.epoch = groups["best"], int(state["epoch"])
    best.score = float(state["score"])
    curve.restore(state["curve"])
    return int(state["step"])
