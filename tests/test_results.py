"""Results: cells, controls, intervals and verdicts are those of the predictions, and nothing else
is claimed.
"""

import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import ALL_CONTROLS, CLASSES, FIVE_SETTINGS, keep, more_blobs, table, written_study

from mien import metrics
from mien.errors import StoreError
from mien.runs.files import write_indented_json
from mien.runs.jobs import note_failure
from mien.runs.store import Store
from mien.seeds import make_rng
from mien.study.cells import ResultCell, Verdict
from mien.study.file import resolve
from mien.study.plan import plan_study
from mien.study.plan_file import read_record
from mien.study.results import StudyResults
from mien.study.settings import CONTROLS, SETTINGS
from mien.study.specs import TrialRow
from mien.study.status import describe_progress, read_progress


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("home") / "store")
    keep(more_blobs(), store, "blobs")
    return store


@pytest.fixture(scope="module")
def whole(home: Store) -> StudyResults:
    """All settings by subject, two classifiers, two ablations, two trials, all controls."""
    names = {"first": {"name": "tiny"}, "second": {"name": "tiny"}}
    return written_study(
        home,
        name="whole",
        settings=FIVE_SETTINGS,
        controls=ALL_CONTROLS,
        ablations=["plain", "augment"],
        classifiers=list(names),
        classifier={"size": 16, **names},
    )


def cell_of(found: StudyResults, setting: str, level: str = "images", **which: str) -> ResultCell:
    cell = found.find_cell(
        setting, which.get("classifier", found.classifiers[0]), level, which.get("ablation")
    )
    assert cell is not None
    return cell


def control_of(found: StudyResults, setting: str, name: str, level: str = "images") -> ResultCell:
    (cell,) = [
        one for one in found.find_controls(setting, level) if found.label_control(one) == name
    ]
    return cell


def accuracy(found: StudyResults, test: str, **which: Any) -> float:
    """The share of right answers in the predictions of all folds of some trials, by pandas
    alone.
    """
    rows = [
        row
        for row in found.trials
        if all(getattr(row, name) == value for name, value in which.items())
    ]
    runs = [found.store.run(row.run) for row in rows]
    tables = [pd.read_parquet(run.find_file("predictions.parquet")) for run in runs]
    whole = pd.concat(tables)
    right = (whole["true"] == whole["predicted"]).to_numpy()
    return float(right[(whole["test"] == test).to_numpy()].mean())


# The plan


def test_the_record_of_a_plan_is_read_as_it_was_written(whole: StudyResults, tmp_path: Path):
    whole.plan.save(tmp_path)
    assert (tmp_path / "plan.json").read_bytes() == whole.run.find_file("plan.json").read_bytes()
    assert read_record(whole.run) == whole.plan


def planned_as(plan: dict[str, Any], store: Store, name: str) -> StudyResults:
    """Read a study whose plan.json holds `plan`."""

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        write_indented_json(out / "plan.json", plan)
        return {"holds": "a plan"}

    store.make(resolve(table(name=name), store), build, alias=name)
    return StudyResults(name, store)


