"""Controls: answers without learning, labels without signal, and a generator that copies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy.spatial.distance import cdist
from worlds import CLASSES, blobs, keep, table

from mien.classifiers.baselines import Majority, Nearest
from mien.errors import DataError, LeakageError, SpecError, UsageError
from mien.faces import EMOTIONS, Faces, make_index
from mien.generators import gaussian, presets
from mien.generators.base import Generator
from mien.generators.generate import generate_database
from mien.generators.kinds import fit_generator, load_generator, sample_generator
from mien.generators.orders import order_database
from mien.generators.specs import KIND_FACTS, CopycatSpec, GaussianSpec, SteppedSpec
from mien.generators.train import calibrate, train_generator
from mien.prepare import splits
from mien.runs.store import Store
from mien.study.controls import list_trial_kinds, permute_labels
from mien.study.databases import list_databases
from mien.study.file import resolve
from mien.study.plan import make_record, plan_study
from mien.study.run import list_study_jobs
from mien.study.select import parse_only, select_rows
from mien.study.settings import (
    CONTROLS,
    SETTINGS,
    SOURCES,
    SOURCES_OF,
    SYNTHETIC,
    TRAINING_SETS,
    name_under_control,
)
from mien.study.specs import TrialSpec


def halves() -> tuple[Faces, Faces]:
    faces = blobs()
    fold = splits.split(faces, "subject", 2, 0, 0)
    return faces.select(fold.train), faces.select(fold.test)


def test_majority_answers_the_commonest_training_class_whatever_the_test_shows():
    train, test = halves()
    train = train.select((train.index["emotion"] != CLASSES[0]).to_numpy())
    more = train.select(np.flatnonzero(train.index["emotion"] == CLASSES[2])[:1])
    most = Faces(
        np.concatenate([train.images, more.images]),
        pd.concat([train.index, more.index.assign(key="one more")], ignore_index=True),
    )
    answers = Majority(most, CLASSES).predict(test)
    assert answers.shape == (len(test), len(CLASSES))
    assert (answers.argmax(axis=1) == 2).all() and (answers.sum(axis=1) == 1).all()


@pytest.mark.parity
def test_the_nearest_neighbour_is_that_of_all_distances():
    train, test = halves()
    flat = [faces.images.reshape(len(faces), -1) / 255 for faces in (train, test)]
    expected = train.number_labels(CLASSES)[cdist(flat[1], flat[0]).argmin(axis=1)]
    assert (Nearest(train, CLASSES).predict(test).argmax(axis=1) == expected).all()


def test_a_seen_image_is_its_own_nearest_neighbour():
    train, _ = halves()
    found = Nearest(train, CLASSES).predict(train).argmax(axis=1)
    assert (found == train.number_labels(CLASSES)).all()


def test_a_baseline_needs_training_images_of_the_same_size():
    train, test = halves()
    with pytest.raises(DataError, match="needs training images"):
        Nearest(train.select(np.zeros(len(train), dtype=bool)), CLASSES)
    with pytest.raises(DataError, match="must have one size"):
        Nearest(blobs(size=24), CLASSES).predict(test)


def test_permuted_labels_keep_clips_whole_and_classes_as_large():
    faces = blobs()
    dealt = permute_labels(faces, 3)
    assert set(dealt.index.groupby("clip")["emotion"].nunique()) == {1}
    assert (
        dealt.index["emotion"].value_counts().to_dict()
        == faces.index["emotion"].value_counts().to_dict()
    )
    assert np.mean(dealt.number_labels() != faces.number_labels()) > 0.5
    assert dealt.index.drop(columns="emotion").equals(faces.index.drop(columns="emotion"))


def test_permuted_labels_follow_names_and_the_seed_not_the_order():
    faces = blobs()
    order = np.random.default_rng(0).permutation(len(faces))
    first, second = permute_labels(faces, 3), permute_labels(faces.select(order), 3)
    assert list(first.index["emotion"].iloc[order]) == list(second.index["emotion"])
    assert list(permute_labels(faces, 4).index["emotion"]) != list(first.index["emotion"])


def taken(faces: Faces, **fields: float) -> Generator:
    """A copycat of `faces`."""
    spec = CopycatSpec.model_validate({"faces": "made-000000000000", **fields})
    return fit_generator(faces, spec, Path(), device="cpu")


def test_copies_are_training_images_moved_by_a_pixel_with_noise():
    faces = blobs()
    labels, numbers = np.repeat([EMOTIONS.index(name) for name in CLASSES[:2]], 100), np.arange(200)
    still = sample_generator(taken(faces, shift=0, noise=0.0), labels, numbers)
    originals = {
        image.tobytes(): emotion
        for image, emotion in zip(faces.images, faces.index["emotion"], strict=True)
    }
    assert [originals[image.tobytes()] for image in still] == [EMOTIONS[label] for label in labels]
    assert (
        20 < len({image.tobytes() for image in still[:100]}) <= 24
    )  # all of 24 images a class, by lot
    noisy = sample_generator(taken(faces, shift=0), labels, numbers)
    assert (noisy.astype(float) - still).std() == pytest.approx(0.05 * 255, rel=0.05)
    moved = sample_generator(taken(faces, noise=0.0), labels, numbers)
    assert (moved[:, :, 1:-1, 1:-1] != still[:, :, 1:-1, 1:-1]).any()
    shifts = [
        np.roll(still[0], (down, right), (1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1)
    ]
    assert any((moved[0][:, 1:-1, 1:-1] == one[:, 1:-1, 1:-1]).all() for one in shifts)


def test_a_database_of_copies_says_whom_it_shows_and_may_not_meet_them_in_a_test(tmp_path: Path):
    store = Store(tmp_path / "store")
    train, test = halves()
    parent = keep(train, store, "train")
    run = train_generator(presets.read_preset("copycat", parent.name), store)
    spec = order_database(run, f"only,{CLASSES[0]}=12", store)
    assert spec.sampler == "direct"
    made = Faces.load(generate_database(spec, store, alias="copies").path)
    assert len(made) == 12 and store.run("copies").find_file("sheet.png").exists()
    splits.require_unseen(made, test, "subject")
    with pytest.raises(LeakageError):
        splits.require_unseen(made, train, "subject")


def test_what_is_not_there_cannot_be_copied():
    with pytest.raises(UsageError, match="not trained on contempt"):
        sample_generator(taken(blobs()), np.array([EMOTIONS.index("contempt")]), np.array([0]))
    with pytest.raises(DataError, match="needs images to copy"):
        taken(blobs().select(np.zeros(len(blobs()), dtype=bool)))


def test_a_gaussian_has_the_mean_and_covariance_of_its_class():
    """4,000 draws of a Gaussian on 8x8 pixels, against the 600 images a class that it was measured
    on.
    """
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 6, (64, 64))
    images = (120 + rng.normal(0, 1, (600, 64)) @ mixing / 4).clip(0, 255).round().astype(np.uint8)
    index = make_index(images, key=[str(n) for n in range(600)], emotion="fear")
    faces = Faces(images.reshape(-1, 1, 8, 8), index)
    generator = fit_generator(faces, GaussianSpec(faces="made-000000000000"), Path(), device="cpu")
    drawn = sample_generator(
        generator, np.full(4000, EMOTIONS.index("fear")), np.arange(4000)
    ).reshape(-1, 64)
    assert np.abs(drawn.mean(axis=0) - images.mean(axis=0)).max() < 1.5
    ours, theirs = np.cov(drawn, rowvar=False), np.cov(images, rowvar=False)
    assert np.abs(ours - theirs).max() < 0.12 * theirs.diagonal().max()


@pytest.mark.parametrize("count", [5, 100])
def test_the_root_of_a_covariance_is_one(count: int):
    """With fewer rows than columns and with more."""
    x = np.random.default_rng(0).normal(size=(count, 20)).astype(np.float32)
    x -= x.mean(axis=0)
    root = gaussian.compute_root(x)
    assert len(root) == min(count, 20)
    assert np.allclose(root.T @ root, np.cov(x, rowvar=False), atol=1e-4)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind, facts in KIND_FACTS.items()
        if kind in presets.PRESETS and not issubclass(facts.spec, SteppedSpec) and not facts.moves
    ],
)
def test_floors_keep_the_contract_of_generators(kind: str, tmp_path: Path):
    store = Store(tmp_path / "store")
    parent = keep(halves()[0], store, "train")
    run = train_generator(presets.read_preset(kind, parent.name), store, alias="floor")
    assert kind in run.read_json("summary.json")["holds"].lower()
    assert run.find_file("sheet.png").exists()
    generator = load_generator(run)
    labels = np.array([EMOTIONS.index(name) for name in CLASSES[:2]])
    images = sample_generator(generator, labels, np.array([4, 5]))
    assert images.shape == (2, *generator.size) and images.dtype == np.uint8
    assert (
        sample_generator(generator, labels[1:], np.array([5])) == images[1:]
    ).all()  # alone as in company
    assert (sample_generator(generator, labels, np.array([4, 6]))[1] != images[1]).any()
    assert sample_generator(generator, labels[:0], np.arange(0)).shape == (0, *generator.size)
    assert set(generator.seen["subject"]) == set(halves()[0].subjects)
    with pytest.raises(UsageError, match="omit --sampler"):
        order_database(run, "balanced:4", store, sampler="heun")
    with pytest.raises(SpecError, match="steps and guidance do not apply"):
        order_database(run, "balanced:4", store, steps=3)
    with pytest.raises(UsageError, match="trained in steps"):
        calibrate(presets.read_preset(kind, parent.name), 1.0, store)


# What every control keeps

each_control = pytest.mark.parametrize("name", CONTROLS)


@pytest.fixture(scope="module")
def blob_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("controls") / "store")
    keep(blobs(), store, "blobs")
    keep(replace(blobs(), channels=("onset-difference",)), store, "moving-blobs")
    coded = blobs().index.assign(action_units="6+12")
    keep(replace(blobs(), index=coded), store, "coded-blobs")
    return store


def find_suitable_faces(control: str) -> str:
    """Return the faces of a study with this control: a control of movement needs movement."""
    if CONTROLS[control].ceiling:
        return "coded-blobs"
    return "moving-blobs" if CONTROLS[control].motion else "blobs"


def test_controls_have_words_of_their_own():
    assert len({control.label for control in CONTROLS.values()}) == len(CONTROLS)
    for control in CONTROLS.values():
        assert control.label and len(control.shows.split()) > 4 and control.needs
        assert not control.shows.endswith(".")
    assert not set(SOURCES) & {*TRAINING_SETS, "real"}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_takes_the_place_of_synthetic_images_in_each_training_set(name: str):
    for faces, sources in TRAINING_SETS.items():
        expected = tuple(name if source == SYNTHETIC else source for source in sources)
        assert SOURCES_OF[name_under_control(name, faces)] == expected


@each_control
def test_a_control_adds_trainings_or_tests_to_just_the_settings_that_it_applies_to(
    name: str, blob_store: Store
):
    for setting in SETTINGS:
        if not CONTROLS[name].applies_to(setting):
            with pytest.raises(ValidationError, match=CONTROLS[name].needs):
                table(settings=[setting], controls=[name])
            continue
        faces = find_suitable_faces(name)
        study = resolve(table(faces=faces, settings=[setting], controls=[name]), blob_store)
        plain = list_trial_kinds(study.model_copy(update={"controls": ()}))
        kinds = list_trial_kinds(study)
        assert [kind for kind in kinds if kind not in plain]
        assert {kind.control for kind in kinds} <= {"", name}
        assert all(kind.arm.train in SOURCES_OF for kind in kinds)

        # The cells keep their own tests, and are tested on nothing else but the control's images
        cells = [kind for kind in kinds if not kind.control]
        for cell, before in zip(cells, plain, strict=True):
            assert cell.arm == before.arm
            assert cell.tests[: len(before.tests)] == before.tests
            assert set(cell.tests) - set(before.tests) <= {name}


@each_control
def test_a_study_with_one_control_is_planned_recorded_and_selected(name: str, blob_store: Store):
    fields = {"faces": find_suitable_faces(name), "settings": [*SETTINGS], "counts": "like"}
    study = resolve(table(**fields, controls=[name]), blob_store)
    plan = plan_study(study, blob_store)
    controls = select_rows(plan.rows, parse_only([f"control={name}"], study))
    assert controls and {row.control for row in controls} == {name}

    # Each trial waits for its databases, and the record names each of these
    jobs = {job.run: job for job in list_study_jobs(plan, plan.rows, blob_store, "cpu", 1)}
    record = make_record(plan)
    recorded = {run for database in record.databases for run in database.runs}
    for row in plan.rows:
        assert {*SOURCES_OF[row.spec.train], *row.spec.tests} - {"real"} == {*row.spec.databases}
        assert set(jobs[row.spec.name].after) == {*row.spec.databases.values()} <= recorded
        assert set(jobs[row.spec.name].after) <= set(jobs)
    assert type(record).model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_has_as_many_images_as_the_generator_makes_from_the_same_people(
    name: str, blob_store: Store
):
    fields = {"settings": ["both_to_real"], "counts": "only,fear=3,surprise=4"}
    for database in list_databases(
        resolve(table(controls=[name], **fields), blob_store), blob_store
    ):
        made = database.by_source
        assert set(made) == {SYNTHETIC, name}
        assert made[name].generate.counts == database.generate.counts
        assert made[name].train.faces == database.train.faces
        assert made[name].split == database.split and made[name].fold == database.fold


def test_trials_without_other_sources_have_the_specs_that_they_always_had(blob_store: Store):
    study = resolve(table(settings=["both_to_real"], controls=["copycat"]), blob_store)
    rows = plan_study(study, blob_store).rows
    for row in rows:
        stored = row.spec.model_dump(mode="json")
        assert "others" not in stored and TrialSpec.model_validate(stored) == row.spec
    spec = rows[0].spec.model_copy(update={"others": {"mixup": "generate-0123456789ab"}})
    assert spec.databases["mixup"] == "generate-0123456789ab"
    assert TrialSpec.model_validate(spec.model_dump(mode="json")).name == spec.name
    assert spec.name != rows[0].spec.name
