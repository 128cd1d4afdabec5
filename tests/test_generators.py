"""Generators: each member of GENERATORS keeps the contract, resumes exactly, and draws an image
alone as in company.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from worlds import (
    DIFFUSIONS,
    TINY_NET,
    FacesSpec,
    company,
    crowd,
    films,
    fitted,
    keep,
    lively,
    same_weights,
    spec_of,
    toy,
    training_of,
)

from mien import seeds
from mien.errors import DataError, SpecError, TrainingError, UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators import ddpm, edm, presets, scaling
from mien.generators.base import SEEN_COLUMNS
from mien.generators.counts import parse_counts
from mien.generators.diffusion import fit, heldout, precision, transforms
from mien.generators.diffusion.centre import compute_centres
from mien.generators.diffusion.draw import SAMPLING_BATCH, NoiseStreams
from mien.generators.diffusion.fit import DiffusionTraining, fit_diffusion
from mien.generators.diffusion.model import EARLY_WEIGHTS, Diffusion
from mien.generators.diffusion.transforms import MOVES
from mien.generators.diffusion.unet import NO_LABEL, UNet, make_group_norm
from mien.generators.distill import distill_generator, order_student
from mien.generators.generate import generate_database, list_generation_jobs
from mien.generators.kinds import GENERATORS, fit_generator, load_generator, sample_generator
from mien.generators.orders import order_database, plan_images
from mien.generators.presets import PRESETS
from mien.generators.sampler_table import SAMPLERS
from mien.generators.shards import SHARD_IMAGES, make_shard, make_shards, read_shard, write_shard
from mien.generators.specs import (
    KIND_FACTS,
    GenerateSpec,
    NetSpec,
    SamplerSpec,
    SteppedSpec,
    TrainSpec,
    count_steps,
    find_guidance,
)
from mien.generators.train import calibrate, train_generator
from mien.published import TABLE_2
from mien.runs import devices
from mien.runs.engine import run_jobs
from mien.runs.local import Local
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store

KINDS = pytest.mark.parametrize("kind", list(DIFFUSIONS))
HAPPY, AFRAID = EMOTIONS.index("happiness"), EMOTIONS.index("fear")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Diffusion]:
    return {
        kind: fitted(toy(), spec_of(kind), tmp_path_factory.mktemp(kind)) for kind in DIFFUSIONS
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    home = Store(tmp_path_factory.mktemp("store"))
    home.make(FacesSpec(), lambda out, scratch: toy().save(out), "toy")
    keep(films(subjects=3, clips=1), home, "films")
    return home


@pytest.fixture(scope="module")
def run(store: Store) -> Run:
    return train_generator(spec_of("edm", faces="toy"), store, alias="trained", device="cpu")


@pytest.fixture(scope="module", params=list(KIND_FACTS))
def member(request: pytest.FixtureRequest, store: Store) -> Run:
    """A trained generator of each kind, with the default settings but for the length."""
    kind = request.param
    if KIND_FACTS[kind].distilled:
        teacher = train_generator(spec_of("edm", faces="toy"), store, device="cpu")
        short = {"images": 16, "images_seen": 64, "batch": 16}
        return distill_generator(order_student(teacher, settings=short), store, device="cpu")
    faces = "films" if KIND_FACTS[kind].moves else "toy"
    return train_generator(training_of(kind, faces=faces), store, device="cpu")


# The network


@pytest.mark.parametrize(("channels", "side"), [(1, 48), (3, 48), (1, 112), (2, 16)])
@pytest.mark.parametrize("patch", [1, 2])
def test_the_network_keeps_the_shape(channels: int, side: int, patch: int):
    shape = {
        "width": 9,
        "multipliers": (1, 2, 3),
        "blocks": 1,
        "patch": patch,
        "attention": (1, 2),
        "dropout": 0.0,
    }
    net = UNet(channels, NetSpec.model_validate(shape))
    x = torch.randn(2, channels, side, side)
    y = net(x, torch.zeros(2), torch.tensor([0, NO_LABEL]), torch.zeros(2, len(MOVES)))
    assert y.shape == x.shape
    assert (y == 0).all()  # untrained, it says nothing


def test_norms_have_groups_for_any_width():
    for channels in (1, 3, 7, 9, 32, 33, 96, 256):
        assert channels % make_group_norm(channels).num_groups == 0
    assert make_group_norm(256).num_groups == 32


def test_everything_that_the_network_is_told_matters():
    net = lively(UNet(1, TINY_NET))
    x, zero, label = torch.randn(1, 1, 16, 16), torch.zeros(1), torch.tensor([HAPPY])
    still = torch.zeros(1, len(MOVES))
    y = net(x, zero, label, still)
    assert not torch.allclose(y, net(x, zero + 0.5, label, still))
    assert not torch.allclose(y, net(x, zero, torch.tensor([AFRAID]), still))
    for place in range(len(MOVES)):
        assert not torch.allclose(
            y, net(x, zero, label, still.index_fill(1, torch.tensor([place]), 1.0))
        )


# Specs


def test_presets_are_trainings_and_settings_change_them():
    for name in PRESETS:
        assert presets.read_preset(name, "faces-000000000000").faces == "faces-000000000000"
    spec = presets.read_preset("smoke", "faces-000000000000", {"batch": 16, "net": {"width": 24}})
    assert (
        isinstance(spec, TrainSpec)
        and spec.batch == 16
        and spec.net.width == 24
        and spec.net.patch == 2
    )
    paper = presets.read_preset("paper", "f")
    assert isinstance(paper, TrainSpec) and paper.kind == "ddpm" and paper.steps == 1000


BUDGETS = ("nano", "tiny", "base", "large")


def test_presets_by_budget_grow_and_the_default_is_base():
    sizes = []
    for name in BUDGETS:
        spec = presets.read_preset(name, "f")
        assert isinstance(spec, TrainSpec)
        sizes.append(
            (
                sum(parameter.numel() for parameter in UNet(1, spec.net).parameters()),
                spec.images_seen,
            )
        )
        assert spec.net.patch == (
            2 if name in ("nano", "tiny") else 1
        )  # full resolution where there is a card
    assert sizes == sorted(sizes) and len(set(sizes)) == len(BUDGETS)
    assert presets.read_preset("default", "f") == presets.read_preset("base", "f")


@pytest.mark.parametrize("name", [*BUDGETS[:-1], pytest.param("large", marks=pytest.mark.slow)])
def test_each_preset_learns_from_faces_of_48_pixels_with_people_held_out(name: str):
    spec = presets.read_preset(name, "f", {"batch": 2})
    assert isinstance(spec, TrainSpec)
    faces = toy(size=48)
    shown, held = heldout.hold_out(Faces(faces.images, crowd().index.iloc[: len(faces)]), spec)
    assert (held is not None) == (spec.held_out > 0) == (name != "nano")
    where = torch.device("cpu")
    work = DiffusionTraining(shown, spec, edm.make_objective(spec), where)
    with devices.open_workers(where, 1) as pool:
        assert work.make_step(0, pool) is not None


def test_a_preset_or_setting_that_does_not_exist_is_named():
    with pytest.raises(SpecError, match="Did you mean 'smoke'"):
        presets.read_preset("smke", "f")
    with pytest.raises(SpecError, match="Did you mean 'batch'"):
        presets.read_preset("smoke", "f", {"bach": 3})
    with pytest.raises(SpecError, match="attention must name levels"):
        presets.read_preset("smoke", "f", {"net": {"attention": (3,)}})


def test_an_option_that_would_do_nothing_is_refused():
    for kind in DIFFUSIONS:
        for name in KIND_FACTS[kind].own_fields:
            other = next(member for member in DIFFUSIONS if member != kind)
            given = {"faces": "f", "kind": other, name: TrainSpec.model_fields[name].default * 0.9}
            with pytest.raises(ValueError, match=f"{name} applies only to kind .*'{kind}'"):
                TrainSpec.model_validate(given)
    with pytest.raises(ValueError, match="variance"):
        SamplerSpec(sampler="heun", variance="beta")


# Training


@KINDS
def test_an_interrupted_training_ends_with_the_same_weights(
    kind: str, tmp_path: Path, monkeypatch, trained
):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)
    spec, calls = spec_of(kind), []
    objective = DIFFUSIONS[kind].make_objective(spec)

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 7:  # of two pieces a step
            raise KeyboardInterrupt
        return objective.compute_losses(*arguments)

    with pytest.raises(KeyboardInterrupt):
        fit_diffusion(toy(), spec, tmp_path, replace(objective, compute_losses=interrupted), "cpu")
    torch.manual_seed(99)
    resumed = fit_diffusion(toy(), spec, tmp_path, objective, "cpu")
    assert same_weights(resumed.network, trained[kind].network)
    assert resumed.losses.equals(trained[kind].losses)


@pytest.mark.parametrize("damage", [b"", b"early weights that a disk has forgotten"])
def test_a_training_whose_early_weights_were_damaged_begins_anew(
    damage: bytes, tmp_path: Path, monkeypatch, trained
):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)
    spec, calls = spec_of("edm"), []
    objective = DIFFUSIONS["edm"].make_objective(spec)

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return objective.compute_losses(*arguments)

    with pytest.raises(KeyboardInterrupt):
        fit_diffusion(toy(), spec, tmp_path, replace(objective, compute_losses=interrupted), "cpu")
    (tmp_path / EARLY_WEIGHTS).write_bytes(damage)
    again = fit_diffusion(toy(), spec, tmp_path, objective, "cpu")
    assert same_weights(again.network, trained["edm"].network)
    assert again.early is not None and same_weights(again.early, trained["edm"].early)


def test_a_shard_of_which_a_byte_changed_is_drawn_again(tmp_path: Path, trained):
    generator = trained["edm"]
    labels, numbers = np.array([EMOTIONS.index("fear")] * 3), np.arange(3)
    path = tmp_path / "shard.npy"
    first = make_shard(generator, labels, numbers, SamplerSpec(steps=2), path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert read_shard(path, first.shape) is None
    np.testing.assert_array_equal(
        make_shard(generator, labels, numbers, SamplerSpec(steps=2), path), first
    )
    assert read_shard(path, first.shape) is not None


def test_a_killed_training_resumes_to_the_same_content(tmp_path: Path):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from mien.generators.diffusion import fit
        from mien.generators.specs import TrainSpec
        from mien.generators.train import train_generator
        from mien.runs.store import Store
        fit.CHECKPOINT_S = 0.0
        spec = TrainSpec.model_validate_json(sys.argv[2])
        train_generator(spec, Store(Path(sys.argv[1])), device="cpu")
    """)
    stores = [Store(tmp_path / name) for name in ("killed", "whole")]
    for store in stores:
        store.make(FacesSpec(), lambda out, scratch: toy().save(out), "toy")
    spec = spec_of("edm", faces=stores[0].resolve("toy"), images_seen=160)
    scratch = stores[0].root / "work" / spec.name / "scratch"
    command = [sys.executable, "-c", script, str(stores[0].root), spec.model_dump_json()]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while (
        not list(scratch.glob("checkpoint-*[5-9].json"))
        and process.poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert list(scratch.glob("checkpoint-*.json"))
    killed, whole = (train_generator(spec, store, device="cpu") for store in stores)
    assert killed.content == whole.content


def test_checkpoints_of_another_training_are_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)
    fit_generator(toy(), spec_of("edm", images_seen=16), tmp_path, device="cpu")
    with pytest.raises(UsageError, match="empty folder"):
        fit_generator(toy(), spec_of("edm", images_seen=16, seed=1), tmp_path, device="cpu")


