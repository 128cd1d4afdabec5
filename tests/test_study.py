"""Studies: what they consist of, that they go on, that failures are rows, and that nothing
leaks.
"""

import json
import multiprocessing
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file
from worlds import (
    CLASSES,
    FOUR_SETTINGS,
    ONE_PASS,
    SMALL_FIELDS,
    blobs,
    failing,
    guess,
    keep,
    plan_trials,
    table,
)

from mien import metrics
from mien.classifiers import pretrained
from mien.classifiers.networks import Tiny
from mien.classifiers.specs import ClassifierSpec, select_networks
from mien.errors import (
    DataError,
    LeakageError,
    SpecError,
    StoreError,
    TrialsFailed,
    UsageError,
    WeightsError,
)
from mien.faces import EMOTIONS, Faces
from mien.generators.diffusion import fit
from mien.generators.one_pass import fit as one_pass_fit
from mien.generators.specs import OnePassSpec
from mien.generators.train import calibrate
from mien.prepare import splits
from mien.report.programs import list_csv_rows
from mien.report.write import write_report
from mien.runs.jobs import NOT_BEGUN_PREFIX, note_failure, read_failure
from mien.runs.progress import format_roughly
from mien.runs.spec import read_toml
from mien.runs.store import RunSummary, Store
from mien.seeds import derive_seed
from mien.study import cost, trials
from mien.study.databases import list_databases
from mien.study.fields import find_study, list_studies
from mien.study.file import find_recorded_run, read_study, resolve
from mien.study.plan import (
    describe_frozen_layers,
    describe_plan,
    list_frozen_shares,
    plan_study,
    write_study,
)
from mien.study.plan_file import read_record
from mien.study.predictions import RECORDS_FILE, score_predictions
from mien.study.results import StudyResults
from mien.study.run import run_study
from mien.study.select import explain_generators, parse_only, select_rows
from mien.study.specs import StudySpec, TrialRow
from mien.study.status import describe_progress, read_progress

STUDIES = Path(__file__).parent.parent / "mien" / "study" / "shipped"
PREPRINT = ("disgust", "fear", "happiness", "others", "repression", "sadness", "surprise")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    home = Store(tmp_path / "store")
    keep(blobs(), home, "blobs")
    return home


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, StudySpec]:
    """A finished study of all settings, by subject."""
    home = Store(tmp_path_factory.mktemp("whole") / "store")
    keep(blobs(), home, "blobs")
    spec = resolve(table(settings=[*FOUR_SETTINGS, "both_to_real"]), home)
    run_study(spec, home, device="cpu")
    return home, spec


@pytest.fixture(scope="module")
def controlled(
    whole: tuple[Store, StudySpec], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, StudySpec]:
    """A finished study of all settings by subject, with all controls; it has the trials of `whole`
    and trains only what the controls need.
    """
    home = Store(tmp_path_factory.mktemp("controlled") / "store")
    shutil.copytree(whole[0].root, home.root)
    names = ["majority", "nearest", "permuted", "copycat"]
    spec = resolve(table(settings=[*FOUR_SETTINGS, "both_to_real"], controls=names), home)
    run_study(spec, home, device="cpu")
    return home, spec


# What a study consists of


def test_settings_with_one_training_set_share_a_trial(whole: tuple[Store, StudySpec]):
    store, spec = whole
    planned = plan_trials(spec, store)
    assert len(planned) == 3 * 2 * 2  # real, synthetic, both; two trials; two folds
    assert {trial.train: set(trial.tests) for trial in planned} == {
        "real": {"real", "synthetic"},
        "synthetic": {"synthetic", "real"},
        "both": {"real"},
    }
    assert len({trial.name for trial in planned}) == len(planned)
    assert planned == plan_trials(spec, store)


def test_the_preprints_180_results_cost_90_trainings(store: Store):
    faces = blobs(14 * 7)
    seven = faces.index.assign(emotion=[PREPRINT[place % 7] for place in range(len(faces))])
    keep(Faces(faces.images, seven), store, "frames")
    spec = read_study(STUDIES / "preprint.toml", store)
    found = plan_study(spec, store)
    assert len(found.rows) == len({row.spec.name for row in found.rows}) == 90
    text = describe_plan(found)
    assert (
        "180 test results (4 settings x 3 classifiers x 3 ablations x 5 trials), by frame" in text
    )
    assert "90 trainings of classifiers" in text
    assert sum(found.databases[0].generate.counts.values()) == 15464
    assert all(
        len({row.spec.split_seed for row in found.rows if row.trial == trial}) == 1
        for trial in range(5)
    )


def test_each_fold_has_a_generator_of_its_own_trained_on_its_training_side(
    whole: tuple[Store, StudySpec],
):
    store, spec = whole
    made = list_databases(spec, store)
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
    spec = resolve(table(protocol="frame", folds=5, settings=FOUR_SETTINGS), store)
    (one,) = list_databases(spec, store)
    assert (one.split, one.train.faces) == (None, spec.faces)
    sides = [
        trials.load_train_and_tests(trial, store)[1]["real"]
        for trial in plan_trials(frames(spec), store)
    ]
    assert [len(side) for side in sides] == [20, 20]  # of 96
    assert set(sides[0].index["key"]) != set(
        sides[1].index["key"]
    )  # each trial has a split of its own


def frames(spec: StudySpec) -> StudySpec:
    return spec.model_copy(update={"settings": ("real_to_real",)})


def test_real_trials_do_not_depend_on_the_generator_unless_they_test_on_its_faces(store: Store):
    alone = plan_trials(resolve(table(), store), store)
    beside = plan_trials(resolve(table(settings=["real_to_real", "both_to_real"]), store), store)
    assert {trial.name for trial in alone} < {trial.name for trial in beside}


def test_counts_follow_the_study(store: Store):
    for text, expected in (
        ("balanced:10", 10),
        ("only,fear=3,surprise=2", 5),
        ("like", 48),
        ("like,fear=2", 38),
        ("like*2", 96),
        ("like*0.25,fear=2", 11),
    ):
        spec = resolve(table(settings=FOUR_SETTINGS, counts=text), store)
        assert [sum(one.generate.counts.values()) for one in list_databases(spec, store)] == [
            expected
        ] * 2