def test_a_plan_that_lacks_what_results_need_is_refused_with_the_names_of_its_gaps(
    whole: StudyResults, tmp_path: Path
):
    store = Store(tmp_path / "store")
    keep(more_blobs(96, 6), store, "blobs")
    plan = whole.run.read_json("plan.json")
    train = plan["trials"][0].pop("train")
    ablations = plan.pop("ablations")
    with pytest.raises(StoreError, match=r"lacks ablations, trials\.0\.train; run the study again"):
        planned_as(plan, store, "old")

    # what no result needs may be missing, and more may be there
    plan |= {"ablations": ablations, "more": 1}
    plan["trials"][0]["train"] = train
    for trial in plan["trials"]:
        del trial["synthetic"], trial["tests"]
    assert len(planned_as(plan, store, "recent").trials) == len(whole.trials)


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_each_trial_of_each_cell_is_in_the_plan_exactly_once(data: st.DataObject, home: Store):
    used = data.draw(st.lists(st.sampled_from(FIVE_SETTINGS), min_size=1, unique=True))
    fits = [
        name for name in ALL_CONTROLS if any(CONTROLS[name].applies_to(setting) for setting in used)
    ]
    controls = data.draw(st.lists(st.sampled_from(fits), unique=True))
    names = {"first": {"name": "tiny"}, "second": {"name": "tiny"}}
    classifiers = data.draw(st.lists(st.sampled_from(list(names)), min_size=1, unique=True))
    ablations = data.draw(st.lists(st.sampled_from(["plain", "augment"]), min_size=1, unique=True))
    spec = resolve(
        table(
            settings=used, controls=controls, classifiers=classifiers, ablations=ablations,
            classifier={"size": 16, **{name: names[name] for name in classifiers}},
            protocol=data.draw(st.sampled_from(["frame", "clip", "subject"])),
            folds=data.draw(st.integers(2, 3)), trials=data.draw(st.integers(1, 3)),
        ),
        home,
    )  # fmt: skip
    rows = plan_study(spec, home).rows
    repetitions = [(trial, fold) for trial in range(spec.trials) for fold in spec.tested_folds]

    # each cell finds one training with its test for each trial and fold, and no row is left
    of_cells = set()
    for setting in used:
        for classifier in classifiers:
            for ablation in ablations:
                mine = [
                    row
                    for row in rows
                    if (row.control, row.classifier, row.ablation) == ("", classifier, ablation)
                    and row.spec.train == SETTINGS[setting].train
                    and SETTINGS[setting].test in row.spec.tests
                ]
                assert sorted((row.trial, row.fold) for row in mine) == repetitions
                of_cells |= {id(row) for row in mine}
    assert of_cells == {id(row) for row in rows if not row.control}

    # each training of a control is there once for each trial and fold
    trainings: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for row in rows:
        key = (row.classifier, row.ablation, row.control, row.spec.train)
        trainings.setdefault(key, []).append((row.trial, row.fold))
    assert all(sorted(places) == repetitions for places in trainings.values())


# Cells


def test_there_is_a_cell_for_each_setting_classifier_ablation_and_level(whole: StudyResults):
    assert (
        len(whole.cells) == (5 + 3) * 2 * 2
    )  # by image in all settings, by clip where real faces are tested
    assert len(
        {(one.setting, one.classifier, one.ablation, one.level) for one in whole.cells}
    ) == len(whole.cells)
    assert all(cell.whole and len(cell.trials) == 2 for cell in whole.cells)
    assert cell_of(whole, "real_to_real").ablation == "plain"


@pytest.mark.parametrize("setting", FIVE_SETTINGS)
def test_a_cell_is_the_share_of_right_answers_of_its_trials(whole: StudyResults, setting: str):
    sides = whole.plan.settings[setting]
    for number, scores in enumerate(cell_of(whole, setting, ablation="augment").trials):
        which = {
            "classifier": "first",
            "ablation": "augment",
            "control": "",
            "train": sides.train,
            "trial": number,
        }
        assert scores is not None
        assert scores.accuracy == pytest.approx(accuracy(whole, sides.test, **which))


def test_a_cell_knows_whom_it_was_tested_on(whole: StudyResults):
    real, made = cell_of(whole, "real_to_real"), cell_of(whole, "real_to_synthetic")
    assert (real.n, real.clips, real.subjects, real.grouped) == (288, 48, 12, "subject")
    assert (made.clips, made.subjects, made.grouped) == (0, 0, "image")
    assert cell_of(whole, "real_to_real", "clips").n == 48


def test_by_frame_a_trial_has_clips_of_its_own(home: Store):
    found = written_study(home, name="frames", protocol="frame", folds=9)
    runs = [home.run(name) for name in found.runs]
    tables = [pd.read_parquet(run.find_file("predictions.parquet")) for run in runs]
    clips = [len(set(table["clip"])) for table in tables]
    cell = cell_of(found, "real_to_real")
    assert (cell.n, cell.clips) == (32, round(np.mean(clips)))
    assert cell.clips < 32 and cell.subjects == 12


def test_counts_add_up_to_the_scores_of_each_trial(whole: StudyResults):
    for cell in whole.cells:
        for scores, counts in zip(cell.done, cell.counts, strict=True):
            assert (counts.sum(axis=0) == scores.confusion).all()