@KINDS
def test_a_loss_that_is_no_number_stops_the_training(kind: str, tmp_path: Path):
    def broken(network, batch, sigma_data, rng):
        made = network(batch.x0, torch.zeros(len(batch.x0)), batch.labels, batch.moves)
        return made.mean(dim=(1, 2, 3)) * float("nan")

    objective = replace(DIFFUSIONS[kind].make_objective(spec_of(kind)), compute_losses=broken)
    with pytest.raises(TrainingError, match="in 5 steps in a row"):
        fit_diffusion(toy(), spec_of(kind), tmp_path, objective, "cpu")


def test_a_step_without_a_number_changes_nothing_and_is_counted(tmp_path: Path):
    spec = spec_of("edm")
    objective, broken = edm.make_objective(spec), []

    def sometimes(*arguments):
        return objective.compute_losses(*arguments) * (float("nan") if broken else 1.0)

    where = torch.device("cpu")
    work = DiffusionTraining(toy(), spec, replace(objective, compute_losses=sometimes), where)
    with devices.open_workers(where, 2) as pool:
        for step in range(3):
            assert work.make_step(step, pool) is not None
        before = {name: tensor.clone() for name, tensor in work.collect_tensors().items()}
        broken.append(True)
        assert work.make_step(3, pool) is None
        assert all(
            torch.equal(before[name], tensor) for name, tensor in work.collect_tensors().items()
        )
        broken.clear()
        assert work.make_step(4, pool) is not None