def test_a_class_that_a_training_side_lacks_is_not_generated_there(store: Store):
    faces = blobs()
    rare = (faces.index["emotion"] != "fear") | (faces.index["subject"] == "blobs:s0")
    keep(faces.select(rare.to_numpy()), store, "rare")
    spec = resolve(
        table(faces="rare", settings=FOUR_SETTINGS, counts="only,fear=5,sadness=5"), store
    )
    assert sorted(len(one.generate.counts) for one in list_databases(spec, store)) == [1, 2]


def test_the_digests_of_study_and_trial_are_golden(store: Store):
    spec = resolve(table(), store)
    assert spec.name == resolve(table(), store).name
    assert plan_trials(spec, store)[0].seed == derive_seed("study", 0, "trial", 0, "fold", 0)
    assert [spec.stage, plan_trials(spec, store)[0].stage] == ["study", "trial"]


# Ablations


def test_ablations_change_the_classifier_and_share_splits_and_databases(store: Store):
    names = ["plain", "augment", "freeze30", "slow"]
    spec = resolve(
        table(ablations=names, ablation={"slow": {"epochs": 9}}, settings=FOUR_SETTINGS, trials=1),
        store,
    )
    one = select_networks(spec.classifiers["tiny"])
    assert [one[name].freeze for name in names] == [0, 0, 0.3, 0]
    assert [one[name].epochs for name in names] == [3, 3, 3, 9]
    assert one["plain"].augment is None and one["augment"].augment is not None
    found = plan_study(spec, store)
    assert len(found.rows) == 4 * 2 * 2  # ablations, training sets, folds
    assert len({(row.spec.split_seed, row.spec.seed) for row in found.rows if row.fold == 0}) == 1
    assert len(found.databases) == 2


def test_weighted_is_an_ablation_and_a_field_that_is_omitted_where_it_is_false(store: Store):
    spec = resolve(table(ablations=["plain", "weighted"]), store)
    dumped = spec.model_dump()["classifiers"]["tiny"]
    assert "class_weights" not in dumped["plain"] and dumped["weighted"]["class_weights"] is True
    common = resolve(table(classifier={"class_weights": True, "size": 16, "epochs": 3}), store)
    assert select_networks(common.classifiers["tiny"])["plain"].class_weights
    own = resolve(table(ablations=["w"], ablation={"w": {"class_weights": True}}), store)
    assert select_networks(own.classifiers["tiny"])["w"].class_weights


def test_what_an_ablation_freezes_is_said(store: Store):
    plan = plan_study(resolve(table(ablations=["plain", "freeze30"]), store), store)
    (one,) = list_frozen_shares(plan)
    assert (one.classifier, one.ablation) == ("tiny", "freeze30")
    assert describe_frozen_layers(plan) == f"  tiny, freeze30: frozen are {one.text}"
    assert "1 of 4 layers" in one.text


# Classes


def test_a_class_set_folds_emotions_before_anything_is_split_or_trained(store: Store):
    faces = blobs()
    named = {"disgust": "disgust", "fear": "fear", "happiness": "happiness", "surprise": "surprise"}
    assert set(faces.classes) <= {*named, "anger", "sadness", "neutral"}
    emotions = dict(zip(faces.classes, ("disgust", "repression", "surprise", "fear"), strict=True))
    index = faces.index.assign(emotion=[emotions[name] for name in faces.index["emotion"]])
    keep(Faces(faces.images, index), store, "micro")
    spec = resolve(table(faces="micro", class_set="megc2019-3", settings=FOUR_SETTINGS), store)
    assert spec.classes == ("negative", "surprise")
    folded = Faces.load(store.run(spec.faces).path)
    assert (len(folded), folded.index["emotion"].eq("negative").sum()) == (72, 48)
    assert all(
        set(one.generate.counts) == {"negative", "surprise"} for one in list_databases(spec, store)
    )


# Controls


def test_controls_are_trials_of_the_same_splits_and_tests(controlled: tuple[Store, StudySpec]):
    store, spec = controlled
    rows = plan_study(spec, store).rows
    count = {(row.control, row.classifier, row.spec.train) for row in rows}
    assert count == {
        *(("", "tiny", train) for train in ("real", "synthetic", "both")),
        *(
            (name, name, train)
            for name in ("majority", "nearest")
            for train in ("real", "synthetic", "both")
        ),
        ("permuted", "nearest", "real"),
        ("permuted", "tiny", "real"),
        *(
            ("copycat", name, train)
            for name in ("nearest", "tiny")
            for train in ("copycat", "both_copycat")
        ),
    }
    tests = {(row.control, row.spec.train): row.spec.tests for row in rows}
    assert tests["", "real"] == ("real", "synthetic", "copycat")
    assert tests["copycat", "copycat"] == ("copycat", "real")
    assert tests["copycat", "both_copycat"] == tests["permuted", "real"] == ("real",)


def test_a_control_without_randomness_is_one_run_for_all_trials(
    controlled: tuple[Store, StudySpec],
):
    rows = plan_study(controlled[1], controlled[0]).rows
    for control, runs in (
        ("nearest", 1),
        ("majority", 1),
        ("permuted", 2),
        ("copycat", 2),
        ("", 2),
    ):
        some = [row for row in rows if row.control == control and row.fold == 0]
        if control == "copycat":  # its nearest neighbour draws no lots either
            assert len({row.spec.name for row in some if row.classifier == "nearest"}) == 2
            some = [row for row in some if row.classifier == "tiny"]
        kinds = {(row.classifier, row.spec.train) for row in some}
        assert len({row.spec.name for row in some}) == runs * len(kinds)


def test_the_copycat_of_a_fold_copies_its_training_side_alone(controlled: tuple[Store, StudySpec]):
    store, spec = controlled
    for one in list_databases(spec, store):
        assert one.split is not None
        copied = Faces.load(store.run(one.controls["copycat"].generate.name).path)
        side = Faces.load(store.run(one.split.name).path)
        assert copied.seen is not None and set(copied.seen["key"]) == set(side.index["key"])
        assert copied.index["emotion"].value_counts().to_dict() == one.generate.counts


