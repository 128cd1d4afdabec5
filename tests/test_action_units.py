"""Action units in studies: what labels follow from them, and as targets of networks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from worlds import CLASSES, blobs, inside, keep, modest, written_study

from mien.classifiers.action_units import (
    describe_clashes,
    encode_units,
    name_columns,
    require_units,
)
from mien.classifiers.baselines import UnitsOnly
from mien.errors import DataError
from mien.faces import Faces
from mien.report.facts import list_facts
from mien.runs.store import Store
from mien.study.settings import CONTROLS

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
    assert (found.argmax(axis=1) == test.labels(CLASSES)).all()


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
    true, n, k = train.labels(CLASSES), units.shape[1], len(CLASSES)

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
