"""Class offsets, which a network need not learn, and Muon, whose steps have equal size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from worlds import DIFFUSIONS, HAPPY, crowd, fitted, same_weights, spec_of, toy

from mien.faces import EMOTIONS, Faces
from mien.generators.diffusion import fit
from mien.generators.diffusion.centre import (
    CLASS_RATIO,
    MIN_OFFSET_SUBJECTS,
    SUBJECT_RATIO,
    compute_centres,
    estimate_offsets,
    name_classes_without_offset,
)
from mien.generators.diffusion.model import OFFSETS, load_diffusion, save_diffusion
from mien.generators.diffusion.muon import Muon, orthogonalise, takes_muon
from mien.generators.diffusion.unet import NO_LABEL, UNet
from mien.runs import checkpoints
from mien.runs.store import Store

FEAR = EMOTIONS.index("fear")

# Offsets


def uneven() -> Faces:
    """Eight people: each shows happiness 1 to 8 times and fear 8 to 1 times; brighter people are
    happier.
    """
    faces = toy(36)
    person = np.repeat(np.arange(8), 9)
    emotion = np.where(np.tile(np.arange(9), 8) <= person, "happiness", "fear")
    rng = np.random.default_rng(5)
    brightness = 100 + 12 * person + 15 * (emotion == "happiness")
    images = np.clip(brightness[:, None, None, None] + rng.normal(0, 4, faces.images.shape), 0, 255)
    index = faces.index.assign(
        subject=[f"toy:{n}" for n in person], clip=faces.index["key"], emotion=emotion
    )
    return Faces(images.astype(np.uint8), index)


def test_an_offset_is_what_a_class_changes_within_subjects():
    faces = uneven()
    pixels, labels = faces.images / 127.5 - 1, faces.number_labels()
    offsets = estimate_offsets(faces, labels)
    change = (offsets[HAPPY] - offsets[FEAR]).mean() * 127.5
    between = pixels[labels == HAPPY].mean() - pixels[labels == FEAR].mean()
    assert between * 127.5 > 40  # the subjects are most of it
    assert change == pytest.approx(15, abs=8)


def test_offsets_solve_the_equations_of_the_mixed_model():
    """Parity with Henderson's equations as a whole, subjects and classes together."""
    faces = uneven()
    labels = faces.number_labels()
    _, people = np.unique(faces.index["subject"], return_inverse=True)
    design = np.hstack([np.eye(len(EMOTIONS))[labels], np.eye(8)[people]])
    ratios = np.diag([CLASS_RATIO] * len(EMOTIONS) + [SUBJECT_RATIO] * 8)
    x = faces.images.reshape(len(faces), -1) / 127.5 - 1
    both = np.linalg.solve(design.T @ design + ratios, design.T @ (x - x.mean(axis=0)))
    assert np.allclose(estimate_offsets(faces, labels), both[: len(EMOTIONS)], atol=1e-9)


def test_a_class_of_few_subjects_has_no_offset():
    faces = crowd()
    happy = (faces.index["emotion"] == "happiness").to_numpy()
    subjects = faces.index["subject"].to_numpy().astype(object)
    subjects[happy] = [f"toy:{n % (MIN_OFFSET_SUBJECTS - 1)}" for n in range(happy.sum())]
    few = Faces(faces.images, faces.index.assign(subject=subjects))
    offsets = compute_centres(few, True, True)[1]
    assert not offsets[HAPPY].any() and offsets[FEAR].any()
    assert not offsets[NO_LABEL].any()
    assert name_classes_without_offset(few).endswith("show it: happiness (4)")
    assert name_classes_without_offset(crowd()) == ""
    assert compute_centres(crowd(), True, True)[1][HAPPY].mean() > 0.1


def test_the_deviation_is_that_from_the_centres():
    faces = crowd()
    mean, offsets, deviation = compute_centres(faces, True, True)
    centres = (mean + offsets[torch.from_numpy(faces.number_labels())]).numpy()
    rest = faces.images / 127.5 - 1 - centres
    assert deviation == pytest.approx(np.sqrt(np.square(rest).mean()), rel=1e-5)
    assert deviation < compute_centres(faces, True, False)[2]