def test_permuted_labels_leave_no_signal_for_unseen_people(controlled: tuple[Store, StudySpec]):
    store, spec = controlled
    accuracy: dict[str, list[float]] = {}
    for row in plan_study(spec, store).rows:
        if row.spec.train == "real" and row.classifier == "nearest":
            records = store.run(row.spec.name).read_json("records.json")
            value = next(
                record["value"] for record in records if record["metric"] == "real/images/accuracy"
            )
            accuracy.setdefault(row.control, []).append(value)
    assert np.mean(accuracy["nearest"]) > 0.8
    assert np.mean(accuracy["permuted"]) < 0.5


def test_predictions_name_the_subject_of_real_test_images(controlled: tuple[Store, StudySpec]):
    store, spec = controlled
    for row in plan_study(spec, store).rows:
        table = pd.read_parquet(store.run(row.spec.name).find_file("predictions.parquet"))
        assert [subject != "" for subject in table["subject"]] == [
            test == "real" for test in table["test"]
        ]


# Leaving subjects out


def test_folds_by_subjects_leave_one_out_at_a_time(store: Store):
    spec = resolve(table(folds="subjects"), store)
    assert (spec.folds, spec.tested_folds) == (6, (0, 1, 2, 3, 4, 5))
    tested = [
        trials.load_train_and_tests(row.spec, store)[1]["real"].subjects
        for row in plan_study(spec, store).rows[::2]
    ]
    assert tested == [(f"blobs:s{number}",) for number in range(6)]


# A part of a study


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (
            ["setting=real_to_real"],
            2 * 2 * (1 + 2 + 2),
        ),  # with its controls: majority, nearest, permuted twice
        (["setting=both_to_real,control=none"], 2 * 2),
        (["setting=both_to_real", "control=copycat"], 2 * 2 * 2),
        (["control=nearest,fold=1,trial=2"], 3),
        (["trial=1", "trial=2"], 2 * 2 * 15),
        (["classifier=tiny,ablation=plain,setting=synthetic_to_real"], 2 * 2 * 2),
    ],
)
def test_only_chooses_by_axis(controlled: tuple[Store, StudySpec], text: list[str], count: int):
    store, spec = controlled
    assert len(select_rows(plan_study(spec, store).rows, parse_only(text, spec))) == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("setting", "must be like setting="),
        ("settings=real_to_real", "Did you mean 'setting'"),
        ("classifier=tony", "the study has tiny, majority, nearest. Did you mean 'tiny'"),
        ("trial=3", "the study has 1, 2"),
        ("setting=both", "Did you mean 'both_to_real'"),
        ("control=", "the study has none, majority"),
    ],
)
def test_only_refuses_what_the_study_does_not_have(
    controlled: tuple[Store, StudySpec], text: str, message: str
):
    with pytest.raises(UsageError, match=message):
        parse_only([text], controlled[1])


@pytest.mark.parametrize("text", ["fold=-1", "trial=0"])
def test_a_number_that_is_not_there_gets_no_hint(controlled: tuple[Store, StudySpec], text: str):
    with pytest.raises(UsageError) as caught:
        parse_only([text], controlled[1])
    assert str(caught.value).startswith(f"--only {text}: the study has ") and "mean" not in str(
        caught.value
    )


def test_what_leaves_no_trial_is_refused_with_what_there_is(controlled: tuple[Store, StudySpec]):
    store, spec = controlled
    wanted = parse_only(["setting=real_to_real,control=copycat"], spec)
    with pytest.raises(UsageError, match="selects no trial") as caught:
        select_rows(plan_study(spec, store).rows, wanted)
    assert (
        "with setting=real_to_real there is control=none or majority or nearest or permuted"
        in str(caught.value)
    )
    assert (
        "with control=copycat there is setting=synthetic_to_real or synthetic_to_synthetic or"
        in str(caught.value)
    )
    with pytest.raises(UsageError, match="selects no trial"):
        run_study(spec, store, device="cpu", only=wanted)


def test_a_part_that_needs_generators_for_other_settings_says_why(
    store: Store, capfd: pytest.CaptureFixture[str]
):
    spec = resolve(table(settings=FOUR_SETTINGS, trials=1), store)
    wanted = parse_only(["setting=real_to_real,fold=0"], spec)
    run_study(spec, store, device="cpu", only=wanted)
    assert "those of real_to_real are also tested on synthetic faces" in capfd.readouterr().err
    assert (
        explain_generators(
            plan_study(spec, store).rows, parse_only(["setting=synthetic_to_real"], spec)
        )
        == ""
    )
    alone = resolve(table(settings=["real_to_real", "both_to_real"], trials=1), store)
    rows = select_rows(plan_study(alone, store).rows, wanted)
    assert explain_generators(rows, wanted) == ""


def test_a_part_is_run_alone_with_the_databases_that_it_needs(store: Store):
    spec = resolve(
        table(settings=[*FOUR_SETTINGS, "both_to_real"], controls=["copycat"], trials=1), store
    )
    run_study(spec, store, device="cpu", only=parse_only(["control=copycat,fold=1"], spec))
    found = plan_study(spec, store)
    done = {(row.control, row.fold) for row in found.rows if row.spec.name in found.done}
    assert done == {("copycat", 1)}
    made = [one.generate.name for one in found.databases if one.generate.name in found.done]
    assert made == []  # the copycat needs no generator


# Costs


def test_the_cost_of_a_study_is_the_sum_of_its_trainings(store: Store):
    small = resolve(table(trials=1), store)
    large = resolve(table(trials=1, classifier={**SMALL_FIELDS, "epochs": 30}), store)
    few, many = (
        cost.sum_costs(cost.estimate_costs(found, list(found.rows), store, "cpu")).seconds
        for found in (plan_study(small, store), plan_study(large, store))
    )
    assert 5 * few < many < 10.5 * few  # ten times the epochs, and as much testing
    run_study(small, store, device="cpu")
    done = plan_study(small, store)
    assert cost.estimate_costs(done, list(done.rows), store, "cpu") == []
    assert cost.describe_costs([]) == "nothing is left to do"


