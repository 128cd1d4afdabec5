"""Action units as a condition of a generator: images show the units that are ordered."""

import json
import runpy
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from worlds import DIFFUSIONS, Stop, blobs, crowd, inside, keep, same_weights, spec_of

from mien.audit.labels.units import measure_units
from mien.audit.memorisation.denoising import RealImages, measure_errors
from mien.audit.memorisation.membership_part import measure_part
from mien.audit.origin import find_generator_run
from mien.audit.part import PartInput
from mien.errors import DataError, SpecError, UsageError
from mien.export.run import export
from mien.faces import EMOTIONS, Faces, make_index
from mien.generators.diffusion import fit
from mien.generators.diffusion.fit import DiffusionTraining
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.samplers import guide
from mien.generators.diffusion.unet import NO_LABEL, ConditionedOnUnits, UNet
from mien.generators.distill import distill_generator, order_student
from mien.generators.generate import generate_database
from mien.generators.kinds import GENERATORS, fit_generator, load_generator, sample_generator
from mien.generators.orders import order_database
from mien.generators.presets import read_condition, read_preset
from mien.generators.specs import OrderedUnit, SamplerSpec
from mien.generators.train import train_generator
from mien.generators.units import KnownUnits, describe_order, learn_units, parse_order
from mien.ingest.toy.head import DrawnHead, Pose, apply_pose, invent_identity
from mien.prepare.facs import format_units, parse_units
from mien.runs import checkpoints
from mien.runs.store import Run, Store

pytestmark = pytest.mark.usefixtures("one_thread")


BOTH = ("emotion", "action_units")
FEAR = EMOTIONS.index("fear")
EDM = DIFFUSIONS["edm"]
OPEN = (OrderedUnit(number=25, strength=1.0), OrderedUnit(number=26, strength=1.0))
SHUT = (OrderedUnit(number=25, strength=0.0), OrderedUnit(number=26, strength=0.0))


@cache
def drawn() -> Faces:
    """Six clips of one face, whose mouth opens from not at all (no unit) to the maximum (E); the
    emotion says nothing about it.
    """
    images, rows = [], []
    head = DrawnHead(invent_identity(3, 1), (84, 70))
    for who in range(6):
        for rank in range(6):
            strength = rank / 5
            picture = head.draw({"25": strength, "26": strength} if rank else {})
            small = cv2.resize(
                apply_pose(picture, Pose(x=who / 2 - 1), (84, 70))[24:], (24, 24), None, 0, 0, 3
            )
            images.append(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)[None])
            letter = "ABCDE"[rank - 1]
            side = "L" if who == 5 else ""
            rows.append((who, f"AU{side}25{letter}, 26{letter}" if rank else "", (who + rank) % 2))
    stack = np.array(images)
    index = make_index(
        stack,
        key=[f"drawn/{number}" for number in range(len(rows))],
        dataset="drawn",
        subject=[f"drawn:{who}" for who, _, _ in rows],
        clip=[f"drawn:{number}" for number in range(len(rows))],
        emotion=[("fear", "happiness")[label] for _, _, label in rows],
        action_units=[text for _, text, _ in rows],
        licence="CC0",
    )
    return Faces(stack, index)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Run]:
    """A store with drawn faces and a generator that is conditioned on their action units."""
    store = Store(tmp_path_factory.mktemp("home") / "store")
    faces = keep(drawn(), store, "faces")
    changes: dict[str, Any] = {"learning_rate": 1e-2, "muon": 0.02, "condition": BOTH}
    spec = spec_of("edm", faces=faces.name, images_seen=1200, batch=16, **changes)
    return store, train_generator(spec, store, alias="generator", device="cpu")


def draw(generator: Diffusion, units: tuple[OrderedUnit, ...] | None) -> np.ndarray:
    """Eight images of fear."""
    sampler = SamplerSpec(units=units, steps=8)
    return sample_generator(generator, np.full(8, FEAR), np.arange(8), sampler=sampler).astype(int)