def test_offsets_need_the_mean_face():
    with pytest.raises(ValidationError, match="need residual = true"):
        spec_of("edm", class_offsets=True, residual=False)


@pytest.mark.parametrize("kind", list(DIFFUSIONS))
def test_a_denoiser_knows_the_centre_of_each_label(kind: str, tmp_path: Path):
    """With a network whose output is zero, the denoised image changes by the offset alone."""
    spec = spec_of(kind, class_offsets=True)
    generator = fitted(crowd(), spec, tmp_path)
    empty = replace(generator, network=UNet(1, spec.net).eval())
    plain = replace(empty, offsets=torch.zeros_like(empty.offsets))
    labels, sigma = torch.tensor([HAPPY, FEAR, NO_LABEL]), torch.full((3,), 0.5)
    moved = torch.full((3, 1, 16, 16), 0.1) + generator.offsets[labels]
    still = torch.full((3, 1, 16, 16), 0.1)
    ours = DIFFUSIONS[kind].make_denoiser(empty, empty.network)(moved, sigma, labels)
    theirs = DIFFUSIONS[kind].make_denoiser(plain, empty.network)(still, sigma, labels)
    assert torch.allclose(ours, theirs + generator.offsets[labels], atol=1e-5)
    assert torch.equal(generator.find_centres(labels)[2], generator.mean)
    assert generator.offsets[HAPPY].mean() > 0.1 > generator.offsets[FEAR].mean()


def test_a_generator_without_offsets_writes_none_and_reads_zeros(tmp_path: Path):
    store = Store(tmp_path / "store")
    for offsets in (False, True):
        spec = spec_of("edm", class_offsets=offsets)

        def write(out: Path, scratch: Path, spec=spec) -> None:
            save_diffusion(fitted(crowd(), spec, scratch), out)

        run = store.make(spec, write, f"generator-{offsets}")
        read = load_diffusion(run, spec, "cpu")
        assert read.offsets.any() == offsets and (OFFSETS in run.manifest["files"]) == offsets


# Muon


def test_steps_are_those_of_the_muon_of_torch():
    """It computes the directions with 8 bits; ours have 24."""
    torch.manual_seed(0)
    start = torch.randn(12, 20)
    for shape in ((12, 20), (20, 12)):
        ours, theirs = (nn.Parameter(start.clone().reshape(shape)) for _ in range(2))
        mine = Muon([ours], 0.1)
        other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0)
        for step in range(4):
            torch.manual_seed(step)
            ours.grad = torch.randn(shape)
            theirs.grad = ours.grad.clone()
            mine.step()
            other.step()
        change = theirs.detach() - start.reshape(shape)
        assert (ours - theirs).norm() < 0.02 * change.norm()


def test_a_direction_has_equal_size_along_all_singular_vectors():
    torch.manual_seed(0)
    matrix = torch.randn(16, 40) @ torch.diag(torch.logspace(-1, 1, 40))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_moves_convolutions_between_features_alone():
    network = UNet(1, spec_of("edm").net)
    names = {name for name, weights in network.named_parameters() if takes_muon(weights)}
    assert "middle.conv1.weight" in names and "down.0.0.conv2.weight" in names
    assert not names & {"stem.weight", "last.weight", "embed.label.weight", "embed.mix.weight"}
    optimisers = fit.make_optimisers(network, spec_of("edm", muon=0.02))
    counts = [
        sum(len(group["params"]) for group in each.param_groups) for each in optimisers.values()
    ]
    assert sum(counts) == len(list(network.parameters())) and counts[1] == len(names)
    assert list(fit.make_optimisers(network, spec_of("edm"))) == ["optimiser"]


def test_a_training_with_both_resumes_exactly(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)
    spec = spec_of("edm", class_offsets=True, muon=0.02)
    whole = fitted(crowd(), spec, tmp_path)
    _, state = checkpoints.load_checkpoint(tmp_path) or ({}, {})
    for path in tmp_path.glob(f"checkpoint-{state['step']:09d}.*"):
        path.unlink()
    assert same_weights(whole.network, fitted(crowd(), spec, tmp_path).network)
    other = tmp_path / "plain"
    other.mkdir()
    plain = fitted(crowd(), spec_of("edm", class_offsets=True), other)
    assert not same_weights(whole.network, plain.network)