def test_a_cost_counts_generators_and_each_network(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fit, "MEASURE_S", 0.2)
    spec = resolve(
        table(settings=[*FOUR_SETTINGS, "both_to_real"], controls=["copycat", "nearest"]), store
    )
    found = plan_study(spec, store)
    for measure in (False, True):
        lines = cost.estimate_costs(found, list(found.rows), store, "cpu", measure)
        assert {line.label: line.runs for line in lines} == {
            "generators and databases": 2,
            "tiny plain": 12,
            "tiny plain, control copycat": 8,
        }
        for one in (line.duration for line in lines):
            assert 0 < one.least <= one.seconds <= one.most and one.timed == measure
            assert measure or (2 * one.least, one.most / 2) == pytest.approx((one.seconds,) * 2)
    assert "half or twice as long" not in cost.describe_costs(lines, "cpu")
    assert (
        cost.estimate_costs(found, list(found.rows), store, "cpu") == lines
    )  # what was measured once is used from then on


@pytest.mark.parametrize("kind", ONE_PASS)
def test_the_cost_of_a_generator_in_one_pass_is_known(
    kind: str, store: Store, monkeypatch: pytest.MonkeyPatch
):
    """By its operations, and measured; a training of given minutes has a length, too."""
    monkeypatch.setattr(one_pass_fit, "SPEED_S", 0.1)
    net = {"width": 8, "multipliers": [1, 2], "latent": 4}
    generator = {"preset": kind, "images_seen": 640, "batch": 8, "net": net}
    wanted = table(settings=["both_to_real"], trials=1, generator=generator, generate={})
    found = plan_study(resolve(wanted, store), store)
    for measure in (False, True):
        lines = cost.estimate_costs(found, list(found.rows), store, "cpu", measure)
        (line,) = [line for line in lines if line.label == "generators and databases"]
        assert line.duration.seconds > 0.01 and line.duration.timed == measure
    here = found.databases[0].train.model_copy(update={"faces": found.study.faces})
    spec = calibrate(here, 0.01, store, device="cpu")
    assert isinstance(spec, OnePassSpec) and spec.images_seen % 8 == 0


@pytest.mark.parametrize("measure", [False, True])
def test_ablations_of_a_network_stand_in_proportion(store: Store, measure: bool):
    small = {"size": 32, "epochs": 2, "batch": 8, "weights": "none"}
    wanted = table(
        classifiers=["resnet18"],
        classifier=small,
        ablations=["plain", "augment", "freeze30"],
        trials=1,
    )
    found = plan_study(resolve(wanted, store), store)
    plain, augment, freeze = (
        one.duration.seconds
        for one in cost.estimate_costs(found, list(found.rows), store, "cpu", measure)
    )
    assert 0.3 * plain < freeze < plain < augment < 1.5 * plain


def test_an_estimate_is_within_the_factor_that_it_names(store: Store):
    small = {"size": 64, "epochs": 1, "batch": 8, "weights": "none"}
    wanted = table(classifiers=["resnet18"], classifier=small, trials=1, only_folds=[0])
    found = plan_study(resolve(wanted, store), store)
    guessed, timed = (
        cost.estimate_costs(found, list(found.rows), store, "cpu", measure)
        for measure in (False, True)
    )
    assert (
        1 / 6 < timed[0].duration.seconds / guessed[0].duration.seconds < 6
    )  # three times as wide: tests share their machine
    text = cost.describe_costs(guessed, "cpu")
    assert "1 run " in text and "between" in text and "--measure" in text


def test_timing_says_what_it_times_and_gives_the_range_of_the_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(fit, "MEASURE_S", 0.2)
    found = plan_study(resolve(table(settings=["both_to_real"], trials=1), store), store)
    lines = cost.estimate_costs(found, list(found.rows), store, "cpu", True)
    told = capfd.readouterr().err
    assert re.search(r"timing tiny \(1 of \d\): .* images of 16 x 16, batch 16", told)
    assert re.search(r"training of a generator \(\d of \d\): edm, width \d+, .* batch \d+", told)
    whole = cost.sum_costs(lines)
    assert whole.timed and 0 < whole.least < whole.seconds < whole.most

    # What was timed is kept: nothing is timed or said again
    assert cost.estimate_costs(found, list(found.rows), store, "cpu", True) == lines
    assert capfd.readouterr().err == ""


def test_a_range_of_times_is_written_with_both_ends():
    measured = cost.Duration.of_batches(9000.0, 7800 / 9000, 1.2)
    assert cost.format_range(measured) == "between 2 h 10 min and 3 h 0 min"
    assert cost.format_range(cost.Duration.of_batches(5.0, 0.99, 1.01)) == "about 5 s"
    assert cost.format_range(cost.Duration.of_estimate(3600.0)) == "between 30 min and 2 h"
    both = measured + cost.Duration.of_estimate(100.0)
    assert (both.least, both.most, both.timed) == (7850.0, 11000.0, False)


def test_times_are_rough_where_they_are_guessed():
    told = {
        0.2: "under 1 s",
        42.4: "42 s",
        130.0: "2 min",
        7e3: "2 h",
        1e5: "28 h",
        1_234_567.0: "14 days",
    }
    assert {seconds: format_roughly(seconds) for seconds in told} == told


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


def network_of(spec: StudySpec, name: str = "tiny", ablation: str = "plain") -> ClassifierSpec:
    return select_networks(spec.classifiers[name])[ablation]


