"""One picture: its face is found and named; nothing is written."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mien.classifiers.channels import are_pictures
from mien.classifiers.predict import TrainedNetwork, predict_classes
from mien.errors import DataError
from mien.faces import Faces
from mien.pictures import Colour, decode, open_picture
from mien.prepare.crops import FaceFinder
from mien.prepare.specs import CropSpec


@dataclass(frozen=True)
class NamedPicture:
    """What a classifier says of one picture.

    `probabilities` has the share from 0 to 1 of each of `classes`. `face` is what the classifier
    saw, uint8 [c, size, size]. `is_found` says whether a face was found; if not, `face` is the
    largest square at the centre.
    """

    classes: tuple[str, ...]
    probabilities: Float[np.ndarray, " classes"]
    face: UInt8[np.ndarray, "c size size"]
    is_found: bool

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """The classes with their probabilities, the likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")
        return [(self.classes[number], float(self.probabilities[number])) for number in order]


def name_picture(
    content: bytes, classifier: TrainedNetwork, colour: Colour = "grey", crop: bool = True
) -> NamedPicture:
    """Return what a classifier of plain pictures says of the picture in `content`.

    With `crop`, the largest face of the picture is found first (Viola and Jones 2001), with the
    usual margin; otherwise the whole picture is the face. `colour` is that of the faces from which
    the classifier learnt. Everything stays in memory.

    Raises DataError if the content is no picture that can be read, or if the classifier does not
    name the class of a plain picture.
    """
    if classifier.units or classifier.columns or not are_pictures(classifier.shown):
        raise DataError(
            "the classifier must name the class of a plain picture, and this one takes or names "
            "something else; choose another"
        )

    # The face, in the form that the classifier sees
    spec = CropSpec(misses="centre")
    face_place = (
        FaceFinder(spec)(open_picture(content, colour, name="the picture")) if crop else None
    )
    face = decode(
        content,
        classifier.spec.size,
        colour,
        face=face_place,
        margin=spec.margin,
        name="the picture",
    )

    # Its class; the label is only there because each image of a set has one
    faces = Faces.from_arrays(face[None], [classifier.classes[0]])
    probabilities = predict_classes(classifier, faces)[0]
    is_found = face_place is None or face_place.kind != "missed"
    return NamedPicture(classifier.classes, probabilities, face, is_found)
