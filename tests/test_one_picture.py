"""One picture is cropped and named by a trained classifier, in memory."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from worlds import CLASSES, blobs, keep, tiny

from mien.audit.specs import JudgeSpec
from mien.classifiers.fit import fit_network
from mien.classifiers.one_picture import name_picture
from mien.classifiers.predict import TrainedNetwork, save_network
from mien.classifiers.stored import list_classifiers
from mien.errors import DataError
from mien.ingest.toy import dataset
from mien.runs.store import Store


@pytest.fixture(scope="module")
def classifier(one_thread: None) -> TrainedNetwork:
    return fit_network(blobs(), tiny(), CLASSES, 0, None, "cpu")


def encode(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_without_a_crop_is_named_as_a_face_of_a_set(classifier: TrainedNetwork):
    faces = blobs(16, seed=5)
    expected = classifier.predict(faces)
    for row in (0, 5, 10):
        named = name_picture(encode(faces.images[row][0]), classifier, crop=False)
        np.testing.assert_allclose(named.probabilities, expected[row], atol=1e-6)
        assert named.ranked[0][0] == CLASSES[expected[row].argmax()] and named.is_found
        np.testing.assert_array_equal(named.face, faces.images[row])


def test_the_face_of_a_photograph_is_found_first(classifier: TrainedNetwork, tmp_path: Path):
    dataset.draw(tmp_path, 1, 1, 0, 1, window=0)
    face = np.asarray(Image.open(sorted((tmp_path / "Cropped").rglob("*.jpg"))[0]).convert("L"))
    wide = np.full((2 * face.shape[0], 4 * face.shape[1]), 128, dtype=np.uint8)
    wide[100 : 100 + face.shape[0], -face.shape[1] - 40 : -40] = face
    named = name_picture(encode(wide), classifier)
    alone = name_picture(encode(face), classifier)
    assert named.is_found and alone.is_found
    difference = np.abs(named.face.astype(int) - alone.face.astype(int)).mean()
    assert difference < 20
    missed = name_picture(encode(np.full((90, 120), 128, dtype=np.uint8)), classifier)
    assert not missed.is_found and missed.face.shape == (1, 16, 16)


def test_what_is_no_picture_has_a_message(classifier: TrainedNetwork):
    with pytest.raises(DataError, match="the picture"):
        name_picture(b"MZ this is a program", classifier)


def test_classifiers_of_the_store_are_listed_with_the_colour_of_their_faces(
    classifier: TrainedNetwork, store: Store
):
    assert list_classifiers(store) == []
    faces = keep(blobs(), store, "blobs")
    run = store.make(JudgeSpec(faces=faces.name), lambda out, _: save_network(classifier, out))
    (found,) = list_classifiers(store)
    assert (found.run, found.classes, found.size) == (run.name, CLASSES, 16)
    assert (found.colour, found.faces) == ("grey", faces.name)