def load(run: Run) -> Diffusion:
    generator = load_generator(run, "cpu")
    assert isinstance(generator, Diffusion)
    return generator


# Drawing


def test_images_show_the_units_that_were_ordered(home: tuple[Store, Run]):
    """They change in the direction in which the unit changes drawn faces."""
    faces, generator = drawn(), load(home[1])
    texts = faces.index["action_units"]
    opened, shut = (
        faces.images[rows.to_numpy()] for rows in (texts.str.contains("E"), texts == "")
    )
    direction = opened.mean(axis=0) - shut.mean(axis=0)
    change = (draw(generator, OPEN) - draw(generator, SHUT)).mean(axis=0)
    assert 0.4 < float((change * direction).sum() / (direction**2).sum()) < 1.5
    half = (OrderedUnit(number=25, strength=0.5), OrderedUnit(number=26, strength=0.5))
    steps = [
        np.abs(draw(generator, units) - draw(generator, SHUT)).mean() for units in (half, OPEN)
    ]
    assert 0 < steps[0] < steps[1]


def test_an_audit_asks_the_conditioned_generator_behind_a_filtered_database(
    home: tuple[Store, Run],
):
    # The generator is found by the images, whatever happened to the database
    store, run = home
    spec = order_database(run, "each:4", store, steps=2)
    kept = Faces.load(generate_database(spec, store, device="cpu").path).select(np.arange(0, 8, 2))
    assert find_generator_run(keep(kept, store, "filtered"), store) == run.name
    sources = ["generate-000000000000", *kept.index["source"][1:]]
    lost = replace(kept, index=kept.index.assign(source=sources))
    assert find_generator_run(keep(lost, store, "lost"), store) == ""

    # Membership is measured with the units of each image, or without any if one side has none
    def measure(train: Faces, test: Faces) -> list[float]:
        others = replace(test, index=test.index.assign(subject=test.index["subject"] + " b"))
        given = PartInput(
            train, others, kept, {}, lambda: pytest.fail("no matches"), lambda: load(run)
        )
        measured = measure_part(given)
        assert measured.notes == []
        names = ("membership.auc.generator", "membership.auc.level_80")
        return [record.value for record in measured.records if record.metric in names]

    faces = drawn()
    bare = replace(faces, index=faces.index.assign(action_units=""))
    assert len(measure(faces, faces)) == 2
    assert measure(faces, bare) == measure(bare, bare)


def test_the_error_of_denoising_depends_on_the_units_of_the_image(home: tuple[Store, Run]):
    faces, generator = drawn().select(np.arange(6)), load(home[1])
    assert generator.units is not None
    units = generator.units.encode_faces(faces)
    shut, opened, again = (
        measure_errors(
            generator,
            RealImages(np.asarray(faces.images), faces.number_labels(), np.zeros(6), given),
        )
        for given in (units, units[::-1].copy(), units)
    )
    assert np.abs(shut - opened)[0].max() > 0.01
    assert (shut == again).all()


def test_a_database_records_the_units_of_each_image(home: tuple[Store, Run]):
    store, run = home
    spec = order_database(run, "each:4", store, steps=2, units="26:0.5,L25")
    ordered = Faces.load(generate_database(spec, store, device="cpu").path)
    assert set(ordered.index["action_units"]) == {"L25+26C"}

    # Without an order, each image has the units of a training image of its class
    spec = order_database(run, "each:12", store, steps=2)
    usual = Faces.load(generate_database(spec, store, device="cpu").path)
    for emotion in ("fear", "happiness"):
        texts = drawn().index.loc[drawn().index["emotion"] == emotion, "action_units"]
        known = {format_units(parse_units(text).units) for text in texts}
        made = usual.index.loc[usual.index["emotion"] == emotion, "action_units"]
        assert set(made) <= known and len(set(made)) > 2


