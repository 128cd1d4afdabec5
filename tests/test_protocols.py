"""Protocols of micro-expression recognition: who is left out, and the scores of the field.

The faces are drawn clips of two sets; every score is compared with that of scikit-learn.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from spots import TINY, keep, moving

from mien.faces import CLASS_SETS, Faces, concatenate
from mien.prepare.joins import run_join
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import JoinSpec, PreprocessSpec
from mien.report.comparison import list_dataset_scores, make_dataset_tables
from mien.report.terminal import print_table
from mien.report.write import write_report
from mien.runs.spec import read_spec, read_toml
from mien.runs.store import Store
from mien.study.fields import StudyFile, list_studies
from mien.study.file import resolve
from mien.study.predictions import read_predictions
from mien.study.results import StudyResults
from mien.study.run import run_study

# A clip of each emotion for every person, as two sets name them
WORDS = {
    "casme": ("disgust", "happiness", "others", "repression", "surprise", "fear"),
    "samm": ("anger", "happiness", "surprise", "contempt", "others"),
    "smic": ("negative", "positive", "surprise"),
}
MEGC = ("negative", "positive", "surprise")


def draw_set(name: str, subjects: int) -> Faces:
    """Clips of three frames, with a clip of each of the set's emotions for every person."""
    parts = []
    for number, emotion in enumerate(WORDS[name]):
        faces = moving(f"{name}{number}", subjects)
        half = faces.select((faces.index["emotion"] == "fear").to_numpy(dtype=bool))
        names = {
            "key": [f"{name}/{emotion}/{n}" for n in range(len(half))],
            "dataset": name,
            "subject": [f"{name}:{text.partition(':')[2]}" for text in half.index["subject"]],
            "clip": [f"{name}:{text.partition(':')[2]}/{emotion}" for text in half.index["clip"]],
            "emotion": emotion,
        }
        parts.append(replace(half, index=half.index.assign(**names).astype(half.index.dtypes)))
    return concatenate(parts)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("protocols") / "store")
    for name, subjects in (("casme", 4), ("samm", 3)):
        keep(draw_set(name, subjects), store, f"{name}-clips")
        fields = {"faces": f"{name}-clips", "frames": "apex", "window": 0, "size": 16}
        run_preprocess(read_spec(PreprocessSpec, fields, "test"), store, alias=name)
    run_join(JoinSpec(faces=("casme", "samm"), classes="megc2019"), store, alias="composite")
    return store


def run(store: Store, **changes: Any) -> StudyResults:
    fields = {
        "faces": "composite",
        "protocol": "subject",
        "folds": "subjects",
        "trials": 2,
        "settings": ["real_to_real"],
        "classifiers": ["tiny"],
        "classifier": TINY,
        **changes,
    }
    run_study(resolve(StudyFile.model_validate(fields), store), store, device="cpu")
    return StudyResults(str(changes["name"]), store)


def pool(found: StudyResults, trial: int) -> pd.DataFrame:
    """The answers on each clip in one trial, from all folds; here a clip is one image."""
    runs = [row.run for row in found.trials if (row.trial, row.control) == (trial, "")]
    return pd.concat([read_predictions(found.done[name]) for name in runs], ignore_index=True)