@KINDS
def test_the_number_of_cores_changes_nothing(kind: str, tmp_path: Path, trained):
    cores = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            (tmp_path / str(count)).mkdir()
            other = fitted(toy(), spec_of(kind), tmp_path / str(count))
            assert same_weights(other.network, trained[kind].network)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(cores)


# Precision

LOW = pytest.mark.parametrize("name", list(precision.DTYPES))


@LOW
def test_in_half_the_width_a_network_learns_nearly_the_same_and_stays_float32(
    name: str, tmp_path: Path, trained
):
    low = fitted(toy(), spec_of("edm", precision=name), tmp_path)
    full = trained["edm"].network.state_dict()
    for key, tensor in low.network.state_dict().items():
        assert tensor.dtype == full[key].dtype
        assert torch.allclose(tensor, full[key], atol=0.02)
    assert not same_weights(low.network, trained["edm"].network)  # it did do another arithmetic
    assert np.allclose(low.losses["loss"], trained["edm"].losses["loss"], rtol=0.05)


@LOW
def test_in_half_the_width_a_training_resumes_exactly(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(precision, "STEPS_TO_GROW", 2)  # so that the scale changes on the way
    spec, calls = spec_of("edm", precision=name), []
    objective = edm.make_objective(spec)
    (tmp_path / "whole").mkdir()
    whole = fitted(toy(), spec, tmp_path / "whole")

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return objective.compute_losses(*arguments)

    with pytest.raises(KeyboardInterrupt):
        fit_diffusion(toy(), spec, tmp_path, replace(objective, compute_losses=interrupted), "cpu")
    assert same_weights(
        fit_diffusion(toy(), spec, tmp_path, objective, "cpu").network, whole.network
    )


def test_a_gradient_that_overflows_halves_its_scale_and_is_no_fault():
    spec = spec_of("edm", precision="fp16", images_seen=144)
    where = torch.device("cpu")
    work = DiffusionTraining(toy(), spec, edm.make_objective(spec), where)
    with devices.open_workers(where, 2) as pool:
        work.scaler.update(2.0**40)
        before = {name: tensor.clone() for name, tensor in work.network.state_dict().items()}
        for step in range(6):  # more than end a training whose loss is no number
            assert work.make_step(step, pool) is not None
        assert work.scaler.get_scale() == 2.0**34
        assert all(
            torch.equal(before[name], tensor) for name, tensor in work.network.state_dict().items()
        )
        work.scaler.update(2.0**10)
        assert work.make_step(6, pool) is not None
        assert work.scaler.get_scale() == 2.0**10
        assert not all(
            torch.equal(before[name], tensor) for name, tensor in work.network.state_dict().items()
        )


def test_a_processor_trains_in_a_precision_that_it_is_fast_at_and_the_spec_says_so():
    wanted = presets.read_preset("base", "f")
    assert isinstance(wanted, TrainSpec) and wanted.precision == "bf16"
    found = precision.suit_device(wanted, "cpu")
    assert isinstance(found, TrainSpec)
    assert found.precision == ("bf16" if precision.multiplies_bf16() else "float32")
    assert (found.digest() == wanted.digest()) == precision.multiplies_bf16()

    half = wanted.model_copy(update={"precision": "fp16"})  # slow on every CPU
    found = precision.suit_device(half, "cpu")
    assert isinstance(found, TrainSpec) and found.precision == "float32"
    nano = presets.read_preset("nano", "f")
    assert precision.suit_device(nano, "cpu") == nano


def test_images_that_do_not_fit_the_network_are_refused_before_training(tmp_path: Path):
    with pytest.raises(DataError, match="multiples of 4"):
        fit_generator(toy(size=18), spec_of("edm"), tmp_path, device="cpu")


def test_statistics_are_those_of_the_images():
    faces = toy()
    pixels = faces.images / 127.5 - 1
    mean, offsets, deviation = compute_centres(faces, residual=True, class_offsets=False)
    assert not offsets.any()
    assert np.allclose(mean.numpy(), pixels.mean(axis=0), atol=1e-6)
    assert deviation == pytest.approx((pixels - pixels.mean(axis=0)).std())
    mean, _, deviation = compute_centres(faces, residual=False, class_offsets=False)
    assert (mean == 0).all() and deviation == pytest.approx(pixels.std())


def test_a_generator_remembers_whom_it_saw_and_what_its_faces_were_made_from(
    tmp_path: Path, trained
):
    assert trained["edm"].seen["key"].tolist() == toy().index["key"].tolist()
    assert list(trained["edm"].seen.columns) == ["key", "subject", "clip", "dataset"]
    faces, seen = (
        toy(),
        toy().index.loc[:, SEEN_COLUMNS].assign(key=lambda table: "old/" + table["key"]),
    )
    second = fit_generator(
        Faces(faces.images, faces.index, seen),
        spec_of("edm", images_seen=8),
        tmp_path,
        device="cpu",
    )
    assert len(second.seen) == 2 * len(faces)


@KINDS
def test_labels_matter_after_training(kind: str, tmp_path: Path):
    spec = spec_of(
        kind,
        net=TINY_NET.model_copy(update={"width": 16}),
        images_seen={"ddpm": 960}.get(kind, 640),
        batch=16,
        learning_rate=5e-3,
        mirror=False,
    )
    generator = fit_generator(toy(), spec, tmp_path, device="cpu")
    labels = np.array([HAPPY] * 8 + [AFRAID] * 8)
    how = SamplerSpec(sampler="ancestral" if kind == "ddpm" else "dpmpp2m")
    images = sample_generator(generator, labels, np.arange(16), sampler=how)
    assert images[:8].mean() > images[8:].mean() + 30
    assert generator.losses["loss"].iloc[-1] < generator.losses["loss"].iloc[0]


# Held-out people


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    """A generator whose training held people out, and was not disturbed."""
    return fitted(
        crowd(), spec_of("edm", held_out=0.25, images_seen=96), tmp_path_factory.mktemp("watched")
    )


def test_held_out_people_are_measured_and_not_shown(watched: Diffusion):
    made = watched
    shown, held = heldout.hold_out(crowd(), made.spec)
    assert (
        held is not None
        and len(held.subjects) == 2
        and not set(shown.subjects) & set(held.subjects)
    )
    assert set(made.seen["subject"]) == {
        f"toy:{n}" for n in range(8)
    }  # they had a part in what was chosen
    assert (
        set(made.levels["step"]) == set(range(1, 9))
        and len(made.levels) == 8 * heldout.NOISE_LEVELS
    )
    means = {
        step: np.mean(made.levels.loc[made.levels["step"] == step, "held_out"])
        for step in range(1, 9)
    }
    assert (
        made.chosen.step == min(means, key=lambda step: means[step])
        and made.chosen.width in heldout.CANDIDATE_WIDTHS
    )
    assert made.chosen.loss is not None and made.chosen.loss <= 1.01 * min(means.values())
    svg = heldout.draw_chart(made.levels, made.chosen)
    assert svg.count("noise level") >= heldout.NOISE_LEVELS and "held-out people" in svg


def test_a_training_that_holds_people_out_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Diffusion
):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)
    calls, objective = [], edm.make_objective(watched.spec)

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 60:
            raise KeyboardInterrupt
        return objective.compute_losses(*arguments)

    with pytest.raises(KeyboardInterrupt):
        fit_diffusion(
            crowd(), watched.spec, tmp_path, replace(objective, compute_losses=interrupted), "cpu"
        )
    resumed = fit_diffusion(crowd(), watched.spec, tmp_path, objective, "cpu")
    assert same_weights(resumed.network, watched.network) and resumed.chosen == watched.chosen
    assert resumed.levels.equals(watched.levels)