def test_an_image_depends_on_its_seed_and_label_only(home: tuple[Store, Run]):
    generator, how = load(home[1]), SamplerSpec(steps=2)
    labels, numbers = np.full(12, FEAR), np.arange(12)
    together = sample_generator(generator, labels, numbers, sampler=how)
    alone = sample_generator(generator, labels[9:10], numbers[9:10], sampler=how)
    assert (alone[0] == together[9]).all()


@pytest.mark.parametrize(
    "units, message",
    [
        ("12:0.8", "units must be among those that the generator knows, which are 25, 25 left, 26"),
        ("25:1.2", "--units must be units with strengths from 0 to 1, such as 12:0.8,6:0.5"),
        ("25:0.2,25:0.3", "--units must name each unit once"),
        ("0", "--units must be units"),
        ("R25", "given: 25 right"),
    ],
)
def test_wrong_units_are_refused_with_one_message(
    home: tuple[Store, Run], units: str, message: str
):
    with pytest.raises(UsageError, match=message):
        order_database(home[1], "each:1", home[0], units=units)


def test_a_generator_without_units_refuses_an_order(tmp_path: Path):
    store = Store(tmp_path)
    faces = keep(drawn(), store, "faces")
    plain = train_generator(spec_of("edm", faces=faces.name), store, device="cpu")
    with pytest.raises(UsageError, match="units need a generator that is conditioned"):
        order_database(plain, "each:1", store, units="25:1")
    generator = load(plain)
    with pytest.raises(UsageError, match="is conditioned on action units"):
        draw(generator, OPEN)
    spec = order_database(plain, "each:1", store, steps=1)
    assert set(Faces.load(generate_database(spec, store).path).index["action_units"]) == {""}


# The numbers


def make_known() -> KnownUnits:
    return learn_units(drawn(), balance=0.5, clip_first=True)


def test_strengths_follow_intensity_and_side():
    known = make_known()
    assert known.columns == ("25", "25 left", "26")
    assert known.typical == (0.6, 0.6, 0.6)
    rows = known.encode(["", "25A+26E", "L25", "26C+99"])
    conditioned = [[1, 0, 0, 0], [1, 0.2, 0, 1], [1, 0.6, 0.6, 0], [1, 0, 0, 0.6]]
    assert rows == pytest.approx(np.array(conditioned, dtype=np.float32))
    assert not known.encode_faces(
        Faces(drawn().images, drawn().index.assign(action_units=""))
    ).any()


def test_units_of_few_clips_and_sets_without_units_are_not_learnt():
    index = drawn().index.copy()
    index.loc[:1, "action_units"] = "4B"
    assert "4" not in learn_units(Faces(drawn().images, index), 0.5, True).columns
    with pytest.raises(DataError, match="needs training faces whose action units are coded"):
        learn_units(crowd(), 0.5, True)


def test_units_and_label_are_dropped_separately():
    spec = spec_of("edm", condition=BOTH, batch=2000, label_drop=0.5)
    objective = EDM.make_objective(spec)
    batch = DiffusionTraining(drawn(), spec, objective, torch.device("cpu")).make_batch(0)
    assert batch.units is not None
    without, unlabelled = ~batch.units.any(dim=1), batch.labels == NO_LABEL
    assert float(without[~unlabelled].float().mean()) == pytest.approx(fit.UNITS_DROP, abs=0.04)
    assert float(without[unlabelled].float().mean()) == pytest.approx(0.5, abs=0.05)