def score(tables: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Accuracy, UF1 and UAR by scikit-learn, means over trials."""
    names = sorted({emotion for table in tables for emotion in table["true"]})
    scores = [
        (
            accuracy_score(table["true"], table["predicted"]),
            f1_score(table["true"], table["predicted"], labels=names, average="macro"),
            balanced_accuracy_score(table["true"], table["predicted"]),
        )
        for table in tables
    ]
    means = np.mean(scores, axis=0)
    return dict(zip(("accuracy", "uf1", "uar"), map(float, means), strict=True))


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_the_composite_of_megc_2019_has_pooled_scores_and_those_of_each_set(
    home: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    found = run(home, name="composite-study", controls=["majority"])
    assert found.classes == MEGC and found.spec["folds"] == 7

    # Each subject is the test of one fold, and every clip is tested once in each trial
    tested = {row.fold: set() for row in found.trials}
    for row in found.trials:
        tested[row.fold] |= set(read_predictions(found.done[row.run])["subject"])
    assert sorted(map(sorted, tested.values())) == [[name] for name in found.faces.subjects]

    # Pooled over folds, then the mean over trials, for all sets together and for each
    tables = [pool(found, trial) for trial in range(2)]
    cell = found.find_cell("real_to_real", "tiny", "clips")
    assert cell is not None and cell.n == len(found.faces) == 4 * 5 + 3 * 4
    for metric, expected in score(tables).items():
        assert cell.average_trials(metric) == pytest.approx(expected)
    parts = {one.dataset: one for one in list_dataset_scores(found) if one.by == "tiny"}
    assert {name: (one.part.n, one.part.subjects) for name, one in parts.items()} == {
        "casme": (20, 4),
        "samm": (12, 3),
    }
    for name, one in parts.items():
        of_set = [table[table["subject"].str.startswith(f"{name}:")] for table in tables]
        for metric, expected in score(of_set).items():
            assert one.part.average_trials(metric) == pytest.approx(expected)

    # The tables of the page, the table for programs and the terminal show these numbers
    sheets = make_dataset_tables(found)
    assert [sheet.caption.partition(" of ")[0] for sheet in sheets] == [
        "Accuracy in per cent",
        "UF1",
        "UAR",
    ]
    assert sheets[0].head[1:] == ("casme (20 clips, 4 subjects)", "samm (12 clips, 3 subjects)")
    uar = f"{parts['samm'].part.average_trials('uar'):.3f}"
    page = write_report("composite-study", home, tmp_path / "out").read_text()
    assert "UAR of each dataset, by clip" in page and uar in page
    rows = pd.read_csv(tmp_path / "out" / "tables.csv")
    row = rows[(rows["dataset"] == "samm") & (rows["metric"] == "uar") & rows["control"].isna()]
    assert row["value"].tolist() == pytest.approx([parts["samm"].part.average_trials("uar")])
    assert row["n"].tolist() == [12]
    assert rows["dataset"].isna().sum() > len(rows) / 2  # the scores of all sets together
    print_table("composite-study", home)
    said = capsys.readouterr().out
    assert "each dataset, by clip" in said and uar in said and "people" in said


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_one_dataset_is_left_out_at_a_time_and_untested_ones_have_no_scores(home: Store):
    found = run(home, name="crossed", protocol="dataset", folds="datasets", trials=1)
    assert found.spec["folds"] == 2
    tests = [set(read_predictions(found.done[row.run])["subject"]) for row in found.trials]
    assert [{name.partition(":")[0] for name in names} for names in tests] == [{"casme"}, {"samm"}]
    assert {one.dataset: one.part.n for one in list_dataset_scores(found) if one.by == "tiny"} == {
        "casme": 20,
        "samm": 12,
    }

    # With one fold the other set is not tested, and has no column
    first = run(
        home, name="one-way", protocol="dataset", folds="datasets", only_folds=[0], trials=1
    )
    assert {one.dataset for one in list_dataset_scores(first)} == {"casme"}
    assert make_dataset_tables(first)[0].head[1:] == ("casme (20 clips, 4 subjects)",)


def test_the_five_classes_of_casme_ii_are_tested_clip_by_clip_with_one_subject_left_out(
    home: Store,
):
    found = run(home, name="five", faces="casme", class_set="casme2-5", trials=1)
    assert found.classes == tuple(sorted(CLASS_SETS["casme2-5"])) and "fear" not in found.classes
    cell = found.find_cell("real_to_real", "tiny", "clips")
    assert cell is not None and (cell.n, cell.subjects) == (5 * 4, 4)
    assert cell.average_trials("uf1") == pytest.approx(score([pool(found, 0)])["uf1"])
    assert list_dataset_scores(found) == [] and make_dataset_tables(found) == []


def test_a_set_without_apexes_joins_the_composite_with_its_frames_and_counts_by_clip(home: Store):
    """SMIC marks no apex: all its frames are shown, and a clip is scored by their mean."""
    faces = draw_set("smic", 3)
    keep(replace(faces, index=faces.index.assign(phase="")), home, "smic-clips")
    fields = {"faces": "smic-clips", "frames": "all", "size": 16}
    run_preprocess(read_spec(PreprocessSpec, fields, "test"), home, alias="smic")
    three = JoinSpec(faces=("casme", "samm", "smic"), classes="megc2019")
    run_join(three, home, alias="three")

    # Optical flow since the first frame, in the same study
    flow = {"tiny": {**TINY, "input": ["flow"]}}
    found = run(home, name="three-sets", faces="three", classifier=flow, trials=1)
    assert found.spec["folds"] == 10 and len(found.faces) == 20 + 12 + 3 * 3 * 3
    parts = {one.dataset: one.part for one in list_dataset_scores(found) if one.by == "tiny"}
    assert {name: (part.n, part.subjects) for name, part in parts.items()} == {
        "casme": (20, 4),
        "samm": (12, 3),
        "smic": (9, 3),
    }


def test_the_shipped_composite_leaves_one_subject_out_and_shows_optical_flow(home: Store):
    fields = read_toml(list_studies()["megc2019"])
    study = StudyFile.model_validate(fields)
    assert (study.protocol, study.folds) == ("subject", "subjects")
    spec = resolve(study, home)
    assert spec.folds == 7 and spec.classes == MEGC and len(spec.classifier_inputs) == 4
    shown = Faces.load(home.run(spec.find_faces("sssnet", "plain")).path)
    assert shown.channels == ("flow-right", "flow-down", "strain") and len(shown) == 32
