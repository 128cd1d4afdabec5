"""Studies: what they consist of, that they go on, that failures are rows, and that nothing leaks."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from test_classifiers import CLASSES, blobs

from mien import generators, metrics, splits, study
from mien.errors import LeakageError, SpecError, StoreError, TrialsFailed
from mien.faces import Faces
from mien.seeds import seed
from mien.spec import Spec
from mien.store import Run, Store

FOUR = ["real_to_real", "synthetic_to_synthetic", "real_to_synthetic", "synthetic_to_real"]
SMALL = {"name": "tiny", "size": 16, "epochs": 3, "batch": 16, "mirror": False}
NET = {"width": 8, "multipliers": [1], "blocks": 1, "patch": 2, "attention": []}


class MadeSpec(Spec):
    stage: ClassVar[str] = "made"
    what: str


def keep(faces: Faces, store: Store, alias: str) -> Run:
    """Put faces into the store under an alias."""
    return store.make(MadeSpec(what=f"{alias} {len(faces)}"), lambda out, scratch: faces.save(out), alias)


def table(**changes: Any) -> study.Study:
    """A study of blobs that takes a second or two."""
    common = {
        "name": "small",
        "faces": "blobs",
        "protocol": "subject",
        "folds": 2,
        "trials": 2,
        "settings": ["real_to_real"],
        "classifiers": ["tiny"],
        "classifier": {key: value for key, value in SMALL.items() if key != "name"},
        "generator": {"preset": "smoke", "images_seen": 64, "batch": 16, "net": NET},
        "generate": {"steps": 2},
    }
    return study.Study.model_validate({**common, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    home = Store(tmp_path / "store")
    keep(blobs(), home, "blobs")
    return home


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, study.StudySpec]:
    """A finished study of all settings, by subject."""
    home = Store(tmp_path_factory.mktemp("whole") / "store")
    keep(blobs(), home, "blobs")
    spec = study.resolve(table(settings=[*FOUR, "both_to_real"]), home)
    study.run(spec, home, device="cpu")
    return home, spec


# What a study consists of


def test_settings_with_one_training_set_share_a_trial(whole: tuple[Store, study.StudySpec]):
    store, spec = whole
    trials = study.trials(spec, store)
    assert len(trials) == 3 * 2 * 2  # real, synthetic, both; two trials; two folds
    assert {trial.train: set(trial.tests) for trial in trials} == {
        "real": {"real", "synthetic"},
        "synthetic": {"synthetic", "real"},
        "both": {"real"},
    }
    assert len({trial.name for trial in trials}) == len(trials)
    assert trials == study.trials(spec, store)


def test_the_preprints_180_cells_cost_90_trainings(store: Store):
    names = ["tiny", "second", "third"]
    tables = {name: {"name": "tiny"} for name in names[1:]} | {"size": 16}
    spec = study.resolve(
        table(protocol="frame", folds=5, trials=5, settings=FOUR, classifiers=names, classifier=tables), store
    )
    assert 3 * len(study.trials(spec, store)) == 90  # three ablations
    assert len(study.databases(spec, store)) == 1


def test_each_fold_has_a_generator_of_its_own_trained_on_its_training_side(whole: tuple[Store, study.StudySpec]):
    store, spec = whole
    made = study.databases(spec, store)
    assert len({one.train.name for one in made}) == 2
    real = Faces.load(store.run(spec.faces).path)
    for one in made:
        synthetic = Faces.load(store.run(one.generate.name).path)
        assert synthetic.seen is not None
        test = real.select(splits.split(real, "subject", 2, one.fold, spec.seed).test)
        assert not set(synthetic.seen["subject"]) & set(test.subjects)
        assert synthetic.index["emotion"].value_counts().to_dict() == one.generate.counts
        assert sum(one.generate.counts.values()) == len(real) - len(test)  # counts = like


def test_by_frame_one_generator_sees_everything(store: Store):
    spec = study.resolve(table(protocol="frame", folds=5, settings=FOUR), store)
    (one,) = study.databases(spec, store)
    assert (one.split, one.train.faces) == (None, spec.faces)
    sides = [study.sides(trial, store)[1]["real"] for trial in study.trials(frames(spec), store)]
    assert [len(side) for side in sides] == [20, 20]  # of 96
    assert set(sides[0].index["key"]) != set(sides[1].index["key"])  # each trial has a split of its own


def frames(spec: study.StudySpec) -> study.StudySpec:
    return spec.model_copy(update={"settings": ("real_to_real",)})


def test_real_trials_do_not_depend_on_the_generator_unless_they_test_on_its_faces(store: Store):
    alone = study.trials(study.resolve(table(), store), store)
    beside = study.trials(study.resolve(table(settings=["real_to_real", "both_to_real"]), store), store)
    assert {trial.name for trial in alone} < {trial.name for trial in beside}


def test_counts_follow_the_study(store: Store):
    for text, expected in (("balanced:10", 10), ("fear=3,surprise=2", 5), ("like", 48)):
        spec = study.resolve(table(settings=FOUR, counts=text), store)
        assert [sum(one.generate.counts.values()) for one in study.databases(spec, store)] == [expected] * 2


def test_a_class_that_a_training_side_lacks_is_not_generated_there(store: Store):
    faces = blobs()
    rare = (faces.index["emotion"] != "fear") | (faces.index["subject"] == "blobs:s0")
    keep(faces.select(rare.to_numpy()), store, "rare")
    spec = study.resolve(table(faces="rare", settings=FOUR, counts="fear=5,sadness=5"), store)
    assert sorted(len(one.generate.counts) for one in study.databases(spec, store)) == [1, 2]


def test_the_digests_of_study_and_trial_are_golden(store: Store):
    spec = study.resolve(table(), store)
    assert spec.name == study.resolve(table(), store).name
    assert study.trials(spec, store)[0].seed == seed("study", 0, "trial", 0, "fold", 0)
    assert [spec.stage, study.trials(spec, store)[0].stage] == ["study", "trial"]


# Reading


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = """
name = "small"
faces = "blobs"
protocol = "subject"
folds = 2
settings = ["real_to_real"]
classifiers = ["tiny", "large"]