def test_guidance_leads_away_from_images_without_label_and_units():
    known, asked = make_known(), []
    network = UNet(1, spec_of("edm").net, units=known.width)
    handle = network.embed.register_forward_pre_hook(lambda _, given: asked.append(given[3]))
    units = torch.from_numpy(known.encode(["25E", "26A"]))
    conditioned = ConditionedOnUnits(network, units)

    def denoise(x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return conditioned(x, sigma, labels, x.new_zeros(len(x), 8))

    labels = torch.tensor([FEAR, FEAR])
    guide(denoise, NO_LABEL, 2.0, 0.0, 9.0)(torch.zeros(2, 1, 24, 24), torch.ones(2), labels)
    handle.remove()
    assert torch.equal(asked[0], torch.cat([units, torch.zeros_like(units)]))


def test_a_network_with_units_begins_as_one_without():
    plain, conditioned = (
        DiffusionTraining(drawn(), spec, EDM.make_objective(spec), torch.device("cpu"))
        for spec in (spec_of("edm"), spec_of("edm", condition=BOTH))
    )
    del conditioned.network.embed.units
    assert same_weights(plain.network, conditioned.network)
    one, other = plain.make_batch(3), conditioned.make_batch(3)
    assert torch.equal(one.noise, other.noise) and torch.equal(one.labels, other.labels)


# Training, distillation and export


def test_a_stopped_training_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec, save = spec_of("edm", condition=BOTH, early=0.0), checkpoints.save_checkpoint
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = fit_generator(drawn(), spec, tmp_path / "a", device="cpu")

    def save_and_stop(folder: Path, tensors: Any, state: Any) -> None:
        save(folder, tensors, dict(state))
        if state["step"] == 3:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(fit, "CHECKPOINT_S", 0.0)
        patch.setattr(checkpoints, "save_checkpoint", save_and_stop)
        with pytest.raises(Stop):
            fit_generator(drawn(), spec, tmp_path / "b", device="cpu")

    # Not with other units
    other = Faces(drawn().images, drawn().index.assign(action_units="25A+26B"))
    with pytest.raises(UsageError):
        fit_generator(other, spec, tmp_path / "b", device="cpu")
    resumed = fit_generator(drawn(), spec, tmp_path / "b", device="cpu")
    assert isinstance(whole, Diffusion) and isinstance(resumed, Diffusion)
    assert same_weights(whole.network, resumed.network)


def test_held_out_losses_know_the_units(tmp_path: Path):
    spec = spec_of("edm", condition=BOTH, held_out=0.2, images_seen=24)
    made = fit_generator(drawn(), spec, tmp_path, device="cpu")
    assert isinstance(made, Diffusion) and len(made.levels)


def test_a_student_shows_the_units_that_its_teacher_shows(home: tuple[Store, Run]):
    store, run = home
    short = {"images": 16, "images_seen": 64, "batch": 8, "teacher_steps": 4, "guidance": 1.0}
    spec = order_student(run, settings=short)
    made = load(distill_generator(spec, store, device="cpu"))
    assert made.units == load(run).units
    labels, numbers = np.full(4, FEAR), np.arange(4)
    images = [
        sample_generator(
            made, labels, numbers, sampler=SamplerSpec(sampler="euler", steps=2, units=units)
        )
        for units in (OPEN, SHUT)
    ]
    assert (images[0] != images[1]).any()


def test_an_exported_generator_takes_units(
    home: tuple[Store, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UsageError, match="use the format 'program'"):
        export(home[1], tmp_path / "no", form="diffusers", allow_face=True)
    folder = export(home[1], tmp_path / "out", allow_face=True)
    about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    assert about["units"]["columns"] == ["given", "25", "25 left", "26"]

    # Its program is the denoiser of mien
    generator = load(home[1])
    x, labels = torch.randn(3, 1, 24, 24), torch.full((3,), FEAR)
    assert generator.units is not None
    units = torch.from_numpy(generator.units.encode(["25E", "", "26B"]))
    program = torch.export.load(folder / "denoiser.pt2").module()
    make_denoiser = GENERATORS["edm"].make_denoiser
    assert make_denoiser is not None
    expected = make_denoiser(generator, ConditionedOnUnits(generator.network, units))(
        x, torch.ones(3), labels
    )
    assert torch.allclose(program(x, torch.ones(3), labels, units), expected, atol=1e-5)

    # Its script orders units, and refuses those that it does not know
    drawn_by_script = []
    for order in ("25:1,26:1", "25:0"):
        monkeypatch.chdir(tmp_path)
        arguments = ["sample.py", "fear", "--count", "2", "--steps", "2", "--units", order]
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(folder / "sample.py"))
        drawn_by_script.append(np.load(tmp_path / "images.npy"))
    assert (drawn_by_script[0] != drawn_by_script[1]).any()
    monkeypatch.setattr(sys, "argv", ["sample.py", "fear", "--units", "12:1"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(folder / "sample.py"))


# Texts and settings


def test_orders_are_read_and_written_in_facs():
    units = [OrderedUnit.model_validate(unit) for unit in parse_order("12:0.8, AU6:0.5,L10,4:0")]
    assert describe_order(units) == "6C+L10+12D"
    assert [unit.strength for unit in units] == [0.8, 0.5, None, 0.0]


def test_the_condition_is_the_emotion_unless_units_are_asked_for():
    assert read_condition("emotion") == {}
    spec = read_preset("nano", "faces", read_condition("emotion, action_units"))
    assert spec.model_dump()["condition"] == BOTH
    assert read_preset("nano", "faces", {"condition": ["emotion"]}) == read_preset("nano", "faces")
    for text in ("action_units", "emotion,age", ""):
        with pytest.raises(SpecError, match="--condition must be emotion or"):
            read_condition(text)
    with pytest.raises(ValidationError, match="must name emotion"):
        spec_of("edm", condition=("action_units",))
    with pytest.raises(SpecError, match="condition applies to diffusion models"):
        read_preset("gan", "faces", {"condition": BOTH})


def test_the_commands_train_and_order(home: tuple[Store, Run]):
    folder = home[0].root.parent
    text = inside(folder, "generate", "generator", "--counts", "each:2", "--units", "7:1", code=2)
    assert "units must be among those that the generator knows" in text
    text = inside(
        folder, "train", "faces", "--preset", "vae", "--condition", "emotion,action_units", code=2
    )
    assert "condition applies to diffusion models" in text
    inside(folder, "generate", "generator", "--counts", "each:2", "--steps", "1", "--units", "26:1")


# The audit


UNITS_OF_CLASSES = {"fear": "1+2", "happiness": "12", "sadness": "1", "surprise": "2"}


def coded(people: slice, **changes: str) -> Faces:
    """Blobs of some of twelve people, whose units follow from the place of the blob."""
    faces = blobs(n=288, size=24, subjects=12)
    names = set(faces.subjects[people])
    faces = faces.select(faces.index["subject"].isin(names).to_numpy())
    units = faces.index["emotion"].map(UNITS_OF_CLASSES)
    return Faces(faces.images, faces.index.assign(action_units=units, **changes))


def test_an_audit_compares_units_with_what_a_judge_finds():
    train, test = coded(slice(0, 6)), coded(slice(6, 12))
    made = coded(slice(0, 6), source="generator-0123456789ab", subject="")
    records, findings = measure_units(made, train, test)
    values = {(record.metric, record.part): record for record in records}
    assert not findings and {part for _, part in values} == {"", "AU 1", "AU 2", "AU 12"}
    assert values["labels.units_real", ""].value > 0.8
    assert values["labels.units", ""].value > 0.8
    assert values["labels.units", "AU 1"].unit == "images; 72 show the unit"

    # Units that were dealt out at random
    texts = np.random.default_rng(0).permutation(made.index["action_units"].to_numpy(dtype=object))
    wrong = Faces(made.images, made.index.assign(action_units=texts))
    shuffled = measure_units(wrong, train, test)[0][0]
    assert shuffled.value < values["labels.units", ""].value - 0.3
    assert shuffled.high is not None and shuffled.high < 0.8


def test_units_of_too_few_people_cannot_be_judged():
    train, made = coded(slice(0, 6)), coded(slice(0, 6), source="generator-0123456789ab")
    records, findings = measure_units(made, train, coded(slice(6, 7)))
    assert not records
    assert "cannot tell whether synthetic faces show AU 1, AU 2, AU 12" in findings[0].what
    assert "too few held-out images" in findings[0].what
    plain = Faces(made.images, made.index.assign(action_units=""))
    assert measure_units(plain, train, train) == ([], [])