def test_nobody_is_held_out_who_alone_shows_an_emotion():
    faces = toy()  # of whom toy:0 alone is bright only, toy:2 dark only
    shown, held = heldout.hold_out(faces, spec_of("edm", held_out=0.5))
    assert held is not None and shown.classes == faces.classes
    one = Faces(faces.images, faces.index.assign(subject="toy:0"))
    with pytest.raises(DataError, match="impossible with 1 subject"):
        heldout.hold_out(one, spec_of("edm", held_out=0.1))
    nobody = Faces(faces.images, faces.index.assign(subject=""))
    with pytest.raises(DataError, match="known subject for every image"):
        heldout.hold_out(nobody, spec_of("edm", held_out=0.1))


# Moves


def test_moves_are_drawn_as_often_as_asked():
    rng = torch.Generator().manual_seed(0)
    drawn = transforms.draw(20_000, True, 0.2, rng)
    assert (drawn[:, 0] == 1).float().mean() == pytest.approx(0.5, abs=0.02)
    for place in range(1, len(MOVES)):
        assert (drawn[:, place] != 0).float().mean() == pytest.approx(0.2, abs=0.02)
    assert drawn[:, MOVES.index("turn")].abs().max() <= 1  # never more than 15 degrees
    assert (transforms.draw(100, False, 0.0, rng) == 0).all()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 32)])