def test_a_study_is_read_with_its_own_and_common_settings(tmp_path: Path, store: Store):
    spec = read_study(write(tmp_path, GOOD), store)
    assert spec.faces == store.resolve("blobs")
    assert (network_of(spec).size, network_of(spec, "large").size) == (48, 32)
    assert (network_of(spec).epochs, network_of(spec, "large").epochs) == (2, 2)
    assert (spec.classes, spec.tested_folds) == (CLASSES, (0, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('faces = "blobs"', 'faces = "blobs"\nclasifiers = 1', "Did you mean 'classifiers'"),
        ("epochs = 2", "epoch = 2", "Did you mean 'epochs'"),
        ("real_to_real", "real_to_reel", "study.toml: settings.0"),
        ("[classifier.large]", "[classifier.lage]", "Did you mean 'large'"),
        (
            'protocol = "subject"',
            'protocol = "frame"\nonly_folds = [0]',
            "remove only_folds: with protocol 'frame'",
        ),
        ("folds = 2", "folds = 2\nonly_folds = [2]", "must be from 0 to 1"),
        ('"tiny", "large"', '"tiny", "tiny"', "must list each one once"),
        ('["real_to_real"]', '["both_to_real"]\ncounts = "anything"', "counts must be"),
        ('["real_to_real"]', '["both_to_real"]\ncounts = "anger=5"', "not trained on anger"),
        (
            '["real_to_real"]',
            '["both_to_real"]\ncounts = "anger=5"',
            "'like' is as many of each class as the training",
        ),
        (
            '["real_to_real"]',
            '["both_to_real"]\ncounts = "anything"',
            "'preprint', 'like', 'like.N'",
        ),
        ('["real_to_real"]', '["both_to_real"]\ncounts = "balanced:3"', "give balanced:4 or more"),
        (
            '["real_to_real"]',
            '["both_to_real"]\ncounts = "like:blobs"',
            "must be 'like' or 'like.N' in a study",
        ),
        (
            '["real_to_real"]',
            '["both_to_real"]\ncounts = "only,fear=1"',
            "5 images or more, .* 'only,fear=1' makes 1 in fold 0",
        ),
        (
            '["real_to_real"]',
            '["both_to_real"]\ncounts = "fear=9"',
            "must give images to every class .* write 'fear=9,happiness=0,sadness=0,surprise=0'",
        ),
        (
            "[classifier]",
            "[generate]\ncounts = {fear = 9}\n[classifier]",
            "must not have counts; .* above all tables",
        ),
        (
            "[classifier]",
            '[generate]\ngenerator = "x"\n[classifier]',
            "must not have generator; .* a generator of its own",
        ),
        (
            "[classifier]",
            '[generator]\nfaces = "x"\n[classifier]',
            "must not have faces; .* the study's own faces",
        ),
        (
            "[classifier]",
            "[generator]\nlearning_rate = inf\n[classifier]",
            "learning_rate: must be a finite number",
        ),
        (
            "folds = 2",
            'folds = 2\nablations = ["x"]\nablation.x.name = "tiny"',
            "must not change the network",
        ),
        (
            "folds = 2",
            "folds = 2\nablation.plain.epochs = 1",
            "means the same in every study; call it my-plain",
        ),
        ("folds = 2", "folds = 2\ntrials = 100000000", "trials: must be 1000 or less"),
        ("folds = 2", 'folds = 2\ntrials = "2"', "trials: must be a whole number"),
        ("folds = 2", "folds = 1", "folds: must be 2 or more or 'subjects'"),
        ("folds = 2", 'folds = "subjects"\nonly_folds = [6]', "only_folds must be from 0 to 5"),
        ("epochs = 2", "epochs = 2\nsize = 100000", "size: must be 1024 or less"),
        ("epochs = 2", "epochs = 2\nlearning_rate = inf", "learning_rate: must be a finite number"),
        (
            "epochs = 2",
            "epochs = 2\naugment.brightness = [1, inf]",
            "brightness.1: must be a finite number",
        ),
        (
            "epochs = 2",
            "epochs = 2\naugment.brightness = [1, 100]",
            "brightness must be two factors above 0 and up to 10",
        ),
        (
            "epochs = 2",
            'epochs = 2\nweights = ""',
            "weights must be 'imagenet', 'none', or the path of a file",
        ),
        ("[classifier]", "[generator]\npresett = 1\n[classifier]", "no field 'presett'"),
        ("[classifier]", '[generator]\npreset = "defalt"\n[classifier]', "Did you mean 'default'"),
        ('name = "small"', 'name = "blobs"', "'blobs' names made-"),
        ("folds = 2", 'folds = "subject"', "study.toml: folds"),
        (
            'protocol = "subject"\nfolds = 2',
            'protocol = "clip"\nfolds = "subjects"',
            "needs protocol 'subject'",
        ),
        ("folds = 2", 'folds = 2\nablations = ["plane"]', "Did you mean 'plain'"),
        (
            "folds = 2",
            "folds = 2\nablation.x.epochs = 1",
            "belongs to no ablation; the study has plain",
        ),
        (
            "folds = 2",
            'folds = 2\nablations = ["x"]\nablation.x.epoch = 1',
            "Did you mean 'epochs'",
        ),
        ("folds = 2", 'folds = 2\nclass_set = "casme2-6"', "Did you mean 'casme2-5'"),
        ("folds = 2", 'folds = 2\ncontrols = ["nearby"]', "controls.0"),
        ("folds = 2", 'folds = 2\ncontrols = ["copycat"]', "a setting that uses synthetic faces"),
        ('["tiny", "large"]', '["tiny", "large", "nearest"]', "nearest is a control"),
    ],
)
def test_what_does_not_hold_is_refused(
    tmp_path: Path, store: Store, old: str, new: str, message: str
):
    with pytest.raises(SpecError, match=message):
        read_study(write(tmp_path, GOOD.replace(old, new, 1)), store)


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        ("folds = 2", "folds = 99", DataError, "need as many subjects"),
        ('faces = "blobs"', 'faces = "blob"', StoreError, "Did you mean 'blobs'"),
        ('name = "small"', 'name = "a b"', StoreError, "an alias must be"),
        ("epochs = 2", 'epochs = 2\nweights = "no.pt"', WeightsError, "there is no file"),
        (
            "epochs = 2",
            f"epochs = 2\nweights = 'file:{64 * '0'}'",
            WeightsError,
            "none there has the sha256",
        ),
        (
            "folds = 2",
            'folds = 2\nablations = ["x"]\nablation.x.weights = "no.pt"',
            WeightsError,
            "there is no file",
        ),
    ],
)
def test_what_would_fail_later_is_refused_at_once_and_names_the_study_file(
    tmp_path: Path, store: Store, old: str, new: str, kind: type[Exception], message: str
):
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(kind, match=message) as caught:
        read_study(path, store)
    assert str(caught.value).count(str(path)) == 1


def test_a_plan_says_which_classes_have_no_synthetic_faces(store: Store):
    spec = resolve(table(settings=FOUR_SETTINGS, counts="only,fear=3,surprise=2"), store)
    assert (
        "no synthetic happiness, sadness in folds 0, 1, with counts = 'only,fear=3,surprise=2'"
        in describe_plan(plan_study(spec, store))
    )


def test_faces_that_are_not_there_are_named(tmp_path: Path, store: Store):
    with pytest.raises(StoreError, match="Did you mean 'blobs'"):
        read_study(write(tmp_path, GOOD.replace('faces = "blobs"', 'faces = "blob"')), store)