def test_a_missing_trial_is_a_hole(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(more_blobs(96, 6), store, "blobs")
    found = written_study(
        store, done=lambda row: row.trial == 0 or row.fold == 0, controls=["nearest"]
    )
    cell = cell_of(found, "real_to_real")
    assert (len(cell.done), len(cell.trials), cell.whole) == (1, 2, False)
    assert cell.summarise("accuracy") is None and cell.estimate_interval("uf1") is None
    assert found.give_verdicts(cell) == [] and found.find_too_good() == []


# Controls


def test_the_controls_of_each_setting_have_names_for_people(whole: StudyResults):
    named = {
        setting: [whole.label_control(one) for one in whole.find_controls(setting, "images")]
        for setting in FIVE_SETTINGS
    }
    both = ["majority class", "1-nearest neighbour"]
    copies = ["copycat (first)", "copycat (second)"]
    permuted = ["labels permuted (1-NN)", "labels permuted (first)", "labels permuted (second)"]
    learnt = {setting: [*both, "copycat (1-NN)", *copies] for setting in FIVE_SETTINGS[1:]}
    assert named == {
        **learnt,
        "real_to_real": [*both, *permuted],
        "real_to_synthetic": [*both, *copies],
    }
    drawn = {True: 2, False: 1}  # what draws no lots is one trial
    for one in whole.controls:
        lots = one.control == "permuted" or one.classifier not in ("majority", "nearest")
        assert one.whole and len(one.trials) == drawn[lots]


@pytest.mark.parametrize(
    ("setting", "name", "test", "which"),
    [
        ("real_to_real", "majority class", "real", {"control": "majority", "train": "real"}),
        ("both_to_real", "1-nearest neighbour", "real", {"control": "nearest", "train": "both"}),
        (
            "synthetic_to_synthetic",
            "1-nearest neighbour",
            "synthetic",
            {"control": "nearest", "train": "synthetic"},
        ),
        (
            "real_to_real",
            "labels permuted (1-NN)",
            "real",
            {"control": "permuted", "classifier": "nearest"},
        ),
        (
            "real_to_real",
            "labels permuted (second)",
            "real",
            {"control": "permuted", "classifier": "second"},
        ),
        (
            "synthetic_to_real",
            "copycat (first)",
            "real",
            {"control": "copycat", "train": "copycat"},
        ),
        (
            "synthetic_to_synthetic",
            "copycat (first)",
            "copycat",
            {"control": "copycat", "train": "copycat"},
        ),
        (
            "both_to_real",
            "copycat (first)",
            "real",
            {"control": "copycat", "train": "both_copycat"},
        ),
        (
            "real_to_synthetic",
            "copycat (first)",
            "copycat",
            {"control": "", "train": "real", "ablation": "plain"},
        ),
    ],
)
def test_a_control_is_that_of_its_trials(
    whole: StudyResults, setting: str, name: str, test: str, which: dict[str, str]
):
    first = {"classifier": "first"} if "first" in name else {}
    found = control_of(whole, setting, name)
    assert found.average_trials("accuracy") == pytest.approx(
        accuracy(whole, test, **which, **first)
    )


def test_the_constant_answer_is_the_share_of_the_commonest_class(tmp_path: Path):
    store = Store(tmp_path / "store")
    faces = more_blobs(96, 6).select((np.arange(96) % 4 == 1) | (np.arange(96) % 3 == 0))
    keep(faces, store, "blobs")
    cell = cell_of(written_study(store), "real_to_real")
    _, counts = np.unique(list(faces.index["emotion"]), return_counts=True)
    assert cell.score_constant_answer("accuracy") == pytest.approx(counts.max() / counts.sum())
    assert cell.score_constant_answer("uar") == 0.25
    assert [one.accuracy for one in cell.commonest.done] == pytest.approx(
        [counts.max() / counts.sum()]
    )
    (name, floor), *_ = written_study(store).name_controls("real_to_real", "images")
    found = floor.summarise("uar")
    assert found is not None and (name, found.mean, found.n) == ("constant answer", 0.25, 1)


# Intervals and verdicts


def test_the_interval_is_that_of_drawing_people(whole: StudyResults):
    cell = cell_of(whole, "real_to_real")
    found = cell.estimate_interval("uf1")
    assert found is not None
    chosen, scores = make_rng("by hand"), []
    for _ in range(3000):
        more_blobs = chosen.integers(0, 12, 12)
        each = [
            metrics.score(one[more_blobs].sum(axis=0).astype(np.int64), CLASSES).uf1
            for one in cell.counts
        ]
        scores.append(np.mean(each))
    assert (found.low, found.high) == pytest.approx(
        tuple(np.percentile(scores, [2.5, 97.5])), abs=0.01
    )
    assert found.value == pytest.approx(np.mean([one.uf1 for one in cell.done]))


def test_what_stands_above_all_its_controls_clears_them(whole: StudyResults):
    verdicts = {
        one.control: one
        for one in whole.give_verdicts(cell_of(whole, "real_to_real", ablation="augment"))
    }
    names = ["the constant answer", "majority class", "1-nearest neighbour"]
    assert list(verdicts) == [
        *names,
        "labels permuted (1-NN)",
        "labels permuted (first)",
    ]  # not the other network's
    assert all(one.cleared for one in verdicts.values())
    gap = verdicts["1-nearest neighbour"].gap
    cell, nearest = (
        cell_of(whole, "real_to_real", ablation="augment"),
        control_of(whole, "real_to_real", names[2]),
    )
    assert gap is not None
    assert gap.value == pytest.approx(
        cell.average_trials("accuracy") - nearest.average_trials("accuracy")
    )
    assert gap.low < gap.value < gap.high


@pytest.mark.parametrize(
    ("control", "settings"), [("permuted", FIVE_SETTINGS[:1]), ("copycat", FIVE_SETTINGS[1:])]
)
def test_a_cell_is_held_to_the_control_that_beats_it(
    home: Store, control: str, settings: list[str]
):
    def skill(row: TrialRow, test: str) -> float:
        beats = row.classifier == "tiny" and (row.control == control or test == "copycat")
        return 0.95 if beats else 0.3 if row.control else 0.75

    found = written_study(
        home, skill, name=control, settings=settings, controls=["majority", control]
    )
    for setting in settings:
        cleared = {one.control: one.cleared for one in found.give_verdicts(cell_of(found, setting))}
        failed = {"permuted": "labels permuted (tiny)", "copycat": "copycat (tiny)"}[control]
        assert [name for name, above in cleared.items() if not above] == [failed]
        assert len(cleared) == (
            3 if setting == "real_to_synthetic" else 4
        )  # a 1-NN learns copies, too


def test_an_equal_control_is_not_cleared(home: Store):
    found = written_study(
        home,
        lambda row, test: 0.6,
        name="equal",
        settings=FIVE_SETTINGS,
        controls=["nearest"],
        trials=1,
    )
    assert [found.give_verdicts(cell_of(found, name))[1].cleared for name in FIVE_SETTINGS] == [
        False
    ] * 5


def test_a_control_that_was_not_run_is_neither_cleared_nor_failed(home: Store):
    found = written_study(
        home, name="half", settings=["both_to_real"], controls=["majority", "copycat"],
        done=lambda row: row.control != "copycat" or row.fold == 0,
    )  # fmt: skip
    verdicts = {one.control: one for one in found.give_verdicts(cell_of(found, "both_to_real"))}
    assert verdicts["copycat (tiny)"] == Verdict("copycat (tiny)", None)
    assert verdicts["copycat (tiny)"].cleared is None
    assert verdicts["majority class"].cleared


def test_one_person_alone_proves_nothing(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(more_blobs(96, 6), store, "blobs")
    found = written_study(store, folds="subjects", only_folds=[2])
    cell = cell_of(found, "real_to_real")
    assert cell.subjects == 1
    assert [one.cleared for one in found.give_verdicts(cell)] == [None]


def test_without_subjects_clips_are_drawn_and_without_clips_images(tmp_path: Path):
    store = Store(tmp_path / "store")
    for name, columns, protocol in (
        ("clips", {"subject": ""}, "clip"),
        ("images", {"subject": "", "clip": ""}, "frame"),
    ):
        keep(more_blobs(96 + len(name), 6, **columns), store, name)
        cell = cell_of(
            written_study(store, name=f"by-{name}", faces=name, protocol=protocol), "real_to_real"
        )
        assert (cell.grouped, cell.subjects) == (name[:-1], 0)
        assert cell.estimate_interval("accuracy") is not None


# Alarms


@pytest.mark.parametrize(
    ("protocol", "skill", "settings"),
    [("subject", 0.99, ["real_to_real"]), ("subject", 0.9, []), ("frame", 0.99, [])],
)
def test_an_accuracy_too_good_for_unseen_people_raises_the_alarm(
    home: Store, protocol: str, skill: float, settings: list[str]
):
    found = written_study(
        home,
        lambda row, test: skill if test == "real" else 1.0,
        name=f"alarm{skill}",
        protocol=protocol,
        trials=1,
        settings=["real_to_real", "real_to_synthetic"],
    )
    assert [one.setting for one in found.find_too_good() if one.level == "images"] == settings


def test_the_alarm_is_raised_by_clip_too(home: Store):
    found = written_study(home, lambda row, test: 0.9, name="clips", trials=1)
    assert [one.level for one in found.find_too_good()] in ([], ["clips"])
    assert bool(found.find_too_good()) == (
        cell_of(found, "real_to_real", "clips").average_trials("accuracy") > 0.95
    )


# Does adding synthetic images help?


def helped(store: Store, name: str, both: float, copies: float = 0.3) -> StudyResults:
    def skill(row: TrialRow, test: str) -> float:
        return {"both": both, "both_copycat": copies}.get(row.spec.train, 0.5)

    return written_study(
        store, skill, name=name, settings=["real_to_real", "both_to_real"], controls=["copycat"]
    )


@pytest.mark.parametrize(("both", "sign"), [(0.9, 1), (0.1, -1), (0.5, 0)])
def test_a_difference_has_an_interval_over_people_and_p(home: Store, both: float, sign: int):
    found = helped(home, f"help{round(10 * both)}", both)
    (one,) = found.compare("both_to_real")
    certain = one.p < 0.05 and not one.gap.low <= 0 <= one.gap.high
    assert (np.sign(one.gap.value) if certain else 0) == sign
    assert (one.groups, one.grouped, one.trials, one.level) == (12, "subject", 2, "clips")
    base, other = (cell_of(found, name, "clips") for name in ("real_to_real", "both_to_real"))
    assert one.gap.value == pytest.approx(
        other.average_trials("accuracy") - base.average_trials("accuracy")
    )


def test_copies_that_do_as_much_are_held_against_the_generator(home: Store):
    (one,) = helped(home, "copies", both=0.9, copies=0.9).compare_with_control("copycat")
    assert one.gap.low <= 0 <= one.gap.high
    (one,) = helped(home, "help9", both=0.9).compare_with_control("copycat")
    assert one.gap.low > 0 and one.p < 0.05


def test_a_comparison_with_a_hole_is_left_out(home: Store):
    found = written_study(
        home, name="hole", settings=["real_to_real", "synthetic_to_real", "both_to_real"],
        done=lambda row: (row.spec.train, row.trial) != ("both", 1),
    )  # fmt: skip
    assert found.compare("both_to_real") == found.compare_with_control("copycat") == []
    assert len(found.compare("synthetic_to_real")) == 1


def test_recall_is_that_of_each_class(whole: StudyResults):
    cell = cell_of(whole, "real_to_real")
    counts = np.sum([one.confusion for one in cell.done], axis=0)
    assert cell.compute_recall() == pytest.approx(
        [counts[k, k] / counts[k].sum() for k in range(4)]
    )
    assert 0.5 < np.mean(cell.compute_recall()) < 0.8


# How far it is


def test_status_tells_done_from_failed_from_under_way_and_estimates_the_rest(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(more_blobs(96, 6), store, "blobs")
    found = written_study(store, controls=["nearest"], done=lambda row: row.fold == 0)
    names = [row.run for row in found.trials if row.fold == 1 and not row.control]
    for row in found.trials:
        path = store.root / "runs" / row.run / "about.json"
        if path.exists():
            path.write_text(json.dumps({"seconds": 10 if row.control else 100}))
    note_failure(store, names[0], ValueError("out of luck"))
    (store.root / "work" / f"{names[1]}.claim").write_text(
        f"{socket.gethostname()} {os.getpid()} abc 3"
    )
    text = describe_progress(read_progress("small", store))
    assert "small: 3 of 6 trials done, in 3 min 30 s" in text
    assert "cells           2 of 4" in text and "controls        1 of 2" in text
    assert "under way   tiny trained on real, trial 2, fold 1" in text
    assert "1 x ValueError: out of luck" in text
    copied = written_study(
        store, name="copied", settings=["both_to_real"], controls=["copycat"], trials=1
    )
    assert "generators, databases and controls   4 of 6" in describe_progress(
        read_progress(copied.title, store)
    )
    assert (
        "to come     2, about 1 min 50 s" in text
    )  # one of 100 seconds, which has begun, and one of 10


def test_status_of_what_has_only_begun_estimates_nothing(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(more_blobs(96, 6), store, "blobs")
    written_study(store, done=lambda row: False)
    text = describe_progress(read_progress("small", store))
    assert "small: 0 of 4 trials done, in 0 s" in text
    assert "to come     4" in text and "about" not in text


# Finding studies


def test_a_study_is_found_by_its_name_or_run_and_nothing_else_is_taken_for_one(
    home: Store, whole: StudyResults
):
    assert (
        StudyResults(home.resolve("whole"), home).title
        == StudyResults("whole", home).title
        == "whole"
    )
    with pytest.raises(StoreError, match="a study must be named"):
        StudyResults("blobs", home)
