"""Students: distilled generators, which draw in few steps what their teacher draws in many."""

import json
import runpy
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import release_world
import torch
from worlds import HAPPY, TINY_DIFFUSION, Stop, company

import mien
from mien.cli import main
from mien.errors import SpecError, UsageError
from mien.export.run import export
from mien.faces import EMOTIONS, Faces
from mien.generators import student
from mien.generators.diffusion import fit
from mien.generators.diffusion.objective import Batch
from mien.generators.diffusion.transforms import MOVES
from mien.generators.distill import distill_generator, order_student
from mien.generators.generate import generate_database
from mien.generators.kinds import load_generator, sample_generator
from mien.generators.orders import order_database
from mien.generators.presets import read_preset
from mien.generators.specs import GaussianSpec, SamplerSpec, StudentSpec, TrainSpec
from mien.generators.train import train_generator
from mien.publish.release import build
from mien.publish.remake import regenerate
from mien.runs import checkpoints
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store

SHORT = {"images": 64, "images_seen": 1600, "batch": 16, "learning_rate": 2e-3}

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Home:
    """A store with real faces, a teacher and its student."""

    root: Path
    store: Store
    real: Run
    teacher: Run
    student: Run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("home")
    store = Store(root / "store")
    real = release_world.faces(root / "photos", store)
    fields = {"faces": real.name, "kind": "rectified", **TINY_DIFFUSION, "images_seen": 1200}
    teacher = train_generator(read_spec(TrainSpec, fields, "test"), store, device="cpu")
    store.set_alias("teacher", teacher.name)
    spec = order_student(teacher, settings=SHORT)
    made = distill_generator(spec, store, alias="fast", device="cpu")
    return Home(root, store, real, teacher, made)


def draw(run: Run, **how: Any) -> np.ndarray:
    """Twelve images from noise that no student was shown."""
    generator = load_generator(run, "cpu")
    labels = np.array([EMOTIONS.index(generator.classes[k % 3]) for k in range(12)])
    seeds = np.arange(100, 112)
    return sample_generator(generator, labels, seeds, sampler=SamplerSpec(**how)).astype(int)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_student_is_closer_to_its_teachers_images_than_the_teacher_in_as_few_steps(
    home: Home, steps: int
):
    wanted = draw(home.teacher, guidance=2.0)
    by_student = np.abs(draw(home.student, sampler="euler", steps=steps) - wanted).mean()
    by_teacher = np.abs(draw(home.teacher, guidance=2.0, steps=steps) - wanted).mean()
    assert by_student < 0.9 * by_teacher


def test_an_image_depends_on_its_seed_and_label_only(home: Home):
    generator, how = load_generator(home.student, "cpu"), SamplerSpec(sampler="euler", steps=2)
    labels = np.array([EMOTIONS.index(generator.classes[k % 3]) for k in range(12)])
    seeds = np.arange(12)
    together = sample_generator(generator, labels, seeds, sampler=how)
    alone = sample_generator(generator, labels[7:8], seeds[7:8], sampler=how)
    assert (alone[0] == together[7]).all()
    assert (sample_generator(generator, labels, seeds) == together).all()  # two is the default
    assert (sample_generator(generator, labels, seeds + 1, sampler=how) != together).any()


def test_a_student_inherits_what_its_teacher_learnt_from(home: Home):
    made, teacher = load_generator(home.student, "cpu"), load_generator(home.teacher, "cpu")
    assert isinstance(made, student.Student)
    assert (made.classes, made.licence, made.size) == (
        teacher.classes,
        teacher.licence,
        teacher.size,
    )
    assert made.seen.equals(teacher.seen)
    assert home.student.spec["teacher"] == home.teacher.name
    assert home.student.spec["faces"] == home.real.name
    assert home.teacher.name in home.student.summary["holds"]
    assert (home.student.path / "sheet.png").exists()