def test_a_weights_file_goes_into_the_digest_by_its_content(tmp_path: Path, store: Store):
    save_file(Tiny(len(EMOTIONS)).state_dict(), tmp_path / "some.safetensors")
    text = GOOD.replace("epochs = 2", 'epochs = 2\nweights = "some.safetensors"')
    path = write(tmp_path, text)
    first = read_study(path, store)
    assert network_of(first).weights.startswith("file:")
    changed = GOOD.replace(
        "folds = 2", 'folds = 2\nablations = ["x"]\nablation.x.weights = "some.safetensors"'
    )
    assert network_of(read_study(write(tmp_path, changed), store), ablation="x").weights == (
        network_of(first).weights
    )
    write(tmp_path, text)
    (tmp_path / "some.safetensors").rename(tmp_path / "other.safetensors")
    path.write_text(path.read_text().replace("some.safetensors", "other.safetensors"))
    assert read_study(path, store).name == first.name


def test_weights_are_looked_for_beside_the_study_file_first_then_where_the_command_runs(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
):
    beside, here = tmp_path / "studies", tmp_path / "here"
    for folder, classes in ((beside, 3), (here, 4)):
        folder.mkdir()
        save_file(Tiny(classes).state_dict(), folder / "some.safetensors")
    monkeypatch.chdir(here)
    path = write(beside, GOOD.replace("epochs = 2", 'epochs = 2\nweights = "some.safetensors"'))
    name = network_of(read_study(path, store)).weights
    assert name == pretrained.hash_file_name(beside / "some.safetensors")
    (beside / "some.safetensors").unlink()
    assert network_of(read_study(path, store)).weights != name
    (here / "some.safetensors").unlink()
    with pytest.raises(
        WeightsError, match=r"looked for .*studies/some.safetensors and .*here/some.safetensors"
    ):
        read_study(path, store)


def test_a_file_of_weights_that_does_not_fit_is_refused_before_anything_is_copied_or_made(
    tmp_path: Path, store: Store
):
    save_file(Tiny(4).state_dict(), tmp_path / "good.safetensors")
    save_file(
        {"features.0.weight": Tiny(4).state_dict()["features.0.weight"]},
        tmp_path / "bad.safetensors",
    )
    before = store.list_names()
    text = GOOD.replace("epochs = 2", 'epochs = 2\nweights = "good.safetensors"')
    text = text.replace(
        "folds = 2", 'folds = 2\nablations = ["plain", "x"]\nablation.x.weights = "bad.safetensors"'
    )
    with pytest.raises(
        WeightsError,
        match=r"study.toml: .*bad.safetensors: it must hold the weights of tiny .* lacks",
    ):
        read_study(write(tmp_path, text), store)
    assert store.list_names() == before


def test_smoke_study_is_read_for_faces_called_drawn(store: Store):
    keep(blobs(24, size=48), store, "faces")
    spec = read_study(STUDIES / "smoke.toml", store)
    assert (spec.protocol, len(spec.settings), list(spec.classifiers)) == ("subject", 5, ["tiny"])


# The file and what was run


def test_a_file_that_was_edited_is_not_taken_for_the_study_that_was_run(
    tmp_path: Path, store: Store, capfd: pytest.CaptureFixture[str]
):
    path = write(tmp_path, GOOD)
    with pytest.raises(StoreError, match="the study small has not been run"):
        find_recorded_run(path, store)
    first = read_study(path, store)
    store.make(
        first, lambda out, scratch: write_study(plan_study(first, store), out), alias="small"
    )
    assert find_recorded_run(path, store) == first.name
    assert capfd.readouterr().err == ""
    write(
        tmp_path,
        GOOD.replace("folds = 2", "folds = 2\ntrials = 3").replace("size = 32", "size = 24"),
    )
    assert find_recorded_run(path, store) == first.name
    said = capfd.readouterr().err
    assert f"{path} is not the study that was run as small: " in said and first.name in said
    assert "trials was 5, is 3" in said and "classifiers.large.plain.size was 32, is 24" in said


def test_a_file_stands_for_its_own_run_also_where_the_name_has_moved_on(
    tmp_path: Path, store: Store, capfd: pytest.CaptureFixture[str]
):
    path = write(
        tmp_path,
        GOOD.replace("epochs = 2", "epochs = 1").replace("folds = 2", "folds = 2\ntrials = 1"),
    )
    first = read_study(path, store)
    run_study(first, store, device="cpu")
    assert "the name small referred to" not in capfd.readouterr().err
    second = first.model_copy(update={"trials": 2})
    run_study(second, store, device="cpu")
    said = capfd.readouterr().err
    assert (
        f"the name small referred to {first.name} and now refers to {second.name}: trials was 1, "
        "is 2"
    ) in said
    assert find_recorded_run(path, store) == first.name
    said = capfd.readouterr().err
    assert (
        f"{path} is {first.name}, but the name small refers to {second.name}: trials was 2, is 1"
        in said
    )
    run_study(second, store, device="cpu")
    assert "referred to" not in capfd.readouterr().err


@pytest.mark.parametrize("name", list_studies())
def test_a_study_whose_faces_are_missing_says_which_commands_make_them(name: str, store: Store):
    path = find_study(name)
    faces = read_toml(path)["faces"]
    with pytest.raises(StoreError, match="These commands make") as refused:
        read_study(path, store)
    last = str(refused.value).splitlines()[-1].strip()
    assert last.startswith("mien ") and last.endswith(f"--as {faces}")


@pytest.mark.parametrize("damage", ["other trials", "a field is missing"])
def test_a_plan_of_an_earlier_version_is_made_again_and_nothing_is_lost(
    tmp_path: Path, store: Store, capfd: pytest.CaptureFixture[str], damage: str
):
    text = GOOD.replace("epochs = 2", "epochs = 1").replace("folds = 2", "folds = 2\ntrials = 1")
    study = read_study(write(tmp_path, text), store)
    plan = plan_study(study, store)
    old_rows = [
        replace(row, spec=row.spec.model_copy(update={"version": row.spec.version + 7}))
        for row in plan.rows
    ]

    def write_old(out: Path, scratch: Path) -> RunSummary:
        if damage == "other trials":
            return write_study(replace(plan, rows=old_rows), out)
        (out / "plan.json").write_text("{}", encoding="utf-8")
        return {"holds": "a study"}

    store.make(study, write_old, alias="mine")
    others = set(store.list_names()) - {study.name}

    # One message, and the plan, the aliases and the other runs are those that they should be
    run_study(study, store, device="cpu")
    said = capfd.readouterr().err
    assert said.count("planned again") == 1 and f"0 of {len(plan.rows)} trials are done" in said
    kept = {trial.run for trial in read_record(store.run("mine")).trials}
    assert kept == {row.spec.name for row in plan.rows}
    assert others <= set(store.list_names()) and store.resolve("small") == study.name
    assert len(StudyResults("small", store).cells) > 0
    run_study(study, store, device="cpu")
    assert "planned again" not in capfd.readouterr().err