[classifier]
epochs = 2

[classifier.large]
name = "tiny"
size = 32
"""


def test_a_study_is_read_with_its_own_and_common_settings(tmp_path: Path, store: Store):
    spec = study.read(write(tmp_path, GOOD), store)
    assert spec.faces == store.resolve("blobs")
    assert (spec.classifiers["tiny"].size, spec.classifiers["large"].size) == (48, 32)
    assert {one.epochs for one in spec.classifiers.values()} == {2}
    assert (spec.classes, spec.tested_folds) == (CLASSES, (0, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('faces = "blobs"', 'faces = "blobs"\nclasifiers = 1', "Did you mean 'classifiers'"),
        ("epochs = 2", "epoch = 2", "Did you mean 'epochs'"),
        ("real_to_real", "real_to_reel", "study.toml: settings.0"),
        ("[classifier.large]", "[classifier.lage]", "Did you mean 'large'"),
        ('protocol = "subject"', 'protocol = "frame"\nonly_folds = [0]', "must stay away by frame"),
        ("folds = 2", "folds = 2\nonly_folds = [2]", "within 0 to 1"),
        ('"tiny", "large"', '"tiny", "tiny"', "name each one once"),
        ('["real_to_real"]', '["both_to_real"]\ncounts = "anything"', "counts must be"),
        ('["real_to_real"]', '["both_to_real"]\ncounts = "anger=5"', "never saw anger"),
        ('["real_to_real"]', '["both_to_real"]\ncounts = "like:blobs"', "must be 'like' in a study"),
        ("[classifier]", "[generator]\npresett = 1\n[classifier]", "no field 'presett'"),
        ("[classifier]", '[generator]\npreset = "defalt"\n[classifier]', "Did you mean 'default'"),
        ('name = "small"', 'name = "blobs"', "'blobs' names made-"),
    ],
)
def test_what_does_not_hold_is_refused(tmp_path: Path, store: Store, old: str, new: str, message: str):
    with pytest.raises(SpecError, match=message):
        study.read(write(tmp_path, GOOD.replace(old, new, 1)), store)


def test_faces_that_are_not_there_are_named(tmp_path: Path, store: Store):
    with pytest.raises(StoreError, match="Did you mean 'blobs'"):
        study.read(write(tmp_path, GOOD.replace('faces = "blobs"', 'faces = "blob"')), store)


def test_a_weights_file_goes_into_the_digest_by_its_content(tmp_path: Path, store: Store):
    (tmp_path / "some.safetensors").write_bytes(b"weights")
    path = write(tmp_path, GOOD.replace("epochs = 2", 'epochs = 2\nweights = "some.safetensors"'))
    first = study.read(path, store)
    assert first.classifiers["tiny"].weights.startswith("file:")
    (tmp_path / "some.safetensors").rename(tmp_path / "other.safetensors")
    path.write_text(path.read_text().replace("some.safetensors", "other.safetensors"))
    assert study.read(path, store).name == first.name


def test_smoke_study_is_read_for_faces_called_drawn(store: Store):
    keep(blobs(24, size=48), store, "faces")
    spec = study.read(Path(__file__).parent.parent / "studies" / "smoke.toml", store)
    assert (spec.protocol, len(spec.settings), list(spec.classifiers)) == ("subject", 5, ["tiny"])


# Running


def test_records_equal_what_the_predictions_give(whole: tuple[Store, study.StudySpec]):
    store, spec = whole
    for trial in study.trials(spec, store):
        run = store.run(trial.name)
        predictions = pd.read_parquet(run.file("predictions.parquet"))
        records = {record["metric"]: record for record in run.json("records.json")}
        assert len(records) == sum(3 if test == "synthetic" else 6 for test in trial.tests)
        for test in trial.tests:
            part = predictions.loc[predictions["test"] == test]
            scores = metrics.score_table(part, CLASSES)
            assert scores is not None
            assert records[f"{test}/images/accuracy"]["value"] == (part["true"] == part["predicted"]).mean()
            assert records[f"{test}/images/uf1"]["value"] == scores.uf1
            assert records[f"{test}/images/uf1"]["n"] == len(part)
        if "real" in trial.tests:
            assert records["real/clips/uar"]["n"] == 12


def test_every_real_image_is_tested_once_over_the_folds(whole: tuple[Store, study.StudySpec]):
    store, spec = whole
    real = Faces.load(store.run(spec.faces).path)
    for train in ("real", "synthetic", "both"):
        runs = [store.run(t.name) for t in study.trials(spec, store) if (t.train, t.trial) == (train, 0)]
        tables = [pd.read_parquet(run.file("predictions.parquet")) for run in runs]
        keys = [key for one in tables for key in one.loc[one["test"] == "real", "key"]]
        assert sorted(keys) == sorted(real.index["key"])


def test_synthetic_images_train_or_test_but_not_both(whole: tuple[Store, study.StudySpec]):
    store, spec = whole
    trial = next(trial for trial in study.trials(spec, store) if trial.train == "synthetic")
    train, tests = study.sides(trial, store)
    assert not set(train.index["key"]) & set(tests["synthetic"].index["key"])
    assert len(tests["synthetic"]) / (len(train) + len(tests["synthetic"])) == pytest.approx(0.2, abs=0.02)


def test_what_is_done_is_not_done_again_and_what_was_deleted_comes_out_the_same(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(blobs(), store, "blobs")
    spec = study.resolve(table(), store)
    study.run(spec, store, device="cpu")
    names = [trial.name for trial in study.trials(spec, store)]
    before = {name: store.run(name).content for name in names}
    made = {name: (store.root / "runs" / name / "manifest.json").stat().st_mtime_ns for name in names}
    for name in names[1:3]:
        shutil.rmtree(store.root / "runs" / name)
    assert len(study.plan(spec, store).done) == 2
    study.run(spec, store, device="cpu")
    assert {name: store.run(name).content for name in names} == before
    again = {name: (store.root / "runs" / name / "manifest.json").stat().st_mtime_ns for name in names}
    assert [name for name in names if again[name] != made[name]] == names[1:3]


def failing(**changes: Any) -> study.Study:
    """A study whose second classifier diverges."""
    common = {key: value for key, value in SMALL.items() if key != "name"}
    wild = {"name": "tiny", "optimiser": "sgd", "learning_rate": 1e18}
    return table(classifiers=["wild", "tiny"], classifier={**common, "wild": wild}, trials=1, **changes)


def test_a_failed_trial_is_a_row_and_the_others_go_on(store: Store, capfd: pytest.CaptureFixture[str]):
    spec = study.resolve(failing(), store)
    with pytest.raises(TrialsFailed, match="2 of 4 trials of small failed") as caught:
        study.run(spec, store, device="cpu")
    assert caught.value.exit_code == 5
    found = study.plan(spec, store)
    assert len(found.done) == len(found.failed) == 2
    assert all("must stay finite" in text for text in found.failed.values())
    assert "failed: the loss of tiny must stay finite" in capfd.readouterr().err
    assert "2 failed" in study.describe(found)


def test_a_failure_is_forgotten_once_the_trial_is_made(store: Store):
    spec = study.resolve(table(trials=1), store)
    name = study.trials(spec, store)[0].name
    study.note_failure(store, name, ValueError("out of luck\nand more"))
    assert study.failure(store, name) == "ValueError: out of luck"
    study.run(spec, store, device="cpu")
    assert study.failure(store, name) == ""


def test_where_the_generator_fails_its_trials_fail_and_real_ones_go_on(store: Store):
    spec = study.resolve(table(trials=1, settings=["real_to_real", "both_to_real"], generator=BROKEN), store)
    with pytest.raises(TrialsFailed, match="2 of 4 trials"):
        study.run(spec, store, device="cpu")
    found = study.plan(spec, store)
    assert {row.spec.train for row in found.rows if row.spec.name in found.done} == {"real"}
    texts = [found.failed[row.spec.name] for row in found.rows if row.spec.train == "both"]
    assert len(texts) == 2 and all(text.startswith(study.NOT_BEGUN) and "multiples of" in text for text in texts)


BROKEN = {"preset": "smoke", "images_seen": 64, "net": {"multipliers": [1, 1, 1, 1, 1, 1], "patch": 2, "attention": []}}


def test_an_interrupt_is_not_a_failed_trial(store: Store, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    spec = study.resolve(table(), store)
    monkeypatch.setattr(study, "run_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run(spec, store, device="cpu")
    assert not study.plan(spec, store).failed


# Leaks


def test_a_database_whose_generator_saw_the_test_people_is_refused(whole: tuple[Store, study.StudySpec]):
    store, spec = whole
    one, other = study.databases(spec, store)
    for train in ("synthetic", "both"):
        trial = next(t for t in study.trials(spec, store) if t.train == train and t.synthetic == one.generate.name)
        study.sides(trial, store)  # its own fold's database is right
        wrong = trial.model_copy(update={"synthetic": other.generate.name})
        with pytest.raises(LeakageError, match="no subject that training has seen"):
            study.run_trial(wrong, store, "cpu")
        assert not store.done(wrong.name)


def test_by_frame_the_same_database_is_let_through(whole: tuple[Store, study.StudySpec]):
    store, spec = whole
    trial = next(trial for trial in study.trials(spec, store) if trial.train == "synthetic")
    study.sides(trial.model_copy(update={"by": "frame"}), store)


def test_by_clip_no_test_clip_is_seen(store: Store):
    spec = study.resolve(table(protocol="clip"), store)
    for trial in study.trials(spec, store):
        train, tests = study.sides(trial, store)
        assert not set(train.index["clip"]) & set(tests["real"].index["clip"])
        assert set(train.subjects) & set(tests["real"].subjects)


# The list of trials


def test_the_studys_run_lists_its_trials_under_its_name(whole: tuple[Store, study.StudySpec]):
    store, spec = whole
    run = store.run("small")
    assert run.name == spec.name
    listed = json.loads((run.path / "plan.json").read_text())
    assert [row["run"] for row in listed["trials"]] == [trial.name for trial in study.trials(spec, store)]
    assert len(listed["databases"]) == 2
    assert np.all([store.done(row["run"]) for row in listed["trials"]])
    assert generators.PRESETS  # the study's generator came from one of these
    assert "12 done" in study.describe(study.plan(spec, store))
