"""Action units in studies: what labels follow from them, and as targets of networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import minimize
from sklearn.metrics import f1_score
from worlds import CLASSES, blobs, inside, keep, modest, show_as, table, written_study

from mien.classifiers.baselines import UnitsOnly
from mien.classifiers.fit import fit_network, make_loss
from mien.classifiers.late_units import HeadWithUnits
from mien.classifiers.predict import load_network, save_network
from mien.classifiers.specs import ClassifierSpec
from mien.errors import DataError, SpecError
from mien.faces import Faces
from mien.prepare.action_units import describe_clashes, encode_units, name_columns, require_units
from mien.prepare.flow import FLOW_CHANNELS
from mien.report.conclusions import draw_conclusions
from mien.report.content import collect_content
from mien.report.facts import list_facts
from mien.report.programs import list_csv_rows
from mien.report.terminal import print_table
from mien.report.units import make_unit_table
from mien.report.write import write_report
from mien.runs.store import Store
from mien.study.fields import StudyFile
from mien.study.file import resolve
from mien.study.results import StudyResults
from mien.study.run import run_study
from mien.study.settings import CONTROLS
from mien.study.unit_scores import (
    MIN_CLIPS,
    choose_units,
    count_clips,
    describe_coding,
    merge_into_clips,
    score_units,
)

UNITS = {"fear": "1+4+20", "happiness": "6+12", "sadness": "1+15", "surprise": "1+2+26"}


def code(faces: Faces, texts: dict[str, str] = UNITS, wrong: int = 0) -> Faces:
    """Return faces whose action units follow from the emotion, but those of the first `wrong`."""
    units = faces.index["emotion"].map(texts)
    units.iloc[:wrong] = "12"
    return replace(faces, index=faces.index.assign(action_units=units))


def test_units_are_numbers_with_side_and_intensity():
    texts = ["12C+L4", "12", "R14A or 17", "0"]
    columns = name_columns(texts)
    assert columns == ("4", "4 left", "12", "12 intensity", "14", "14 intensity", "14 right", "17")
    expected = [
        [1, 1, 1, 0.6, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0.2, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert np.allclose(encode_units(texts, columns), expected)
    assert encode_units(["12E+9"], ("12",)).tolist() == [[1]]  # no column, no number
    assert encode_units([], columns).shape == (0, 8)


def test_labels_that_follow_from_the_units_are_told_without_images():
    train, test = code(blobs(seed=1)), code(blobs(seed=2))
    dark = replace(test, images=np.zeros_like(test.images))
    found = UnitsOnly(train, CLASSES).predict(dark)
    assert (found.argmax(axis=1) == test.number_labels(CLASSES)).all()


def test_the_order_of_names_and_the_images_change_nothing():
    train = code(blobs(seed=1), wrong=30)
    order = np.random.default_rng(0).permutation(len(train))
    noise = replace(train, images=255 - train.images)
    expected = UnitsOnly(train, CLASSES).predict(train)
    assert np.array_equal(UnitsOnly(noise, CLASSES).predict(train), expected)
    assert np.allclose(UnitsOnly(train.select(order), CLASSES).predict(train), expected, atol=1e-3)


def test_a_class_without_training_images_has_no_probability():
    faces = code(blobs())
    few = faces.select((faces.index["emotion"] != "fear").to_numpy())
    assert (UnitsOnly(few, CLASSES).predict(faces)[:, 0] == 0).all()
    one = faces.select((faces.index["emotion"] == "sadness").to_numpy())
    assert (UnitsOnly(one, CLASSES).predict(faces).argmax(axis=1) == 2).all()


@pytest.mark.parity
def test_the_regression_is_the_minimum_of_the_penalised_cross_entropy_of_clips():
    # Some clips clash, and the clips have different numbers of images
    train = code(blobs(), wrong=40)
    train = train.select(np.flatnonzero(np.arange(len(train)) % 5 != 0))
    units = encode_units(list(train.index["action_units"]), name_columns(list(UNITS.values())))
    clips = train.index["clip"]
    share = 1 / clips.map(clips.value_counts()).to_numpy()
    true, n, k = train.number_labels(CLASSES), units.shape[1], len(CLASSES)

    def measure_loss(flat: np.ndarray) -> float:
        slopes, constants = flat[: n * k].reshape(n, k), flat[n * k :]
        scores = units @ slopes + constants
        logs = np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1)
        right = scores[np.arange(len(true)), true]
        return float((share * (logs - right)).sum() + (slopes**2).sum() / 2)

    best = minimize(measure_loss, np.zeros(n * k + k)).x
    scores = units @ best[: n * k].reshape(n, k) + best[n * k :]
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert np.allclose(UnitsOnly(train, CLASSES).predict(train), expected, atol=2e-3)


def test_clashes_are_counted_by_clip():
    faces = blobs(24, subjects=6)  # a clip of one image for each class and person
    units = {"fear": "1+4", "happiness": "6+12", "sadness": "4+1", "surprise": "1+2"}
    coded = code(faces, units)
    assert describe_clashes(coded) == (
        "12 of 24 clips (50.0 %) have a set of units that occurs with more than one emotion; the "
        "commonest emotion of each set is that of 18 clips (75.0 %)"
    )
    assert describe_clashes(code(faces)).startswith("0 of 24 clips (0.0 %)")
    sided = code(faces, {**units, "sadness": "4+L1"})
    assert describe_clashes(sided).startswith("0 of 24 clips (0.0 %)")


def test_faces_without_units_are_refused():
    require_units(code(blobs()), "a test")
    with pytest.raises(DataError, match=r"a test needs faces whose action units are coded.*blobs"):
        require_units(blobs(), "a test")
    with pytest.raises(DataError, match="action units alone needs"):
        UnitsOnly(blobs(), CLASSES)


STUDY = """
name = "units"
faces = "blobs"
protocol = "subject"
folds = 2
trials = 1
settings = ["real_to_real"]
classifiers = ["tiny"]
controls = ["units_only"]
"""


def test_a_study_of_faces_without_units_ends_with_one_message(tmp_path: Path):
    keep(blobs(), Store(tmp_path / "store"), "blobs")
    (tmp_path / "units.toml").write_text(STUDY)
    said = inside(tmp_path, "study", "plan", "units.toml", code=2)
    assert "the control units_only needs faces whose action units are coded" in said


def test_a_ceiling_is_shown_and_no_cell_has_to_exceed_it(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(code(blobs()), store, "blobs")
    found = written_study(store, modest, name="ceiling", controls=["units_only", "majority"])
    cell = found.cells[0]
    label = CONTROLS["units_only"].label
    assert label in dict(found.name_controls("real_to_real", "images"))
    assert label not in [one.control for one in found.give_verdicts(cell)]
    assert CONTROLS["majority"].label in [one.control for one in found.give_verdicts(cell)]
    assert label not in found.missing_controls
    assert "0 of 24 clips" in dict(list_facts(found))["emotions and action units"]


# Action units as the target


def many() -> Faces:
    """Faces of 24 people with a clip of two images for each class, whose units follow from it."""
    return code(blobs(192, subjects=24))


def target(**changes: Any) -> StudyFile:
    return table(**{"name": "units", "target": "action_units", "trials": 1, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifiers": ["svm"]}, "needs classifiers that are networks; svm is none"),
        ({"settings": ["real_to_real", "both_to_real"]}, r"needs settings = .*real_to_real"),
        ({"controls": ["nearest"]}, "controls among shuffled_motion, no_motion.*given: nearest"),
        ({"protocol": "frame"}, "needs protocol 'clip', 'subject' or 'dataset'"),
        ({"target": "valence"}, r"emotion.*action_units"),
    ],
)
def test_a_target_of_units_refuses_what_does_not_apply(changes: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        target(**changes)


def test_a_target_of_units_needs_coded_faces_and_enough_clips(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(blobs(), store, "blobs")
    with pytest.raises(DataError, match="the target action_units needs faces whose action units"):
        resolve(target(), store)
    keep(code(blobs(24)), store, "few")
    with pytest.raises(DataError, match=r"10 clips of every training side.*more than 9"):
        resolve(target(faces="few"), store)


def test_a_target_of_units_refuses_mixed_labels_and_takes_other_strong_augmentation(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(many(), store, "blobs")
    with pytest.raises(
        SpecError, match=r"tiny, strong, must have strong.mixup = 0 if action units"
    ):
        resolve(target(ablations=["strong"]), store)
    resolve(target(ablations=["mine"], ablation={"mine": {"strong": {"mixup": 0}}}), store)


def test_units_are_chosen_by_the_clips_of_each_training_side():
    faces = many()
    counts = count_clips(faces)
    assert counts == {
        1: 72,
        2: 24,
        4: 24,
        6: 24,
        12: 24,
        15: 24,
        20: 24,
        26: 24,
    }  # clips, not images
    rare = (faces.index["emotion"] != "happiness") | (np.arange(len(faces)) < 8 * MIN_CLIPS)
    whole = np.ones(len(faces), dtype=bool)
    enough = rare.to_numpy()
    assert choose_units(faces, [whole, enough], "") == (1, 2, 4, 6, 12, 15, 20, 26)
    fewer = enough & ~((faces.index["clip"] == "blobs:s0/happiness").to_numpy())
    expected = (1, 2, 4, 15, 20, 26)
    kept = [count_clips(faces.select(side)).get(12, 0) for side in (enough, fewer)]
    assert kept == [20, 19]
    least = (
        fewer
        & ~(
            (faces.index["emotion"] == "happiness") & (np.arange(len(faces)) >= 4 * (MIN_CLIPS - 1))
        ).to_numpy()
    )
    assert count_clips(faces.select(least))[12] == 8
    assert choose_units(faces, [whole, least], "") == expected


def answers(seed: int = 0, n: int = 240) -> pd.DataFrame:
    """Made-up predictions of three units by image: four images a clip, five clips a person."""
    rng = np.random.default_rng(seed)
    clip = np.arange(n) // 4
    rows = {
        "test": "real",
        "key": [f"k{number}" for number in range(n)],
        "subject": [f"s{number // 5}" for number in clip],
        "clip": [f"c{number}" for number in clip],
    }
    for unit, share in ((1, 0.5), (4, 0.2), (12, 0.0)):
        rows[f"true_{unit}"] = (rng.random(n // 4) < share).astype(int).repeat(4)
        rows[f"p_{unit}"] = np.clip(rng.normal(0.3 + 0.4 * rows[f"true_{unit}"], 0.3), 0, 1)
    return pd.DataFrame(rows)


@pytest.mark.parity
def test_f1_is_that_of_another_library_by_clip_beside_the_answer_yes():
    tables, units = [answers(0), answers(1)], (1, 4, 12)
    cell = score_units("tiny", "plain", tables, units)
    for place, unit in enumerate(units[:2]):
        expected, yes = [], []
        for one in tables:
            clips = one.groupby("clip").mean(numeric_only=True)
            true = clips[f"true_{unit}"].to_numpy().round().astype(int)
            expected.append(f1_score(true, clips[f"p_{unit}"].to_numpy() >= 0.5))
            yes.append(f1_score(true, np.ones(len(true), dtype=int)))
        assert cell.f1[place].value == pytest.approx(np.mean(expected))
        assert cell.constant[place].value == pytest.approx(np.mean(yes))
        assert cell.f1[place].low < cell.f1[place].value < cell.f1[place].high
    assert np.isnan(
        cell.f1[2].value
    )  # a unit that no clip shows has no F1, and no part in the mean
    assert cell.mean_f1 is not None and cell.n == 60
    assert cell.mean_f1.value == pytest.approx(np.mean([one.value for one in cell.f1[:2]]))
    assert (cell.level, cell.grouped, cell.groups) == ("clips", "subject", 12)


def test_scores_do_not_depend_on_the_order_of_rows_and_need_all_trials():
    first = answers()
    mixed = first.sample(frac=1, random_state=1)
    assert score_units("a", "b", [first], (1, 4)) == score_units("a", "b", [mixed], (1, 4))
    assert score_units("a", "b", [first, None], (1, 4)).f1 == ()
    with pytest.raises(DataError, match="predicted once"):
        merge_into_clips(pd.concat([first, first[:1]]), (1,))


def test_sides_and_doubts_of_the_coding_are_counted_by_clip():
    faces = code(blobs(96), {**UNITS, "happiness": "L12+6", "sadness": "1 or 15", "fear": "4(k)"})
    found = describe_coding(faces)
    assert found[12] == "6 left" and found[15] == "6 unsure"
    assert found[4] == "6 without movement" and found[6] == ""


@pytest.mark.parametrize("name", ["tiny", "test_resnet"])
def test_a_network_has_one_sigmoid_output_a_unit(name: str, tmp_path: Path):
    faces = many()
    size, fields = (16, {}) if name == "tiny" else (32, {"weights": "none", "learning_rate": 5e-3})
    spec = ClassifierSpec.model_validate(
        {"name": name, "size": size, "epochs": 8, "batch": 16, "validation": 0.2, **fields}
    )
    units = (1, 12)
    network = fit_network(faces, spec, CLASSES, 0, device="cpu", units=units)
    found, test = network.predict(faces), code(blobs(seed=3))
    assert found.shape == (len(faces), 2) and found.min() >= 0 and found.max() <= 1
    true = encode_units(list(test.index["action_units"]), ["1", "12"]) > 0
    assert np.mean((network.predict(test) >= 0.5) == true) > 0.9
    assert network.epoch in range(1, 9) and network.curve[-1].accuracy > 0.9

    save_network(network, tmp_path)
    again = load_network(tmp_path, "cpu")
    assert again.units == units and np.array_equal(again.predict(faces), found)


def test_images_with_and_without_a_unit_weigh_alike_in_the_loss():
    labels = torch.tensor([[1.0, 0], [0, 0], [0, 1], [0, 1]])
    loss = make_loss(labels)
    unsure, yes = torch.zeros(4, 2), torch.full((4, 2), 3.0)
    assert loss(unsure, labels).item() == pytest.approx(np.log(2) * (6 + 4) / 8)
    one = [loss(torch.where(labels == answer, yes, unsure), labels) for answer in (0, 1)]
    low, high = np.log1p(np.exp(3.0)), np.log1p(np.exp(-3.0))
    assert one[0].item() == pytest.approx((low * 5 + np.log(2) * 5) / 8, abs=1e-5)
    assert one[1].item() == pytest.approx((high * 5 + np.log(2) * 5) / 8, abs=1e-5)


def test_a_study_of_units_reports_each_unit_beside_the_constant_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store = Store(tmp_path / "store")
    keep(many(), store, "blobs")
    classifier = {"size": 16, "epochs": 8, "batch": 16}
    study = resolve(target(classifier=classifier), store)
    assert study.units == (1, 2, 4, 6, 12, 15, 20, 26) and study.outputs == 8
    run_study(study, store, device="cpu")
    found = StudyResults("units", store)
    assert found.cells == [] and found.controls == [] and found.missing_controls == []

    # The pooled scores are those of the predictions, and blobs are easy
    (cell,) = found.unit_cells
    assert cell.n == 96 and cell.shown == (72, *[24] * 7)
    assert cell.mean_f1 is not None and cell.mean_f1.value > 0.9
    assert cell.constant[1].value == pytest.approx(2 * 24 / (96 + 24))
    records = {one.metric: one.value for one in found.list_records(found.runs[0])}
    assert {f"real/clips/f1_{unit}" for unit in study.units} < set(records)

    # The page, the table for programs and the terminal have the same numbers
    page = write_report("units", store, tmp_path / "report").read_text()
    text = (tmp_path / "report" / "report.md").read_text()
    shown = f"{cell.mean_f1.value:.3f} [{cell.mean_f1.low:.3f}, {cell.mean_f1.high:.3f}]"
    assert shown in text and f"{cell.mean_f1.value:.3f}" in page and "F1 of action units" in page
    rows = pd.read_csv(tmp_path / "report" / "tables.csv")
    means = rows[(rows["source"] == "mean") & (rows["metric"] == "f1_2")]
    assert dict(zip(means["control"].fillna(""), means["value"], strict=True)) == pytest.approx(
        {"": cell.f1[1].value, "constant": cell.constant[1].value}
    )
    print_table("units", store)
    said = capsys.readouterr().out
    assert f"{cell.mean_f1.value:.3f}" in said and "always yes" in said

    # One answer, in the terminal and on the page: the network is above the constant answer
    (answer,) = draw_conclusions([found])
    assert (answer.question, answer.answer, answer.n) == ("units", "yes", 24)
    assert answer.estimate is not None and answer.estimate.low > 0
    assert cell.mean_constant is not None
    assert answer.estimate.value == pytest.approx(cell.mean_f1.value - cell.mean_constant.value)
    assert f"Are action units recognised? {answer.sentence}" in said
    assert answer.sentence in text and "24 held-out people" in answer.sentence


def test_controls_of_movement_stand_beside_the_f1_of_units(tmp_path: Path):
    store = Store(tmp_path / "store")
    moving = replace(many(), channels=("onset-difference",))
    keep(moving, store, "blobs")
    classifier = {"size": 16, "epochs": 8, "batch": 16}
    with pytest.raises(DataError, match=r"no_motion.*needs images that show movement"):
        keep(many(), store, "still")
        resolve(target(faces="still", controls=["no_motion"]), store)
    study = target(classifier=classifier, controls=["shuffled_motion", "no_motion"])
    run_study(resolve(study, store), store, device="cpu")

    # A network that sees the movement of others is no better than the constant answer
    found = StudyResults("units", store)
    (cell,), (shuffled, still) = found.unit_cells, found.unit_controls
    assert cell.mean_f1 and shuffled.mean_f1 and still.mean_f1
    assert cell.mean_f1.value > 0.9 and shuffled.mean_f1.value < 0.5 > still.mean_f1.value
    assert [one.control for one in (cell, shuffled, still)] == ["", "shuffled_motion", "no_motion"]

    # They are in the table, in the table for programs, and in the answer
    table = make_unit_table(found)
    assert table.head[3:6] == ("always yes", "motion shuffled", "no motion")
    assert table.lines[-1].entries[4].text == f"{shuffled.mean_f1.value:.3f}"
    rows = [row for row in list_csv_rows(found) if row.get("metric") == "mean_f1"]
    means = {row["control"]: row["value"] for row in rows if row["source"] == "mean"}
    assert means["shuffled_motion"] == shuffled.mean_f1.value and len(means) == 4
    (answer,) = draw_conclusions([found])
    assert answer.answer == "yes" and "its strongest control" in answer.sentence
    strongest = max(value for control, value in means.items() if control)
    assert answer.estimate is not None
    assert answer.estimate.value == pytest.approx(cell.mean_f1.value - strongest)


def test_units_that_a_network_cannot_see_have_no_answer_of_yes(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(many(), store, "blobs")
    untrained = {"size": 16, "epochs": 1, "batch": 64, "learning_rate": 1e-8}
    run_study(resolve(target(classifier=untrained), store), store, device="cpu")
    found = StudyResults("units", store)
    (answer,) = draw_conclusions([found])
    assert answer.answer == "no" and answer.estimate is not None and answer.estimate.high < 0

    # With few people nothing can be told, and the sentence says so
    faces = many()
    first_person = dict(
        zip(faces.subjects, [faces.subjects[n % 4] for n in range(24)], strict=True)
    )
    four = faces.index.assign(subject=faces.index["subject"].map(first_person))
    keep(replace(faces, index=four), store, "four")
    few = target(name="few", faces="four", classifier=untrained)
    run_study(resolve(few, store), store, device="cpu")
    (answer,) = draw_conclusions([StudyResults("few", store)])
    assert answer.answer == "cannot tell" and "fewer than 6 are not enough" in answer.sentence


def test_studies_of_units_and_of_emotions_are_not_in_one_table(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(many(), store, "blobs")
    classifier = {"size": 16, "epochs": 1, "batch": 64}
    for study in (
        target(classifier=classifier),
        target(name="others", classifier=classifier, folds=3),
        table(name="emotions", controls=[], classifier=classifier, trials=1),
    ):
        run_study(resolve(study, store), store, device="cpu")
    loaded = [StudyResults(name, store) for name in ("units", "emotions", "others")]
    content = collect_content(loaded)
    assert content["apart"] == (
        "The results of units and others cannot be compared with those of emotions: the former are "
        "F1 scores of action units, and the latter are accuracies of emotions."
    )
    (side,) = content["side"]
    assert side.head[1:] == (
        "units, by subject, 8 action units",
        "others, by subject, 8 action units",
    )
    assert [one.question for one in content["conclusions"]][-2:] == ["units", "units"]
    write_report(["units", "emotions"], store, tmp_path / "report")
    for name in ("report.html", "report.md"):
        assert "cannot be compared with those of emotions" in (
            tmp_path / "report" / name
        ).read_text().replace("\\", "")


# Action units as a further input


@pytest.mark.parametrize("name", ["tiny", "ststnet", "test_resnet"])
def test_a_network_that_also_sees_units_tells_classes_that_images_do_not_show(
    name: str, tmp_path: Path
):
    train, test = (code(blobs(seed=seed)) for seed in (1, 2))
    shown = FLOW_CHANNELS if name == "ststnet" else ("gray",)
    same = [
        show_as(replace(one, images=one.images[:1].repeat(len(one), axis=0)), shown)
        for one in (train, replace(test, images=train.images[: len(test)]))
    ]
    fields = {"name": name, "size": 32 if name == "test_resnet" else 16, "weights": "none"}
    epochs = 30 if name == "test_resnet" else 15
    fields |= {"epochs": epochs, "batch": 16, "learning_rate": 1e-2, "validation": 0.2}
    spec = ClassifierSpec.model_validate({**fields, "units": True})
    network = fit_network(same[0], spec, CLASSES, 0, device="cpu")
    found = network.predict(same[1])
    assert np.mean(found.argmax(axis=1) == test.number_labels(CLASSES)) > 0.95

    # Without units nothing is left to learn from, and the order of rows changes nothing
    unaware = spec.model_copy(update={"units": False, "epochs": min(epochs, 20)})
    plain = fit_network(same[0], unaware, CLASSES, 0, device="cpu")
    assert np.mean(plain.predict(same[1]).argmax(axis=1) == test.number_labels(CLASSES)) < 0.5
    order = np.random.default_rng(0).permutation(len(test))
    assert np.allclose(network.predict(same[1].select(order)), found[order], atol=1e-5)

    save_network(network, tmp_path)
    again = load_network(tmp_path, "cpu")
    assert again.columns == network.columns and np.array_equal(again.predict(same[1]), found)


def test_a_head_with_units_is_the_head_of_features_and_units():
    head = HeadWithUnits(torch.nn.Linear(3, 2), 4)
    x, coding = torch.randn(5, 3), torch.randn(5, 4)
    head.coding = coding
    weight, bias = head.linear.weight, head.linear.bias
    expected = x @ weight[:, :3].T + coding @ weight[:, 3:].T + bias
    assert torch.allclose(head(x), expected, atol=1e-6)


def test_units_as_input_are_an_ablation_and_a_field_that_is_omitted_where_it_is_false(
    tmp_path: Path,
):
    store = Store(tmp_path / "store")
    keep(many(), store, "blobs")
    keep(blobs(), store, "plain")
    ablation = {"ablations": ["plain", "with-units"], "ablation": {"with-units": {"units": True}}}
    common = {"name": "late", **ablation}
    spec = resolve(table(**common), store)
    dumped = spec.model_dump()["classifiers"]["tiny"]
    assert "units" not in dumped["plain"] and dumped["with-units"]["units"] is True

    # It is refused where it cannot be, or would give the answer away
    for changes, message in (
        ({"faces": "plain"}, "units = true, needs faces whose action units are coded"),
        ({"target": "action_units"}, "must not see the action units that it is to answer"),
        ({"settings": ["both_to_real"]}, "only with the setting real_to_real"),
        (
            {"target": "action_units", "ablations": ["plain", "weighted"], "ablation": {}},
            "the classifier tiny, weighted, must not have class_weights = true",
        ),
        ({"classifiers": ["svm"], "classifier": {}}, "because it is no network; with-units"),
        (
            {
                "classifiers": ["deit_tiny_distilled_patch16_224"],
                "classifier": {"weights": "none", "size": 224},
            },
            "whose last layer is a single linear one",
        ),
    ):
        with pytest.raises((DataError, SpecError), match=message):
            resolve(table(**{**common, **changes}), store)