# Running


def test_records_equal_what_the_predictions_give(whole: tuple[Store, StudySpec]):
    store, spec = whole
    for trial in plan_trials(spec, store):
        run = store.run(trial.name)
        predictions = pd.read_parquet(run.find_file("predictions.parquet"))
        records = {record["metric"]: record for record in run.read_json("records.json")}
        again = score_predictions(predictions, run.name, run.spec)
        assert [asdict(record) for record in again] == list(records.values())
        assert len(records) == sum(3 if test == "synthetic" else 6 for test in trial.tests)
        for test in trial.tests:
            part = predictions.loc[predictions["test"] == test]
            scores = metrics.score_table(part, CLASSES)
            assert scores is not None
            assert (
                records[f"{test}/images/accuracy"]["value"]
                == (part["true"] == part["predicted"]).mean()
            )
            assert records[f"{test}/images/uf1"]["value"] == scores.uf1
            assert records[f"{test}/images/uf1"]["n"] == len(part)
        if "real" in trial.tests:
            assert records["real/clips/uar"]["n"] == 12


def test_a_report_does_not_read_the_records(store: Store):
    spec = resolve(table(trials=1), store)
    plan = plan_study(spec, store)
    store.make(spec, lambda out, scratch: write_study(plan, out), alias=spec.title)
    for row in plan.rows:

        def build(out: Path, scratch: Path, row: TrialRow = row) -> RunSummary | None:
            _, tests = trials.load_train_and_tests(row.spec, store)
            guess(row, tests, lambda row, test: 0.5, out)
            (out / RECORDS_FILE).write_text("not what the predictions give", encoding="utf-8")
            return None

        store.make(row.spec, build)
    results = StudyResults(spec.title, store)
    rows = [row for row in list_csv_rows(results) if row["source"] == "record"]
    assert len(rows) == 2 * 2 * 3 and {row["run"] for row in rows} == set(results.runs)


def test_every_real_image_is_tested_once_over_the_folds(whole: tuple[Store, StudySpec]):
    store, spec = whole
    real = Faces.load(store.run(spec.faces).path)
    for train in ("real", "synthetic", "both"):
        runs = [
            store.run(t.name) for t in plan_trials(spec, store) if (t.train, t.trial) == (train, 0)
        ]
        tables = [pd.read_parquet(run.find_file("predictions.parquet")) for run in runs]
        keys = [key for one in tables for key in one.loc[one["test"] == "real", "key"]]
        assert sorted(keys) == sorted(real.index["key"])


def test_synthetic_images_train_or_test_but_not_both(whole: tuple[Store, StudySpec]):
    store, spec = whole
    trial = next(trial for trial in plan_trials(spec, store) if trial.train == "synthetic")
    train, tests = trials.load_train_and_tests(trial, store)
    assert not set(train.index["key"]) & set(tests["synthetic"].index["key"])
    assert len(tests["synthetic"]) / (len(train) + len(tests["synthetic"])) == pytest.approx(
        0.2, abs=0.02
    )


