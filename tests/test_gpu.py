"""GPUs: what a processor does, a card does too, with the same results up to rounding.

The tests marked `gpu` are skipped where torch finds no NVIDIA card; `make gpu` runs them. Those
that take a device also run on the processor, so that they are known to be right before a card is
at hand.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import CLASSES, HAPPY, blobs, company, keep, same_weights, spec_of, table, tiny, toy

from mien.audit.features import make_judge_space, make_random_space
from mien.classifiers.fit import fit_network
from mien.classifiers.predict import load_network, predict_classes, save_network
from mien.errors import UsageError
from mien.generators import edm
from mien.generators.diffusion import fit, memory
from mien.generators.diffusion.fit import DiffusionTraining, fit_diffusion
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.resources import Resources
from mien.generators.kinds import sample_generator
from mien.generators.specs import SamplerSpec
from mien.runs import devices
from mien.runs.local import Local
from mien.runs.store import Store
from mien.study.file import resolve
from mien.study.run import run_study

gpu = pytest.mark.gpu

EACH_DEVICE = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])

GREY_LEVELS = 2  # by how much an image may differ between a processor and a card

pytestmark = pytest.mark.usefixtures("one_thread")


def train(folder: Path, device: str, **fields) -> Diffusion:
    """A tiny diffusion model, trained on a device."""
    folder.mkdir()
    spec = spec_of("edm", **fields)
    return fit_diffusion(toy(), spec, folder, edm.make_objective(spec), device)


def on(generator: Diffusion, device: str) -> Diffusion:
    """The same generator on a device."""
    early = None if generator.early is None else generator.early.to(device)
    return replace(generator, network=generator.network.to(device), early=early)


# Devices


@gpu
def test_auto_is_the_card_and_a_card_that_is_not_there_is_refused():
    assert devices.find_device("auto").type == "cuda"
    assert devices.list_gpus("cuda:0") == devices.list_gpus("auto")[:1]
    with pytest.raises(UsageError, match="whose GPUs are cuda:0 to"):
        devices.find_device("cuda:99")


# Generators


@EACH_DEVICE
def test_a_training_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec, calls = spec_of("edm"), []
    objective = edm.make_objective(spec)
    expected = train(tmp_path / "whole", device)
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return objective.compute_losses(*arguments)

    with pytest.raises(KeyboardInterrupt):
        fit_diffusion(toy(), spec, tmp_path, replace(objective, compute_losses=interrupted), device)
    torch.manual_seed(99)
    resumed = fit_diffusion(toy(), spec, tmp_path, objective, device)
    assert same_weights(resumed.network, expected.network)
    assert resumed.losses.equals(expected.losses)


@gpu
def test_a_training_repeats_bit_by_bit_on_a_card(tmp_path: Path):
    first, second = (train(tmp_path / name, "cuda") for name in ("first", "second"))
    assert same_weights(first.network, second.network)


@gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_the_width_learns_what_float32_learns(precision: str, tmp_path: Path):
    wide = train(tmp_path / "wide", "cuda", images_seen=1200)
    narrow = train(tmp_path / "narrow", "cuda", images_seen=1200, precision=precision)
    last = [made.losses["loss"].tail(10).mean() for made in (wide, narrow)]
    assert last[1] == pytest.approx(last[0], rel=0.1)
    assert not same_weights(wide.network, narrow.network)


@gpu
def test_a_memory_limit_cuts_the_batch_into_pieces_and_is_kept(tmp_path: Path):
    spec = spec_of("edm", batch=256, images_seen=1024)
    work = DiffusionTraining(toy(), spec, edm.make_objective(spec), torch.device("cuda"))
    whole = memory.measure_peak(work, 256, 1)
    limit = int(memory.GPU_CONTEXT_BYTES + (whole - memory.GPU_CONTEXT_BYTES) / 2)
    size = memory.find_piece_size(work, limit, 1)
    assert 1 <= size < 256
    assert memory.measure_peak(work, size, 1) <= limit
    del work
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    limited = Resources(memory=limit)
    fit_diffusion(toy(), spec, tmp_path, edm.make_objective(spec), "cuda", "training", limited)
    assert torch.cuda.max_memory_reserved() + memory.GPU_CONTEXT_BYTES <= limit
    with pytest.raises(UsageError, match="--memory must be"):
        memory.find_piece_size(
            DiffusionTraining(toy(), spec, edm.make_objective(spec), torch.device("cuda")), 10**6, 1
        )


@gpu
@pytest.mark.parametrize("sampler", ["dpmpp2m", "unipc", "heun", "euler", "ancestral"])
def test_a_card_draws_the_images_that_a_processor_draws(sampler: str):
    how, labels, seeds = SamplerSpec(sampler=sampler, steps=4), np.full(6, HAPPY), np.arange(6)
    if sampler == "ancestral":
        how = SamplerSpec(sampler=sampler)
    expected, drawn = (
        sample_generator(on(company("edm"), device), labels, seeds, sampler=how).astype(int)
        for device in ("cpu", "cuda")
    )
    assert np.abs(drawn - expected).mean() < GREY_LEVELS


@EACH_DEVICE
def test_an_image_does_not_depend_on_the_images_that_are_drawn_with_it(device: str):
    generator, how = on(company("edm"), device), SamplerSpec(sampler="dpmpp2m", steps=2)
    together = sample_generator(generator, np.full(5, HAPPY), np.arange(5), sampler=how)
    alone = sample_generator(generator, np.full(1, HAPPY), np.array([3]), sampler=how)
    assert (together[3] == alone[0]).all()


# Classifiers and features


@EACH_DEVICE
def test_a_classifier_learns_on_a_device_and_answers_the_same_on_a_processor(
    device: str, tmp_path: Path
):
    learnt = fit_network(blobs(192), tiny(), CLASSES, 0, device=device)
    again = fit_network(blobs(192), tiny(), CLASSES, 0, device=device)
    new = blobs(64, seed=1)
    answers = predict_classes(learnt, new)
    assert (answers.argmax(axis=1) == new.number_labels(CLASSES)).mean() > 0.9
    assert same_weights(learnt.network, again.network)
    save_network(learnt, tmp_path)
    there = predict_classes(load_network(tmp_path, "cpu"), new)
    assert answers == pytest.approx(there, abs=1e-3)


@gpu
def test_features_from_a_card_are_those_from_a_processor(tmp_path: Path):
    learnt, new = fit_network(blobs(192), tiny(), CLASSES, 0, device="cuda"), blobs(64, seed=1)
    save_network(learnt, tmp_path)
    spaces = [make_judge_space(learnt), make_judge_space(load_network(tmp_path, "cpu"))]
    first, second = (space.extract(new.images) for space in spaces)
    assert np.asarray(first) == pytest.approx(np.asarray(second), abs=1e-2)
    plain = make_random_space(new.images)
    assert np.asarray(plain.extract(new.images)).shape[0] == len(new)


# Studies


@gpu
def test_two_trials_that_share_a_card_give_the_results_of_one_after_the_other(tmp_path: Path):
    engines = {"shared": Local(2, gpus=0.5, device="cuda"), "alone": Local(0, device="cuda")}
    predictions = []
    for name, engine in engines.items():
        store = Store(tmp_path / name)
        keep(blobs(), store, "blobs")
        run_study(resolve(table(trials=1), store), store, device="cuda", engine=engine)
        paths = sorted(store.root.glob("runs/trial-*/predictions.parquet"))
        predictions.append({path.parent.name: path.read_bytes() for path in paths})
    assert len(predictions[0]) == 2
    assert predictions[0] == predictions[1]


# Several processes


@gpu
def test_more_processes_than_cards_are_refused_with_one_message(tmp_path: Path):
    count = torch.cuda.device_count() + 1
    store = Store(tmp_path / "store")
    faces = keep(toy(), store, "toy")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", "-m", "mien", "train", faces.name, "--preset", "smoke"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "MIEN_STORE": str(store.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "each process needs a GPU of its own" in done.stdout + done.stderr