def test_moves_do_what_their_names_say(height: int, width: int):
    """A bright spot in the middle of the right half: where it goes, by hand."""
    x = torch.zeros(1, 1, height, width)
    x[0, 0, height // 2, 3 * width // 4] = 1

    def spot(**done: float) -> tuple[float, float]:
        vector = torch.zeros(1, len(MOVES))
        for name, value in done.items():
            vector[0, MOVES.index(name)] = value
        moved = transforms.apply(x, vector)[0, 0]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        return float((moved * rows).sum() / moved.sum()), float(
            (moved * columns).sum() / moved.sum()
        )

    row, column = spot()
    assert spot(mirror=1.0) == pytest.approx((row, width - 1 - column))
    assert spot(right=1.0) == pytest.approx((row, column + width / 8), abs=0.1)
    assert spot(down=1.0) == pytest.approx((row + height / 8, column), abs=0.1)
    farther = (column - (width - 1) / 2) * 2**0.2 + (width - 1) / 2
    assert spot(zoom=1.0)[1] == pytest.approx(farther, abs=0.2)
    turned = spot(turn=1.0)  # clockwise, as rows run down
    middle, angle = (width - 1) / 2, np.pi / 12
    assert turned[1] - middle == pytest.approx((column - middle) * np.cos(angle), abs=0.35)
    assert turned[0] - row == pytest.approx((column - middle) * np.sin(angle), abs=0.35)


def test_light_and_contrast_change_values_alone():
    x = torch.linspace(-0.5, 0.5, 16).reshape(1, 1, 4, 4)
    vector = torch.zeros(1, len(MOVES))
    vector[0, MOVES.index("light")], vector[0, MOVES.index("contrast")] = 1.0, -1.0
    changed = transforms.apply(x, vector).flatten()
    # Known answer: a contrast of 2^-0.3 = 0.812252, then 0.1 lighter
    assert changed[[0, 15]].tolist() == pytest.approx([-0.306126, 0.506126], abs=1e-5)
    assert torch.allclose(changed.diff(), changed.diff().mean(), atol=1e-5)


def test_what_the_network_was_told_of_does_not_show(tmp_path: Path):
    """Trained with strong changes of light, a network that is told of them draws faces as light as
    the real ones.
    """
    spec = spec_of(
        "edm",
        net=TINY_NET.model_copy(update={"width": 16}),
        images_seen=1200,
        batch=16,
        learning_rate=5e-3,
        moves=0.5,
    )
    made = fitted(toy(), spec, tmp_path)
    drawn = sample_generator(made, np.array([HAPPY] * 24), np.arange(24))
    assert drawn.mean() == pytest.approx(200, abs=12)


# Drawing


def test_guidance_by_an_early_moment_leads_away_from_it():
    generator = company("edm")
    labels, numbers = np.array([HAPPY, AFRAID]), np.arange(2)
    wide_open = {"guidance_low": 0.0, "guidance_high": 1000.0, "steps": 4}
    how = SamplerSpec.model_validate({"guidance": 2.0, "guide": "early", **wide_open})
    images = sample_generator(generator, labels, numbers, sampler=how)
    assert (
        images != sample_generator(generator, labels, numbers, sampler=SamplerSpec(steps=4))
    ).any()
    itself = replace(generator, early=generator.network)  # away from itself is nowhere
    alike = sample_generator(itself, labels, numbers, sampler=how).astype(int)
    plain = sample_generator(generator, labels, numbers, sampler=SamplerSpec(steps=4)).astype(int)
    assert np.abs(alike - plain).max() <= 1
    with pytest.raises(UsageError, match="early > 0"):
        sample_generator(replace(generator, early=None), labels, numbers, sampler=how)
    with pytest.raises(ValueError, match="guidance above 1"):
        SamplerSpec(guide="early")


@KINDS
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_bit_for_bit_the_same_alone_and_in_company(kind: str, sampler):
    generator, how = company(kind), SamplerSpec(sampler=sampler, steps=3)
    labels, numbers = np.array([HAPPY, AFRAID] * 10), np.arange(100, 120)
    together = sample_generator(generator, labels, numbers, sampler=how)
    alone = sample_generator(generator, labels[17:18], numbers[17:18], sampler=how)
    assert (alone[0] == together[17]).all()
    order = np.random.default_rng(0).permutation(20)[:16]
    assert (
        sample_generator(generator, labels[order], numbers[order], sampler=how) == together[order]
    ).all()
    assert len({image.tobytes() for image in together}) == 20


class Recorder(nn.Module):
    """A network that notes how many images it is given at once."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.sizes = network, set()

    def forward(self, x, *told):
        self.sizes.add(len(x))
        return self.network(x, *told)


@KINDS
def test_the_network_always_sees_as_many_images(kind: str):
    """On this machine an image may not care; on others the arithmetic depends on the size of the
    batch.
    """
    generator = company(kind)
    recorder = Recorder(generator.network)
    generator = replace(generator, network=recorder)
    for count in (1, 8, 9):
        numbers = np.arange(count)
        sample_generator(generator, np.full(count, HAPPY), numbers, sampler=SamplerSpec(steps=2))
    assert recorder.sizes == {SAMPLING_BATCH["cpu"]}


@KINDS
def test_guidance_keeps_an_image_the_same_in_any_company(kind: str):
    generator, how = (
        company(kind),
        SamplerSpec(steps=4, guidance=2.0, guidance_low=0.0, guidance_high=1000.0),
    )
    labels, numbers = np.array([HAPPY, AFRAID, HAPPY]), np.arange(3)
    together = sample_generator(generator, labels, numbers, sampler=how)
    assert (
        sample_generator(generator, labels[1:2], numbers[1:2], sampler=how)[0] == together[1]
    ).all()
    assert (
        sample_generator(generator, labels, numbers, sampler=SamplerSpec(steps=4)) != together
    ).any()


@KINDS
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_kind_draws_with_each_sampler(kind: str, sampler, trained):
    generator, how = trained[kind], SamplerSpec(sampler=sampler, steps=5)
    labels, numbers = np.array([HAPPY, AFRAID]), np.array([1, 2])
    images = sample_generator(generator, labels, numbers, sampler=how)
    assert images.shape == (2, 1, 16, 16) and images.dtype == np.uint8
    assert (sample_generator(generator, labels, numbers, sampler=how) == images).all()
    assert (sample_generator(generator, labels, numbers + 1, sampler=how) != images).any()
    assert generator.classes == ("fear", "happiness")
    assert sample_generator(generator, labels[:0], numbers[:0], sampler=how).shape == (0, 1, 16, 16)
    with pytest.raises(UsageError, match="not trained on anger"):
        sample_generator(generator, np.array([EMOTIONS.index("anger")]), np.array([0]), sampler=how)
    assert count_steps(generator.spec, SamplerSpec(sampler=sampler)) > 0


def test_each_kind_keeps_the_contract_of_generators(member: Run):
    """An image depends on its label and seed only; classes never seen are refused."""
    generator = load_generator(member, "cpu")
    labels, numbers = np.array([HAPPY, AFRAID, HAPPY]), np.array([1, 2, 3])
    images = sample_generator(generator, labels, numbers)
    assert images.shape == (3, *generator.size) and images.dtype == np.uint8
    assert (sample_generator(generator, labels, numbers) == images).all()
    assert (sample_generator(generator, labels[::-1], numbers[::-1]) == images[::-1]).all()
    assert (sample_generator(generator, labels[1:2], numbers[1:2]) == images[1:2]).all()
    assert (sample_generator(generator, labels, numbers + 1) != images).any()
    assert sample_generator(generator, labels[:0], numbers[:0]).shape == (0, *generator.size)
    with pytest.raises(UsageError, match="not trained on anger"):
        sample_generator(generator, np.array([EMOTIONS.index("anger")]), np.array([0]))


def test_each_kind_says_what_it_is_and_which_samplers_it_can_use(member: Run):
    generator = load_generator(member, "cpu")
    kind, facts = GENERATORS[generator.spec.kind], KIND_FACTS[generator.spec.kind]
    assert type(generator.spec) is facts.spec
    assert (generator.classes, generator.size, generator.licence) == (
        ("fear", "happiness"),
        (2 if facts.moves else 1, 16, 16),
        "CC0",
    )
    assert len(generator.seen) == (150 if facts.moves else 24)  # of films and toy
    assert generator.run == member.name
    line = kind.summarise(generator)
    assert line and "\n" not in line
    trained_in_steps = issubclass(facts.spec, SteppedSpec)
    assert (kind.measure_speed is not None) == (kind.count_workload is not None) == trained_in_steps
    alone = facts.sampler != "direct" and not facts.moves  # its network draws by itself
    assert (kind.make_denoiser is not None) == alone
    wrong = SamplerSpec(sampler="euler" if facts.sampler == "direct" else "direct")
    with pytest.raises(UsageError, match="cannot use the sampler"):
        sample_generator(generator, np.array([HAPPY]), np.array([0]), sampler=wrong)


@KINDS
def test_clipped_predictions_are_a_choice(kind: str):
    generator, labels, numbers = company(kind), np.array([HAPPY] * 2), np.arange(2)
    images = [
        sample_generator(generator, labels, numbers, sampler=SamplerSpec(steps=3, clip_x0=clip))
        for clip in (True, False)
    ]
    assert (images[0] != images[1]).any()


def test_the_whole_ancestral_chain_of_a_ddpm_is_the_reverse_update(trained):
    """Fewer steps go through the sampler in sigma, all T through Equation 6; at T they are the
    same.
    """
    generator = trained["ddpm"]
    schedule = ddpm.make_linear_schedule(12, 1e-4, 0.5)
    labels, numbers = np.array([HAPPY] * 3), np.arange(3)
    images = sample_generator(
        generator, labels, numbers, sampler=SamplerSpec(sampler="ancestral", clip_x0=False)
    )

    x, streams = NoiseStreams(numbers, 8, generator.size, torch.device("cpu")), None
    streams, x = x, x.draw()
    padded = torch.tensor([HAPPY] * 3 + [NO_LABEL] * 5)
    with torch.inference_mode():
        for t in range(12, 0, -1):
            told = ddpm.scale_time(schedule, torch.full((8,), float(t)))
            predicted = generator.network(x, told, padded, torch.zeros(8, len(MOVES)))
            x = ddpm.step_backward(
                schedule, x, t, predicted, streams.draw() if t > 1 else torch.zeros_like(x)
            )
    by_hand = scaling.scale_to_bytes(generator.mean + x)[:3]
    assert np.abs(by_hand.astype(int) - images.astype(int)).max() <= 1


def test_the_fast_solvers_of_a_ddpm_begin_where_faces_are_lost_in_noise(trained):
    """But not where the network has to find the mean face first, and never above the noise that it
    was shown.
    """
    generator = trained["ddpm"]
    first, last = ddpm.make_linear_schedule(12, 1e-4, 0.5).sigma[[1, 12]]
    quiet = replace(generator, sigma_data=0.02)
    assert ddpm.find_noise_range(quiet) == pytest.approx((first, 0.64))
    assert ddpm.find_noise_range(replace(generator, sigma_data=100.0)) == pytest.approx(
        (first, last)
    )
    bare = generator.spec.model_copy(update={"residual": False})
    assert ddpm.find_noise_range(replace(quiet, spec=bare)) == pytest.approx((first, last))
    labels, numbers = np.array([HAPPY]), np.array([0])
    drawn = [
        sample_generator(one, labels, numbers, sampler=SamplerSpec(steps=3))
        for one in (generator, quiet)
    ]
    assert (drawn[0] != drawn[1]).any()


# Runs


def test_a_trained_run_holds_its_files_and_loads_again(run: Run, store: Store, trained):
    assert {
        "generator.safetensors",
        "generator.json",
        "loss.csv",
        "sheet.png",
        "seen.parquet",
    } <= set(run.manifest["files"])
    loaded = load_generator(run, "cpu")
    assert (
        isinstance(loaded, Diffusion)
        and loaded.early is not None
        and trained["edm"].early is not None
    )
    assert same_weights(loaded.network, trained["edm"].network) and loaded.run == run.name
    assert same_weights(loaded.early, trained["edm"].early)
    assert loaded.losses["step"].tolist()[-1] == 6 and loaded.licence == "CC0"
    labels, numbers = np.array([HAPPY, AFRAID]), np.array([3, 4])
    images = sample_generator(trained["edm"], labels, numbers)
    assert (sample_generator(loaded, labels, numbers) == images).all()
    assert store.resolve("trained") == run.name and run.spec["faces"] == store.resolve("toy")


def test_a_generated_database_has_the_counts_and_says_where_it_comes_from(run: Run, store: Store):
    spec = order_database(run, "only,happiness=5,fear=3", store, steps=2, seed=4)
    made = generate_database(spec, store, alias="synthetic", device="cpu")
    faces = Faces.load(made.path)
    assert faces.index["emotion"].value_counts().to_dict() == {"happiness": 5, "fear": 3}
    row = faces.index.iloc[-1]
    assert row["key"] == f"{made.name}/happiness/00004" and row["source"] == made.name
    assert (
        row["seed"] == seeds.derive_seed("image", 4, "happiness", 4)
        and row["dataset"] == "synthetic"
    )
    assert row["subject"] == row["clip"] == "" and row["licence"] == "CC0"
    assert faces.seen is not None and set(faces.seen["subject"]) == {"toy:0", "toy:1", "toy:2"}
    again = sample_generator(
        load_generator(run, "cpu"),
        np.array([HAPPY]),
        np.array([row["seed"]]),
        sampler=SamplerSpec(steps=2),
    )
    assert (again[0] == faces.images[-1]).all()
    assert made.path.joinpath("sheet.png").exists()


def test_every_second_image_of_a_class_has_the_other_guidance(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    common = {"generator": run.name, "counts": {"fear": 7, "happiness": 12}, "steps": 2, "seed": 3}
    wide = {"guidance_low": 0.0, "guidance_high": 1000.0}

    def draw(**fields: Any) -> Faces:
        spec = read_spec(GenerateSpec, {**common, **wide, **fields}, "test")
        return Faces.load(generate_database(spec, store, device="cpu").path)

    plain, guided = draw(), draw(guidance=3.0)
    monkeypatch.setitem(SHARD_IMAGES, "cpu", 5)  # shards that begin with even and odd images
    spec = read_spec(GenerateSpec, {**common, **wide, "guidance_mix": 3.0}, "test")
    jobs = list_generation_jobs(spec, store, "cpu", 3)
    assert len(jobs) > 1 and run_jobs(jobs, store, Local(0)) == {}
    mixed = Faces.load(store.run(spec.name).path)
    assert "guidance 1 and 3 in turn away from no label" in capfd.readouterr().err
    assert (plain.images != guided.images).any(axis=(1, 2, 3)).all()
    odd = np.array([k % 2 == 1 for k in (*range(7), *range(12))])
    assert odd.sum() == 9
    assert (mixed.images[~odd] == plain.images[~odd]).all()
    assert (mixed.images[odd] == guided.images[odd]).all()
    assert mixed.index["seed"].tolist() == plain.index["seed"].tolist()

    # The key says which guidance an image had, so that it can be drawn again alone
    fields = {"guidance": 1.0, "guidance_mix": 3.0}
    scales = [find_guidance(fields, key) for key in mixed.index["key"]]
    assert scales == np.where(odd, 3.0, 1.0).tolist()
    how = SamplerSpec.model_validate({"steps": 2, "guidance": 3.0, **wide})
    (again,) = sample_generator(
        load_generator(run, "cpu"),
        np.array([HAPPY]),
        mixed.index["seed"].to_numpy()[-1:],
        sampler=how,
    )
    assert (again == mixed.images[-1]).all()
    with pytest.raises(DataError, match="must end in its number"):
        find_guidance(fields, "face-a.png")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"guidance_mix": 1.0}, "guidance_mix must differ from guidance, which is 1"),
        ({"guidance_mix": 2.0, "sampler": "direct"}, "guidance_mix does not apply to the sampler"),
        ({"guidance_mix": 0.5}, "guidance_mix: must be 1.0 or more"),
    ],
)
def test_a_second_guidance_is_refused_where_it_does_not_apply(fields: dict[str, Any], message: str):
    with pytest.raises(SpecError, match=message):
        read_spec(GenerateSpec, {"generator": "g", "counts": {"fear": 1}, **fields}, "test")


def test_a_generation_that_lost_half_its_shards_ends_with_the_same_content(
    run: Run, store: Store, tmp_path, monkeypatch
):
    monkeypatch.setitem(SHARD_IMAGES, "cpu", 16)
    spec = order_database(run, "balanced:50", store, steps=2)
    whole = generate_database(spec, store, device="cpu")

    other = Store(tmp_path / "store")
    for name in (run.spec["faces"], run.name):
        target = other.root / "runs" / name
        target.mkdir(parents=True)
        for path in store.run(name).path.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
    scratch = other.root / "work" / spec.name / "scratch"
    scratch.mkdir(parents=True)
    generator = load_generator(run, "cpu")
    _, labels, numbers = plan_images(spec.name, spec.counts, spec.seed)
    images = make_shards(generator, labels, numbers, spec, scratch)
    shards = sorted(scratch.glob("images-*.npy"))
    assert len(shards) == 4
    for path in shards[::2]:
        path.unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-20])  # cut short
    np.save(shards[3], np.zeros((3, 1, 16, 16), dtype=np.uint8))  # not what its name says
    assert generate_database(spec, other, device="cpu").content == whole.content

    scratch.mkdir(parents=True)
    write_shard(scratch / shards[0].name, np.zeros((16, 1, 16, 16), dtype=np.uint8))
    taken = make_shards(generator, labels, numbers, spec, scratch)
    assert (taken[:16] == 0).all() and (
        taken[16:] == images[16:]
    ).all()  # a finished shard is not made again


def test_a_budget_in_minutes_is_the_same_length_each_time(store: Store, monkeypatch):
    monkeypatch.setattr(fit, "MEASURE_S", 0.2)
    spec = spec_of("edm", faces="toy")
    once = calibrate(spec, 0.05, store, device="cpu")
    assert isinstance(once, TrainSpec)
    assert once.images_seen % spec.batch == 0 and once.images_seen > 0
    assert calibrate(spec, 0.05, store, device="cpu") == once
    with pytest.raises(UsageError, match="must be above 0"):
        calibrate(spec, 0.0, store, device="cpu")


def test_the_order_for_a_ddpm_is_the_preprints_sampler_unless_told(store: Store):
    run = train_generator(spec_of("ddpm", faces="toy", images_seen=8), store, device="cpu")
    assert order_database(run, "balanced:4", store).sampler == "ancestral"
    assert order_database(run, "balanced:4", store, sampler="heun").sampler == "heun"
    with pytest.raises(SpecError, match="sampler"):
        order_database(run, "balanced:4", store, sampler="plms")


# Counts

CLASSES = ("disgust", "fear", "happiness", "others", "repression", "sadness", "surprise")


def counts(text: str, classes=CLASSES) -> dict[str, int]:
    """Read counts for a set whose classes have as many images as its name has letters."""
    return parse_counts(text, lambda name: dict.fromkeys(classes, len(name or "none")), classes)


def test_counts_are_read():
    assert counts("preprint") == TABLE_2
    assert counts("like:abc") == dict.fromkeys(CLASSES, 3)
    assert counts("happiness=100, fear=50", ("fear", "happiness")) == {"happiness": 100, "fear": 50}
    assert counts("balanced:9") == dict.fromkeys(CLASSES, 1) | {"disgust": 2, "fear": 2}
    assert counts("each:3") == dict.fromkeys(CLASSES, 3)
    assert counts("balanced:7") == dict.fromkeys(CLASSES, 1)
    assert counts("like") == dict.fromkeys(CLASSES, 4)


def test_counts_times_a_number_are_rounded_and_keep_every_class():
    def read(text: str) -> dict[str, int]:
        seen = {"fear": 1, "others": 5, "sadness": 20}
        return parse_counts(text, lambda name: {**seen, "fear": len(name or "1")}, [*seen])

    assert read("like*2") == {"fear": 2, "others": 10, "sadness": 40}
    assert read("like*0.5") == {"fear": 1, "others": 3, "sadness": 10}
    assert read("like * 0.01") == {"fear": 1, "others": 1, "sadness": 1}
    assert read("like*1.1") == {"fear": 1, "others": 6, "sadness": 22}
    assert read("like:twelve*10,others=0") == {"fear": 60, "sadness": 200}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("like,happiness=40", dict.fromkeys(CLASSES, 4) | {"happiness": 40}),
        ("like*2.5,happiness=40", dict.fromkeys(CLASSES, 10) | {"happiness": 40}),
        (
            "like:abc , sadness = 2,others=1",
            dict.fromkeys(CLASSES, 3) | {"sadness": 2, "others": 1},
        ),
        ("only,fear=3,surprise=2", {"fear": 3, "surprise": 2}),
        ("each:2,fear=10", dict.fromkeys(CLASSES, 2) | {"fear": 10}),
        ("balanced:14,fear=10", dict.fromkeys(CLASSES, 2) | {"fear": 10}),
        ("preprint,fear=0", {name: count for name, count in TABLE_2.items() if name != "fear"}),
    ],
)
def test_single_classes_may_follow_a_rule_for_all(text: str, expected: dict[str, int]):
    assert counts(text) == expected


@pytest.mark.parametrize(
    ("text", "given", "advice"),
    [
        ("fear=3", "disgust 0, fear 3, others 0 (3 in all)", "'fear=3,disgust=0,others=0'"),
        (
            "fear=3,others=0",
            "disgust 0, fear 3, others 0 (3 in all)",
            "'fear=3,others=0,disgust=0'",
        ),
        ("like", "disgust 0, fear 5, others 2 (7 in all)", "'like,disgust=0'"),
        ("like:set", "disgust 0, fear 5, others 2 (7 in all)", "'like:set,disgust=0'"),
    ],
)
def test_a_class_is_without_images_only_if_the_counts_ask_for_it(
    text: str, given: str, advice: str
):
    classes = ("disgust", "fear", "others")

    def read(counts_text: str) -> dict[str, int]:
        return parse_counts(counts_text, lambda _: {"fear": 5, "others": 2}, classes)

    with pytest.raises(UsageError) as caught:
        read(text)
    message = str(caught.value)
    assert f"given: {given}" in message and f"write {advice}" in message
    assert "after 'only', as in 'only,fear=100'" in message

    # What the message advises is what would have been made
    asked = read(advice.strip("'"))
    assert "disgust" not in asked and asked["fear"] in (3, 5)


def test_only_some_classes_must_have_images_where_others_cannot_be_known():
    fear_only = parse_counts("fear=2", lambda _: {}, ("disgust", "fear"), required=["fear"])
    assert fear_only == {"fear": 2}
    with pytest.raises(UsageError, match="at least one image"):
        counts("only")


@pytest.mark.parametrize("seed", range(20))
def test_counts_have_the_same_sum_order_and_text_after_reading(seed: int):
    """For random classes and numbers: sums, the order of the classes, and the way back to text."""
    rng = np.random.default_rng(seed)
    classes = tuple(rng.permutation(CLASSES)[: rng.integers(1, len(CLASSES) + 1)].tolist())

    # N images in all, shared equally, more of the first classes
    total = int(rng.integers(len(classes), 1000))
    shared = counts(f"balanced:{total}", classes)
    assert sum(shared.values()) == total and tuple(shared) == classes
    assert max(shared.values()) - min(shared.values()) <= 1
    assert list(shared.values()) == sorted(shared.values(), reverse=True)

    # Single classes, in their order; written and read again
    wanted = {name: int(rng.integers(1, 10**6)) for name in classes}
    text = ",".join(f"{name}={count}" for name, count in wanted.items())
    assert list(counts(text, classes).items()) == list(wanted.items())

    # A change of one class changes no other; zero removes it
    changed = classes[int(rng.integers(len(classes)))]
    assert counts(f"balanced:{total},{changed}=7", classes) == shared | {changed: 7}
    if len(classes) > 1:
        removed = counts(f"balanced:{total},{changed}=0", classes)
        assert removed == {name: count for name, count in shared.items() if name != changed}


def test_the_preprints_counts_fit_fewer_classes_once_the_others_are_left_out():
    few = CLASSES[:-1]
    assert set(counts("preprint,surprise=0", few)) == set(few)
    with pytest.raises(UsageError, match="'preprint,surprise=0' leaves it out"):
        counts("preprint", few)
    with pytest.raises(UsageError, match="'preprint,sadness=0,surprise=0' leaves them out"):
        counts("preprint", CLASSES[:-2])


def test_counts_that_cannot_be_shared_equally_are_told(
    store: Store, capfd: pytest.CaptureFixture[str]
):
    run = train_generator(presets.read_preset("gaussian", "toy"), store)
    classes = run.read_json("generator.json")["classes"]
    number = 2 * len(classes) + 1
    made = order_database(run, f"balanced:{number}", store)
    assert sorted(made.counts.values()) == [2] * (len(classes) - 1) + [3]
    told = capfd.readouterr().err
    assert (
        f"2 of each class, and one more of {classes[0]}" in told
        and f"balanced:{number - 1} or" in told
    )
    order_database(run, f"balanced:{2 * len(classes)}", store)
    assert capfd.readouterr().err.strip().endswith(f"({2 * len(classes)} in all)")
    spec = order_database(run, f"only,{classes[1]}=3", store)
    assert spec.counts == {classes[1]: 3}
    assert f"images per class: {classes[0]} 0, {classes[1]} 3" in capfd.readouterr().err
    seen = Faces.load(store.run("toy").path).index["emotion"].value_counts().to_dict()
    assert order_database(run, f"like,{classes[0]}=1", store).counts == seen | {classes[0]: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be 'preprint'"),
        ("preprints", "must be 'preprint'"),
        ("happiness", "must be 'preprint'"),
        ("fear=1,fear=2", "each once"),
        ("hapiness=3", "Did you mean 'happiness'"),
        ("happiness=-3", "from 0"),
        ("happiness=2.5", "from 0"),
        ("each:0", "above 0"),
        ("balanced:none", "above 0"),
        ("anger=3", "not trained on anger"),
        ("like,anger=3", "not trained on anger"),
        ("like,hapiness=3", "Did you mean 'happiness'"),
        ("like,fear=1,fear=2", "each once"),
        ("only,fear=0", "ask for none"),
        ("like,", "must be 'preprint'"),
        ("like*", "'' must be a number above 0, such as 2 or 0.5"),
        ("like*0.0", "'0.0' must be a number above 0"),
        ("like*-2", "'-2' must be a number above 0"),
        ("like*two", "'two' must be a number above 0"),
        (f"like*{'9' * 5000}", r"'999999999999\.\.\.' must be a number above 0"),
        ("like:*2", "must be 'preprint'"),
        ("preprint*2", "must be 'preprint'"),
        ("fear=0", "ask for none"),
        ("fear=2,like", "must be 'preprint'"),
        (
            "balanced:3",
            (
                "3 would leave some classes without images; give balanced:7 or more, or "
                "each:3 for 3 of each"
            ),
        ),
        ("balanced:6,fear=9", "give balanced:7 or more"),
        (f"balanced:{'9' * 5000}", "'999999999999...' must be a whole number"),
        (f"happiness={'9' * 5000}", "must be a whole number"),
        (f"each:{'9' * 13}", "must be a whole number above 0, of at most 12 digits"),
    ],
)
def test_counts_that_cannot_be_met_are_named(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        counts(text)


def test_the_preprints_counts_need_its_classes():
    with pytest.raises(UsageError, match="not trained on"):
        counts("preprint", classes=("fear",))


def test_counts_of_a_spec_are_checked():
    with pytest.raises(SpecError, match="Did you mean 'fear'"):
        GenerateSpec(generator="g", counts={"feer": 1})
    with pytest.raises(SpecError, match="at least one"):
        GenerateSpec(generator="g", counts={})