def test_what_is_done_is_not_done_again_and_what_was_deleted_comes_out_the_same(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(blobs(), store, "blobs")
    spec = resolve(table(), store)
    run_study(spec, store, device="cpu")
    names = [trial.name for trial in plan_trials(spec, store)]
    before = {name: store.run(name).content for name in names}
    made = {
        name: (store.root / "runs" / name / "manifest.json").stat().st_mtime_ns for name in names
    }
    for name in names[1:3]:
        shutil.rmtree(store.root / "runs" / name)
    assert len(plan_study(spec, store).done) == 2
    run_study(spec, store, device="cpu")
    assert {name: store.run(name).content for name in names} == before
    again = {
        name: (store.root / "runs" / name / "manifest.json").stat().st_mtime_ns for name in names
    }
    assert [name for name in names if again[name] != made[name]] == names[1:3]


def alter(store: Store, run: str, name: str) -> None:
    """Change a byte of a file of a finished run."""
    path = store.root / "runs" / run / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_trial_that_was_altered_is_not_done_and_is_named_by_plan_run_status_and_report(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    spec = resolve(table(), store)
    run_study(spec, store, device="cpu")
    gone = plan_trials(spec, store)[1].name
    alter(store, gone, "predictions.parquet")
    message = f"{gone} was altered after it was made: predictions.parquet does not match its sha256"
    found = plan_study(spec, store)
    assert (len(found.done), list(found.failed)) == (3, [gone])
    assert "3 done, 1 failed" in describe_plan(found) and message in describe_plan(found)
    with pytest.raises(TrialsFailed, match=message):
        run_study(spec, store, device="cpu")
    text = describe_progress(read_progress("small", store))
    assert "3 of 4 trials done" in text and message in text
    page = write_report("small", store, tmp_path / "out")
    assert f"left out: {message}" in capfd.readouterr().err
    assert message in page.read_text() and "1 of 2 trials" in page.read_text()
    shutil.rmtree(store.root / "runs" / gone)
    run_study(spec, store, device="cpu")
    assert len(plan_study(spec, store).done) == 4 and not plan_study(spec, store).failed
    assert "4 of 4 trials done" in describe_progress(read_progress("small", store))


def test_a_database_that_was_altered_stops_its_own_trials_alone(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(blobs(), store, "blobs")
    spec = resolve(table(settings=["real_to_real", "both_to_real"], trials=1), store)
    run_study(spec, store, device="cpu")
    one, other = (one.generate.name for one in list_databases(spec, store))
    lost = [trial.name for trial in plan_trials(spec, store) if trial.synthetic]
    for name in lost:
        shutil.rmtree(store.root / "runs" / name)
    alter(store, one, "images.npy")
    with pytest.raises(TrialsFailed, match="1 of 4 trials"):
        run_study(spec, store, device="cpu")
    text = plan_study(spec, store).failed[lost[0]]
    assert text.startswith(NOT_BEGUN_PREFIX) and f"{one} was altered" in text
    assert store.is_done(lost[1]) and store.is_done(other)
    assert f"{one} was altered" in write_report("small", store, tmp_path / "out").read_text()


def run_elsewhere(root: Path, **changes: Any) -> None:
    """What another process does: run the study, with no message kept."""
    store = Store(root)
    run_study(resolve(table(**changes), store), store, device="cpu")


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline, "it was never reached"
        time.sleep(0.05)


def test_a_second_process_takes_the_trials_that_nobody_is_at(store: Store):
    spec = resolve(table(), store)
    first, *others = [trial.name for trial in plan_trials(spec, store)]
    worker = multiprocessing.get_context("spawn").Process(target=run_elsewhere, args=(store.root,))
    with store.claim(first):  # as if this process were at it
        worker.start()
        wait_for(lambda: all(store.is_done(name) for name in others) or not worker.is_alive())
        assert not store.is_done(first) and worker.is_alive()
    worker.join(60)
    assert worker.exitcode == 0 and store.is_done(first)


def test_a_failed_trial_is_a_row_and_the_others_go_on(
    store: Store, capfd: pytest.CaptureFixture[str]
):
    spec = resolve(failing(), store)
    with pytest.raises(TrialsFailed, match="2 of 4 trials of small failed") as caught:
        run_study(spec, store, device="cpu")
    assert caught.value.exit_code == 5
    found = plan_study(spec, store)
    assert len(found.done) == len(found.failed) == 2
    assert all("must stay finite" in text for text in found.failed.values())
    assert "failed: the loss of tiny must stay finite" in capfd.readouterr().err
    assert "2 failed" in describe_plan(found)


def test_a_failure_is_forgotten_once_the_trial_is_made(store: Store):
    spec = resolve(table(trials=1), store)
    name = plan_trials(spec, store)[0].name
    note_failure(store, name, ValueError("out of luck\nand more"))
    assert read_failure(store, name) == "ValueError: out of luck"
    run_study(spec, store, device="cpu")
    assert read_failure(store, name) == ""


def test_where_the_generator_fails_its_trials_fail_and_real_ones_go_on(store: Store):
    spec = resolve(
        table(trials=1, settings=["real_to_real", "both_to_real"], generator=BROKEN), store
    )
    with pytest.raises(TrialsFailed, match="2 of 4 trials"):
        run_study(spec, store, device="cpu")
    found = plan_study(spec, store)
    assert {row.spec.train for row in found.rows if row.spec.name in found.done} == {"real"}
    texts = [found.failed[row.spec.name] for row in found.rows if row.spec.train == "both"]
    assert len(texts) == 2 and all(
        text.startswith(NOT_BEGUN_PREFIX) and "multiples of" in text for text in texts
    )


BROKEN = {
    "preset": "smoke",
    "images_seen": 64,
    "net": {"multipliers": [1, 1, 1, 1, 1, 1], "patch": 2, "attention": []},
}


def test_an_interrupt_is_not_a_failed_trial(store: Store, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    spec = resolve(table(), store)
    monkeypatch.setattr("mien.study.run.run_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(spec, store, device="cpu")
    assert not plan_study(spec, store).failed


# Leaks


def test_a_database_whose_generator_saw_the_test_people_is_refused(whole: tuple[Store, StudySpec]):
    store, spec = whole
    one, other = list_databases(spec, store)
    for train in ("synthetic", "both"):
        trial = next(
            t
            for t in plan_trials(spec, store)
            if t.train == train and t.synthetic == one.generate.name
        )
        trials.load_train_and_tests(trial, store)  # its own fold's database is right
        wrong = trial.model_copy(update={"synthetic": other.generate.name})
        with pytest.raises(LeakageError, match="no subject that training has seen"):
            trials.run_trial(wrong, store, "cpu")
        assert not store.is_done(wrong.name)


def test_by_frame_the_same_database_is_let_through(whole: tuple[Store, StudySpec]):
    store, spec = whole
    one, other = list_databases(spec, store)
    trial = next(
        t
        for t in plan_trials(spec, store)
        if t.train == "synthetic" and t.synthetic == one.generate.name
    )
    tested = trials.load_train_and_tests(trial, store)[1]["real"].subjects
    wrong = trial.model_copy(update={"synthetic": other.generate.name, "by": "frame"})
    train, _ = trials.load_train_and_tests(wrong, store)
    assert train.seen is not None and set(train.seen["subject"]) & set(tested)


def test_by_clip_no_test_clip_is_seen(store: Store):
    spec = resolve(table(protocol="clip"), store)
    for trial in plan_trials(spec, store):
        train, tests = trials.load_train_and_tests(trial, store)
        assert not set(train.index["clip"]) & set(tests["real"].index["clip"])
        assert set(train.subjects) & set(tests["real"].subjects)


# The list of trials


def test_the_studys_run_lists_its_trials_under_its_name(whole: tuple[Store, StudySpec]):
    store, spec = whole
    run = store.run("small")
    assert run.name == spec.name
    listed = json.loads((run.path / "plan.json").read_text())
    assert [row["run"] for row in listed["trials"]] == [
        trial.name for trial in plan_trials(spec, store)
    ]
    assert len(listed["databases"]) == 2
    assert np.all([store.is_done(row["run"]) for row in listed["trials"]])
    assert "12 done" in describe_plan(plan_study(spec, store))


def test_a_study_that_comes_with_mien_is_found_by_its_name_and_a_file_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert {"smoke", "preprint", "honest", "controls"} <= set(list_studies())
    assert find_study("smoke") == list_studies()["smoke"] and find_study("smoke").is_file()
    assert find_study("mine.toml") == Path("mine.toml")
    with pytest.raises(SpecError, match=r"given: 'smoek'\. Did you mean 'smoke'"):
        find_study("smoek")
    Path("smoke").write_text("")
    assert find_study("smoke") == Path("smoke")