def test_a_stopped_distillation_resumes_to_the_same_student(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = Store(tmp_path / "store")
    for run in (home.real, home.teacher):
        (store.root / "runs").mkdir(parents=True, exist_ok=True)
        (store.root / "runs" / run.name).symlink_to(run.path)
    spec, save = order_student(home.teacher, settings=SHORT), checkpoints.save_checkpoint

    def save_and_stop(folder: Path, tensors: Any, state: Any) -> None:
        save(folder, tensors, dict(state))
        if state["step"] == 40:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(fit, "CHECKPOINT_S", 0.0)
        patch.setattr(checkpoints, "save_checkpoint", save_and_stop)
        with pytest.raises(Stop):
            distill_generator(spec, store, device="cpu")
    assert distill_generator(spec, store, device="cpu").content == home.student.content


# The loss


def test_the_loss_is_of_the_image_that_the_students_own_steps_lead_to(
    monkeypatch: pytest.MonkeyPatch,
):
    """Known answers, from a denoiser whose prediction is a share of its input."""
    teacher = replace(company("edm"), mean=torch.zeros(1, 24, 24), sigma_data=0.5)
    share, asked = 0.25, []

    def make_denoiser(generator: Any, network: Any) -> Any:
        def denoise(x: Any, sigma: Any, labels: Any) -> Any:
            asked.append(sorted(set(sigma.tolist()), reverse=True))
            return share * x / sigma[:, None, None, None]

        return denoise

    monkeypatch.setattr(student.TEACHERS["edm"], "make_denoiser", make_denoiser)
    noise = torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    steps = torch.tensor([0.0, 1.0, 2.0, 3.0])
    # Each step predicts a share of x / sigma, which is x0 / sigma + noise
    levels = student.list_levels(teacher)
    expected, ratio = [], 1.0  # of x to sigma * noise
    for k, sigma in enumerate(levels):
        prediction = share * ratio
        expected.append(prediction)
        if k < 3:
            ratio = prediction / levels[k + 1] + (ratio - prediction / sigma)
    x0 = torch.zeros_like(noise)
    batch = Batch(x0, torch.full((4,), HAPPY), torch.zeros(4, len(MOVES)), steps, noise)
    losses = student.compute_losses(teacher, teacher.network, batch, 1.0, ())
    # Where nothing is clipped, the loss is the mean size of the prediction
    found = losses[:2] / noise[:2].abs().mean(dim=(1, 2, 3))
    assert found.tolist() == pytest.approx(expected[:2], rel=1e-4)
    assert len(asked) == 4 and asked[-1] == pytest.approx(levels)


def test_every_step_has_its_share_of_the_training():
    shares = (torch.arange(1000) + 0.5) / 1000
    steps = student.find_step(shares)
    counts = [int((steps == k).sum()) for k in range(4)]
    assert counts == [400, 400, 100, 100]


# What is refused


def test_a_student_keeps_the_guidance_of_its_teacher(home: Home):
    plain = order_database(home.student, "each:2", home.store)
    assert (plain.steps, plain.guidance, plain.sampler) == (2, 2.0, "euler")
    assert order_database(home.student, "each:2", home.store, guidance=2.0) == plain
    with pytest.raises(UsageError, match="guidance 2 of its teacher, which it has learnt"):
        order_database(home.student, "each:2", home.store, guidance=3.0)
    with pytest.raises(UsageError, match="omit --guidance and --guidance-mix"):
        order_database(home.student, "each:2", home.store, guidance_mix=3.0)
    with pytest.raises(UsageError, match="guidance of its teacher, 2, which it has learnt"):
        draw(home.student, sampler="euler", guidance=3.0)


@pytest.mark.parametrize("steps", [0, 5, "auto"])
def test_a_student_draws_in_one_to_four_steps(home: Home, steps: Any):
    assert order_database(home.student, "each:2", home.store, steps=4).steps == 4
    with pytest.raises(UsageError, match=f"a student draws in 1 to 4 steps; given: {steps}"):
        order_database(home.student, "each:2", home.store, steps=steps)


def test_a_student_has_one_sampler(home: Home):
    with pytest.raises(UsageError, match="student generator cannot use the sampler 'dpmpp2m'"):
        order_database(home.student, "each:2", home.store, sampler="dpmpp2m")


def test_only_a_generator_that_draws_in_steps_is_distilled(home: Home):
    fitted = train_generator(GaussianSpec(faces=home.real.name), home.store)
    with pytest.raises(UsageError, match="a gaussian, draws in one step"):
        order_student(fitted)
    with pytest.raises(UsageError, match="has been distilled already"):
        order_student(home.student)
    with pytest.raises(UsageError, match="is not a trained generator"):
        order_student(home.real)
    with pytest.raises(UsageError, match="adds noise on its way"):
        order_student(home.teacher, sampler="ancestral")
    with pytest.raises(SpecError, match="steps"):
        order_student(home.teacher, steps=5)
    with pytest.raises(SpecError, match="use `mien distill GENERATOR` instead"):
        read_preset("nano", home.real.name, {"kind": "student"})


# From the command to a release


def run_command(monkeypatch: pytest.MonkeyPatch, home: Home, *arguments: str) -> int:
    monkeypatch.setenv("MIEN_STORE", str(home.store.root))
    monkeypatch.setattr(sys, "argv", ["mien", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_and_the_function_make_the_same_student(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    settings = [f"--set={name}={value}" for name, value in SHORT.items()]
    code = run_command(monkeypatch, home, "distill", "teacher", *settings, "--device", "cpu")
    assert code == 0 and home.student.name in capsys.readouterr().out
    found = mien.distill("teacher", store=home.store, device="cpu", **SHORT)
    assert found.name == home.student.name
    assert run_command(monkeypatch, home, "generate", "fast", "--guidance", "3") == 2
    assert "which it has learnt and which cannot be changed" in capsys.readouterr().err
    assert run_command(monkeypatch, home, "distill", "teacher", "--set=seed=3") == 2
    assert "seed must not be given by --set" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_an_exported_student_draws_what_mien_draws(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
):
    folder = export(home.student, tmp_path / "folder")
    about = json.loads((folder / "export.json").read_text())
    assert about["sampler"]["name"] == "euler" and len(about["sampler"]["levels"]) == 4
    assert about["sampler"]["steps"] == 2 and about["null_label"] is None
    name = "disgust"
    out = tmp_path / "images"
    call = ["--count", "5", "--seed", "3", "--steps", str(steps), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["sample.py", name, *call])
    runpy.run_path(str(folder / "sample.py"), run_name="__main__")
    generator, how = load_generator(home.student, "cpu"), SamplerSpec(sampler="euler", steps=steps)
    labels = np.full(5, EMOTIONS.index(name))
    drawn = sample_generator(generator, labels, np.arange(3, 8), sampler=how).astype(int)
    assert np.abs(np.load(out.with_suffix(".npy")) - drawn).max() <= 1
    with pytest.raises(UsageError, match="needs a scheduler of diffusers"):
        export(home.student, tmp_path / "other", "diffusers")


def test_a_release_names_the_teacher_and_its_images_are_drawn_again(home: Home):
    counts = "disgust=7,fear=5,happiness=12"
    spec = order_database(home.student, counts, home.store)
    made = generate_database(spec, home.store, alias="made", device="cpu")
    assert Faces.load(made.path).seen is not None
    release_world.audit(home.store, home.real, made)
    answers = home.root / "dataset.toml"
    release_world.answer(answers, home.store, made.name)
    folder = build(made.name, home.root / "release", home.store, answers)
    entries = json.loads((folder / "provenance" / "lineage.json").read_text())
    specs = {entry["run"]: entry["spec"] for entry in entries}
    assert specs[home.student.name]["teacher"] == home.teacher.name
    assert {home.teacher.name, home.real.name} <= set(specs)
    again = regenerate(folder, "fear-00001", home.store, "cpu")
    assert again.pixels_equal and again.bytes_equal, again.reason


def test_the_spec_of_a_student_has_no_unknown_fields():
    with pytest.raises(SpecError, match="has no field 'held_out'"):
        read_spec(StudentSpec, {"faces": "f", "teacher": "t", "held_out": 0.1}, "test")
